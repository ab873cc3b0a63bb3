"""Find what the API has restated, however long ago, and load exactly those days again.

Belongs here: the comparison day by day, user by user and key by key (docs/design.md, "Refresh"). An
equal day is confirmed: what was provisional because it was read early becomes final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.api import Client, usage_of_days
from pipeline.api.usage import Bucket
from pipeline.async_runner import run_async
from pipeline.lake import engine, user_id_mode
from pipeline.lake.commit import confirm
from pipeline.lake.files import covered
from pipeline.lake.manifest import days_to_reload
from pipeline.lake.schemas import MEASURES, USAGE, USAGE_DATASETS
from pipeline.lake.snapshot import UNDATED, Snapshot
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import DAY, closed_through, day_of
from pipeline.usage.load import Progress, load_days
from pipeline.usage.rollup import DayPublished

Counts = dict[tuple[str | None, str | None], tuple[int, ...]]
"""By user and key, the three measures; who has none is left out."""

_1D: Final = USAGE["1d"].name


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found. `changed` are the days that are to be loaded, or were."""

    compared: tuple[date, ...]
    changed: tuple[date, ...]
    requests: int
    """Sent for the comparison."""
    published: tuple[DayPublished, ...] = ()


def refresh_days(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date] | None = None,
    *,
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
    seen = Snapshot(lake, days, names=USAGE_DATASETS)
    damaged = {one.day for one in seen.damage if one.day != UNDATED}
    if days is None:
        days = sorted({*seen.days(_1D), *damaged})
    wanted = [day for day in days if day < today]
    versions: dict[date, Path] = {}
    in_part: list[date] = []
    to_reload = set(days_to_reload(lake, asked_at))
    for day in wanted:
        path = lake.file(_1D, day)
        again = path is None or day in damaged or day in to_reload
        if path is None or again or not covered(path).complete(day):
            in_part.append(day)
        else:
            versions[day] = path.parent
    comparison = _Comparison(versions, pseudonyms)
    requests = run_async(comparison.run(connect)) if versions else 0
    asked_at = min(asked_at, now())  # an answer may have shown that the clock is ahead
    today = day_of(closed_through(asked_at))
    changed = tuple(sorted(day for day in {*in_part, *comparison.differing} if day < today))
    found = Refreshed(tuple(wanted), changed, requests)
    if on_found is not None:
        on_found(found)
    with closing(engine.connect(threads=1)) as con:
        for day, version in versions.items():
            if day not in comparison.differing:
                confirm(con, lake, day, version, "usage", asked_at)
    if not changed:
        return found
    published = load_days(
        connect, lake, changed, pseudonyms=pseudonyms, on_progress=on_progress, now=now
    )
    return Refreshed(found.compared, changed, requests, tuple(published))


class _Comparison:
    """Each day's 1d buckets by user and key, compared with what the API says now."""

    def __init__(self, versions: dict[date, Path], pseudonyms: Pseudonyms | None) -> None:
        self._versions = versions
        self._pseudonyms = pseudonyms
        self._served: set[date] = set()
        self.differing: set[date] = set()

    async def run(self, connect: Callable[[], Client]) -> int:
        """Ask; returns the number of requests."""
        parts: Counts = {}  # of a day that comes in narrower buckets
        summed: date | None = None
        async with connect() as client:
            async for bucket in usage_of_days(client, self._versions):
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

    def _counted(self, bucket: Bucket, counts: Counts) -> Counts:
        """The counts with those of a bucket added."""
        for result in bucket.results:
            user = self._pseudonyms.of(result.user_id) if self._pseudonyms else result.user_id
            _add(counts, user, result.api_key_id, [getattr(result, name) for name in MEASURES])
        return counts

    def _compare(self, day: date, counts: Counts) -> None:
        """A day served twice: the later serving counts."""
        self._served.add(day)
        try:
            agrees = counts == _ours(self._versions[day] / f"{_1D}.parquet")
        except (OSError, pa.ArrowException):  # garbage: it is loaded again
            agrees = False
        if agrees:
            self.differing.discard(day)
        else:
            self.differing.add(day)


def _ours(path: Path) -> Counts:
    counts: Counts = {}
    columns = pq.ParquetFile(path).read(columns=["user_id", "api_key_id", *MEASURES]).columns
    for user, key, *measures in zip(*(column.to_pylist() for column in columns), strict=True):
        _add(counts, user, key, measures)
    return counts


def _add(counts: Counts, user: str | None, key: str | None, measures: Sequence[int | None]) -> None:
    if any(measures):
        before = counts.get((user, key), (0,) * len(MEASURES))
        counts[user, key] = tuple(a + (b or 0) for a, b in zip(before, measures, strict=True))
