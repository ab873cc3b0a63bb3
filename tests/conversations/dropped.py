"""Two lakes that read the same API at the same moments: one keeps all, the other drops items.

Belongs here: taking both through the same steps, and holding one against the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.apart import is_apart
from pipeline.conversations import derive
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.manifest import days_without_items, manifest_of
from pipeline.lake.retention import Pruned, prune
from pipeline.lake.schemas import OBSERVED_DATASETS
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.retention import Retention
from pipeline.timeline import DAY, day_window
from tests.synced import Reader, Rows, rows_of

FIRST = date(2024, 1, 1)
MIDNIGHT = day_window(FIRST).start
KEYS = ("key_web",)
KEPT_DAYS = 1
"""For how many days items are kept: settings say 32 at least."""


def after(number: int) -> date:
    """So many days after the first."""
    return FIRST + timedelta(days=number)


def at(number: int, hour: float = 0) -> float:
    """A moment on that day, Unix seconds."""
    return MIDNIGHT + number * DAY + hour * 3_600


def said(text: str) -> dict[str, object]:
    """A message."""
    return {"type": "message", "role": "user", "content": text}


@dataclass
class Twins:
    """The two lakes, and the API that they read."""

    server: EmulatorServer
    folder: Path

    @property
    def world(self) -> World:
        """What there is to be read."""
        return self.server.world

    @property
    def lakes(self) -> tuple[Lake, Lake]:
        """What keeps all, and what drops items. The API restates nothing once a day is over."""
        return self.lake("keeps"), self.lake("drops")

    def lake(self, name: str) -> Lake:
        """One of them."""
        return Lake(self.folder / name, lookback_days=0)

    def load(self, days: int) -> None:
        """Load usage of the first days."""
        for lake in self.lakes:
            self.reader(lake, range(days)).load()

    def sync(self, days: int, *, full: bool = False) -> tuple[int, int]:
        """Load and sync the first days in both; how many requests each sync sent."""
        self.load(days)
        sent: list[int] = []
        for lake in self.lakes:
            before = len(self.server.requests)
            self.reader(lake, range(days)).sync(full=full, keep_content=True)
            derive.finish(lake)
            sent.append(len(self.server.requests) - before)
        return sent[0], sent[1]

    def reader(self, lake: Lake, numbers: range) -> Reader:
        """Runs over these days."""
        return Reader(self.server, lake, [after(number) for number in numbers])

    def prune(self, items: int | None = KEPT_DAYS) -> Pruned:
        """Let the one drop items."""
        return prune(self.lakes[1], Retention(items=items), self.world.clock())

    def assert_same(self, *, but: frozenset[date] = frozenset()) -> None:
        """What is counted of kept days is the same, and of dropped days `but` some."""
        keeps, drops = self.lakes
        dropped = frozenset(days_without_items(drops))
        assert but <= dropped
        for days, names in ((but, OBSERVED_DATASETS), (dropped, ("reconciliation",))):
            counted, mine = (of_days(rows_of(lake, names), days) for lake in self.lakes)
            assert mine == counted
        assert rows_of(drops, ("conversations", "responses")) == rows_of(
            keeps, ("conversations", "responses")
        )
        self.assert_items(dropped, moved=bool(but))
        for day in drops.all_days():
            assert manifest_of(drops.version(day)).owed == ()
        catalog = build_catalog(drops, self.folder / "usage.duckdb")
        assert verify(drops, catalog).problems == ()

    def assert_items(self, dropped: frozenset[date], *, moved: bool = False) -> None:
        """Gone are the items that a final response made on a dropped day, and no others."""
        rows = rows_of(self.lakes[0], ("responses",))["responses"]
        gone = {
            row["id"]
            for row in rows
            if row["status"] == "completed" and row["created_at"].date() in dropped
        }
        everything, left = (rows_of(lake, ("items",))["items"] for lake in self.lakes)
        assert left == [row for row in everything if row["response_id"] not in gone]
        silent = dropped | {
            day
            for day in self.lakes[1].all_days()
            if "item_contents" in manifest_of(self.lakes[1].version(day)).dropped
        }
        names = {(row["conversation_id"], row["id"]) for row in left}
        of_dropped = {
            (row["conversation_id"], row["id"]) for row in left if row["added_at"].date() in silent
        }
        contents = rows_of(self.lakes[1], ("item_contents",))["item_contents"]
        # What was said in an item that has left a dropped day since is gone.
        stored = {(row["conversation_id"], row["id"]) for row in contents}
        assert stored <= names - of_dropped
        assert moved or stored == names - of_dropped
        for day in self.lakes[1].days("items"):
            assert is_apart(day) or day not in dropped


def of_days(tables: dict[str, Rows], left_out: frozenset[date]) -> dict[str, list[dict[str, Any]]]:
    """Rows of buckets and comparisons, but for some days."""
    return {
        name: [row for row in rows if _moment(row).date() not in left_out]
        for name, rows in tables.items()
    }


def _moment(row: dict[str, Any]) -> datetime:
    moment: datetime = row["day"] if "day" in row else row["start_time"]
    return moment


def new_world() -> World:
    """Three days: a conversation that goes on, a response that runs for long, and items that no
    response made, seen on the day they were added and later."""
    world = World(keys=KEYS, clock=ManualClock(at(0, 23)))
    started = (("ada", "ada", 0), ("old", "ada", 0), ("bob", "bob", 0), ("eve", "bob", 1))
    for name, user, number in started:
        world.create_conversation(at(number, 9), user, "key_web", conversation_id=name)
    for number in range(3):
        world.add_response("ada", at(number, 10), [said("q"), said("a")])
    world.add_response("old", at(0, 10), [said("q"), said("a")])
    world.add_items("ada", [said("no response")], at(0, 11))
    world.add_response("bob", at(0, 12), [said("runs")], finished_at=at(90))
    world.add_response("eve", at(1, 10), [said("q"), said("a")])
    world.add_items("eve", [said("seen late")], at(2, 11))
    for name, number in (("bob", 0), ("eve", 2), ("ada", 2)):
        world.touch(name, at(number, 12))
    return world


@contextmanager
def serving(folder: Path) -> Iterator[Twins]:
    """That world, and the lakes in a folder."""
    with EmulatorServer(new_world()) as server:
        yield Twins(server, folder)


def go_on(twins: Twins) -> None:
    """Take both lakes through three days; the first two can be dropped then."""
    twins.sync(1)
    clock_to(twins, at(3, 0.5))
    twins.sync(3)


def clock_to(twins: Twins, moment: float) -> None:
    """Let time pass."""
    clock = twins.world.clock
    assert isinstance(clock, ManualClock)
    clock.now = moment
