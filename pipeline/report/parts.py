"""What a report is made of: sections, tiles and keys, and the words that several sections share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple, TypeVar

from pipeline.messages import count
from pipeline.report.charts import Chart
from pipeline.report.drawing import Frame
from pipeline.report.figures import Bar, Figures
from pipeline.report.formatting import IN_SHORT, Change
from pipeline.report.period import Period, Unit
from pipeline.report.source import EVERYTHING, NOTHING
from pipeline.report.spending import SpendingBar
from pipeline.report.tables import Table, when

Amount = TypeVar("Amount", int, Decimal)


class Key(NamedTuple):
    """What a way of drawing means; `sign` is its class in the stylesheet."""

    sign: str
    words: str


class Tile(NamedTuple):
    """A number to begin with."""

    role: str
    name: str
    value: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report. `name` is its anchor, and its picture's file name."""

    name: str
    heading: str
    finding: str
    tables: Sequence[Table] = ()
    chart: Callable[[Frame], Chart] | None = None
    keys: Sequence[Key] = ()
    note: str = ""


def all_of(figures: Figures, counted: str) -> str:
    """`all operations`; those of what the report is of, where that is not all."""
    return f"{'all' if figures.only == EVERYTHING else 'these'} {counted}"


def than_before(moved: Change | None, days: int, period: Period) -> str:
    """`, 12 % more than in the period before`, on as many days as are compared."""
    if moved is None:
        return ""
    over = "" if days == len(period.days) else f" on {count(days, 'day')}"
    return f", {moved.words}{over} {moved.link} the period before"


def extremes(
    bars: Sequence[tuple[Bar | SpendingBar, Amount | None]],
    unit: Unit,
    words: Callable[[Amount], str],
) -> str:
    """The sentence on the bars with the most and the least, of those that are known whole."""
    there = [
        (value, bar)
        for bar, value in bars
        if value is not None and bar.known in {"final", "provisional"} and _is_whole(bar, unit)
    ]
    if len(there) < 2:
        return ""
    at = {"week": "from", "month": "in"}.get(unit, "on")
    most, high = max(there, key=lambda one: one[0])
    if not most:
        return ""
    least, low = min(there, key=lambda one: one[0])
    said = f" Most {at} {when(high)} with {words(most)}"
    # Of many hours in which nothing happens, none is worth a word.
    return f"{said}." if unit == "hour" else f"{said}, least {at} {when(low)} with {words(least)}."


def _is_whole(bar: Bar | SpendingBar, unit: Unit) -> bool:
    """Whether it is no week or month of which the period has a part."""
    if unit == "week":
        return bar.end - bar.first == timedelta(days=7)
    return unit != "month" or (bar.first.day, bar.end.day) == (1, 1)


def bar_keys(bars: Sequence[Bar | SpendingBar], *loose: str) -> list[Key]:
    """What dashes and grey mean in a chart of these bars; `loose`: what else is dashed."""
    known = {bar.known for bar in bars}
    dashed = [words for name, words in IN_SHORT.items() if name in known - {"final", *NOTHING}]
    dashed += loose
    keys = [Key("loose", " or ".join(dashed))] if dashed else []
    gaps = [words for name, words in IN_SHORT.items() if name in known & NOTHING]
    return [*keys, Key("gap", " or ".join(gaps))] if gaps else keys
