"""The section on budgets: what is used of each at the end of the report, and where it heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import altair as alt

from pipeline.messages import be, count
from pipeline.pricing.budget_states import BudgetState
from pipeline.pricing.budget_table import notes, share_of
from pipeline.pricing.budgets import Budget
from pipeline.report.charts import LOOSE, NAME_LETTER, PLACES, layered, legend, marks, paint
from pipeline.report.drawing import GAP, INK, MUTED, Frame
from pipeline.report.figures import Figures
from pipeline.report.formatting import (
    MONTHS,
    UNKNOWN,
    full,
    moment,
    money,
    name_of,
    number,
    span,
)
from pipeline.report.parts import Key, Section
from pipeline.report.tables import Table

_COLOURS: Final[Mapping[str, str]] = {
    "below its thresholds": "known",
    "a threshold is reached": "conversations",
    "used up": "unexplained",
}
_NAME: Final = "budgets"
_HEADING: Final = "Budgets"
_STEP: Final = 56
_NARROW_STEP: Final = 76
"""Pixels of a budget, with room for one and two lines below its bar."""


def section(figures: Figures) -> Section:
    """What is said of budgets, of which there is at least one."""
    states, others = figures.budgets, figures.other_budgets
    of_others = ""
    if others:
        more = count(others, "more budget" if states else "budget")
        them = "it" if others == 1 else "them"
        of_others = f"{more} {be(others)} of other usage: the report of all has {them}."
    if not states:
        return Section(_NAME, _HEADING, of_others)
    found = _section(states, figures.period.zone)
    return replace(found, finding=f"{found.finding} {of_others}".rstrip())


def _section(states: Sequence[BudgetState], zone: ZoneInfo) -> Section:
    used_up = [state for state in states if _kind(state) == "used up"]
    beyond = [state for state in states if state not in used_up and _is_heading_beyond(state)]
    said = f"At {moment(states[0].through, zone)}, "
    if used_up or beyond:
        whole = count(len(states), "budget")
        parts = [f"{len(used_up) or 'none'} of {whole} {be(max(len(used_up), 1))} used up"]
        if beyond:
            parts.append(f"{len(beyond)} {be(len(beyond))} heading beyond the amount")
        said += " and ".join(parts)
    else:
        said += f"none of {count(len(states), 'budget')} is used up or heading beyond the amount"
    unknown = sum(state.used is None for state in states)
    said += f"; of {count(unknown, 'budget')} nothing is known." if unknown else "."
    keys = [Key("tick", "threshold")]
    if any(_heading(state) for state in states):
        keys.append(Key("loose", "what the period is heading for"))
    return Section(
        _NAME,
        _HEADING,
        said,
        [_table(states, moment(states[0].through, zone))],
        partial(_chart, states),
        keys,
        "The whole width is the amount. Tokens and costs are of responses that could be listed.",
    )


def _chart(states: Sequence[BudgetState], frame: Frame) -> alt.LayerChart:
    rows = [_row(state, place, frame) for place, state in enumerate(states)]
    ticks = [
        {"place": place, "at": threshold / 100}
        for place, state in enumerate(states)
        for threshold in state.budget.thresholds
        if threshold <= 100
    ]
    present = [kind for kind in _COLOURS if kind in {row["kind"] for row in rows}]
    fill = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=present, range=[paint(_COLOURS[kind]) for kind in present]),
        legend=legend(columns=1 if frame.narrow else len(present), columnPadding=30),
    )
    data, y, end = marks(rows), PLACES, alt.value(frame.width - 4)
    scale = alt.Scale(domain=[0, 1], nice=False)
    bar: dict[str, Any] = {"size": 10, "yOffset": 2}
    line: dict[str, Any] = {"align": "left", "baseline": "middle"}
    layers = [
        data.mark_bar(**bar, fill=GAP).encode(y=y, x=alt.value(0), x2=end),
        data.mark_bar(**bar).encode(
            y=y, x=alt.X("zero:Q", axis=None, scale=scale), x2="used", fill=fill
        ),
        data.mark_text(**line, yOffset=-13).encode(y=y, x=alt.value(0), text="label:N"),
        data.mark_text(align="right", baseline="middle", yOffset=-13).encode(
            y=y, x=end, text="percent:N"
        ),
        data.mark_text(**line, yOffset=17, fill=MUTED).encode(y=y, x=alt.value(0), text="words:N"),
    ]
    if frame.narrow:
        below = data.mark_text(**line, yOffset=32, fill=MUTED)
        layers.append(below.encode(y=y, x=alt.value(0), text="period:N"))
    heading = [row for row in rows if row["heading"] > row["used"]]
    if heading:
        loose = marks(heading).mark_bar(**bar, **LOOSE)
        layers.insert(
            2,
            loose.encode(y=y, x=alt.X("used:Q", scale=scale), x2="heading", fill=fill, stroke=fill),
        )
    if ticks:
        tick = marks(ticks).mark_tick(orient="vertical", size=16, thickness=2, yOffset=2, color=INK)
        layers.append(tick.encode(y=y, x=alt.X("at:Q", scale=scale)))
    return layered(
        *layers, width=frame.width - 4, height=alt.Step(_NARROW_STEP if frame.narrow else _STEP)
    )


def _row(state: BudgetState, place: int, frame: Frame) -> dict[str, Any]:
    """A budget in a chart; floats are the lengths of bars, and clipped at the amount."""
    used, heading = _of_amount(state, state.used), _of_amount(state, _heading(state))
    percent = share_of(state) or UNKNOWN
    words = f"{_used(state)} of {_amount(state.budget, state.budget.amount)}"
    if not frame.narrow and _heading(state) is not None:
        words += f", heading for {_amount(state.budget, _heading(state))}"
    period = _period(state)
    room = int(frame.width / NAME_LETTER) - len(percent) - len("Operations, ") - 2
    label = _who(state.budget, room)
    if not frame.narrow:
        label = f"{_who(state.budget, room - len(period) - 2)}, {period}"
    return {
        **{"place": place, "zero": 0, "used": min(1.0, used), "heading": min(1.0, heading)},
        **{"kind": _kind(state), "label": label},
        **{"percent": percent, "words": words, "period": period},
    }


def _table(states: Sequence[BudgetState], when: str) -> Table:
    rows = [
        [
            _who(state.budget, 100),
            _period(state),
            _amount(state.budget, state.budget.amount),
            _used(state),
            share_of(state) or UNKNOWN,
            _amount(state.budget, state.left),
            _amount(state.budget, state.heading_for),
            _ends(state),
            ", ".join(f"{percent} %" for percent in state.reached) or "none",
            "; ".join(notes(state)) or "nothing",
        ]
        for state in states
    ]
    head = ["Budget", "Period", "Amount", "Used", "Share", "Left", "Heading for", "Used up"]
    return Table(f"Budgets, {when}", [*head, "Thresholds reached", "Not known"], rows, words=2)


def _kind(state: BudgetState) -> str:
    if state.percent is not None and state.percent >= 100:
        return "used up"
    return "a threshold is reached" if state.reached else "below its thresholds"


def _is_heading_beyond(state: BudgetState) -> bool:
    heading = _heading(state)
    return heading is not None and heading > state.budget.amount


def _heading(state: BudgetState) -> Decimal | None:
    """Where a period is heading that is not over."""
    return state.heading_for if state.through < state.period.end else None


def _of_amount(state: BudgetState, amount: Decimal | None) -> float:
    return 0.0 if amount is None else float(amount / state.budget.amount)


def _amount(budget: Budget, amount: Decimal | None) -> str:
    if amount is None:
        return UNKNOWN
    if budget.measure == "cost":
        return money(amount, budget.currency or "")
    return number(int(amount.to_integral_value(ROUND_HALF_EVEN)))


def _used(state: BudgetState) -> str:
    least = "at least " if state.unknown and state.used is not None else ""
    return f"{least}{_amount(state.budget, state.used)}"


def _ends(state: BudgetState) -> str:
    if state.used is None:
        return UNKNOWN
    if state.used >= state.budget.amount:
        return "already"
    if state.ends_at is None:
        return "not in this period"
    return moment(state.ends_at, ZoneInfo(state.budget.tz))


def _who(budget: Budget, most: int) -> str:
    who = "everybody" if budget.scope == "all" else name_of(budget.called, budget.scope, most)
    return f"{budget.measure.capitalize()}, {who}"


def _period(state: BudgetState) -> str:
    """`January 2024`, `8 to 14 January 2024`, `9 January 2024`; with a zone other than UTC."""
    zone = ZoneInfo(state.budget.tz)
    first = datetime.fromtimestamp(state.period.start, zone).date()
    last = datetime.fromtimestamp(state.period.end - 1, zone).date()
    words = {
        "month": f"{MONTHS[first.month - 1]} {first.year}",
        "week": span(first, max(last, first + timedelta(days=6))),
        "day": full(first),
    }[state.budget.period]
    return words if zone.key == "UTC" else f"{words} ({zone.key})"
