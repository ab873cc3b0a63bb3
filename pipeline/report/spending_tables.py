"""The numbers behind the charts of tokens, money and failures."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.messages import count
from pipeline.report.figures import Figures
from pipeline.report.formatting import UNKNOWN, money, names_of, number, share
from pipeline.report.spending import Spending, Tokens, Used
from pipeline.report.spending_charts import TOP
from pipeline.report.tables import Table, by_bar

_TOKENS = ["Responses", "Input", "Cached input", "Output", "Reasoning", "Tokens"]


def tokens(figures: Figures, spending: Spending) -> Table:
    """A row for each bar."""
    bars, head = spending.bars, [*_TOKENS]
    rows = [_tokens(bar.used.tokens if bar.used else None) for bar in bars]
    if any(bar.before for bar in bars):
        head.append("Tokens, before")
        for row, bar in zip(rows, bars, strict=True):
            row.append(number(bar.before.tokens.total if bar.before else None))
    return by_bar(figures, bars, "Tokens", head, rows)


def cost(figures: Figures, spending: Spending) -> Table:
    """A row for each bar, a column for each currency."""
    bars, currencies = spending.bars, spending.currencies
    head = _money_head(spending)
    rows = [_money(bar.used, spending) for bar in bars]
    if any(bar.before for bar in bars):
        head += [f"{currency.upper()}, before" for currency in currencies]
        for row, bar in zip(rows, bars, strict=True):
            row.extend(_money(bar.before, spending)[: len(currencies)])
    return by_bar(figures, bars, "Cost", head, rows)


def models(spending: Spending) -> Table:
    """A row for each model."""
    head = ["Model", *_TOKENS, *_money_head(spending)]
    return _ranked("Models, by tokens", head, spending, spending.models, "model")


def spenders(spending: Spending, used: Sequence[Used], kind: str) -> Table:
    """A row for each of the first users, or teams."""
    by = "cost" if spending.currency else "tokens"
    head = [kind.capitalize(), *_TOKENS, *_money_head(spending)]
    return _ranked(f"The {kind}s with the most {by}", head, spending, used, kind)


def failures(ranked: Sequence[Used]) -> Table:
    """A row for each model."""
    rows = [
        [
            name,
            number(one.tokens.responses),
            number(one.tokens.failed),
            share(one.tokens.failed, one.tokens.responses),
        ]
        for name, one in _named(ranked, "model")
    ]
    head = ["Model", "Responses", "Failed or incomplete", "Share"]
    return Table(
        "Failed and incomplete responses, by model",
        head,
        rows,
        left_out=_more(ranked, "model"),
        kind="model",
        ids=[one.id for one in ranked[:TOP]],
    )


def _ranked(
    caption: str, head: list[str], spending: Spending, used: Sequence[Used], kind: str
) -> Table:
    rows = [
        [name, *_tokens(one.tokens), *_money(one, spending)] for name, one in _named(used, kind)
    ]
    ids = [one.id for one in used[:TOP]]
    return Table(caption, head, rows, left_out=_more(used, kind), kind=kind, ids=ids)


def _named(used: Sequence[Used], kind: str) -> list[tuple[str, Used]]:
    shown = used[:TOP]
    return [*zip(names_of([one.shown for one in shown], kind, 100), shown, strict=True)]


def _more(used: Sequence[Used], kind: str) -> str:
    more = len(used[TOP:])
    return f"{count(more, f'more {kind}')}: not listed." if more else ""


def _tokens(of: Tokens | None) -> list[str]:
    if of is None:
        return [UNKNOWN] * len(_TOKENS)
    numbers = (of.responses, of.input, of.cached, of.output, of.reasoning, of.total)
    return [number(value) for value in numbers]


def _money_head(spending: Spending) -> list[str]:
    if spending.total.bill is None:
        return []
    unknown = ["Responses of unknown cost"] if spending.total.bill.unpriced else []
    return [*(f"Cost in {currency.upper()}" for currency in spending.currencies), *unknown]


def _money(used: Used | None, spending: Spending) -> list[str]:
    if spending.total.bill is None:
        return []
    bill = used.bill if used else None
    known = [bill.of(currency) if bill else None for currency in spending.currencies]
    amounts = ["unknown" if bill and cost is None else money(cost) for cost in known]
    unknown = [number(bill.unpriced if bill else None)] if spending.total.bill.unpriced else []
    return [*amounts, *unknown]
