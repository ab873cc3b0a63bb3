"""An API that restates while it is asked, and lakes that are loaded from it.

Belongs here: what the tests of changed hours share.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.emulator import ManualClock, World
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, day_window
from pipeline.usage.changed_hours import Reads
from pipeline.usage.load import LoadError, load_days
from tests.bent import BentApi, Page, Params
from tests.torture.scenes import days, world

ASKED = FIRST, TODAY = days(2)
MOMENT = day_window(TODAY).start + 10 * 3_600 + 330.0
USERS, KEYS = (None, "ada", "bob", "käthe"), (None, "key_a", "key_b")


def at(clock: float, of: World) -> World:
    """The same world at another time."""
    assert isinstance(of.clock, ManualClock)
    of.clock.now = clock
    return of


def load(api: BentApi, lake: Lake, of: World, reads: Reads, asked: Sequence[date] = ASKED) -> None:
    api.asked.clear()
    load_days(api.connect, lake, asked, reads=reads, now=of.clock)


def copied(lake: Lake, place: Path) -> Lake:
    shutil.copytree(lake.root, place, symlinks=True)
    return Lake(place)


def minutes_asked(api: BentApi) -> int:
    """How many minutes were asked for."""
    return sum(
        (int(one["end_time"][0]) - int(one["start_time"][0])) // SECONDS["1m"]
        for one in api.asked
        if one["bucket_width"] == ["1m"]
    )


def fresh() -> World:
    """The world as it was when the lakes of these tests were loaded."""
    return at(MOMENT, world(2, per_day=25))


@dataclass(frozen=True)
class Restated:
    """A minute that says something else: another row is gone, or has more operations."""

    minute: int
    user: str | None
    key: str | None
    drops: bool


@dataclass(frozen=True)
class Run:
    """What the API restates, how many minutes go by, and a run, which may stop in between."""

    restated: Sequence[Restated]
    minutes: int
    reads: Reads
    stops_after: int | None


class Traffic:
    """An API that restates, may leave out empty buckets, says more than is known or less, and may
    stop answering."""

    def __init__(self, of: World, sparse: bool = False) -> None:
        self.world = of
        self.api = BentApi(of, self._bend)
        self._sparse = sparse
        self._left: int | None = None
        self._times = 0

    def _bend(self, _: Params, page: Page) -> Page:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return {"object": "gone"}
        for row in (row for bucket in page["data"] for row in bucket["results"]):
            if row["user_id"] == "ada":
                row["region"] = "eu"
            if row["num_items_added"] == 0:
                row["num_items_added"] = None
        data = [bucket for bucket in page["data"] if bucket["results"] or not self._sparse]
        return {**page, "data": data}

    def restate(self, restated: Sequence[Restated]) -> None:
        for one in restated:
            start = day_window(FIRST).start + 60 * one.minute
            if start > self.world.clock():
                continue
            if one.drops:
                rows = self.world.usage(start, start + 3_600, "1m", ("user_id", "api_key_id"))
                for bucket in rows:
                    for row in bucket["results"]:
                        self.world.restate(
                            bucket["start_time"], row["user_id"], row["api_key_id"], drop=True
                        )
            else:
                self._times += 1  # no two of them cancel each other
                more = 1_000 * 2**self._times
                self.world.restate(start, one.user, one.key, operations=more)

    def run(self, lake: Lake, one: Run) -> None:
        self.restate(one.restated)
        at(self.world.clock() + 60 * one.minutes, self.world)
        self._left = one.stops_after
        try:
            load(self.api, lake, self.world, one.reads)
        except LoadError:
            assert one.stops_after is not None
        self._left = None


def of_day(lake: Lake, name: str, day: date) -> pa.Table:
    return pq.ParquetFile(lake.path(name, day)).read()
