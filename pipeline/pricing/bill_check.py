"""What the API bills held against what tokens cost by the price list, in short.

Belongs here: which days and tokens are compared, and the table that `mka1-usage reconcile` prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Final

import duckdb
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from pipeline.fitting import print_fitting
from pipeline.lake import engine
from pipeline.lake.manifest import meters_of
from pipeline.lake.schemas import COSTS, COVERAGE, METERS, TOKENS
from pipeline.lake.snapshot import Snapshot
from pipeline.pricing.costs import Source, bind_costs
from pipeline.pricing.prices import PriceList
from pipeline.timeline import day_window

NAMES: Final = (COSTS.name, COVERAGE.name, METERS["1m"].name, TOKENS["1m"].name)
"""The tables of a snapshot that are read."""
_PRICED: Final = ("completions", "responses", "embeddings")
"""The endpoints whose tokens have a price."""
_NANO: Final = Decimal("0.000000001")


def print_bill_check(
    snapshot: Snapshot, prices: PriceList, days: Iterable[date], out: Console
) -> bool:
    """Print how much of the bill agrees with the prices; nothing where no day has both.

    Tokens are as the usage endpoints report them, on days of which all of those are loaded that
    have a price; else those of the responses that were listed. Returns whether it printed.
    """
    billed = [day for day in days if snapshot.file(COSTS.name, day) is not None]
    if not billed or not prices.rows:
        return False
    with closing(engine.connect(snapshot.lake)) as con:
        source = _source(con, snapshot, billed)
        table = METERS["1m"] if source == "reported" else TOKENS["1m"]
        both = [day for day in billed if snapshot.file(table.name, day) is not None]
        if not both:
            return False
        rows = _summary(con, snapshot, prices, both, source)
    whole = f"{both[0]} to {both[-1]}" if len(both) > 1 else f"{both[0]}"
    title = f"Billed, and computed from tokens as {source}, {whole}"
    cells = [[_cell(value) for value in row.values()] for row in rows.to_pylist()]
    numbers = set(rows.schema.names) - {"class", "currency"}
    print_fitting(out, title, numbers, rows.schema.names, cells, ("comparisons", "computed"))
    return True


def _source(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, days: list[date]) -> Source:
    snapshot.bind_coverage(con, days)
    found = {
        name: last for name, _, _, last, _ in con.execute(engine.sql("status_endpoints")).fetchall()
    }
    whole = all(found.get(meters_of(name), 0) == len(days) for name in _PRICED)
    return "reported" if whole else "observed"


def _summary(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    prices: PriceList,
    days: list[date],
    source: Source,
) -> pa.Table:
    windows = [day_window(day) for day in days]
    bind_costs(con, snapshot, prices.table, windows, source)
    con.execute("CREATE OR REPLACE TEMP VIEW computed_costs AS SELECT * FROM costs")
    engine.bind(con, {"billed_costs": (COSTS, snapshot.files(COSTS.name, days))})
    starts = pa.array([window.start * 1_000_000 for window in windows], pa.int64())
    moments = starts.cast(pa.timestamp("us", tz="UTC"))
    con.register("compared_days", pa.table({"start_time": moments}))
    con.execute(f"CREATE OR REPLACE TEMP VIEW costs_compared AS {engine.sql('costs_compared')}")
    return con.sql(engine.sql("costs_summary")).to_arrow_table()


def _cell(value: object) -> Text:
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, Decimal):
        return Text(f"{value.quantize(_NANO) + 0:,f}")  # 0, where less than that is lacking: not -0
    return Text(f"{value:,}" if isinstance(value, int) else str(value))
