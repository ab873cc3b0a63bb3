"""What a week came to, as a message: usage, tokens, money, the most active, budgets, alerts.

Belongs here: which week, and what is said of it. All numbers are those of the report. What is not
loaded or may still change is said, and nothing unknown is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.alerts.evaluate import evaluate
from pipeline.lake.store import Lake
from pipeline.messages import be, count, noun, run
from pipeline.names.file import Files, load_names
from pipeline.notify.message import Message, Part, Tone
from pipeline.pricing.budget_table import amount_of, notes, share_of
from pipeline.pricing.budgets import Budget, load_budgets
from pipeline.pricing.prices import load_prices
from pipeline.report.figures import Figures, Ranking, read
from pipeline.report.formatting import (
    IN_SHORT,
    UNKNOWN,
    change,
    money,
    name_of,
    number,
    share,
    span,
    stretches,
)
from pipeline.report.source import Knowledge
from pipeline.report.spending import Spending
from pipeline.thresholds import Thresholds

ZONE: Final = ZoneInfo("UTC")
_WEEK: Final = 7
_TOP: Final = 5
_LONGEST_NAME: Final = 60
_LACKING: Final[tuple[Knowledge, ...]] = ("missing", "in part", "disputed")
_UNPROVEN: Final[tuple[Knowledge, ...]] = (*_LACKING, "dropped", "provisional")
_ALL_FINAL: Final = Part("All seven days are final.")


def last_week(now: float) -> date:
    """The Monday that the last UTC week that is over began with."""
    today = datetime.fromtimestamp(now, UTC).date()
    return today - timedelta(days=today.weekday() + _WEEK)


def make_digest(lake: Lake, thresholds: Thresholds, files: Files, now: float) -> Message:
    """The digest of the last UTC week that is over at `now` (Unix seconds).

    Raises HandWrittenError, UserIdModeError, and NothingToReportError where none of it is loaded.
    """
    monday = last_week(now)
    prices = load_prices(files)
    budgets = load_budgets(files, prices)
    last = monday + timedelta(days=_WEEK - 1)
    names = load_names(files, lake)
    figures = read(lake, monday, last, ZONE, prices, budgets, files.pseudonyms, names)
    return digest_of(figures, evaluate(lake, thresholds, now, files=files), now)


def digest_of(figures: Figures, found: Mapping[Alert, Evaluation], now: float) -> Message:
    """The message about the week of `figures`; `found` is what the alerts find now."""
    first, last = figures.period.first, figures.period.last
    known = _known(figures)
    is_whole = not (_lacking(figures) or figures.known("dropped"))
    parts = [
        *([] if is_whole else [known]),
        _usage(figures),
        *_spending(figures.spending),
        *_most_active("Most active users", "user", figures.users),
        *_most_active("Most active keys", "key", figures.keys),
        *_budgets(figures),
        _alerts(found),
        *([known] if is_whole else []),
    ]
    return Message(
        id=f"digest-{first}-{last}",
        kind="digest",
        title=f"Usage of {span(first, last)}: {_headline(figures)}",
        made_at=int(now),
        parts=tuple(parts),
        data=_data(figures, found),
    )


def _counted(amount: int | None, what: str) -> str:
    """How many there are of it, which may be unknown."""
    return f"{number(None)} {noun(0, what)}" if amount is None else count(amount, what)


def _headline(figures: Figures) -> str:
    """The operations, and whether that is all of them."""
    words = _counted(figures.totals.counts.operations, "operation")
    if lacking := len([*_lacking(figures), *figures.known("dropped")]):
        return f"{words}, and {count(lacking, 'day')} {be(lacking)} not whole"
    return words if all(state == "final" for state in _states(figures)) else f"{words} so far"


def _usage(figures: Figures) -> Part:
    totals, compared = figures.totals, figures.compared
    lines: list[str] = []
    names = ("Conversations created", "Items added", "Operations")
    for place, name in reversed([*enumerate(names)]):
        line = f"{name}: {number(totals.counts[place])}"
        if compared is not None:
            this, before = compared.this.counts[place], compared.before.counts[place]
            if (moved := change(this, before)) is not None:
                line += f" ({moved.sign})"
        lines.append(line)
    lines.append(f"By {count(totals.users, 'user')}, with {count(totals.keys, 'key')}")
    if compared is None:
        lines.append("The week before is not compared: too little of it is loaded.")
    else:
        days = "its days" if compared.days == _WEEK else f"the {count(compared.days, 'day')}"
        lines.append(f"Compared with the week before, by {days} that are loaded in both.")
    first, end = figures.period.first, figures.period.last + timedelta(days=1)
    return Part("Usage", tuple(lines), f"mka1-usage report --start {first} --end {end}")


def _spending(spending: Spending | None) -> list[Part]:
    if spending is None:
        return []
    total = spending.total
    lines = [
        f"Responses: {number(total.tokens.responses)}, of which "
        f"{number(total.tokens.failed)} failed "
        f"({share(total.tokens.failed, total.tokens.responses)})",
        f"Tokens: {number(total.tokens.total)} ({number(total.tokens.input)} in, "
        f"{number(total.tokens.output)} out)",
    ]
    if total.bill is not None:
        amounts = total.bill.amounts.items()
        costs = [money(amount, currency) for currency, amount in amounts]
        words = ", ".join(costs) or money(None)
        if total.bill.unpriced:
            words += f", beside {count(total.bill.unpriced, 'response')} of unknown cost"
        lines.append(f"Cost: {words}")
    models = [
        f"{name_of(used.id, 'model', _LONGEST_NAME)}: {_counted(used.tokens.total, 'token')}"
        for used in spending.models[:_TOP]
    ]
    if more := len(spending.models[_TOP:]):
        models.append(f"and {more:,} more")
    return [
        Part("Tokens and cost, of the responses that were listed", tuple(lines)),
        Part("Models with the most tokens", tuple(models)),
    ]


def _most_active(heading: str, kind: str, ranking: Ranking) -> list[Part]:
    lines: list[str] = []
    for one in ranking.top[:_TOP]:
        who = name_of(one.shown, kind, _LONGEST_NAME)
        line = f"{who}: {_counted(one.counts.operations, 'operation')}"
        if (moved := change(one.compared, one.before)) is not None:
            line += f" ({moved.sign})"
        lines.append(line)
    if (more := ranking.ids - len(lines)) > 0 and lines:
        lines.append(f"and {more:,} more")
    return [Part(heading, tuple(lines))] if lines else []


def _budgets(figures: Figures) -> list[Part]:
    lines = [
        f"{state.budget.measure} of {_whose(state.budget)} in the "
        f"{state.budget.period}: {amount_of(state.budget, state.used)} of "
        f"{amount_of(state.budget, state.budget.amount)} used "
        f"({share_of(state) or UNKNOWN})" + "".join(f"; {it}" for it in notes(state))
        for state in sorted(figures.budgets, key=lambda it: -(it.percent or Decimal(0)))
    ]
    if not lines:
        return []
    shown, more = lines[:_TOP], len(lines[_TOP:])
    shown += [f"and {more:,} more"] if more else []
    return [Part("Budgets, at the end of the week", tuple(shown), "mka1-usage budgets")]


def _whose(budget: Budget) -> str:
    if budget.scope == "all":
        return "everybody"
    return f"{budget.scope} {name_of(budget.called, budget.scope, 2 * _LONGEST_NAME)}"


def _alerts(found: Mapping[Alert, Evaluation]) -> Part:
    findings = [finding for one in found.values() for finding in one.findings]
    broken = [f"{alert}: {one.broken}" for alert, one in found.items() if one.broken]
    if not findings and not broken:
        return Part("Alerts", ("Nothing is found now.",))
    errors = sum(finding.severity == "error" for finding in findings)
    counted = {"error": errors, "warning": len(findings) - errors}
    words = [count(value, name) for name, value in counted.items() if value]
    number_of = [f"{' and '.join(words)} now"] if words else []
    worst = sorted(findings, key=lambda finding: finding.severity != "error")[:_TOP]
    lines = [*broken, *number_of, *(f"{one.severity}: {one.what}" for one in worst)]
    tone: Tone = "error" if errors or broken else "warning"
    return Part("Alerts", tuple(lines), "mka1-usage alerts", tone)


def _known(figures: Figures) -> Part:
    """What is known of the days, and the command that loads those that lack."""
    states = {state: figures.known(state) for state in _UNPROVEN}
    unproven = {state: days for state, days in states.items() if days}
    if not unproven:
        return _ALL_FINAL
    lines = [f"{_capital(IN_SHORT[state])}: {stretches(days)}" for state, days in unproven.items()]
    if damage := len({one.day for one in figures.damage}):
        lines.append(f"{count(damage, 'day')} left out: damaged, `mka1-usage verify` says how")
    if lacking := _lacking(figures):
        command = run(lacking[0], lacking[-1])
        return Part("These numbers are not whole", tuple(lines), command, "warning")
    if figures.known("dropped"):
        return Part("These numbers are not whole", tuple(lines))
    return Part("These numbers may still change", tuple(lines))


def _lacking(figures: Figures) -> list[date]:
    """The days that are to be loaded, or loaded again."""
    return sorted(day for state in _LACKING for day in figures.known(state))


def _states(figures: Figures) -> list[Knowledge]:
    return [figures.days[day] for day in figures.period.days]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _data(figures: Figures, found: Mapping[Alert, Evaluation]) -> dict[str, object]:
    totals, spending = figures.totals, figures.spending
    return {
        "first_day": str(figures.period.first),
        "last_day": str(figures.period.last),
        **totals.counts._asdict(),
        "users": totals.users,
        "keys": totals.keys,
        "tokens": None if spending is None else spending.total.tokens.total,
        "costs": _costs(spending),
        "days": {str(day): figures.days[day] for day in figures.period.days},
        "top_users": _top(figures.users),
        "top_keys": _top(figures.keys),
        "alerts": sum(len(one.findings) for one in found.values()),
    }


def _costs(spending: Spending | None) -> dict[str, str] | None:
    if spending is None or spending.total.bill is None:
        return None
    return {currency: str(amount) for currency, amount in spending.total.bill.amounts.items()}


def _top(ranking: Ranking) -> Sequence[dict[str, object]]:
    return [{"id": one.id, "operations": one.counts.operations} for one in ranking.top[:_TOP]]
