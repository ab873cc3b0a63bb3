"""Pages of a day that is being read, kept on disk until it is published: chunk by chunk.

A chunk is a window of the day that was read whole. Its files get their names once they are whole,
so what has a name counts, also after a process was killed:

    <folder>/<start>-<end>.servings.arrow     which buckets were delivered, and in which order
    <folder>/<start>-<end>.rows.arrow         their rows

Minutes that are kept from the version that stands, and not asked for, are chunks in
`<folder>/kept`. They count in the run that has compared them: another one decides anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from pipeline.lake.schemas import RAW_USAGE
from pipeline.lake.store import KEPT_SECONDS, private_folder, remove
from pipeline.timeline import Window

SERVED_ROWS: Final = pa.schema([*RAW_USAGE.schema, pa.field("serving", pa.int64())])
"""Rows as served: the columns of raw_usage and the number of the bucket's serving."""

SERVINGS: Final = pa.schema(
    [pa.field("start_time", pa.timestamp("us", tz="UTC")), pa.field("serving", pa.int64())]
)
"""Every serving of a bucket, those without rows included; of a bucket, the higher number is the
later one."""

_BEGAN: Final = "began.json"
_KEPT: Final = "kept"


@dataclass(slots=True)
class PageBuffer:
    """The chunks of one day, in a folder that is left in place when reading stops.

    `account` tells whose pages these are: those of another account are thrown away, as are those
    that were read more than KEPT_SECONDS ago. One process at a time may use the folder.
    """

    folder: Path
    account: str
    window: Window
    read_at: float
    """When the first of the pages was asked for, Unix seconds; at first: now. Of what is kept: when
    all of it was asked for by user and key."""
    schema: pa.Schema = SERVED_ROWS
    """The columns of its rows; the last is the number of the bucket's serving."""
    rows: int = 0
    covered: list[Window] = field(default_factory=list[Window])
    totals_at: float | None = None
    """When the totals of what is kept were asked for, where nothing else of it was."""
    _kept: set[Window] = field(default_factory=set[Window])

    def __post_init__(self) -> None:
        began = self._began()
        if began is None:
            remove(self.folder)
            private_folder(self.folder)
            facts = {"account": self.account, "read_at": self.read_at}
            (self.folder / _BEGAN).write_text(json.dumps(facts), encoding="utf-8")
        else:
            self.read_at = began
            remove(self.folder / _KEPT)
            for path in sorted(self.folder.glob("*.rows.arrow")):
                start, end = path.name.split(".")[0].split("-")
                self._take(Window(int(start), int(end)))

    def _began(self) -> float | None:
        """When an earlier run began to read the day; None where nothing can be made of it."""
        try:
            facts = json.loads((self.folder / _BEGAN).read_text(encoding="utf-8"))
            read_at = float(facts["read_at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        fresh = 0 <= self.read_at - read_at <= KEPT_SECONDS
        return read_at if fresh and facts["account"] == self.account else None

    def _take(self, window: Window) -> None:
        """Count in a chunk that an earlier run has left, if it can be read.

        A run that had less of the day to read has read again what another one left: of two chunks
        with the same minutes one counts.
        """
        if window.start < self.window.start or window.end > self.window.end:
            return
        if any(window.start < one.end and one.start < window.end for one in self.covered):
            return
        with suppress(OSError, pa.ArrowException):
            served, _ = (_read(self.path(window, kind)) for kind in ("rows", "servings"))
            self.rows += served.num_rows
            self.covered.append(window)

    def gaps(self) -> list[Window]:
        """What is left to be read, in order."""
        return self.window.without(self.covered)

    def served_rows(self, part: Window | None = None) -> pa.Table:
        """All rows so far, as `schema`, mapped from the files; of chunks that reach into a part."""
        return self._all("rows", self.schema, part or self.window)

    def servings(self) -> pa.Table:
        """All servings so far, as SERVINGS."""
        return self._all("servings", SERVINGS, self.window)

    def remove(self) -> None:
        """Throw everything away: the day is published."""
        remove(self.folder)

    def path(self, part: Window, kind: str) -> Path:
        """Where a chunk's file of a kind stands, or will."""
        folder = self.folder / _KEPT if part in self._kept else self.folder
        return folder / f"{part.start}-{part.end}.{kind}.arrow"

    def keep(self, window: Window, read_at: float) -> Chunk:
        """A chunk for minutes that were read at `read_at`, and are not asked for again."""
        private_folder(self.folder / _KEPT)
        self._kept.add(window)
        self.read_at = min(self.read_at, read_at)
        return Chunk(self, window)

    def _all(self, kind: str, schema: pa.Schema, part: Window) -> pa.Table:
        chunks = [it for it in sorted(self.covered) if it.start < part.end and part.start < it.end]
        paths = [self.path(chunk, kind) for chunk in chunks]
        return pa.concat_tables([schema.empty_table(), *map(_read, paths)])


class Chunk:
    """The pages of one walk over a window. They count once `finish` was called. Use `with`."""

    def __init__(self, buffer: PageBuffer, window: Window) -> None:
        self._buffer = buffer
        self._window = window
        self._rows = buffer.path(window, "rows.unfinished")
        # Read once and thrown away: no time is spent on making it small.
        self._sink = pa.OSFile(str(self._rows), "wb")
        self._writer = pa.ipc.new_file(self._sink, buffer.schema)
        self._starts: list[int] = []
        self._taken = 0

    def __enter__(self) -> Chunk:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._sink.closed:
            self._buffer.rows -= self._taken
            self._sink.close()
            self._rows.unlink(missing_ok=True)

    @property
    def servings(self) -> int:
        """Servings so far: the next serving's number."""
        return len(self._starts)

    def add(self, starts: Sequence[int], rows: pa.Table) -> None:
        """Take in one page: the bucket starts it served (Unix seconds, in order) and its rows.

        `rows` has the columns of the buffer's `schema`; its `serving` numbers count from
        `self.servings`.
        """
        self._starts += starts
        self._writer.write_table(rows)
        self._taken += rows.num_rows
        self._buffer.rows += rows.num_rows

    def finish(self) -> None:
        """Make the chunk count: its walk is at its end."""
        self._writer.close()
        self._sink.close()
        moments = pa.array([start * 1_000_000 for start in self._starts], pa.int64())
        numbers = pa.array(range(len(self._starts)), pa.int64())
        table = pa.table([moments.cast(SERVINGS.field(0).type), numbers], schema=SERVINGS)
        place = self._buffer.path(self._window, "servings")
        with pa.OSFile(str(place), "wb") as sink, pa.ipc.new_file(sink, SERVINGS) as file:
            file.write_table(table)
        self._rows.rename(self._buffer.path(self._window, "rows"))
        self._buffer.covered.append(self._window)


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
