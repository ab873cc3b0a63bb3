"""How fast requests may leave: a rate limit that adapts to the server's 429s.

Belongs here: the rate and how it moves. Does not belong here: retries and waits of one request
(`pipeline.api.client`), or how many are in flight at once (a semaphore there).
"""

from __future__ import annotations

from typing import Final

from aiolimiter import AsyncLimiter

_RECOVER_AFTER: Final = 10
"""Answers in a row without a 429 before the rate is raised again."""
_RECOVERY: Final = 1.25
_FLOOR: Final = 1 / 30
"""Requests per second below which the rate never falls: one in half a minute."""


class Pace:
    """At most `rate` requests a second; halved by a 429, raised again step by step.

    Halving happens once per wave: answers to requests that left before the last halving say
    nothing new. That is what the generation, returned by `turn`, is for.
    """

    def __init__(self, rate: float) -> None:
        self.ceiling = rate
        self.rate = rate
        self._generation = 0
        self._in_a_row = 0
        self._limiter = _limiter(rate, burst=True)

    async def turn(self) -> int:
        """Wait until a request may leave."""
        await self._limiter.acquire()
        return self._generation

    def too_fast(self, generation: int) -> None:
        """The server answered 429 to a request that left in `generation`."""
        self._in_a_row = 0
        if generation == self._generation:
            self._change(max(self.rate / 2, _FLOOR))

    def went_well(self) -> None:
        """The server answered anything but 429."""
        self._in_a_row += 1
        if self.rate < self.ceiling and self._in_a_row >= _RECOVER_AFTER:
            self._in_a_row = 0
            self._change(min(self.rate * _RECOVERY, self.ceiling))

    def _change(self, rate: float) -> None:
        self._generation += 1
        self.rate = rate
        # Below the ceiling no burst is allowed: a burst is what the server has just refused.
        self._limiter = _limiter(rate, burst=rate >= self.ceiling)


def _limiter(rate: float, *, burst: bool) -> AsyncLimiter:
    return AsyncLimiter(rate, 1) if burst and rate >= 1 else AsyncLimiter(1, 1 / rate)
