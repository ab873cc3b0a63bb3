"""How fast requests may leave: a quota that is never exceeded, and a rate that adapts to 429s."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from math import ceil
from typing import Final

from pydantic import SecretStr

_RECOVER_AFTER: Final = 10
"""Answers in a row without a 429 before the rate is raised again."""
_RECOVERY: Final = 1.25
_FLOOR: Final = 1 / 30
"""Requests per second below which the rate never falls by itself: one in half a minute."""
_BURSTS_FROM: Final = 10
"""Requests per second from which the first ones of a second may leave at once."""
_LOOK_AGAIN: Final = 0.05
"""Seconds until a quota is looked at again of which every request is on its way."""


class Quota:
    """No second ever brings the server more than `rate` requests, however long each is on its way.

    When a request arrives nobody here knows: between its departure and its answer. So it counts
    from its departure until a second after its answer, and then it is a second old at the server
    too, though it may have waited for a connection and the next one does not. Clients of one
    process share a quota, from threads and event loops of their own; those of several processes
    have a part each, and what none of the parts exceeds, their sum does not.
    """

    def __init__(self, rate: float) -> None:
        self._most = int(rate) if rate >= _BURSTS_FROM else ceil(rate)
        self._seconds = max(1.0, 1 / rate)
        self._lock = threading.Lock()
        self._out = 0
        self._answered: deque[float] = deque()
        """When the last requests were answered, in order."""

    def leave(self, clock: Callable[[], float]) -> float:
        """0 where a request leaves now; else it does not, and this is how long to wait."""
        with self._lock:
            now = clock()
            while self._answered and self._answered[0] + self._seconds <= now:
                self._answered.popleft()
            over = self._out + len(self._answered) - self._most
            if over < 0:
                self._out += 1
                return 0.0
            if over >= len(self._answered):
                return _LOOK_AGAIN
            return self._answered[over] + self._seconds - now

    def came_back(self, clock: Callable[[], float]) -> None:
        """Note that a request that left has its answer, or never gets one."""
        with self._lock:
            self._out -= 1
            self._answered.append(clock())


@cache
def quota_of(base_url: str, key: SecretStr, rate: float) -> Quota:
    """This process's part of a key's quota: its clients share it, one after another or at once."""
    return Quota(rate)


class RateLimiter:
    """At most `rate` requests in any second; halved by a 429, raised again step by step.

    Halving happens once per wave: answers to requests that left before the last halving say
    nothing new. That is what the generation, which `turn` gives, is for. Requests that wait for
    their turn leave at the rate of the moment at which they leave, not of the one at which they
    came. One event loop only; the `quota` may be shared with others.
    """

    def __init__(self, rate: float, quota: Quota | None = None) -> None:
        self.ceiling = rate
        self.rate = rate
        self._quota = quota or Quota(rate)
        self._generation = 0
        self._in_a_row = 0
        self._line = asyncio.Lock()
        self._left = float("-inf")
        """When the last request left, by the event loop's clock."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """Wait until a request may leave, in the order in which they came; send it in the block.

        The block ends when the request has its answer.
        """
        clock = asyncio.get_running_loop().time
        async with self._line:
            while True:
                wait = self._wait(clock)
                if wait <= 0:
                    break
                await asyncio.sleep(wait)  # and look again: the rate may have fallen meanwhile
            self._left = clock()
        try:
            yield self._generation
        finally:
            self._quota.came_back(clock)

    def _wait(self, clock: Callable[[], float]) -> float:
        # Below the ceiling requests leave evenly: a burst is what the server has just refused.
        bursts = self.rate >= self.ceiling >= _BURSTS_FROM
        wait = 0.0 if bursts else self._left + 1 / self.rate - clock()
        return wait if wait > 0 else self._quota.leave(clock)

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
