"""What can go wrong with a shared lake: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from pipeline.timeline import in_words


class SharedLakeError(Exception):
    """The shared lake can't be used, or is not what it should be."""


class DaysMovedError(SharedLakeError):
    """Other workers have committed days since they were hydrated: they are to be done again."""

    def __init__(self, days: Iterable[date]) -> None:
        self.days = sorted(days)
        super().__init__(
            f"{in_words(self.days)}: committed by another worker since hydrated here; hydrate "
            "again, then do the work again"
        )
