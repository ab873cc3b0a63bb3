"""Items of old days are dropped, and everything else goes on as if they were there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.apart import apart
from pipeline.api.responses import FINAL
from pipeline.conversations import derive
from pipeline.lake import engine
from pipeline.lake.dropped_items import bind_dropped
from pipeline.lake.manifest import days_without_items, manifest_of
from pipeline.lake.retention import prune
from pipeline.lake.schemas import (
    OBSERVED_DATASETS,
    RECONCILIATION,
    RECORD_DATASETS,
    RESPONSES,
)
from pipeline.lake.snapshot import Snapshot
from pipeline.retention import Retention
from pipeline.timeline import day_window
from tests.conversations.dropped import (
    FIRST,
    KEPT_DAYS,
    Twins,
    after,
    at,
    clock_to,
    go_on,
    of_days,
    said,
    serving,
)
from tests.conversations.seen import days_of
from tests.ended import publishing_ends
from tests.synced import rows_of

DROPPED = [FIRST, after(1)]
TABLES = (*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both lakes after three days; tests copy them."""
    folder = tmp_path_factory.mktemp("original")
    with serving(folder) as twins:
        go_on(twins)
    return folder


@pytest.fixture
def twins(original: Path, tmp_path: Path) -> Iterator[Twins]:
    """Such lakes of the test's own, and the API that they are of."""
    shutil.copytree(original, tmp_path / "lakes", symlinks=True)
    with serving(tmp_path / "lakes") as found:
        clock_to(found, at(3, 0.5))
        yield found


def test_what_a_final_response_made_goes_and_what_none_dates_stands_apart(twins: Twins) -> None:
    pruned = twins.prune()
    assert (pruned.dropped["items"], pruned.dropped["contents"]) == (DROPPED, DROPPED)
    assert (pruned.not_final, pruned.not_counted) == ([], [])
    lake = twins.lakes[1]
    left = rows_of(lake, ("items",))["items"]
    assert [row["added_at_source"] for row in left if row["added_at"].date() == FIRST] == [
        "observed",  # no response made it
        "response",  # one that is not final did
    ]
    assert {*days_of(lake, "items").values()} == {apart(FIRST), after(2)}
    twins.assert_same()
    with closing(engine.connect(lake)) as con:
        Snapshot(lake).bind_coverage(con, [FIRST, after(2)])
        counted = con.sql(
            "SELECT dataset, status, count(*) FROM coverage "
            "WHERE dataset IN ('items', 'observed_1d') GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert counted == [
        *(("items", "dropped", 24), ("items", "final", 24), ("observed_1d", "final", 48)),
    ]
    assert twins.prune().days == []


def goes_on(twins: Twins) -> None:
    twins.world.add_response("ada", at(3, 10), [said("q"), said("a")])
    twins.world.touch("ada", at(3, 11))


def gets_an_item(twins: Twins) -> None:
    twins.world.add_items("ada", [said("no response")], at(3, 10))


def is_deleted(twins: Twins) -> None:
    goes_on(twins)
    twins.world.delete_conversation("ada", at(3, 12))


def is_deleted_and_usage_has_one_item_more(twins: Twins) -> None:
    """What is gone explains a difference only if nothing of it was ever stored."""
    twins.world.restate(at(2, 10), "ada", "key_web", items_added=1)
    twins.world.delete_conversation("old", at(3, 12))


def loses_its_last_item(twins: Twins) -> None:
    goes_on(twins)
    for name in ("ada", "eve"):
        conversation = twins.world.conversation(name)
        assert conversation is not None
        twins.world.remove_item(name, conversation.items[-1].id)
    twins.world.touch("eve", at(3, 12))


def ends_on_another_day(twins: Twins) -> None:
    running = next(one for one in twins.world.all_responses() if one.conversation_id == "bob")
    clock_to(twins, at(3, 12))
    twins.world.finish_response(running.id, at(3, 11))


def loses_its_state(twins: Twins) -> None:
    for lake in twins.lakes:
        shutil.rmtree(lake.root / ".sync")


def nothing(_: Twins) -> None:
    pass


SLOW = pytest.mark.slow
CASES = [
    pytest.param(nothing, False, marks=SLOW),
    pytest.param(nothing, True, marks=SLOW),
    pytest.param(goes_on, False),
    pytest.param(goes_on, True, marks=SLOW),
    *(
        pytest.param(happens, full, marks=SLOW)
        for happens in (
            gets_an_item,
            is_deleted,
            is_deleted_and_usage_has_one_item_more,
            loses_its_last_item,
            loses_its_state,
        )
        for full in (False, True)
    ),
    pytest.param(ends_on_another_day, False, marks=SLOW),
    pytest.param(ends_on_another_day, True, marks=SLOW),
]


