"""A price list held against what is used: what it does not price, and what nothing uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple, get_args

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.lake import engine
from pipeline.lake.snapshot import Snapshot
from pipeline.messages import count
from pipeline.pricing.costs import Source, bind_prices, bind_tokens
from pipeline.pricing.prices import Price, PriceList
from pipeline.terminal import printable

_EPOCH: Final = date(1970, 1, 1)


class Used(NamedTuple):
    """What a model came to on some days, inclusive; None where nothing is reported."""

    model: str | None
    source: Source
    first: date
    last: date
    responses: int | None
    input_tokens: int | None
    output_tokens: int | None


class Overlap(NamedTuple):
    """Rows that match the same model: the one that counts, and those that do not, since when."""

    model: str | None
    counts: str
    others: tuple[str, ...]
    since: date


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a price list that can be read."""

    unpriced: Sequence[Used]
    unused: Sequence[Price]
    overlaps: Sequence[Overlap]
    models: int
    """How many models are used, the one without a name among them."""


def check_prices(snapshot: Snapshot, prices: PriceList) -> Checked:
    """Hold a price list against the models of the responses and meters in a snapshot."""
    unpriced: list[Used] = []
    used: set[tuple[str, date]] = set()
    overlaps: dict[tuple[str | None, str, tuple[str, ...]], date] = {}
    models: set[str | None] = set()
    sources: tuple[Source, ...] = get_args(Source)
    with closing(engine.connect(snapshot.lake)) as con:
        for source in sources:
            # A UTC day has one price: the tables of days say all that minutes would.
            bind_tokens(con, snapshot, list(snapshot.versions), source, "1d")
            bind_prices(con, prices.table)
            matches = _matches(con)
            used |= {places[0] for places in matches.values()}
            unpriced += _unpriced(con, source, matches)
            for (model, day), places in matches.items():
                names = tuple(name for name, _ in places[1:])
                key = (model, places[0][0], names)
                if names:
                    overlaps[key] = min(overlaps.get(key, day), day)
            models |= {
                row[0] for row in con.sql("SELECT DISTINCT model FROM model_days").fetchall()
            }
    return Checked(
        unpriced,
        [it for it in sorted(prices.rows, key=_line) if (it.model, it.valid_from) not in used],
        [
            Overlap(model, counts, others, since)
            for (model, counts, others), since in sorted(
                overlaps.items(), key=lambda it: (it[0][0] or "", it[1], it[0][1:])
            )
        ],
        len(models),
    )


_Matches = Mapping[tuple[str | None, date], Sequence[tuple[str, date]]]
"""By model and day, the rows (model and first day) that match, the one that counts first."""


def _matches(con: duckdb.DuckDBPyConnection) -> _Matches:
    found: dict[tuple[str | None, date], list[tuple[str, date]]] = {}
    rows = con.sql(
        "SELECT model, day_number, priced_as, valid_from FROM price_of ORDER BY place"
    ).fetchall()
    for model, number, priced_as, valid_from in rows:
        found.setdefault((model, _day(number)), []).append((priced_as, valid_from))
    return found


def _unpriced(con: duckdb.DuckDBPyConnection, source: Source, matches: _Matches) -> list[Used]:
    by_model: dict[str | None, Used] = {}
    rows = con.sql(
        "SELECT model, day_number, num_responses, input_tokens, output_tokens FROM model_days"
    ).fetchall()
    for model, number, *amounts in sorted(rows, key=lambda row: row[1]):
        day = _day(number)
        if (model, day) in matches:
            continue
        before = by_model.get(model, Used(model, source, day, day, None, None, None))
        sums = [
            after if now is None else (now + (after or 0))
            for after, now in zip(before[4:], amounts, strict=True)
        ]
        by_model[model] = Used(model, source, before.first, day, *sums)
    return sorted(by_model.values(), key=lambda it: (it.model is not None, it.model or ""))


def _day(number: int) -> date:
    return _EPOCH + timedelta(days=number)


def _line(price: Price) -> int:
    return price.line


def print_check(checked: Checked, prices: PriceList, out: Console) -> None:
    """Print what a check found, for a terminal of 80 columns too."""
    known = f"{count(len(prices.rows), 'price')} of {count(len(prices.models), 'model')}"
    currencies = f", in {' and '.join(prices.currencies)}" if prices.currencies else ""
    _say(out, f"{known}{currencies}; {count(checked.models, 'model')} in use")
    if checked.unpriced:
        _print_unpriced(checked.unpriced, out)
    if checked.overlaps:
        _say(out, "\nSeveral rows match; the first counts:")
        for overlap in checked.overlaps:
            others = ", ".join(overlap.others)
            _say(
                out,
                f"  {_name(overlap.model)}: {overlap.counts}, not {others}, from {overlap.since}",
            )
    if checked.unused:
        _say(out, "\nNothing that is loaded uses:")
        for price in checked.unused:
            until = f" to {price.valid_to}" if price.valid_to else ""
            _say(out, f"  line {price.line}: {price.model}, from {price.valid_from}{until}")
    if not checked.unpriced:
        _say(out, "\nEvery model in use has a price.")


def _print_unpriced(unpriced: Sequence[Used], out: Console) -> None:
    table = Table(title="\nWithout a price", title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("from", no_wrap=True)
    table.add_column("through", no_wrap=True)
    for name in ("responses", "input", "output"):
        table.add_column(name, justify="right", overflow="fold")
    for used in unpriced:
        source = "" if used.source == "observed" else " (meters)"
        amounts = ("-" if it is None else f"{it:,}" for it in used[4:])
        table.add_row(
            Text(f"{_name(used.model)}{source}"), f"{used.first}", f"{used.last}", *amounts
        )
    out.print(table)


def _name(model: str | None) -> str:
    return "(no model)" if model is None else printable(model)


def _say(out: Console, line: str) -> None:
    out.print(Text(line), soft_wrap=True)
