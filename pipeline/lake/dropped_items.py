"""Items of old days that are dropped: which of them go, and how they are recognised from then on.

A sync knows that an item is new by the items that are stored. One that was dropped is recognised by
its response, which is kept: it is of a day whose items are dropped. So an item that no final
response dates is kept: it stands apart (`pipeline.apart`), as on a day that is not loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.apart import apart
from pipeline.lake import engine
from pipeline.lake.damage import damaged
from pipeline.lake.files import ROW_GROUP, covered, write
from pipeline.lake.manifest import Manifest
from pipeline.lake.partitioned_write import days_in
from pipeline.lake.schemas import ITEMS, OBSERVED, RECONCILIATION, RESPONSES, Dataset
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_window

_OBSERVED = OBSERVED["1d"].name


def bind_dropped(con: duckdb.DuckDBPyConnection, days: Collection[date]) -> None:
    """Make the tables `dropped_days` and `dropped_responses` of the days whose items are dropped.

    `con` has the view `responses`, of these days at least.
    """
    numbers = [day_window(day).start // DAY for day in sorted(days)]
    con.register("dropped_days", pa.table({"day_number": pa.array(numbers, pa.int64())}))
    query = engine.sql("dropped_responses")
    con.execute(f"CREATE OR REPLACE TEMP VIEW dropped_responses AS {query}")


def is_counted(lake: Lake, day: date, record: Manifest) -> bool:
    """Whether nothing is left to be done with a day's items: the day was observed to its end and
    reconciled, it owes nothing, and no file is damaged that tells dropped items from others."""
    version = lake.version(day)
    names = (ITEMS.name, RESPONSES.name, _OBSERVED, RECONCILIATION.name)
    if version is None or record.owed or not {*names[2:]} <= record.files.keys():
        return False
    if damaged(version, names=names, thorough=True) or not _is_sound(lake, ITEMS, apart(day)):
        return False
    return covered(version / f"{_OBSERVED}.parquet").complete(day)


def to_sweep(lake: Lake, place: date, dropped: Collection[date]) -> list[date]:
    """The days of `dropped` that responses date items to which stand apart in a place."""
    path = lake.file(ITEMS.name, place)
    if path is None or not _is_sound(lake, ITEMS, place):
        return []
    table = pq.read_table(path, columns=["added_at", "added_at_source"])
    dated = table.filter(pc.equal(table.column("added_at_source"), "response"))
    days = {*dropped}.intersection(days_in(dated.column("added_at")))
    return sorted(day for day in days if _is_sound(lake, RESPONSES, day))


def _is_sound(lake: Lake, dataset: Dataset, day: date) -> bool:
    version = lake.version(day)
    return version is None or not damaged(version, names=[dataset.name], thorough=True)


def kept_apart(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Sequence[date],
    folder: Path,
    dropping: Collection[date] = (),
) -> Path | None:
    """What is to stand apart of the items of a month, as a file in `folder`; None for no file.

    `days` are those of the month whose items are dropped, `dropping` those of them whose items
    still stand on their day. To be called with the lock `records`.
    """
    place = apart(days[0])
    standing = lake.files(ITEMS.name, [place, *dropping])
    if not standing:
        return None
    inputs = {
        "standing_items": (ITEMS, standing),
        "responses": (RESPONSES, lake.files(RESPONSES.name, days)),
    }
    engine.bind(con, inputs)
    bind_dropped(con, days)
    path = folder / f"items-{days[0]}.parquet"
    rows = con.sql(engine.sql("kept_items")).to_arrow_reader(ROW_GROUP)
    kept = write(ITEMS, rows, path, day_window(place))
    return path if kept or lake.file(ITEMS.name, place) else None
