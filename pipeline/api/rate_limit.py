"""How fast requests may leave: a rate limit that adapts to the server's 429s."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

_RECOVER_AFTER: Final = 10
"""Answers in a row without a 429 before the rate is raised again."""
_RECOVERY: Final = 1.25
_FLOOR: Final = 1 / 30
"""Requests per second below which the rate never falls by itself: one in half a minute."""
_BURSTS_FROM: Final = 10
"""Requests per second from which the first ones of a second may leave at once."""


class RateLimiter:
    """At most `rate` requests in any second; halved by a 429, raised again step by step.

    Halving happens once per wave: answers to requests that left before the last halving say
    nothing new. That is what the generation, returned by `turn`, is for. Requests that wait for
    their turn leave at the rate of the moment at which they leave, not of the one at which they
    came. One event loop only.
    """

    def __init__(self, rate: float) -> None:
        self.ceiling = rate
        self.rate = rate
        self._generation = 0
        self._in_a_row = 0
        self._line = asyncio.Lock()
        self._left: deque[float] = deque(maxlen=max(1, int(rate)))
        """When the last requests left, by the event loop's clock."""

    async def turn(self) -> int:
        """Wait until a request may leave; requests leave in the order in which they came."""
        clock = asyncio.get_running_loop().time
        async with self._line:
            while True:
                wait = self._free_at() - clock()
                if wait <= 0:
                    break
                await asyncio.sleep(wait)  # and look again: the rate may have fallen meanwhile
            self._left.append(clock())
            return self._generation

    def _free_at(self) -> float:
        # Below the ceiling requests leave evenly: a burst is what the server has just refused.
        bursts = self.rate >= self.ceiling >= _BURSTS_FROM
        count, seconds = (int(self.rate), 1.0) if bursts else (1, 1 / self.rate)
        return self._left[-count] + seconds if len(self._left) >= count else 0.0

    def too_fast(self, generation: int) -> None:
        """The server answered 429 to a request that left in `generation`."""
        self._in_a_row = 0
        if generation == self._generation:
            self._generation += 1
            self.rate = max(self.rate / 2, min(_FLOOR, self.ceiling))

    def went_well(self) -> None:
        """The server answered anything but 429."""
        self._in_a_row += 1
        if self.rate < self.ceiling and self._in_a_row >= _RECOVER_AFTER:
            self._in_a_row = 0
            self.rate = min(self.rate * _RECOVERY, self.ceiling)
