"""Merging what a sync has read into conversations, responses and items.

Belongs here: which days' files are read and written, and in which order. An id stands on one day
only: where it gets another time, it moves. Rows of days that are not loaded stand apart, a month
each (`pipeline.apart`), and move when their day is. One commit publishes all days that change,
with what they owe from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.apart import EARLIEST, UNDATED, is_apart
from pipeline.conversations.places import Places, dated_by_now, files_of, plausible
from pipeline.conversations.repair import is_observed, take_out_damage
from pipeline.conversations.row_buffer import Kind, RowBuffer
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.dropped_items import bind_dropped
from pipeline.lake.files import DISPUTED, ROW_GROUP, noted, same_but_for, write
from pipeline.lake.manifest import Work, days_without_items, manifest_of
from pipeline.lake.partitioned_write import days_in, write_days
from pipeline.lake.schemas import (
    CONVERSATIONS,
    ITEM_CONTENTS,
    ITEMS,
    RECONCILIATION,
    RESPONSES,
    Dataset,
)
from pipeline.lake.snapshot import Damage
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, day_of, day_window

_WHEN_SEEN: Final = frozenset({"first_seen_at", "last_seen_at"})
_NEW_ITEMS: Final = "SELECT conversation_id, id FROM new_items"


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge has changed."""

    days: Mapping[str, tuple[date, ...]]
    """Per dataset, the days that say something new. Seen once more is nothing new."""
    to_observe: tuple[date, ...]
    """The days whose observed buckets may differ now: those whose records say something new, and of
    items whose conversation gets another user or key than before. Not those whose items are
    dropped: they are not counted again."""
    damaged: tuple[Damage, ...] = ()
    """Files that had to be taken out, since they could not be merged with."""


def merge_rows(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    buffer: RowBuffer,
    until: float,
    loaded: Collection[date],
) -> Merged:
    """Merge rows into the lake and publish the days concerned; one merge goes on at a time.

    - A conversation or response is of the key it was seen under, of none (NULL) when there are two;
      of its user, the key owner (NULL) giving way to a user, and of none when there are two.
    - The latest row of a conversation says when it was created, whether it is deleted and what its
      metadata are. The latest row of a response counts whole. A row that was read counts as later
      than one that is stored.
    - An item, known by its conversation and id, is stored once. It was added when its response was
      created; where that is not known, when it was first seen.
    - An item's content is stored only where a row carries it.
    - Of a day whose items are dropped no item is stored that a final response made, and no content;
      other items of it stand apart. Its buckets stay what they are.

    `until` (Unix seconds): what says that it was created from then on, or before EARLIEST, says
    nothing. `loaded`: the days with usage, whose rows stand by themselves. Raises OSError when the
    disk fails, duckdb.Error when memory does: then nothing is changed. `con` should have a scratch
    folder where contents are kept: sorting them may outgrow memory.
    """
    with lake.lock("records"), lake.staging() as folder:
        return _Merge(con, lake, buffer, folder, until, loaded).run()


def place_rows(
    con: duckdb.DuckDBPyConnection, lake: Lake, until: float, loaded: Collection[date]
) -> Merged:
    """Let rows that stand apart stand on their own day, where that is among `loaded` now.

    To be called before days are observed that were loaded since the last merge. Raises as
    `merge_rows`.
    """
    with lake.lock("records"), lake.staging() as folder:
        return _Merge(con, lake, RowBuffer(folder), folder, until, loaded).run()


