"""Which hours of loaded days the API has restated: what else is known of a day is not asked again.

Belongs here: the questions that find it out, from cheap to thorough, and what is kept of a day that
stands. docs/design.md, "Refresh", says what each of them finds, and what it costs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.api import BucketTooBig, Client, PageSize
from pipeline.api.usage import MAX_LIMIT
from pipeline.lake import engine
from pipeline.lake.manifest import Reading, intact, manifest_of, reading_of
from pipeline.lake.store import Lake
from pipeline.pseudonyms import UserIds
from pipeline.timeline import (
    CLOCKS_DIFFER,
    SECONDS,
    Width,
    Window,
    day_of,
    day_window,
    floor_to,
    spans,
)
from pipeline.usage.feed import (
    ByBucket,
    Counts,
    CountsByBucket,
    Feed,
    Grouping,
    Proof,
    ServedBucket,
    add,
    summed,
)
from pipeline.usage.page_buffer import PageBuffer

Reads = Literal["full", "totals", "days"]
"""How much a load reads of days that are loaded already. full: all minutes. totals: those of hours
whose totals by key are other ones now. days: also those of days that differ by user and key."""

ROW_BYTES: Final = 150
"""What a row of usage takes in an answer, at least: long ids take more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A day as it is published: its version, and what was read of it."""

    day: date
    version: Path
    reading: Reading

    @property
    def window(self) -> Window:
        """The part of the day that is loaded."""
        return Window(day_window(self.day).start, self.reading.through)

    def minutes_in(self, size: int, feed: Feed) -> int:
        """How many minutes an answer of `size` bytes holds, if they are all alike."""
        raw = manifest_of(self.version).files.get(feed.raw.name)
        rows = raw.rows if raw else 0
        minutes = (self.window.end - self.window.start) // SECONDS["1m"]
        return max(1, min(size * minutes // max(1, rows * ROW_BYTES), MAX_LIMIT))

    def has_rows(self, feed: Feed) -> bool:
        """Whether its rows as served are kept, from which a part of it can be taken."""
        return (self.version / f"{feed.raw.name}.parquet").is_file()

    def file(self, feed: Feed, width: Width) -> Path:
        """The file of its buckets of a width."""
        return self.version / f"{feed.tables[width].name}.parquet"


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a day is not asked for again: `windows` of hours, in order, of what stands.

    `window` is the part of the day that is to be known. `by` says how the rest of it was told from
    what is kept, at `at` (Unix seconds).
    """

    standing: Standing
    window: Window
    windows: Sequence[Window]
    at: float
    by: Proof

    @property
    def whole(self) -> bool:
        """Whether nothing is left to be asked for."""
        return list(self.windows) == [self.window]


def standing_of(lake: Lake, feed: Feed, day: date, now: float) -> Standing | None:
    """A day that can be kept, in part or as a whole; the caller holds its lock.

    None where it must be read whole: it is not loaded, disputed or damaged, or was read while a
    clock was ahead of `now` (Unix seconds).
    """
    version = lake.version(day)
    record, reading = manifest_of(version), reading_of(version, feed.endpoint)
    if version is None or reading is None or reading.disputed:
        return None
    if reading.seen_at > now + CLOCKS_DIFFER:
        return None
    tables = [feed.raw.name, *(dataset.name for dataset in feed.tables.values())]
    fine = {feed.raw.name, feed.tables["1m"].name}  # of old days, these may not be kept
    names = [name for name in tables if not (name in fine and name in record.dropped)]
    if not all(name in record.files and intact(version, record, name) for name in names):
        return None
    return Standing(day, version, reading)


