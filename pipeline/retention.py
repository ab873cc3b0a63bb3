"""For how long fine tables are kept, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["minutes", "hours", "items", "contents"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LEAST_DAYS: Final = 32
"""Minutes, hours and items are kept for so long at least: alerts, the daily window and syncs go by
them."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days each kind is kept; None: for ever, but contents no longer than items."""

    minutes: int | None = None
    hours: int | None = None
    items: int | None = None
    contents: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is ever dropped."""
        return any(self.days(kind) is not None for kind in KINDS)

    def days(self, kind: Kind) -> int | None:
        """For how many days a kind is kept."""
        found: int | None = getattr(self, kind)
        if kind == "contents" and self.items is not None:
            return self.items if found is None else min(found, self.items)
        return found
