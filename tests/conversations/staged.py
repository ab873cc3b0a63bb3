"""Finished files that wait to be published: all four of a day, whether or not they agree."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pipeline.lake import commit, engine
from pipeline.lake.schemas import USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import Window
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    WINDOW,
    Row,
    raw_row,
    write_rows,
)

NAMES = list(USAGE_DATASETS)


def usage_row(operations: int = 1) -> Row:
    return {"start_time": MIDNIGHT, "end_time": MIDNIGHT + 60, "num_operations": operations}


def stage(
    folder: Path, operations: int = 1, fetched_at: int = MIDNIGHT, window: Window = WINDOW
) -> dict[str, Path]:
    """All four files of a day, unfinished. Their rows need not agree: the store does not look."""
    staged = {
        name: write_rows(name, folder / f"{name}.parquet", [usage_row(operations)], window)
        for name in NAMES
        if name != "raw_usage"
    }
    raw = raw_row({"num_operations": operations, "fetched_at": fetched_at})
    write_rows("raw_usage", folder / "raw_usage.parquet", [raw], window)
    return {"raw_usage": folder / "raw_usage.parquet", **staged}


def publish(lake: Lake, operations: int = 1, fetched_at: int = MIDNIGHT) -> list[str]:
    with lake.staging() as folder:
        return publish_staged(lake, stage(folder, operations, fetched_at))


def publish_staged(lake: Lake, staged: Mapping[str, Path]) -> list[str]:
    with closing(engine.connect(threads=1)) as con:
        return commit.publish(con, lake, DAY, staged)