def keep(buffer: PageBuffer, feed: Feed, kept: Kept) -> None:
    """Put what was not asked for into a day's buffer, as it stands in the lake.

    Each of its minutes counts as served once, with the rows that it has there.
    """
    raw = kept.standing.version / f"{feed.raw.name}.parquet"
    for gap in buffer.gaps():
        with buffer.keep(gap, kept.standing.reading.read_at) as chunk:
            starts = range(gap.start, gap.end, SECONDS["1m"])
            chunk.add(starts, buffer.schema.empty_table())
            for rows in _stored_rows(raw, feed, gap):
                minute = pc.subtract(
                    pc.cast(rows.column("start_time"), pa.int64()), gap.start * _US
                )
                serving = pc.divide(minute, SECONDS["1m"] * _US)
                chunk.add((), rows.append_column("serving", serving).cast(buffer.schema))
            chunk.finish()
    buffer.totals_at = kept.at
    if kept.by == "usage":  # all of it was asked for, by all groups
        buffer.read_at, buffer.totals_at = kept.at, None


_US: Final = 1_000_000


def _stored_rows(raw: Path, feed: Feed, window: Window) -> Iterator[pa.Table]:
    """The rows of one endpoint in a part of a day's file of rows as served, some at a time."""
    start, end = (
        pa.scalar(at * _US, pa.int64()).cast(feed.raw.schema.field("start_time").type)
        for at in (window.start, window.end)
    )
    wanted = (ds.field("start_time") >= start) & (ds.field("start_time") < end)
    if feed.endpoint:
        wanted &= ds.field("endpoint") == feed.endpoint
    scanner = ds.dataset(raw, format="parquet").scanner(
        columns=feed.raw.schema.names, filter=wanted, batch_readahead=1, fragment_readahead=1
    )
    for batch in scanner.to_batches():
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


