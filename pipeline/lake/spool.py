"""Pages of a walk, kept on disk until the walk has ended well.

Belongs here: taking in rows page by page, in whatever order, within bounded memory. Does not
belong here: pages as the API shapes them (`pipeline.loading` turns those into columns), or what
counts when a bucket came twice (`sql/raw_usage.sql`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from pipeline.lake.schemas import RAW_USAGE

SERVED_ROWS: Final = pa.schema([*RAW_USAGE.schema, pa.field("serving", pa.int64())])
"""Rows as served: the columns of raw_usage and the number of the bucket's serving."""

SERVINGS: Final = pa.schema(
    [pa.field("start_time", pa.timestamp("us", tz="UTC")), pa.field("serving", pa.int64())]
)
"""Every serving of a bucket, those without rows included; the higher number is the later one."""


@dataclass(slots=True)
class Spool:
    """The pages of one walk as Arrow files in a folder of their own."""

    folder: Path
    parts: list[Path] = field(default_factory=list[Path])
    buckets: int = 0
    """Servings so far: the next serving's number."""
    rows: int = 0
    _servings: list[pa.Table] = field(default_factory=list[pa.Table])

    def add(self, starts: Sequence[int], rows: pa.Table) -> None:
        """Take in one page: the bucket starts it served (Unix seconds, in order) and its rows.

        `rows` has the columns of SERVED_ROWS; its `serving` numbers count from `self.buckets`.
        """
        first = self.buckets
        moments = pa.array([start * 1_000_000 for start in starts], pa.int64())
        numbers = pa.array(range(first, first + len(starts)), pa.int64())
        self._servings.append(
            pa.table([moments.cast(SERVINGS.field(0).type), numbers], schema=SERVINGS)
        )
        self.buckets += len(starts)
        if rows.num_rows:
            path = self.folder / f"part-{len(self.parts):06}.arrow"
            # Read once and thrown away: no time is spent on making it small.
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as file:
                file.write_table(rows)
            self.parts.append(path)
            self.rows += rows.num_rows

    def served_rows(self) -> pa.Table:
        """All rows so far, as SERVED_ROWS: mapped from the files, so they need no memory."""
        parts = [pa.ipc.open_file(pa.memory_map(str(part))).read_all() for part in self.parts]
        return pa.concat_tables([SERVED_ROWS.empty_table(), *parts])

    def servings(self) -> pa.Table:
        """All servings so far, as SERVINGS."""
        return pa.concat_tables([SERVINGS.empty_table(), *self._servings])
