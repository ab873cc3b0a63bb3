"""For how long fine tables are kept, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["minutes", "hours", "contents"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LEAST_DAYS: Final = 32
"""Minutes and hours are kept for so long at least: alerts and the daily window go by them."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days each kind is kept; None: for ever."""

    minutes: int | None = None
    hours: int | None = None
    contents: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is ever dropped."""
        return any(self.days(kind) is not None for kind in KINDS)

    def days(self, kind: Kind) -> int | None:
        """For how many days a kind is kept."""
        found: int | None = getattr(self, kind)
        return found
