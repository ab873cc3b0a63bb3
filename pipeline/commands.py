"""Commands of this project as messages name them, to be pasted.

Belongs here: their words.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

REFRESH = "mka1-usage refresh"
FULL = "mka1-usage run --full"
VERIFY = "mka1-usage verify"


def run(first: date, last: date, *flags: str) -> str:
    """The command that loads the UTC days from `first` through `last`."""
    words = ["mka1-usage run", *flags, f"--start {first}", f"--end {last + timedelta(days=1)}"]
    return " ".join(words)


def resume(missing: Iterable[date], *flags: str) -> str:
    """The sentence that ends the message of a run without these days."""
    days = sorted(missing)
    return f"Resume with: {run(days[0], days[-1], *flags)}"
