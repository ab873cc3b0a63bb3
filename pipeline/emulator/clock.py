"""Time in the emulator: a clock that is set by hand, and what is read as of a clock.

A `World` takes any function that returns Unix seconds, UTC; `time.time` is the default.
"""

from collections.abc import Callable
from threading import RLock


class AsOf:
    """State as of `clock()`. Every public method may be called from any thread, under one lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lock = RLock()


class ManualClock:
    """A clock that stands still until it is set.

    `now` is in Unix seconds, UTC; assign to it, or `advance` it. Setting it back is allowed: the
    world then answers as it would have answered at that moment.
    """

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move the clock by `seconds` and return the new time."""
        self.now += seconds
        return self.now
