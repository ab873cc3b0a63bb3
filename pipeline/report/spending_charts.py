"""Charts of tokens, money and failures.

Belongs here: what `charts` does for usage. A chart gets amounts as floats, for the length of a bar
alone: what is written is made of the exact ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import altair as alt

from pipeline.report.charts import bar_row, paint, panel, ranked
from pipeline.report.drawing import Frame
from pipeline.report.figures import Figures
from pipeline.report.formatting import money, names_of, number, share
from pipeline.report.spending import Spending, SpendingBar, Tokens, Used

TOP: Final = 10
"""Models or users that are listed."""
_OF_ALL: Final = 0.1
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
    rows: list[dict[str, Any]] = []
    for one, name in _named(used, kind, frame):
        words = number(one.tokens.total)
        if currency and one.bill:
            words += f" ({_cost(one, currency)})"
        rows.append({"value": one.tokens.total or 0, "label": name, "words": words})
    return ranked(rows, "input", frame, least=1)


def by_cost(used: Sequence[Used], kind: str, currency: str, frame: Frame) -> alt.LayerChart:
    """Bars of what users cost in one currency."""
    rows = [
        {
            "value": _length(one.bill.of(currency) if one.bill else None) or 0.0,
            "label": name,
            "words": _cost(one, currency),
        }
        for one, name in _named(used, kind, frame)
    ]
    return ranked(rows, "cost", frame, least=1e-9)


def failures(models: Sequence[Used], frame: Frame) -> alt.LayerChart:
    """Bars of the share of responses that failed; the whole width is at least a tenth."""
    rows = [
        {
            "value": one.tokens.failed / one.tokens.responses,
            "label": name,
            "words": failed(one.tokens),
        }
        for one, name in _named(models, "model", frame)
    ]
    return ranked(rows, "unexplained", frame, least=_OF_ALL)


def failed(of: Tokens) -> str:
    """`3.1 % (2 of 64)`."""
    part = share(of.failed, of.responses)
    return f"{part} ({number(of.failed)} of {number(of.responses)})"


def _cost(one: Used, currency: str) -> str:
    known = one.bill.of(currency) if one.bill else None
    return "cost unknown" if known is None else money(known, currency)


def _named(used: Sequence[Used], kind: str, frame: Frame) -> list[tuple[Used, str]]:
    names = names_of([one.id for one in used], kind, 26 if frame.narrow else 70)
    return [*zip(used, names, strict=True)]


def _length(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _alone(found: alt.LayerChart) -> alt.VConcatChart:
    chart: alt.VConcatChart = alt.vconcat(found)
    return chart