class _Merge:
    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        buffer: RowBuffer,
        folder: Path,
        until: float,
        loaded: Collection[date],
    ) -> None:
        self._con = con
        self._lake = lake
        self._buffer = buffer
        self._folder = folder
        self._span = {"earliest": day_window(EARLIEST).start, "until": until}
        self._damaged: list[Damage] = []
        self._dropped = frozenset(days_without_items(lake))
        last = day_of(int(until))
        self._places = Places(loaded, last)
        self._item_places = Places(self._places.loaded - self._dropped, last)
        con.register("homes", self._places.table)
        self._to_place = self._places.to_look_at(lake)
        """Where rows stand apart some of which may have to move: a day may have been loaded, or is
        to keep its items again, since the last merge."""

    def run(self) -> Merged:
        """Stage everything, then publish it."""
        self._take_out_damage({UNDATED, *self._to_place})
        responses = self._owned(RESPONSES, "responses")
        conversations = self._owned(CONVERSATIONS, "conversations")
        moved = self._moved_items(conversations)
        items, contents = self._items(responses)
        staged = {
            RESPONSES.name: responses,
            CONVERSATIONS.name: conversations,
            ITEM_CONTENTS.name: contents,
            ITEMS.name: items,
        }
        news = {name: self._news(name, of) for name, of in staged.items()}
        to_observe = self._places.loaded.intersection(
            [*news[CONVERSATIONS.name], *news[RESPONSES.name], *news[ITEMS.name], *moved]
        ).difference(self._dropped)
        self._publish(staged, {day for days in news.values() for day in days}, to_observe)
        return Merged(news, tuple(sorted(to_observe)), tuple(self._damaged))

    def _owned(self, dataset: Dataset, kind: Kind) -> dict[date, Path]:
        """Stage the days of records that have a time of creation, a user and a key."""
        con, lake, seen = self._con, self._lake, self._buffer.table(kind)
        misplaced = self._places.misplaced(lake, dataset, self._to_place)
        dated = dated_by_now(lake, dataset, self._span)
        if not (seen.num_rows or misplaced or dated.num_rows):
            return {}
        con.register("seen", seen)
        days = {UNDATED, *misplaced, *days_in(dated.column("created_at"))}
        days |= {*days_in(plausible(seen, self._span).column("created_at"))}
        days |= files_of(
            con, lake, dataset, "SELECT CAST(NULL AS VARCHAR) AS conversation_id, id FROM seen"
        )
        days |= {self._places.home(day) for day in days}
        self._take_out_damage(days)
        landed = lake.files(dataset.name, days)
        engine.bind(con, {"landed": (dataset, landed)})
        con.register("disputed", _ids(name for path in landed for name in noted(path, DISPUTED)))
        disputed = con.sql(engine.sql("disputed_users")).to_arrow_table()
        con.register("disputed", disputed)
        merged = engine.sql(dataset.name)
        notes: dict[date, dict[str, list[str]]] = {}
        if disputed.num_rows:
            of_days = (
                f"SELECT id, day_number FROM ({merged}\n) WHERE id IN (SELECT id FROM disputed)"
            )
            for name, number in con.sql(of_days, params=self._span).fetchall():
                notes.setdefault(day_of(number * DAY), {DISPUTED: []})[DISPUTED].append(name)
        there = [day for day in days if lake.file(dataset.name, day) is not None]
        return write_days(
            dataset,
            con.sql(merged, params=self._span).to_arrow_reader(ROW_GROUP),
            "day_number",
            self._folder,
            also=there,
            notes=notes,
        )

    def _items(self, responses: Mapping[date, Path]) -> tuple[dict[date, Path], dict[date, Path]]:
        """Stage the days of new and moved items, and those of their contents."""
        con, lake = self._con, self._lake
        misplaced = self._item_places.misplaced(lake, ITEMS, self._to_place)
        seen_items, seen = self._buffer.table("items"), self._buffer.table("responses")
        dating = pa.concat_tables(
            table.select(["id"]) for table in (seen, dated_by_now(lake, RESPONSES, self._span))
        )
        if not (seen_items.num_rows or dating.num_rows or misplaced):
            return {}, {}
        con.register("seen_items", seen_items)
        con.register("dating", dating)
        dated = {
            day: path for day in lake.days("responses") if (path := lake.file("responses", day))
        }
        engine.bind(con, {"responses": (RESPONSES, {**dated, **responses}.values())})
        bind_dropped(con, self._dropped)
        con.register("homes", self._item_places.table)
        new = self._folder / "new_items.parquet"
        damaged = True
        while damaged:  # what is taken out of the lake is stored no more
            all_items = lake.files("items")
            apart_items = lake.files(ITEMS.name, filter(is_apart, misplaced))
            inputs = {"landed_items": (ITEMS, all_items), "apart_items": (ITEMS, apart_items)}
            engine.bind(con, inputs)
            con.execute(f"CREATE OR REPLACE TEMP VIEW misplaced AS {engine.sql('misplaced_items')}")
            rows = con.sql(engine.sql("new_items"), params=self._span).to_arrow_reader(ROW_GROUP)
            write(ITEMS, rows, new, Window(0, 0))
            engine.bind(con, {"new_items": (ITEMS, [new])})
            added = con.table("new_items").select("added_at").to_arrow_table().column(0)
            days = {self._item_places.home(day) for day in days_in(added)}
            days |= files_of(con, lake, ITEMS, _NEW_ITEMS)
            days |= {self._item_places.home(day) for day in days}
            damaged = self._take_out_damage(days)
        contents = self._contents(all_items)
        if not days:
            return {}, contents
        engine.bind(con, {"landed_items": (ITEMS, lake.files("items", days))})
        rows = con.sql(engine.sql("items")).to_arrow_reader(ROW_GROUP)
        there = [day for day in days if lake.file("items", day) is not None]
        return write_days(ITEMS, rows, "day_number", self._folder, also=there), contents

    def _contents(self, all_items: Sequence[Path]) -> dict[date, Path]:
        con, lake = self._con, self._lake
        landed = lake.files("item_contents")
        seen = pc.any(self._buffer.table("items").column("body").is_valid()).as_py()
        left = files_of(con, lake, ITEM_CONTENTS, _NEW_ITEMS)
        if not (seen or left):
            return {}
        inputs = {
            "landed_items": (ITEMS, all_items),
            "item_contents": (ITEM_CONTENTS, landed),
        }
        engine.bind(con, inputs)
        folder = self._folder / "new"
        folder.mkdir()
        rows = con.sql(engine.sql("new_contents")).to_arrow_reader(ROW_GROUP)
        new = write_days(ITEM_CONTENTS, rows, "day_number", folder)
        merged: dict[date, Path] = {}
        for day in sorted({*new, *left}):
            merged[day] = self._folder / f"contents-{day}.parquet"
            inputs = {
                "landed_contents": (ITEM_CONTENTS, lake.files("item_contents", [day])),
                "new_contents": (ITEM_CONTENTS, [new[day]] if day in new else []),
            }
            engine.bind(con, inputs)
            rows = con.sql(engine.sql(ITEM_CONTENTS.name)).to_arrow_reader(ROW_GROUP)
            write(ITEM_CONTENTS, rows, merged[day], day_window(day))
        return merged

    def _moved_items(self, conversations: Mapping[date, Path]) -> list[date]:
        """Days with stored items that count for another user or key from now on."""
        lake = self._lake
        inputs = {
            "conversations": (CONVERSATIONS, list(conversations.values())),
            "landed": (CONVERSATIONS, lake.files("conversations", conversations)),
            "items": (ITEMS, lake.files("items")),
        }
        engine.bind(self._con, inputs)
        return [
            day_of(number * DAY)
            for (number,) in self._con.sql(engine.sql("moved_items")).fetchall()
        ]

    def _take_out_damage(self, days: Collection[date]) -> bool:
        """What is merged with must be what was published, to the last byte."""
        found = take_out_damage(self._con, self._lake, days, thorough=True)
        self._damaged += found
        return bool(found)

    def _news(self, name: str, staged: Mapping[date, Path]) -> tuple[date, ...]:
        """The days of a dataset that say something new."""
        return tuple(
            day
            for day, path in sorted(staged.items())
            if (landed := self._lake.file(name, day)) is None
            or not same_but_for(_WHEN_SEEN, landed, path)
        )

    def _publish(
        self,
        staged: Mapping[str, Mapping[date, Path]],
        news: Collection[date],
        to_observe: Collection[date],
    ) -> None:
        changes: dict[date, Change] = {}
        for day in {*to_observe, *(day for files in staged.values() for day in files)}:
            record = manifest_of(self._lake.version(day))
            owes: set[Work] = set()
            if day in to_observe and is_observed(record):
                owes.add("observe")
            if day in {*news, *to_observe} and RECONCILIATION.name in record.files:
                owes.add("reconcile")
            files = {name: of[day] for name, of in staged.items() if day in of}
            changes[day] = Change(files, owes=owes)
        publish_days(self._con, self._lake, changes)


def _ids(ids: Iterable[str]) -> pa.Table:
    return pa.table({"id": pa.array(list(ids), pa.string())})
