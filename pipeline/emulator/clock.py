"""A clock that tests and demos set by hand.

A `World` takes any function that returns Unix seconds, UTC; `time.time` is the default.
"""


class ManualClock:
    """A clock that stands still until it is told otherwise.

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