@pytest.mark.parametrize(("happens", "full"), CASES)
def test_syncs_find_what_they_would_have_found_with_as_many_requests(
    twins: Twins, happens: Callable[[Twins], None], full: bool
) -> None:
    twins.prune()
    happens(twins)
    clock_to(twins, at(4, 0.5))
    # Counted on a dropped day stays what was: here, the item of a response that says another time.
    but = frozenset(DROPPED if happens is ends_on_another_day else ())
    for _ in range(2):
        kept, dropped = twins.sync(4, full=full)
        assert dropped == kept
        twins.assert_same(but=but)
    assert days_without_items(twins.lakes[1]) == DROPPED
    clock_to(twins, at(5, 0.5))
    twins.sync(5)
    twins.prune()
    twins.assert_same(but=but)


def test_kept_again_a_day_is_not_counted_until_it_was_read_again(twins: Twins) -> None:
    twins.prune()
    pruned = twins.prune(None)
    assert pruned.kept_again == {"items": DROPPED, "contents": DROPPED}
    keeps, drops = twins.lakes
    before = rows_of(drops, OBSERVED_DATASETS)
    derive.finish(drops)
    assert rows_of(drops, OBSERVED_DATASETS) == before
    goes_on(twins)
    clock_to(twins, at(4, 0.5))
    for lake in twins.lakes:
        other = twins.reader(lake, range(2, 4))
        other.load()
        other.sync(keep_content=True)
    owed = [manifest_of(drops.version(day)).owed for day in DROPPED]
    assert all("read" in it for it in owed)
    now = rows_of(drops, OBSERVED_DATASETS)
    later = frozenset(after(number) for number in (2, 3))
    assert of_days(now, later) == of_days(before, later)
    twins.sync(4, full=True)
    assert rows_of(drops, TABLES) == rows_of(keeps, TABLES)
    assert all(days_of(drops, name) == days_of(keeps, name) for name in RECORD_DATASETS)
    twins.assert_same()


@pytest.mark.slow
def test_a_prune_that_ends_on_the_way_has_dropped_a_day_whole_or_not_at_all(twins: Twins) -> None:
    everything = rows_of(twins.lakes[1], ["items"])["items"]
    for steps in range(40):
        with suppress(KeyboardInterrupt), publishing_ends(steps):
            twins.prune()
            break
        left = rows_of(twins.lakes[1], ["items"])["items"]
        dropped = days_without_items(twins.lakes[1])
        undated = [row for row in everything if row["added_at_source"] == "observed"]
        assert [row for row in left if row["added_at_source"] == "observed"] == undated
        assert len({row["id"] for row in left}) == len(left)
        assert (len(left) == len(everything)) == (not dropped)
    assert steps > 2
    twins.assert_same()


@pytest.mark.parametrize("table", ["observed_1d", "reconciliation"])
@pytest.mark.slow
def test_what_was_counted_of_dropped_items_and_is_damaged_is_counted_anew(
    twins: Twins, table: str
) -> None:
    twins.prune()
    drops = twins.lakes[1]
    path = drops.file(table, FIRST)
    assert path is not None
    path.write_bytes(b"garbage")
    twins.sync(3)
    assert days_without_items(drops) == DROPPED[1:]
    twins.assert_same()
    twins.prune()
    twins.assert_same()


@pytest.mark.slow
def test_usage_that_is_restated_later_leaves_the_comparison_as_it_was(twins: Twins) -> None:
    twins.prune()
    drops = twins.lakes[1]
    before = rows_of(drops, [RECONCILIATION.name])[RECONCILIATION.name]
    twins.world.restate(at(0, 10), "ada", "key_web", operations=3)
    clock_to(twins, at(4, 0.5))
    twins.sync(3)
    old = [row for row in before if row["day"].date() in DROPPED]
    now = rows_of(drops, [RECONCILIATION.name])[RECONCILIATION.name]
    assert [row for row in now if row["day"].date() in DROPPED] == old
    assert manifest_of(drops.version(FIRST)).owed == ()


def test_items_that_are_not_counted_to_the_end_are_kept(tmp_path: Path) -> None:
    with serving(tmp_path) as twins:
        twins.sync(1)
        clock_to(twins, at(3, 0.5))
        twins.load(3)
        pruned = prune(twins.lakes[1], Retention(items=KEPT_DAYS), at(3, 0.5))
    assert (pruned.not_counted, pruned.not_final) == ([FIRST], [])
    assert "items" not in pruned.dropped
    assert twins.lakes[1].file("items", FIRST) is not None


def test_the_items_of_a_response_go_once_its_status_is_final() -> None:
    statuses = sorted({*FINAL, "in_progress", "queued", "of a later API"})
    created = [day_window(FIRST).start * 1_000_000] * len(statuses)
    rows = {
        "id": pa.array(statuses),
        "created_at": pa.array(created).cast(pa.timestamp("us", "UTC")),
        "status": pa.array(statuses),
    }
    table = pa.table(
        {it.name: rows.get(it.name, pa.nulls(len(statuses), it.type)) for it in RESPONSES.schema}
    )
    for days, expected in (([FIRST], sorted(FINAL)), ([after(1)], []), ([], [])):
        with closing(engine.connect()) as con:
            con.register("responses", table)
            bind_dropped(con, days)
            found = con.sql("SELECT id FROM dropped_responses ORDER BY id").fetchall()
        assert [name for (name,) in found] == expected
