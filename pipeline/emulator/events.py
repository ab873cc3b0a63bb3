"""What happened and when: one `Event` per API call, and the rule of when it starts to count."""

import math
from dataclasses import dataclass

DEFAULT_KEYS = ("key_web", "key_mobile", "key_batch")
"""API key ids of a world that names none. Their secrets are `server.secret_of(key_id)`."""


@dataclass(frozen=True, slots=True)
class Event:
    """One API call, as endpoint 1 (usage/conversations) counts it.

    `at` and `visible_at` are Unix seconds, UTC, and may be negative (before 1970). `visible_at` is
    when the usage endpoint first counts the event (late data); None means at once. Whatever
    `visible_at` says, nothing counts before it has happened. Raises ValueError for times that are
    not finite and for negative counts.
    """

    at: float
    user_id: str | None
    api_key_id: str | None
    conversations_created: int = 0
    items_added: int = 0
    operations: int = 0
    visible_at: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.at):
            raise ValueError(f"an event's time must be finite Unix seconds, not {self.at!r}")
        if self.visible_at is not None and not math.isfinite(self.visible_at):
            raise ValueError(f"visible_at must be finite Unix seconds, not {self.visible_at!r}")
        if min(self.conversations_created, self.items_added, self.operations) < 0:
            raise ValueError(f"an event's counts must not be negative: {self!r}")

    @property
    def second(self) -> int:
        """The whole second the event fell in, rounded down also before 1970."""
        return math.floor(self.at)

    @property
    def counts_from(self) -> float:
        """The moment (Unix seconds) from which the usage endpoint counts this event."""
        return self.at if self.visible_at is None else max(self.at, self.visible_at)

    @property
    def measures(self) -> tuple[int, int, int]:
        """(conversations created, items added, operations), the order used everywhere here."""
        return self.conversations_created, self.items_added, self.operations
