"""Days whose totals differ from the API's own, as coverage says it of them."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake import files
from pipeline.lake.schemas import COVERAGE, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import day_window


def dispute(lake: Lake, day: date) -> None:
    """Let coverage say of every hour of a day that it is disputed."""
    path = lake.file(COVERAGE.name, day)
    assert path is not None
    rows = pq.ParquetFile(path).read().to_pylist()
    for row in rows:
        if row["dataset"] in USAGE_DATASETS:
            row |= {"status": "disputed", "complete_through": None}
    aside = path.with_name(f"{path.name}.new")
    batches = pa.Table.from_pylist(rows, schema=COVERAGE.schema).to_batches()
    files.write(COVERAGE, batches, aside, day_window(day))
    aside.replace(path)
