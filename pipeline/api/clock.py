"""The machine's clock, compared with the `Date` of the API's answers.

A clock that is ahead takes minutes for closed that are still open, and days for final that the API
may still restate. So where it is ahead by more than TOLERANCE, the API's time counts. A clock that
is behind does no harm: it loads less, and calls it final later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

TOLERANCE: Final = 60.0
"""Seconds that clocks may differ: the finest bucket, so that none that is open counts as closed
for long."""


class Clock:
    """Unix seconds by the machine's clock, without what it is ahead of the API's.

    `local` is the machine's clock. Until an answer has come, it is believed.
    """

    def __init__(self, local: Callable[[], float] = time.time) -> None:
        self.local = local
        self._ahead: float | None = None

    def __call__(self) -> float:
        return self.corrected(self.local())

    def corrected(self, moment: float) -> float:
        """What the API's clock showed when the machine's showed `moment`."""
        return moment - self.ahead

    @property
    def ahead(self) -> float:
        """Seconds that the machine's clock is ahead: 0.0 within TOLERANCE or where it is behind."""
        return self._ahead if self._ahead is not None and self._ahead > TOLERANCE else 0.0

    def of_api(self) -> float | None:
        """What the API's clock shows now, also where the machine's is behind; None if unknown."""
        return None if self._ahead is None else self.local() - self._ahead

    def over(self, local: Callable[[], float]) -> Callable[[], float]:
        """`local`, corrected as this clock is; a Clock is corrected already."""
        return local if isinstance(local, Clock) else lambda: self.corrected(local())

    def heard(self, headers: Mapping[str, str], sent: float) -> None:
        """Take in an answer to a request that was sent at `sent` by the machine's clock.

        An answer is made after its question was sent, so no clock is blamed for a slow answer; and
        one that a cache has kept is older by its `Age` (RFC 9111). Of many answers the one that
        shows the least difference is the nearest to the truth.
        """
        try:
            made = parsedate_to_datetime(headers["Date"])
            age = float(headers.get("Age", "0"))
            ahead = sent - made.replace(tzinfo=made.tzinfo or UTC).timestamp() - age
        except (KeyError, ValueError, TypeError, OverflowError, IndexError):
            return
        self._ahead = ahead if self._ahead is None else min(self._ahead, ahead)
