"""Landing what a sync has seen: conversations, responses and items, merged with what is landed.

Belongs here: which days' files are read and written, and in which order they are published. Does
not belong here: how sights become rows (`sql/`), asking the API, or what the rows come to in
buckets (`pipeline.lake.observed`).

Conversations and responses stand in the file of the UTC day they were created on, items in that of
the day they were added on; neither ever moves. Whatever happens in between, landing the same sights
again makes it whole: responses are published before the items that they date, conversations before
the items that count for them, contents before the items that they are of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import engine
from pipeline.lake.by_day import days_in, write_days
from pipeline.lake.files import ROW_GROUP, noted, same_but_for, write
from pipeline.lake.publication import publish
from pipeline.lake.schemas import (
    CONVERSATIONS,
    ITEM_CONTENTS,
    ITEMS,
    RESPONSES,
    Dataset,
)
from pipeline.lake.sights import Kind, Sights
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, day_of, day_window

DISPUTED: Final = "disputed_users"
"""Footer note: ids in the file that were listed for several users. A NULL alone would not say
whether a record is the key owner's own, so that a user seen later is told, or nobody's for good."""

_WHEN_SEEN: Final = frozenset({"first_seen_at", "last_seen_at"})


@dataclass(frozen=True, slots=True)
class Landed:
    """What a landing has changed."""

    days: Mapping[str, tuple[date, ...]]
    """Per dataset, the days that say something new. Seen once more is nothing new."""
    to_observe: tuple[date, ...]
    """The days whose observed buckets may differ now: those of new conversations and items, and of
    items whose conversation is told another user or key than before."""


def land(con: duckdb.DuckDBPyConnection, lake: Lake, sights: Sights) -> Landed:
    """Merge sights into the lake and publish the days concerned; one landing goes on at a time.

    - A conversation or response is of the key it was seen under, of none (NULL) when there are two;
      of its user, the key owner (NULL) giving way to a user, and of none when there are two.
    - The latest sight of a conversation says whether it is deleted and what its metadata are. The
      latest sight of a response counts whole; a sight counts as later than what is landed.
    - An item, known by its conversation and id, is landed once and never changes. It was added when
      its response was created; where that is not known, when it was first seen.
    - An item's content is landed only where a sight carries it.

    Raises OSError when the disk fails, duckdb.Error when memory does; what is published until then
    is right, and landing the same sights again completes it, but no longer tells of the days that
    were changed before: whoever caught an error observes all days that are landed. `con` should
    have a scratch folder where contents are kept: sorting them may outgrow memory.
    """
    with lake.lock("records"), lake.staging() as folder:
        return _Landing(con, lake, sights, folder).run()


class _Landing:
    def __init__(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, sights: Sights, folder: Path
    ) -> None:
        self._con = con
        self._lake = lake
        self._sights = sights
        self._folder = folder

    def run(self) -> Landed:
        """Stage everything, then publish it."""
        responses = self._owned(RESPONSES, "responses")
        conversations = self._owned(CONVERSATIONS, "conversations")
        moved = self._moved_items(conversations)
        items, contents = self._items()
        changed = self._publish({RESPONSES.name: responses})
        changed |= self._publish({CONVERSATIONS.name: conversations})
        # Contents of a day first: an item that is landed without its content stays without.
        changed |= self._publish({ITEM_CONTENTS.name: contents, ITEMS.name: items})
        to_observe = {*changed[CONVERSATIONS.name], *changed[ITEMS.name], *moved}
        return Landed(changed, tuple(sorted(to_observe)))

    def _owned(self, dataset: Dataset, kind: Kind) -> dict[date, Path]:
        """Stage the days of records that have a time of creation, a user and a key."""
        con, lake = self._con, self._lake
        days = days_in(self._sights.table(kind).column("created_at"))
        landed = lake.files(dataset.name, days)
        before = [name for path in landed for name in noted(path, DISPUTED)]
        con.register("seen", self._sights.table(kind))
        engine.bind(con, {"landed": (dataset, landed)})
        con.register("disputed", _ids(before))
        disputed = con.sql(engine.sql("disputed_users")).to_arrow_table()
        con.register("disputed", disputed.select(["id"]))
        return self._staged(dataset, "created_at", notes=_notes(disputed))

    def _items(self) -> tuple[dict[date, Path], dict[date, Path]]:
        """Stage the days of new items, and those of their contents where sights carry them."""
        con, lake = self._con, self._lake
        inputs = {
            "responses": (RESPONSES, lake.files("responses")),
            "landed_items": (ITEMS, lake.files("items")),
        }
        engine.bind(con, inputs)
        con.register("seen_items", self._sights.table("items"))
        con.register("seen_responses", self._sights.table("responses"))
        new = self._folder / "new_items.parquet"
        write(ITEMS, self._query("new_items"), new, Window(0, 0))
        engine.bind(con, {"new_items": (ITEMS, [new])})
        days = days_in(con.table("new_items").select("added_at").to_arrow_table().column(0))
        contents = self._contents(new)
        engine.bind(con, {"landed_items": (ITEMS, lake.files("items", days))})
        return (self._staged(ITEMS, "added_at") if days else {}), contents

    def _contents(self, new_items: Path) -> dict[date, Path]:
        if not pc.any(self._sights.table("items").column("body").is_valid()).as_py():
            return {}
        con, lake = self._con, self._lake
        inputs = {
            "items": (ITEMS, [*lake.files("items"), new_items]),
            "item_contents": (ITEM_CONTENTS, lake.files("item_contents")),
        }
        engine.bind(con, inputs)
        folder = self._folder / "new"
        folder.mkdir()
        new = write_days(ITEM_CONTENTS, self._query("new_contents"), "added_at", folder)
        merged: dict[date, Path] = {}
        for day, path in new.items():
            merged[day] = self._folder / f"contents-{day}.parquet"
            landed = lake.files("item_contents", [day])
            engine.bind(con, {"landed_contents": (ITEM_CONTENTS, landed)})
            engine.bind(con, {"new_contents": (ITEM_CONTENTS, [path])})
            rows = self._query(ITEM_CONTENTS.name)
            write(ITEM_CONTENTS, rows, merged[day], day_window(day))
        return merged

    def _moved_items(self, conversations: Mapping[date, Path]) -> list[date]:
        """Days with landed items that count for another user or key from now on."""
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

    def _staged(
        self,
        dataset: Dataset,
        column: str,
        notes: Mapping[date, Mapping[str, list[str]]] | None = None,
    ) -> dict[date, Path]:
        rows = self._query(dataset.name)
        return write_days(dataset, rows, column, self._folder, notes=notes)

    def _query(self, name: str) -> pa.RecordBatchReader:
        return self._con.sql(engine.sql(name)).to_arrow_reader(ROW_GROUP)

    def _publish(self, staged: Mapping[str, Mapping[date, Path]]) -> dict[str, tuple[date, ...]]:
        """Publish day by day; returns the days of each dataset that say something new."""
        news: dict[str, list[date]] = {name: [] for name in staged}
        for day in sorted({day for files in staged.values() for day in files}):
            files = {name: of[day] for name, of in staged.items() if day in of}
            for name, path in files.items():
                landed = self._lake.file(name, day)
                if landed is None or not same_but_for(_WHEN_SEEN, landed, path):
                    news[name].append(day)
            publish(self._con, self._lake, day, files)
        return {name: tuple(days) for name, days in news.items()}


def _ids(ids: Iterable[str]) -> pa.Table:
    return pa.table({"id": pa.array(list(ids), pa.string())})


def _notes(disputed: pa.Table) -> dict[date, dict[str, list[str]]]:
    """Disputed ids by the day of their file."""
    notes: dict[date, dict[str, list[str]]] = {}
    for row in disputed.to_pylist():
        day = day_of(int(row["created_at"].timestamp() // 1))
        notes.setdefault(day, {DISPUTED: []})[DISPUTED].append(row["id"])
    return notes
