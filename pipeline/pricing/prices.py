"""`prices.csv`: what a million tokens of a model cost, from which day on.

    model,valid_from,currency,input,cached,output,reasoning
    gpt-large,2024-01-01,usd,2.50,1.25,10,
    gpt-*,2024-01-01,usd,0.15,,0.60,

A row counts from its day (UTC) until the next row of the same model: a new price never changes what
earlier days cost. Of several rows that match a model, the most specific counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.lake.catalog import PRICES
from pipeline.pricing.hand_written import Files, HandWrittenError, Row, rows

_NEEDED: Final = ("model", "valid_from", "currency", "input", "output")
_OPTIONAL: Final = ("cached", "reasoning")
_DECIMALS: Final = 9
_BELOW: Final = 10**9
LAST_RESORT: Final = "*"
"""The model of the row that prices whatever no other row does, also what names no model."""


@dataclass(frozen=True)
class Price:
    """One row: prices per million tokens. `valid_to` is exclusive, None while it still counts."""

    line: int
    model: str
    valid_from: date
    valid_to: date | None
    currency: str
    input: Decimal
    cached: Decimal
    output: Decimal
    reasoning: Decimal

    @property
    def like_pattern(self) -> str:
        """The model as a pattern for `LIKE … ESCAPE '!'`."""
        return re.sub("([!%_])", r"!\1", self.model).replace("*", "%")


@dataclass(frozen=True)
class PriceList:
    """The rows of a price list, by model and day; none where there is no list."""

    path: Path
    rows: Sequence[Price] = ()

    @cached_property
    def models(self) -> list[str]:
        """Models and patterns, the least specific first: `*`, shorter patterns, names."""

        def specific(model: str) -> tuple[bool, int, str]:
            return "*" not in model, len(model.replace("*", "")), model

        return sorted({price.model for price in self.rows}, key=specific)

    @property
    def currencies(self) -> list[str]:
        """The currencies that it has prices in, in order."""
        return sorted({price.currency for price in self.rows})

    @property
    def table(self) -> pa.Table:
        """The list as the catalog has it (`PRICES`): prices per token, the least specific first."""
        rank = {model: number for number, model in enumerate(self.models, start=1)}
        ordered = sorted(self.rows, key=lambda it: (rank[it.model], it.valid_from))
        return pa.Table.from_pylist([_stored(it, rank[it.model]) for it in ordered], schema=PRICES)


def read_prices(path: Path, *, needed: bool = False) -> PriceList:
    """The price list in a file; one without rows where there is no file, unless it is `needed`.

    Raises HandWrittenError, one line that names file, line and column.
    """
    found = [_price(row) for row in rows(path, _NEEDED, _OPTIONAL, must_exist=needed)]
    by_model = groupby(
        sorted(found, key=lambda it: (it.model, it.valid_from, it.line)), key=lambda it: it.model
    )
    return PriceList(path, tuple(price for _, of in by_model for price in _succeeding(path, [*of])))


def load_prices(files: Files) -> PriceList:
    """The price list that the settings name; HandWrittenError."""
    return read_prices(files.prices, needed=files.set_prices is not None)


def _price(row: Row) -> Price:
    model = row.text("model")
    if "**" in model:
        raise row.wrong("model", ": one * stands for any characters already")
    day = row.cells["valid_from"]
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
            raise ValueError
        valid_from = date.fromisoformat(day)
    except ValueError:
        raise row.wrong("valid_from", ": write a day such as 2024-01-31") from None
    currency = row.cells["currency"]
    if not re.fullmatch(r"[A-Za-z]{3}", currency):
        raise row.wrong("currency", ": write three letters such as usd")
    given = {
        name: row.decimal(name, _DECIMALS, _BELOW)
        for name in ("input", "cached", "output", "reasoning")
        if name not in _OPTIONAL or row.cells[name]
    }
    return Price(
        row.number,
        model,
        valid_from,
        None,
        currency.lower(),
        given["input"],
        given.get("cached", given["input"]),
        given["output"],
        given.get("reasoning", given["output"]),
    )


def _succeeding(path: Path, of_model: Sequence[Price]) -> list[Price]:
    """The rows of one model in order, each valid until the next."""
    first = min(of_model, key=lambda it: it.line)
    for price in of_model:
        if price.currency != first.currency:
            raise HandWrittenError(
                f"{path}, line {price.line}, column currency: {price.model!r} has the currency "
                f"{first.currency} in line {first.line} and {price.currency} here: take one"
            )
    for one, other in pairwise(of_model):
        if one.valid_from == other.valid_from:
            raise HandWrittenError(
                f"{path}, line {other.line}, column valid_from: {one.model!r} has a price from "
                f"{one.valid_from} on in line {one.line} already"
            )
    ends = [*(it.valid_from for it in of_model[1:]), None]
    return [replace(price, valid_to=end) for price, end in zip(of_model, ends, strict=True)]


def _stored(price: Price, specificity: int) -> dict[str, Any]:
    per_token = ("input", "cached", "output", "reasoning")
    return {
        **{name: getattr(price, name) for name in PRICES.names if hasattr(price, name)},
        **{name: getattr(price, name).scaleb(-6) for name in per_token},
        "specificity": specificity,
    }
