"""What a report says of tokens, money and failures, where responses could be listed.

Belongs here: the words. Tokens are only of what a sync could list, and each section says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from pipeline.messages import be, count
from pipeline.report import spending_charts as charts
from pipeline.report import spending_tables as tables
from pipeline.report.figures import Figures
from pipeline.report.formatting import Change, change, money, name_of, number, share, stretches
from pipeline.report.parts import Key, Section, Tile, all_of, bar_keys, extremes, than_before
from pipeline.report.spending import Spending, Tokens, Used

_LISTED: Final = "Of the responses that could be listed."


def sections(figures: Figures, spending: Spending) -> list[Section]:
    """The sections in order."""
    return [
        _tokens(figures, spending),
        *_cost(figures, spending),
        _models(figures, spending),
        *(
            _spenders(figures, spending, used, kind)
            for kind, used in (("user", spending.users), ("team", spending.teams))
            if used and getattr(figures.only, kind) is None
        ),
        _failures(spending),
    ]


def lead(spending: Spending) -> str:
    """The sentence to begin with, where a report is of a model."""
    of = spending.total.tokens
    tokens = "an unknown number of tokens" if of.total is None else count(of.total, "token")
    return (
        f"{count(of.responses, 'response')} that could be listed took {tokens}. Operations, items "
        "and conversations are not known by model."
    )


def tiles(spending: Spending) -> list[Tile]:
    """Tokens and, where a price list says, their cost."""
    found = [
        Tile("input", "Tokens", number(spending.total.tokens.total), _tokens_change(spending)),
    ]
    currency, bill = spending.currency, spending.total.bill
    if bill and currency:
        name = "Known cost" if bill.unpriced else "Cost"
        if len(spending.currencies) > 1:
            name += f", one of {count(len(spending.currencies), 'currency')}"
        moved = _cost_change(spending, currency)
        found.append(Tile("cost", name, money(bill.of(currency), currency), moved))
    return found


def compared(figures: Figures, spending: Spending) -> str:
    """The sentence on which days of tokens are compared, where they are others than those of usage;
    it begins with a space."""
    found, usage = spending.compared, figures.compared
    if found is None:
        return (
            ""
            if usage is None
            else " Tokens are not compared: too few days are listed in both periods."
        )
    if usage and usage.days == found.days:
        return ""
    return f" Tokens on {count(found.days, 'day')}, those listed whole in both periods."


def _tokens(figures: Figures, spending: Spending) -> Section:
    of, unit = spending.total.tokens, figures.period.unit
    name, heading = "tokens", f"Tokens by {unit}"
    if of.total is None:
        said = f"No response says how many tokens it took: {count(of.responses, 'response')}."
        return Section(name, heading, f"{said} {_coverage(figures, spending)}".rstrip())
    said = f"{count(of.total, 'token')} in {count(of.responses, 'response')}"
    if spending.compared:
        said += than_before(_tokens_change(spending), spending.compared.days, figures.period)
    bars = [(bar, bar.used.tokens.total if bar.used else None) for bar in spending.bars]
    said += f".{extremes(bars, unit, number)}{_parts(of)} {_coverage(figures, spending)}"
    keys = bar_keys(spending.bars)
    if any(bar.used and bar.used.tokens.total is None for bar in spending.bars):
        keys.append(Key("gap", "not reported"))
    if any(bar.before for bar in spending.bars):
        keys.append(Key("line", "tokens on the same weekday of the period before"))
    chart, table = partial(charts.tokens, figures, spending), tables.tokens(figures, spending)
    return Section(name, heading, said.rstrip(), [table], chart, keys)


def _parts(of: Tokens) -> str:
    """` 45 % of the input came from the cache, and 33 % of the output is reasoning.`"""
    said: list[str] = []
    if of.input and of.cached is not None:
        said.append(f"{share(of.cached, of.input)} of the input came from the cache")
    if of.output and of.reasoning is not None:
        said.append(f"{share(of.reasoning, of.output)} of the output is reasoning")
    return f" {', and '.join(said)}." if said else ""


def _coverage(figures: Figures, spending: Spending) -> str:
    """What the numbers are of, and of whom and of which days nothing is known."""
    said: list[str] = []
    missing = [day for day in figures.period.days if spending.days[day] == "missing"]
    if missing:
        said.append(f"Of {count(len(missing), 'day')} none are listed: {stretches(missing)}.")
    dropped = [day for day in figures.period.days if spending.days[day] == "dropped"]
    if dropped:
        said.append(f"Of {count(len(dropped), 'day')} none are kept: {stretches(dropped)}.")
    if spending.unlisted:
        part = sum(one.operations or 0 for one in spending.unlisted)
        whole = figures.totals.counts.operations
        keys = [name_of(one.shown, "key", 40) for one in spending.unlisted if one.key is not None]
        who = keys if len(keys) < 4 else [*keys[:3], count(len(keys) - 3, "other key")]
        if any(one.key is None for one in spending.unlisted):
            who.append("calls without a key")
        made = (
            f", which made {share(part, whole)} of {all_of(figures, 'operations')}" if whole else ""
        )
        known = "No response counts for" if spending.of_several else "Nothing is known of"
        said.append(f"{known} {_and(who)}{made}.")
    if spending.of_several:
        said.append(
            f"{count(spending.of_several, 'response')} {be(spending.of_several)} listed under "
            f"several keys, and count{'s' * (spending.of_several == 1)} for none."
        )
    return " ".join(["Counted are the responses that could be listed.", *said] if said else [])


def _cost(figures: Figures, spending: Spending) -> list[Section]:
    bill, currency = spending.total.bill, spending.currency
    if bill is None:
        return []
    unit = figures.period.unit
    name, heading = "cost", f"Cost by {unit}"
    if currency is None:
        unknown = f"The cost of none of {count(bill.unpriced, 'response')} is known."
        return [Section(name, heading, f"{unknown}{_unpriced(spending)}")]
    amounts = [money(bill.of(one), one) for one in spending.currencies]
    said = f"{_and(amounts)} by the price list"
    if spending.compared:
        moved = _cost_change(spending, currency)
        of = f" ({currency.upper()})" if moved and len(amounts) > 1 else ""
        said += than_before(moved, spending.compared.days, figures.period) + of
    bars = [
        (bar, bar.used.bill.of(currency) if bar.used and bar.used.bill else None)
        for bar in spending.bars
    ]
    # Of a day with models without a price, the cost is too low to be the least.
    whole = [
        (bar, None if bar.used and bar.used.bill and bar.used.bill.without_price else cost)
        for bar, cost in bars
    ]
    said += f".{extremes(whole, unit, lambda one: money(one, currency))}"
    said += _unpriced(spending)
    partly = any(charts.is_partly_unknown(bar) for bar in spending.bars)
    keys = bar_keys(spending.bars, *(["with responses of unknown cost"] if partly else []))
    if any(cost is None and bar.used for bar, cost in bars):
        keys.append(Key("gap", "unknown"))
    if any(bar.before for bar in spending.bars):
        keys.append(Key("line", "cost on the same weekday of the period before"))
    others = " Other currencies are in the table." if len(amounts) > 1 else ""
    return [
        Section(
            name,
            heading,
            said,
            [tables.cost(figures, spending)],
            partial(charts.cost, figures, spending, currency),
            keys,
            f"{_LISTED} Amounts are rounded; the macro cost_by gives them exactly.{others}",
        )
    ]


def _unpriced(spending: Spending) -> str:
    """The sentences on responses whose cost is unknown; they begin with a space."""
    bill = spending.total.bill
    if bill is None or not bill.unpriced:
        return ""
    models = [one for one in spending.models if one.bill and one.bill.without_price]
    said = ""
    if bill.without_price:
        names = [name_of(one.id, "model", 40) for one in models]
        shown = names if len(names) < 5 else [*names[:4], count(len(names) - 4, "more model")]
        said += (
            f" The cost of {count(bill.without_price, 'response')} of {_and(shown)} is unknown, "
            f"and not in it: the price list has no price for {'it' if len(names) == 1 else 'them'}."
        )
    silent = bill.unpriced - bill.without_price
    if silent:
        said += (
            f" {count(silent, 'response')} {'does' if silent == 1 else 'do'} not say how many "
            f"tokens {'it' if silent == 1 else 'they'} took, so the cost is unknown too."
        )
    return said


def _models(figures: Figures, spending: Spending) -> Section:
    models, total = spending.models, spending.total.tokens.total
    first = models[0]
    said = f"{count(len(models), 'model')}."
    if total:
        who = _model(first)
        said = f"{who} took {share(first.tokens.total, total)} of {all_of(figures, 'tokens')}"
        said += f", the first of {count(len(models), 'model')}." if len(models) > 1 else "."
    unknown = [one for one in models if one.bill and one.bill.of(spending.currency or "") is None]
    if unknown:
        said += f" The cost of {count(len(unknown), 'model')} is unknown."
    chart = partial(charts.by_tokens, models[: charts.TOP], "model", spending.currency)
    words = "Tokens, and what they cost." if spending.currency else "Tokens."
    return Section(
        "models", "Models", said, [tables.models(spending)], chart, note=f"{words} {_LISTED}"
    )


def _spenders(figures: Figures, spending: Spending, used: Sequence[Used], who_of: str) -> Section:
    """Users, or teams, by what they cost."""
    currency = spending.currency
    kind = "cost" if currency else "tokens"
    first = used[0]
    who = f"Responses without a {who_of}"
    if first.shown is not None:
        who = name_of(first.shown, who_of, 40)
    if currency and spending.total.bill:
        part = share(
            first.bill.of(currency) if first.bill else None, spending.total.bill.of(currency)
        )
        said = f"{who} made {part} of the cost in {currency.upper()}."
        chart = partial(charts.by_cost, used[: charts.TOP], who_of, currency)
        note = f"Cost in {currency.upper()}. {_LISTED}"
    else:
        part = share(first.tokens.total, spending.total.tokens.total)
        said = f"{who} took {part} of {all_of(figures, 'tokens')}."
        chart = partial(charts.by_tokens, used[: charts.TOP], who_of, None)
        note = f"Tokens. {_LISTED}"
    if len(used) > charts.TOP:
        said += f" {charts.TOP} of {number(len(used))} are shown."
    table = tables.spenders(spending, used, who_of)
    return Section(
        f"{who_of}s-by-{kind}", f"Top {who_of}s by {kind}", said, [table], chart, note=note
    )


def _failures(spending: Spending) -> Section:
    name, heading = "failures", "Failed responses by model"
    of = spending.total.tokens
    said = f"{number(of.failed)} of {count(of.responses, 'response')} failed or ended incomplete"
    ranked = sorted(
        spending.models, key=lambda one: one.tokens.failed / one.tokens.responses, reverse=True
    )
    if not of.failed:
        return Section(name, heading, f"None of {count(of.responses, 'response')} failed.")
    said += f": {share(of.failed, of.responses)}."
    if len(ranked) > 1:
        worst = ranked[0].tokens
        said += f" Highest for {_model(ranked[0])}: {share(worst.failed, worst.responses)}."
    note = f"Share of responses with status failed or incomplete. {_LISTED}"
    if ranked[0].tokens.failed < charts.OF_ALL * ranked[0].tokens.responses:
        note += f" The whole width is {charts.OF_ALL:.0%} of them.".replace("%", " %")
    chart = partial(charts.failures, ranked[: charts.TOP])
    return Section(name, heading, said, [tables.failures(ranked)], chart, note=note)


def _model(one: Used) -> str:
    return "Responses without a model" if one.id is None else name_of(one.id, "model", 40)


def _tokens_change(spending: Spending) -> Change | None:
    found = spending.compared
    return change(found.this.tokens.total, found.before.tokens.total) if found else None


def _cost_change(spending: Spending, currency: str) -> Change | None:
    """None too where a model had no price in one of the periods: a new price would be a rise."""
    found = spending.compared
    if found is None or found.this.bill is None or found.before.bill is None:
        return None
    this, before = found.this.bill, found.before.bill
    if this.without_price or before.without_price:
        return None
    return change(this.of(currency), before.of(currency))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
