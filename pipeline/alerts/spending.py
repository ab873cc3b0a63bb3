"""A budget of which a threshold is reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.alerts.alert import Evaluation, Finding, equals, moment, shown
from pipeline.lake.snapshot import Snapshot, reason
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.names.file import Files, load_names
from pipeline.pricing.budget_states import BudgetState, budget_states
from pipeline.pricing.budget_table import amount_of, notes, share_of
from pipeline.pricing.budgets import Budget, Measure, load_with_prices
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.thresholds import MOST
from pipeline.timeline import iso

_WHOLE: Final = 100
"""A threshold of so many percent, or more, is an error."""
_COLUMNS: Final = {"user": "user_id", "key": "api_key_id", "team": "team_id"}
_SUMS: Final[dict[Measure, tuple[str, str]]] = {
    "operations": ("usage_by", "sum(num_operations) as operations"),
    "tokens": ("tokens_by", "sum(total_tokens) as tokens"),
    "cost": ("cost_by", "sum(cost) as cost, sum(num_unpriced) as unpriced"),
}


def spent(lake: Lake, snapshot: Snapshot, files: Files | None, now: float) -> Evaluation:
    """The thresholds of budgets that are reached at `now` (Unix seconds).

    The same threshold is the same finding until its period ends, whatever is used beyond it.
    """
    if files is None:
        return Evaluation()
    try:
        budgets, prices = load_with_prices(files)
        names = _names(files, lake, budgets)
        states = budget_states(snapshot, lake, budgets, prices, now, files.pseudonyms, names=names)
    except (HandWrittenError, UserIdModeError) as error:
        return Evaluation(broken=f"can't be looked for: {error}")
    except (duckdb.Error, OSError) as error:
        return Evaluation(broken=f"can't be looked for: {reason(lake, error)}")
    findings = sorted(_findings(states), key=lambda it: it.severity != "error")
    unknown = [it for it in states if it.used is None]
    return Evaluation(
        findings[:MOST],
        len(findings[MOST:]),
        _unjudged([it.budget for it in unknown]),
        unknown=[
            (_subject(it.budget, percent), it.period.start)
            for it in unknown
            for percent in it.budget.thresholds
        ],
    )


def _names(files: Files, lake: Lake, budgets: Sequence[Budget]) -> pa.Table | None:
    """The names; None where their file is wrong, and no budget needs them."""
    try:
        return load_names(files, lake).table
    except HandWrittenError:
        if any(budget.scope == "team" for budget in budgets):
            raise
        return None


def _unjudged(budgets: Sequence[Budget]) -> str | None:
    if not budgets:
        return None
    more = f" (and {len(budgets) - 1:,} more)" if budgets[1:] else ""
    return f"nothing is known of {_words(budgets[0])}{more}"


def _findings(states: Sequence[BudgetState]) -> Iterator[Finding]:
    for state in states:
        for percent in state.reached:
            yield Finding(
                alert="budget",
                severity="error" if percent >= _WHOLE else "warning",
                subject=_subject(state.budget, percent),
                since=state.period.start,
                what=_what(state, percent),
                query=_query(state),
            )


def _subject(budget: Budget, percent: int) -> str:
    return f"{percent} % of {budget.subject!r}"


def _what(state: BudgetState, percent: int) -> str:
    budget = state.budget
    beside = "".join(f"; {note}" for note in notes(state))
    return (
        f"{_words(budget)}: {amount_of(budget, state.used)} of {amount_of(budget, budget.amount)} "
        f"are used since {iso(state.period.start)}, {share_of(state)}: the threshold of "
        f"{percent} % is reached{beside}"
    )


def _words(budget: Budget) -> str:
    whose = "everybody" if budget.scope == "all" else shown(budget.id, budget.scope, budget.name)
    return f"{budget.measure} of {whose} in the {budget.period}"


def _query(state: BudgetState) -> str:
    """By day of the budget's time zone."""
    budget = state.budget
    macro, sums = _SUMS[budget.measure]
    macro = f"team_{macro}" if budget.scope == "team" else macro
    whose = "" if budget.scope == "all" else f"{equals(_COLUMNS[budget.scope], budget.id)} and "
    return (
        f"select local_start, {sums} from {macro}('1d', tz := '{budget.tz}') where {whose}"
        f"start_time >= {moment(state.period.start)} and start_time < {moment(state.period.end)} "
        "group by local_start order by local_start"
    )