class ChangedHours:
    """What the API says of days before their minutes are asked for, held against the lake.

    One event loop only. `at` is when it was asked first, Unix seconds. `hours` are those that are
    over, by key, of the days in `asked`; one without usage may be left out.
    """

    def __init__(
        self,
        client: Client,
        lake: Lake,
        feed: Feed,
        ids: UserIds | None,
        now: Callable[[], float],
    ) -> None:
        self.at = now()
        self.hours: CountsByBucket = {}
        self.asked: set[date] = set()
        self._users: dict[date, str] = {}  # fingerprints of the counts by all groups
        self._client = client
        self._lake = lake
        self._feed = feed
        self._ids = ids
        self._now = now

    async def ask_hours(self, windows: Mapping[date, Window]) -> None:
        """Ask for the hours that are over, by key: one request for 60 days that follow one another.

        Raises ApiError.
        """
        for first, last in spans(windows):
            over = Window(day_window(first).start, floor_to(windows[last].end, "1h"))
            if over.start == over.end:  # today, in its first hour
                continue
            async for bucket in self._buckets(over, "1h", "key"):
                found: Counts = {}
                for result in bucket.results:
                    add(found, (result.api_key_id,), self._feed.measures(result))
                self.hours[bucket.start_time] = found
        self.asked.update(windows)

    async def ask_users(self, days: Iterable[date]) -> None:
        """Ask for days by all groups: one request for 1,440 days that follow one another.

        A day that is too big for one answer is left out: by what the lake has of it, or since the
        API's answer was. Raises ApiError.
        """
        for first, last in spans(day for day in days if not self._is_too_big(day)):
            left = Window(day_window(first).start, day_window(last).end)
            while left.start < left.end:
                try:
                    await self._ask_users(left)
                except BucketTooBig as too_big:
                    left = Window(too_big.end, left.end)
                else:
                    break

    async def _ask_users(self, window: Window) -> None:
        self._users |= dict.fromkeys(window.days, fingerprint({}))  # it may be left out
        try:
            async for bucket in self._buckets(window, "1d", "all"):
                self._users[day_of(bucket.start_time)] = fingerprint(self._counted(bucket))
        except BucketTooBig as too_big:
            for day in Window(too_big.start, window.end).days:
                del self._users[day]
            raise

    def knows_users(self, day: date) -> bool:
        """Whether the API has said what all groups had on a day."""
        return day in self._users

    def same_users(self, day: date, path: Path) -> bool:
        """Whether a file of days says the same of all groups as the API."""
        found = dict(self._feed.counts(path)).get(day_window(day).start, {})
        return self._users[day] == fingerprint(found)

    async def kept(self, day: date, window: Window) -> Kept | None:
        """What of a day need not be asked for again, to know its `window`; None for nothing.

        To be called with the day's lock. Raises ApiError, and what reading the lake raises.
        """
        if day not in self.asked:
            return None
        # In a thread of its own: another day may be rolled up meanwhile.
        compared = await asyncio.to_thread(self._compared, day, window)
        if compared is None:
            return None
        standing, other, same_users = compared
        if same_users is False and not other:
            other = await self._hours_of_users(standing)
            if not other:  # the API contradicts itself
                return None
        in_part = bool(other) or standing.window != window
        if in_part and not standing.has_rows(self._feed):
            return None
        known = Window(window.start, min(window.end, standing.window.end))
        windows = known.without(Window(start, start + SECONDS["1h"]) for start in other)
        by: Proof = "usage" if self.knows_users(day) else "totals"
        return Kept(standing, window, windows, self.at, by)

    def _compared(
        self, day: date, window: Window
    ) -> tuple[Standing, list[int], bool | None] | None:
        """What stands of a day, which of its hours differ by key, and whether users are the same:
        None where they were not asked for, or the day was not over when it was read."""
        standing = standing_of(self._lake, self._feed, day, self._now())
        if standing is None:
            return None
        same_users: bool | None = None
        if self.knows_users(day) and standing.window == window:
            same_users = self.same_users(day, standing.file(self._feed, "1d"))
        return standing, self.other_hours(standing, window), same_users

    def other_hours(self, standing: Standing, window: Window) -> list[int]:
        """The hours of a window that have other totals by key, or were not over when read."""
        with closing(engine.connect(self._lake)) as con:
            ours = self._feed.key_totals(con, "1h", standing.file(self._feed, "1h"))
        through = min(window.end, standing.window.end)
        return [
            start
            for start in range(window.start, through, SECONDS["1h"])
            if start + SECONDS["1h"] > through or ours.get(start, {}) != self.hours.get(start, {})
        ]

    async def _hours_of_users(self, standing: Standing) -> list[int]:
        """The hours of a whole day that differ by all groups; none where they can't be asked of."""
        hours = range(standing.window.start, standing.window.end, SECONDS["1h"])
        api = dict.fromkeys(hours, fingerprint({}))
        try:
            async for bucket in self._buckets(standing.window, "1h", "all"):
                api[bucket.start_time] = fingerprint(self._counted(bucket))
        except BucketTooBig:
            return []
        counts = self._feed.counts(standing.file(self._feed, "1h"))
        ours = dict.fromkeys(hours, fingerprint({})) | {
            start: fingerprint(of_hour) for start, of_hour in counts
        }
        return [start for start in hours if api[start] != ours[start]]

    def _is_too_big(self, day: date) -> bool:
        """Whether an answer about a day by user would be refused, by what the lake has of it."""
        if self._feed.endpoint:  # of how many rows a result becomes is not known
            return False
        table = manifest_of(self._lake.version(day)).files.get(self._feed.tables["1d"].name)
        return table is not None and table.rows * ROW_BYTES > self._client.limits.max_bytes

    async def _buckets(
        self, window: Window, width: Width, by: Grouping
    ) -> AsyncIterator[ServedBucket]:
        size = PageSize(buckets=MAX_LIMIT)
        async for page in self._feed.pages(self._client, window, width, size, by):
            for bucket in page.buckets:
                yield bucket

    def _counted(self, bucket: ServedBucket) -> Counts:
        counts: Counts = {}
        for result in bucket.results:
            add(counts, self._feed.group(result, self._ids), self._feed.measures(result))
        return counts


def fingerprint(counts: Counts) -> str:
    """A hash that two counts share where they say the same of each group."""
    rows = sorted(
        (tuple((part is not None, part or "") for part in group), sorted(totals.items()))
        for group, totals in counts.items()
    )
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def by_hour(hours: CountsByBucket) -> ByBucket:
    """Totals by hour, from those by hour and key."""
    return {start: summed(counts.values()) for start, counts in hours.items()}
