"""A price list held against what is used: what it does not price, and what nothing uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, get_args

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.lake import engine
from pipeline.lake.snapshot import Snapshot
from pipeline.messages import count
from pipeline.pricing.costs import Source, bind_prices, bind_tokens
from pipeline.pricing.prices import Price, PriceList
from pipeline.terminal import printable

_AMOUNTS: Final = ("num_responses", "input_tokens", "output_tokens")


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
    of_sources: list[pl.DataFrame] = []
    matches_of_sources: list[pl.DataFrame] = []
    sources: tuple[Source, ...] = get_args(Source)
    with closing(engine.connect(snapshot.lake)) as con:
        for source in sources:
            # A UTC day has one price: the tables of days say all that minutes would.
            bind_tokens(con, snapshot, list(snapshot.versions), source, "1d")
            bind_prices(con, prices.table)
            for found, table in ((of_sources, "model_days"), (matches_of_sources, "price_of")):
                found.append(con.sql(f"SELECT '{source}' AS source, * FROM {table}").pl())
    day = pl.col("day_number").cast(pl.Int32).cast(pl.Date).alias("day")
    days = pl.concat(of_sources).with_columns(day)
    matches = pl.concat(matches_of_sources).with_columns(day)
    counting = matches.filter(pl.col("place") == 1)
    used = {*counting.select("priced_as", "valid_from").iter_rows()}
    return Checked(
        _unpriced(days, matches),
        [it for it in sorted(prices.rows, key=_line) if (it.model, it.valid_from) not in used],
        _overlaps(matches),
        days["model"].n_unique(),
    )


def _unpriced(days: pl.DataFrame, matches: pl.DataFrame) -> list[Used]:
    """What has no price, by source and model, the one without a name first."""
    unknown = days.join(matches, on=["source", "model", "day"], how="anti", nulls_equal=True)
    sums = [pl.when(pl.col(it).count() > 0).then(pl.col(it).sum()).alias(it) for it in _AMOUNTS]
    day = pl.col("day")
    found = (
        unknown.group_by("model", "source")
        .agg(day.min().alias("first"), day.max().alias("last"), *sums)
        .sort("source", "model", nulls_last=False)
    )
    return [Used(*row) for row in found.iter_rows()]


def _overlaps(matches: pl.DataFrame) -> list[Overlap]:
    """Where several rows match, by model and rows, since when."""
    found = (
        matches.group_by("source", "model", "day")
        .agg(pl.col("priced_as").sort_by("place"))
        .filter(pl.col("priced_as").list.len() > 1)
        .group_by("model", "priced_as")
        .agg(pl.col("day").min())
    )
    overlaps = (
        Overlap(model, counts, (*others,), since)
        for model, (counts, *others), since in found.iter_rows()
    )
    return sorted(overlaps, key=lambda it: (it.model or "", *it[1:]))


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
