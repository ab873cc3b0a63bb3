"""Charts of tokens, money and failures.

Belongs here: what `charts` does for usage. A chart gets amounts as floats, for the length of a bar
alone: what is written is made of the exact ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import altair as alt

from pipeline.report.charts import NAME_LETTER, bar_row, paint, panel, ranked
from pipeline.report.drawing import Frame
from pipeline.report.figures import Figures
from pipeline.report.formatting import money, names_of, number, share
from pipeline.report.spending import Bill, Spending, SpendingBar, Used

TOP: Final = 10
"""Models or users that are listed."""
_SHORTEST: Final = 8
"""Letters that a name keeps."""
OF_ALL: Final = 0.1
"""The part of all responses that a chart of failures shows at least: a small one looks small."""


def tokens(figures: Figures, spending: Spending, frame: Frame) -> alt.VConcatChart:
    """Tokens over time: what was read, and on top what was written."""
    rows: list[dict[str, Any]] = []
    for bar in spending.bars:
        of = bar.used.tokens if bar.used else None
        before = bar.before.tokens.total if bar.before else None
        if of is None or (of.input is None and of.output is None):
            rows.append(bar_row(bar, of and of.total, kind="input", before=before))
            continue
        read, written = of.input or 0, of.output or 0
        rows.append(bar_row(bar, read, kind="input", before=before, label=number(of.total)))
        if written:
            top = bar_row(bar, read + written, kind="output", base=read, label=number(of.total))
            rows.append(top)
    colours = {"input": paint("input"), "output": paint("output")}
    title = f"Tokens  {number(spending.total.tokens.total)}"
    return _alone(panel(figures, frame, title, rows, colours, dated=True))


def cost(figures: Figures, spending: Spending, currency: str, frame: Frame) -> alt.VConcatChart:
    """Cost over time, in one currency; dashed where some of it is unknown."""

    def of(used: Used | None) -> Decimal | None:
        return used.bill.of(currency) if used and used.bill else None

    rows: list[dict[str, Any]] = []
    for bar in spending.bars:
        now, before = of(bar.used), of(bar.before)
        row = bar_row(bar, _length(now), before=_length(before), label=money(now))
        if bar.known == "final" and is_partly_unknown(bar):
            row["known"] = "provisional"
        rows.append(row)
    title = f"Cost in {currency.upper()}  {money(of(spending.total))}"
    found = panel(
        figures,
        frame,
        title,
        rows,
        {"": paint("cost")},
        dated=True,
        unknown="unknown",
        least=1e-9,
    )
    return _alone(found)


def is_partly_unknown(bar: SpendingBar) -> bool:
    """Whether the cost of some responses is known, and of others not."""
    bill = bar.used.bill if bar.used else None
    return bill is not None and bill.unpriced > 0 and bool(bill.amounts)


def by_tokens(
    used: Sequence[Used], kind: str, currency: str | None, frame: Frame
) -> alt.LayerChart:
    """Bars of tokens, with what they cost in words."""
    words = [
        f"{number(one.tokens.total)} ({_any_cost(one.bill, currency)})"
        if currency and one.bill
        else number(one.tokens.total)
        for one in used
    ]
    values = [one.tokens.total or 0 for one in used]
    return _ranked(used, kind, values, words, "input", 1, frame)


def by_cost(used: Sequence[Used], kind: str, currency: str, frame: Frame) -> alt.LayerChart:
    """Bars of what users cost in one currency."""
    bills = [one.bill or Bill() for one in used]
    values = [_length(bill.of(currency)) or 0.0 for bill in bills]
    words = [_cost(bill, currency) for bill in bills]
    return _ranked(used, kind, values, words, "cost", 1e-9, frame)


def failures(models: Sequence[Used], frame: Frame) -> alt.LayerChart:
    """Bars of the share of responses that failed; the whole width is at least a tenth."""
    tokens = [one.tokens for one in models]
    values = [of.failed / of.responses for of in tokens]
    words = [
        f"{share(of.failed, of.responses)} ({number(of.failed)} of {number(of.responses)})"
        for of in tokens
    ]
    return _ranked(models, "model", values, words, "unexplained", OF_ALL, frame)


def _ranked(
    used: Sequence[Used],
    kind: str,
    values: Sequence[float],
    words: Sequence[str],
    role: str,
    least: float,
    frame: Frame,
) -> alt.LayerChart:
    """Bars below names, which are cut where the words need the room."""
    room = int(frame.width / NAME_LETTER) - max(map(len, words), default=0) - 2
    names = names_of([one.shown for one in used], kind, min(80, max(_SHORTEST, room)))
    rows = [
        {"value": value, "label": name, "words": said}
        for value, name, said in zip(values, names, words, strict=True)
    ]
    return ranked(rows, role, frame, least=least)


def _any_cost(bill: Bill, currency: str) -> str:
    """In the currency, or in the first that it has a cost in."""
    return _cost(bill, currency if currency in bill.amounts else next(iter(bill.amounts), currency))


def _cost(bill: Bill, currency: str) -> str:
    """`1.23 USD`, `at least 1.23 USD` where some of it is unknown."""
    known = bill.of(currency)
    if known is None:
        return "cost unknown"
    return f"{'at least ' if bill.unpriced else ''}{money(known, currency)}"


def _length(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _alone(found: alt.LayerChart) -> alt.VConcatChart:
    chart: alt.VConcatChart = alt.vconcat(found)
    return chart
