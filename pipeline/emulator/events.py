"""What happened and when: one event per API call, and the rule of when it starts to count."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.emulator.endpoints import ENDPOINTS

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
        _require_times(self.at, self.visible_at)
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
    def group(self) -> tuple[str | None, str | None]:
        """(user_id, api_key_id)."""
        return self.user_id, self.api_key_id

    @property
    def counts(self) -> tuple[int, int, int]:
        """(conversations created, items added, operations), the order used everywhere here."""
        return self.conversations_created, self.items_added, self.operations


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One thing that another usage endpoint counts: a completion, a response, a file.

    `measures` are by name; one that is not named is 0. Times are as those of `Event`. Raises
    ValueError for an unknown endpoint, for what that endpoint neither counts nor groups by, for
    times that are not finite and for negative counts.
    """

    endpoint: str
    at: float
    user_id: str | None
    api_key_id: str | None
    model: str | None = None
    background: bool | None = None
    measures: Mapping[str, int] = field(default_factory=dict[str, int])
    visible_at: float | None = None

    def __post_init__(self) -> None:
        _require_times(self.at, self.visible_at)
        endpoint = ENDPOINTS.get(self.endpoint)
        if endpoint is None or self.endpoint == "conversations":
            raise ValueError(f"no usage endpoint counts meter events of {self.endpoint!r}")
        for name in ("model", "background"):
            if getattr(self, name) is not None and name not in endpoint.dimensions:
                raise ValueError(f"{self.endpoint} has no {name}: {self!r}")
        if unknown := [name for name in self.measures if name not in endpoint.measures]:
            raise ValueError(f"{self.endpoint} does not count {', '.join(unknown)}")
        if min(self.measures.values(), default=0) < 0:
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
    def group(self) -> tuple[str | bool | None, ...]:
        """As many of (user_id, api_key_id, model, background) as the endpoint has."""
        whole = (self.user_id, self.api_key_id, self.model, self.background)
        return whole[: len(ENDPOINTS[self.endpoint].dimensions)]

    @property
    def counts(self) -> tuple[int, ...]:
        """The measures in the endpoint's order."""
        return tuple(self.measures.get(name, 0) for name in ENDPOINTS[self.endpoint].measures)


def _require_times(at: float, visible_at: float | None) -> None:
    if not math.isfinite(at):
        raise ValueError(f"an event's time must be finite Unix seconds, not {at!r}")
    if visible_at is not None and not math.isfinite(visible_at):
        raise ValueError(f"visible_at must be finite Unix seconds, not {visible_at!r}")
