"""What buckets cost: the rows of tokens in a snapshot, by a price list.

Belongs here: the inputs of `sql/cost_by.sql` for connections of ours. The catalog has a macro of
that name for everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import edges
from pipeline.lake.schemas import METERS, TOKENS
from pipeline.lake.snapshot import Snapshot
from pipeline.timeline import Width, Window

Source = Literal["observed", "reported"]
"""Tokens of the responses that were listed, or as the usage endpoints report them."""


def bind_costs(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    prices: pa.Table,
    windows: Sequence[Window],
    source: Source = "observed",
) -> None:
    """Make the view `costs` of a connection: what `sql/cost_by.sql` gives for these buckets.

    Buckets in order, on whole minutes. `prices` is the table of a `PriceList`.
    """
    days = sorted({day for it in windows for day in it.among(list(snapshot.versions))})
    bind_tokens(con, snapshot, days, source)
    # Of days that are not loaded there is nothing to count, and their minutes are many.
    bind_costs_of_tokens(con, prices, [it for it in windows if it.among(days)])


def bind_costs_of_tokens(
    con: duckdb.DuckDBPyConnection, prices: pa.Table, windows: Sequence[Window]
) -> None:
    """Make the view `costs`, of what is `tokens_rows` already."""
    bind_prices(con, prices)
    con.register("edges", edges(windows))
    con.execute(f"CREATE OR REPLACE TEMP VIEW costs AS {engine.sql('cost_by')}")


def bind_tokens(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    days: Sequence[date],
    source: Source,
    width: Width = "1m",
) -> None:
    """Make the view `tokens_rows` of a connection, of the files of these days."""
    dataset = TOKENS[width] if source == "observed" else METERS[width]
    name = "tokens_rows" if source == "observed" else "meters"
    engine.bind(con, {name: (dataset, snapshot.files(dataset.name, days))})
    if source == "reported":
        con.execute(f"CREATE OR REPLACE TEMP VIEW tokens_rows AS {engine.sql('metered_tokens')}")


def bind_prices(con: duckdb.DuckDBPyConnection, prices: pa.Table) -> None:
    """Make the views `model_days` and `price_of`, of `tokens_rows`."""
    con.register("prices", prices)
    for name in ("model_days", "price_of"):
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {engine.sql(name)}")
