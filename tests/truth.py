"""What the tests compare: what the lake holds, and what the emulator's own log says it should.

Belongs here: reading both sides into plain Python. Nothing here computes a bucket.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.emulator import EmulatorServer, World
from pipeline.lake.schemas import LEDGER_DATASETS
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import Width, Window, day_window
from pipeline.usage.load import Progress, load_days
from pipeline.usage.rollup import DayPublished

Row = tuple[int, str | None, str | None, int | None, int | None, int | None]
"""Bucket start (Unix seconds), user, key, conversations, items, operations."""

TRACE = Path(__file__).parents[2] / "shared" / "data" / "mooncake_conversation_trace.csv"
"""An hour of real traffic, which stands beside the project and is not part of it."""

MEASURES = ("num_conversations_created", "num_items_added", "num_operations")

_REAL = time.time
_BEHIND = _REAL() - day_window(date(2024, 1, 10)).start


def in_2024() -> float:
    """A clock that goes as the real one, in January 2024: Unix seconds, 10 January and later.

    By the real one, what has no time of its own would lie years after days of 2024, and a lake has
    all the days between.
    """
    return _REAL() - _BEHIND


FAST = Limits(requests_per_second=10_000, longest_wait=0.001)
"""A client in a hurry: tests wait for nothing."""


def load(
    server: EmulatorServer,
    lake: Lake,
    days: Sequence[date],
    limits: Limits = FAST,
    pseudonyms: Pseudonyms | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[DayPublished]:
    """Load days from the emulator into the lake."""
    private = pseudonyms is not None
    return load_days(
        lambda: Client(server.base_url, SecretStr(server.api_key), limits, private=private),
        lake,
        days,
        pseudonyms=pseudonyms,
        on_progress=on_progress,
        now=server.world.clock,
    )


def published(lake: Lake, width: Width, days: Iterable[date] | None = None) -> list[Row]:
    """The rows of a usage table, in the order in which they stand in their files."""
    rows: list[Row] = []
    for path in lake.files(f"usage_{width}", days):
        for row in pq.read_table(path).to_pylist():
            start = int(row["start_time"].timestamp())
            rows.append((start, row["user_id"], row["api_key_id"], *(row[m] for m in MEASURES)))
    return rows


def reported(world: World, width: Width, days: Sequence[date]) -> list[Row]:
    """What the emulator counts from its own log, by user and key, bucket by bucket."""
    window = Window(day_window(min(days)).start, day_window(max(days)).end)
    groups = ("user_id", "api_key_id")
    return [
        (
            bucket["start_time"],
            result["user_id"],
            result["api_key_id"],
            *(result[measure] for measure in MEASURES),
        )
        for bucket in world.usage(window.start, window.end, width, groups)
        for result in bucket["results"]
    ]


def digests(root: Path) -> dict[str, str]:
    """A hash of every file that a reader of the lake can see.

    Not of coverage and revisions, which tell when the API was asked, and what it had said before.
    """
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("day=*/*.parquet"))
        if path.stem not in LEDGER_DATASETS
    }
