"""Numbers, changes, days and ids as people read them.

Belongs here: how one thing is said, in English whatever the locale of the machine is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from pipeline.report.figures import Measure
from pipeline.report.source import Knowledge
from pipeline.timeline import spans

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES: Final[dict[Measure, str]] = {
    "operations": "Operations",
    "items": "Items added",
    "conversations": "Conversations created",
}
IN_SHORT: Final[dict[Knowledge, str]] = {
    "final": "final",
    "provisional": "provisional",
    "in part": "loaded in part",
    "disputed": "disputed",
    "dropped": "not kept any more",
    "missing": "not loaded",
}

UNKNOWN: Final = "–"
"""What stands where no number is known. Never 0."""
_EXACT: Final = Context(prec=80)
"""Digits enough for any amount: the usual ones are fewer than a sum of amounts can have."""
_DIGITS: Final = 3
"""Of an amount that is not larger: cents are enough for 12.34, not for 0.0001234."""
_JOINERS: Final = "\u200c\u200d"
"""Not printable, and part of how words and emoji are written."""


class Change(NamedTuple):
    """How a number compares with the one before: as a sign, and in words.

    `link` joins the words to what is compared with: `3 % more` than.
    """

    sign: str
    words: str
    link: str = "than in"


def number(value: int | None) -> str:
    """`1,234`."""
    return UNKNOWN if value is None else f"{value:,}"


def rounded(value: float | None) -> str:
    """`1,234`, or `3.5` where it is small."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"


def money(amount: Decimal | None, currency: str = "") -> str:
    """`1,234.50 USD`: two decimals, and of small amounts as many as three digits take."""
    if amount is None:
        return UNKNOWN
    decimals = max(2, _DIGITS - 1 - amount.adjusted()) if amount else 2
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
    whole, _, part = f"{rounded:,f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')} {currency.upper()}".rstrip()


def share(part: int | Decimal | None, whole: int | Decimal | None) -> str:
    """`12 %`; one decimal below 10, never 0 or 100 for what is neither."""
    if part is None or not whole:
        return UNKNOWN
    of_hundred = 100 * part / whole
    if 0 < of_hundred < 0.1:
        return "< 0.1 %"
    if 99.9 < of_hundred < 100:
        return "> 99.9 %"
    if of_hundred < 10 or 99 < of_hundred < 100:
        return f"{of_hundred:.1f}".removesuffix(".0") + " %"
    return f"{of_hundred:,.0f} %"


def change(now: int | Decimal | None, before: int | Decimal | None) -> Change | None:
    """None where one of the two is not known."""
    if now is None or before is None:
        return None
    if now == before:
        return Change("= as before", "the same", "as in")
    if not before:
        return Change("▲ from 0", "up from none", "in")
    sign, way = ("▲", "more") if now > before else ("▼", "less")
    times = now / before
    if times >= 10:
        return Change(f"▲ {times:,.0f}×", f"{times:,.0f} times as much", "as in")
    moved = share(max(now, before) - min(now, before), before)
    return Change(f"{sign} {moved}", f"{moved} {way}")


def day(value: date) -> str:
    """`Tue 9 Jan`."""
    return f"{WEEKDAYS[value.weekday()][:3]} {value.day} {MONTHS[value.month - 1][:3]}"


def full(value: date) -> str:
    """`9 January 2024`."""
    return f"{value.day} {MONTHS[value.month - 1]} {value.year}"


def span(first: date, last: date) -> str:
    """`1 to 28 January 2024`, without what is said twice."""
    if first == last:
        return full(first)
    begins = f"{first.day}"
    if (first.year, first.month) != (last.year, last.month):
        begins += f" {MONTHS[first.month - 1]}"
    if first.year != last.year:
        begins += f" {first.year}"
    return f"{begins} to {full(last)}"


def stretches(days: Iterable[date]) -> str:
    """`3 January 2024 and 5 to 9 January 2024`; the last four where there are more."""
    found = [span(first, last) for first, last in spans(days)]
    shown = found[-4:]
    if len(found) > len(shown):
        shown = [f"{len(found) - len(shown):,} earlier", *shown]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def moment(seconds: int, zone: ZoneInfo) -> str:
    """`28 January 2024, 14:05`."""
    clock = datetime.fromtimestamp(seconds, zone)
    return f"{full(clock.date())}, {clock:%H:%M}"


def name_of(id_: str | None, kind: str, most: int) -> str:
    """An id as a label of at most `most` characters, cut in its middle.

    Characters that do not print, or change the direction of text, are spelled out. An id that reads
    like the label of no id stands in quotes.
    """
    nobody, blank = f"(no {kind})", f"(blank {kind})"
    if id_ is None:
        return nobody
    if not id_.strip():
        return blank
    # Long before it is cut, so that an id of megabytes costs no more than one of a line.
    whole = id_ if len(id_) <= 2 * most else id_[:most] + id_[-most:]
    text = "".join(
        char if char.isprintable() or char in _JOINERS else f"\\u{ord(char):04x}" for char in whole
    )
    if text.strip() in {nobody, blank}:
        text = f'"{text}"'
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: kept - kept // 3]}…{text[len(text) - kept // 3 :]}"


def names_of(ids: Sequence[str | None], kind: str, most: int) -> list[str]:
    """The labels of the ids of one list, no two the same: those that would be have a number."""
    taken: set[str] = set()
    found: list[str] = []
    for id_ in ids:
        label, number = name_of(id_, kind, most), 1
        while label in taken:
            number += 1
            behind = f" ({number})"
            label = name_of(id_, kind, most - len(behind)) + behind
        taken.add(label)
        found.append(label)
    return found
