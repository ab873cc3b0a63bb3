"""Find what the API has restated, however long ago, and load exactly those days again.

Belongs here: the comparison day by day, user by user and key by key (docs/design.md, "Refresh"). An
equal day is confirmed: what was provisional because it was read early becomes final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa

from pipeline.api import Client
from pipeline.async_runner import run_async
from pipeline.lake import engine, user_id_mode
from pipeline.lake.snapshot import UNDATED, Snapshot
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import DAY, closed_through, day_of, day_window
from pipeline.usage.feed import CONVERSATIONS, Counts, Feed, ServedBucket, add
from pipeline.usage.load import Progress, load_days
from pipeline.usage.rollup import DayPublished


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found. `changed` are the days that are to be loaded, or were."""

    compared: tuple[date, ...]
    changed: tuple[date, ...]
    requests: int
    """Sent for the comparison."""
    published: tuple[DayPublished, ...] = ()
    endpoint: str = ""


def refresh_days(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date] | None = None,
    *,
    feed: Feed = CONVERSATIONS,
    pseudonyms: Pseudonyms | None = None,
    on_found: Callable[[Refreshed], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> Refreshed:
    """Compare loaded days (all by default) with the API, and load again those that differ.

    A day that is over but was loaded only in part, or has a damaged file, counts as one that
    differs; the open day is left to the trailing window. `on_found` is called with what is going
    to be loaded. Raises ApiError when the API can't be asked, and what `load_days` raises.
    """
    user_id_mode.check(lake, pseudonyms.fingerprint if pseudonyms else None)
    asked_at = now()
    today = day_of(closed_through(asked_at))
    names = {feed.raw.name, *(dataset.name for dataset in feed.tables.values())}
    seen = Snapshot(lake, days, names=names)
    damaged = {one.day for one in seen.damage if one.day != UNDATED}
    table = feed.tables["1d"].name
    if days is None:
        loaded = [day for day in seen.days(table) if feed.loaded(lake, day) is not None]
        days = sorted({*loaded, *damaged})
    wanted = [day for day in days if day < today]
    versions: dict[date, Path] = {}
    in_part: list[date] = []
    to_reload = set(feed.to_reload(lake, asked_at))
    for day in wanted:
        path = lake.file(table, day)
        again = path is None or day in damaged or day in to_reload
        if path is None or again or feed.loaded(lake, day) != day_window(day):
            in_part.append(day)
        else:
            versions[day] = path.parent
    comparison = _Comparison(versions, feed, pseudonyms)
    requests = run_async(comparison.run(connect)) if versions else 0
    asked_at = min(asked_at, now())  # an answer may have shown that the clock is ahead
    today = day_of(closed_through(asked_at))
    changed = tuple(sorted(day for day in {*in_part, *comparison.differing} if day < today))
    found = Refreshed(tuple(wanted), changed, requests, endpoint=feed.endpoint)
    if on_found is not None:
        on_found(found)
    with closing(engine.connect(lake)) as con:
        for day, version in versions.items():
            if day not in comparison.differing:
                feed.confirm(con, lake, day, version, asked_at)
    if not changed:
        return found
    published = load_days(
        connect, lake, changed, feed=feed, pseudonyms=pseudonyms, on_progress=on_progress, now=now
    )
    return replace(found, published=tuple(published))


class _Comparison:
    """Each day's 1d buckets group by group, compared with what the API says now."""

    def __init__(
        self, versions: dict[date, Path], feed: Feed, pseudonyms: Pseudonyms | None
    ) -> None:
        self._versions = versions
        self._feed = feed
        self._pseudonyms = pseudonyms
        self._served: set[date] = set()
        self.differing: set[date] = set()

    async def run(self, connect: Callable[[], Client]) -> int:
        """Ask; returns the number of requests."""
        parts: Counts = {}  # of a day that comes in narrower buckets
        summed: date | None = None
        async with connect() as client:
            async for bucket in self._feed.of_days(client, self._versions):
                day = day_of(bucket.start_time)
                if summed is not None and summed != day:
                    self._compare(summed, parts)
                    parts, summed = {}, None
                if bucket.end_time - bucket.start_time == DAY:
                    self._compare(day, self._counted(bucket, {}))
                else:
                    parts, summed = self._counted(bucket, parts), day
        if summed is not None:
            self._compare(summed, parts)
        for day in set(self._versions) - self._served:  # an empty bucket may be left out
            self._compare(day, {})
        return client.requests

    def _counted(self, bucket: ServedBucket, counts: Counts) -> Counts:
        """The counts with those of a bucket added."""
        for result in bucket.results:
            add(counts, self._feed.group(result, self._pseudonyms), self._feed.measures(result))
        return counts

    def _compare(self, day: date, counts: Counts) -> None:
        """A day served twice: the later serving counts."""
        self._served.add(day)
        try:
            agrees = counts == self._feed.counts(
                self._versions[day] / f"{self._feed.tables['1d'].name}.parquet"
            )
        except (OSError, pa.ArrowException):  # garbage: it is loaded again
            agrees = False
        if agrees:
            self.differing.discard(day)
        else:
            self.differing.add(day)
