"""How messages write a count (`1 day`, `2 days`), and the commands that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta


def noun(value: float, name: str) -> str:
    """`name` as it follows that number: as it is after 1, else in the plural."""
    if value == 1:
        return name
    if name.endswith("y") and name[-2:-1] not in set("aeiou"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def count(value: int, name: str) -> str:
    """`0 days`, `1 day`, `2,000 days`."""
    return f"{value:,} {noun(value, name)}"


def be(value: int) -> str:
    """The verb that follows that number."""
    return "is" if value == 1 else "are"


def by_width(rows: Mapping[str, int], table: str) -> str:
    """How many rows a day has in its tables of each width, those that are kept."""
    words = {f"{table}_1m": "minute", f"{table}_1h": "hour", f"{table}_1d": "day"}
    return ", ".join(f"{rows[name]:,} by {width}" for name, width in words.items() if name in rows)


RUN = "mka1-usage run"
REFRESH = "mka1-usage refresh"
FULL = f"{RUN} --full"
VERIFY = "mka1-usage verify"


def run(first: date, last: date, *flags: str) -> str:
    """The command that loads the UTC days from `first` through `last`."""
    words = [RUN, *flags, f"--start {first}", f"--end {last + timedelta(days=1)}"]
    return " ".join(words)


def resume(missing: Iterable[date], *flags: str, trailing: bool = False) -> str:
    """The sentence that ends the message of a run without these days; of the `trailing` window, no
    days are named: then it goes by totals."""
    days = sorted(missing)
    command = " ".join([RUN, *flags]) if trailing else run(days[0], days[-1], *flags)
    return f"Resume with: {command}"
