"""Budgets as people and programs read them: a table for a terminal, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.messages import be, count
from pipeline.pricing.budget_states import BudgetState
from pipeline.pricing.budgets import Budget
from pipeline.terminal import printable
from pipeline.timeline import SECONDS, iso
from pipeline.zones import zone

_CENT: Final = Decimal("0.01")
_NANO: Final = Decimal("0.000000001")
_TENTH: Final = Decimal("0.1")


def who(budget: Budget) -> str:
    """Whose budget it is."""
    return "everybody" if budget.scope == "all" else f"{budget.scope} {printable(budget.called)}"


def amount_of(budget: Budget, amount: Decimal | None) -> str:
    """An amount with its unit, to the cent or, below one, as far as it needs; - where unknown."""
    if amount is None:
        return "-"
    if budget.measure != "cost":
        return f"{amount.quantize(Decimal(1), ROUND_HALF_EVEN):,}"
    if abs(amount) >= 1 or not amount:
        text = f"{amount.quantize(_CENT, ROUND_HALF_EVEN):,}"
    elif abs(amount) < _NANO:
        text = f"<{_NANO:f}" if amount > 0 else f">-{_NANO:f}"
    else:
        text = f"{amount.quantize(_NANO, ROUND_HALF_EVEN):f}".rstrip("0").removesuffix(".")
    return f"{text} {budget.currency}" if budget.currency else text


def share_of(state: BudgetState) -> str | None:
    """How much of the amount is used: `79.9 %`; None where nothing is known.

    Rounded down, so that it never says a threshold that is not reached.
    """
    percent = state.percent
    if percent is None:
        return None
    if 0 < percent < _TENTH:
        return f"< {_TENTH} %"
    return f"{percent.quantize(_TENTH, ROUND_DOWN):,}".removesuffix(".0") + " %"


def print_budgets(states: Sequence[BudgetState], out: Console) -> None:
    """Print a table of the budgets, and what is not known of each below it."""
    table = Table()
    table.add_column("budget", overflow="fold")
    for name in ("amount", "used", "left", "heading for"):
        table.add_column(name, justify="right", overflow="fold")
    for state in states:
        budget = state.budget
        table.add_row(
            Text(f"{budget.measure} of {who(budget)}\n{budget.period} from {_first_day(state)}"),
            amount_of(budget, budget.amount),
            f"{amount_of(budget, state.used)}\n{share_of(state) or ''}",
            amount_of(budget, state.left),
            _heading(state),
        )
    out.print(table)
    for state in states:
        for note in notes(state):
            budget = state.budget
            words = f"{budget.measure} of {who(budget)}, {budget.period}: {note}"
            out.print(Text(words), soft_wrap=True)
    if any(state.budget.measure != "operations" for state in states):
        out.print(
            Text("Tokens and cost are of the responses that could be listed."), soft_wrap=True
        )


def notes(state: BudgetState) -> Iterator[str]:
    """What is not known of a budget, a sentence each."""
    missing = state.elapsed - state.loaded
    if missing >= SECONDS["1h"]:
        of = f"{count(missing // 3_600, 'hour')} of {state.elapsed // 3_600:,} so far"
        yield f"{of} {be(missing // 3_600)} not loaded"
    if state.unknown:
        what = {"cost": "cost", "tokens": "tokens", "operations": "operations"}
        thing = "row" if state.budget.measure == "operations" else "response"
        yield f"{count(state.unknown, thing)} of unknown {what[state.budget.measure]} beside"


def as_json(states: Sequence[BudgetState]) -> str:
    """The budgets as JSON. Amounts are text, as exact as they are; times are UTC."""
    return json.dumps([*map(_fields, states)], ensure_ascii=False, indent=2)


def _fields(state: BudgetState) -> dict[str, object]:
    budget = state.budget
    return {
        "scope": budget.scope,
        "id": budget.id or None,
        **({} if budget.name is None else {"name": budget.name}),
        "period": budget.period,
        "tz": budget.tz,
        "measure": budget.measure,
        "currency": budget.currency,
        "start_time": iso(state.period.start),
        "end_time": iso(state.period.end),
        "through": iso(state.through),
        "amount": _exact(budget.amount),
        "used": _exact(state.used),
        "left": _exact(state.left),
        "heading_for": None if state.heading_for is None else _exact(_rounded(state.heading_for)),
        "ends_at": None if state.ends_at is None else iso(state.ends_at),
        "thresholds": list(budget.thresholds),
        "reached": state.reached,
        "num_unknown": state.unknown,
        "seconds_elapsed": state.elapsed,
        "seconds_loaded": state.loaded,
    }


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_NANO, ROUND_HALF_EVEN)


def _exact(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _heading(state: BudgetState) -> str:
    text = amount_of(state.budget, state.heading_for)
    return (
        text
        if state.ends_at is None
        else f"{text}\nends {_local(state, state.ends_at):%m-%d %H:%M}"
    )


def _first_day(state: BudgetState) -> str:
    tz = "" if state.budget.tz == "UTC" else f" ({state.budget.tz})"
    return f"{_local(state, state.period.start):%Y-%m-%d}{tz}"


def _local(state: BudgetState, moment: int) -> datetime:
    return datetime.fromtimestamp(moment, zone(state.budget.tz))
