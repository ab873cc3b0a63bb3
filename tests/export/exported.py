"""Exports in words of the tests: what is in the folder, and what the emulator says should be.

Belongs here: reading both sides into plain Python. Nothing here computes a bucket.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.emulator import World
from pipeline.export.tables import DEFAULT, TABLES, chosen
from pipeline.timeline import day_of
from tests.truth import Row, reported

DAYS: Sequence[date] = [date(2024, 1, day) for day in (1, 2, 3)]

WITH_TOKENS: Sequence[str] = [
    name for name in TABLES if name in {*DEFAULT, "dim_model", "fact_tokens"}
]
"""What is exported of a lake with responses and without bills."""

WHOLE_STAR: Sequence[str] = list(chosen(()))
"""What a DuckDB file has, whatever the lake has."""

Counts = tuple[int, int, int]
Sums = dict[date | str | None, Counts]


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of an exported Parquet file."""
    found: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return found


def digests(folder: Path) -> dict[str, str]:
    """A hash of every file of a folder, by its name there; hidden ones are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("[!.]*"))
        if path.is_file()
    }


def counted(world: World, by: str) -> Sums:
    """What the emulator counts from its own log: per `date` or per `user_id`."""
    keys: dict[str, Callable[[Row], date | str | None]] = {
        "date": lambda row: day_of(row[0]),
        "user_id": lambda row: row[1],
    }
    sums: defaultdict[date | str | None, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in reported(world, "1h", DAYS):
        for place, count in enumerate(row[3:]):
            sums[keys[by](row)][place] += int(count or 0)
    return {key: (one, two, three) for key, (one, two, three) in sums.items()}
