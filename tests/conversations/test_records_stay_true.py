"""What is landed and derived of conversations stays true: other days, kills, damage, odd times."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.apart import UNDATED
from pipeline.conversations import cursors, derive, sync
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake import manifest
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import OBSERVED_DATASETS, RECONCILIATION, RECORD_DATASETS
from pipeline.lake.store import Lake
from pipeline.lake.verification import Problem, verify
from pipeline.timeline import DAY, day_window
from tests.synced import Reader, Rows, rows_of

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
MIDNIGHT = day_window(FIRST).start
KEY = "key_web"
TABLES = (*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name)

Make = Callable[[], Reader]


@pytest.fixture
def world() -> World:
    """A week later; nobody has done anything."""
    return World(keys=(KEY,), clock=ManualClock(MIDNIGHT + 12 * DAY))


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[Make]:
    """Readers of three days, with usage loaded."""
    with ExitStack() as stack:

        def reader() -> Reader:
            server = stack.enter_context(EmulatorServer(world))
            made = Reader(server, Lake(tmp_path / "lake"), DAYS)
            made.load()
            return made

        yield reader


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Days that were synced, before one was listed late and one restated. Tests copy the lake."""
    world = World(keys=(KEY,), clock=ManualClock(MIDNIGHT + 12 * DAY))
    talk(world, 0)
    talk(world, 2)
    with EmulatorServer(world) as server:
        reader = Reader(server, Lake(tmp_path_factory.mktemp("behind") / "lake"), DAYS)
        reader.load()
        reader.sync()
        talk(world, 0)  # listed late
        world.restate(MIDNIGHT + 2 * DAY, "ada", KEY, operations=1)
        over(reader, 2).load()
        yield reader


@pytest.fixture(scope="module", params=["derive", "save", "save_visits"])
def ended(
    request: pytest.FixtureRequest, left_behind: Reader, tmp_path_factory: pytest.TempPathFactory
) -> Reader:
    """The same after a sync of the restated day that ended at some step. Tests copy the lake."""
    step: str = request.param
    reader = copied(left_behind, tmp_path_factory.mktemp(step))

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync if step == "derive" else cursors, step, end)
        with pytest.raises(KeyboardInterrupt):
            over(reader, 2).sync()
    assert ["older than they are" in problem.what for problem in problems(reader.lake)] != []
    return reader


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, dict[str, Rows]]]:
    """Days with all that is kept of conversations, each with a user of its own: one for each way of
    damage, and another. Tests damage a copy of the lake."""
    world = World(keys=(KEY,), clock=ManualClock(MIDNIGHT + 12 * DAY))
    days = [FIRST + timedelta(days=number) for number in range(len(DAMAGES) + 1)]
    for number in range(len(days)):
        talk(world, number, f"user {number}")
    with EmulatorServer(world) as server:
        reader = Reader(server, Lake(tmp_path_factory.mktemp("whole") / "lake"), days)
        reader.load()
        reader.sync(keep_content=True)
        yield reader, rows_of(reader.lake, TABLES)


def copied(reader: Reader, folder: Path) -> Reader:
    """The same days of the same server, in a lake of the test's own."""
    shutil.copytree(reader.lake.root, folder / "lake", symlinks=True)
    return Reader(reader.server, Lake(folder / "lake"), reader.days)


def talk(world: World, day: int, user: str | None = "ada", turns: int = 1) -> str:
    """A conversation of some turns, two items each."""
    at = MIDNIGHT + day * DAY + 3_600
    name = world.create_conversation(at, user, KEY)
    for turn in range(turns):
        world.add_response(name, at + 60 * turn, [said("q"), said("a")])
    return name


def said(text: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": text}


def over(reader: Reader, *numbers: int) -> Reader:
    """The same, over some of the days."""
    return Reader(reader.server, reader.lake, [DAYS[number] for number in numbers])


def problems(lake: Lake) -> tuple[Problem, ...]:
    catalog = lake.root.parent / "usage.duckdb"
    return verify(lake, build_catalog(lake, catalog)).problems


def sums(reader: Reader) -> dict[str, tuple[int, int]]:
    """Conversations and items observed, by day."""
    return {
        f"{row['start_time']:%Y-%m-%d}": (
            row["num_conversations_created"],
            row["num_items_added"],
        )
        for row in reader.rows("observed_1d")
    }


def test_a_day_is_observed_in_its_own_bounds_whatever_was_asked_for(
    world: World, make: Make
) -> None:
    talk(world, 0)
    talk(world, 2, turns=2)
    reader = make()
    reader.sync()
    talk(world, 2)
    world.restate(MIDNIGHT, "ada", KEY, operations=1)
    over(reader, 0).load()
    over(reader, 0).sync()
    assert sums(reader) == {"2024-01-01": (1, 2), "2024-01-03": (2, 6)}


@pytest.mark.slow
@pytest.mark.parametrize("again", ["finish", "sync of another day", "sync of these days"])
def test_what_an_ended_sync_left_to_be_derived_the_next_run_of_anything_derives(
    ended: Reader, tmp_path: Path, again: str
) -> None:
    reader = copied(ended, tmp_path)
    if again == "finish":
        derive.finish(reader.lake)
    else:
        over(reader, *([1] if again == "sync of another day" else [2])).sync()
    assert sums(reader)["2024-01-01"] == (2, 4)
    assert problems(reader.lake) == ()
    undisturbed = rows_of(reader.lake, ["observed_1m"])
    reader.sync(full=True)
    assert rows_of(reader.lake, ["observed_1m"]) == undisturbed


def test_what_is_restated_away_and_what_is_new_do_not_cancel_out(world: World, make: Make) -> None:
    name = talk(world, 0, turns=2)
    reader = make()
    reader.sync()
    world.restate(MIDNIGHT + 3_600, "ada", KEY, items_added=-2, operations=-1)
    world.add_response(name, MIDNIGHT + DAY + 3_600, [said("q"), said("a")])
    reader.load()
    reader.sync()
    assert len(reader.rows("items")) == 6
    assert len(reader.rows("responses")) == 3


@pytest.mark.parametrize("moment", [0, 1.5, MIDNIGHT - 3_000 * DAY])
def test_a_time_of_creation_that_cannot_be_is_kept_and_told_and_makes_no_day(
    world: World, make: Make, moment: float
) -> None:
    talk(world, 1)
    odd = talk(world, 1)
    world.report_created_at(odd, moment)
    reader = make()
    synced = reader.sync()
    assert reader.lake.all_days() == [UNDATED, *DAYS]
    (row,) = [row for row in reader.rows("conversations") if row["id"] == odd]
    assert row["created_at"].timestamp() == moment
    assert sums(reader) == {"2024-01-02": (1, 4)}
    assert [text for text in synced.warnings if "1 conversation said to be created" in text]
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(60)
    world.report_created_at(odd, MIDNIGHT + 2 * DAY)
    reader.sync(full=True)
    assert sums(reader) == {"2024-01-02": (1, 4), "2024-01-03": (1, 0)}
    assert reader.lake.file("conversations", UNDATED) is not None


def test_a_response_is_asked_for_until_it_is_final(world: World, make: Make) -> None:
    name = talk(world, 0, turns=0)
    slow = world.add_response(name, MIDNIGHT + 7_200, [said("q")], finished_at=MIDNIGHT + 99 * DAY)
    reader = make()
    reader.sync()
    clock = world.clock
    assert isinstance(clock, ManualClock)
    for _ in range(2):  # long behind the lookback, and of days on which nothing happened
        clock.advance(5 * DAY)
        assert over(reader, 2).sync().listings == 1
    world.finish_response(slow, MIDNIGHT + DAY)
    assert over(reader, 2).sync().responses == 1
    (row,) = reader.rows("responses")
    assert (row["status"], f"{row['created_at']:%d}") == ("completed", "02")
    assert over(reader, 2).sync().listings == 0
    assert problems(reader.lake) == ()


def test_a_response_that_never_ends_is_given_up_and_that_is_told(world: World, make: Make) -> None:
    name = talk(world, 0, turns=0)
    slow = world.add_response(name, MIDNIGHT + 7_200, [said("q")], finished_at=MIDNIGHT + 99 * DAY)
    reader = make()
    assert reader.sync().warnings == ()
    clock = world.clock
    assert isinstance(clock, ManualClock)
    clock.advance(sync.WAITED_DAYS * DAY)
    (told,) = reader.sync().warnings
    assert slow in told
    assert f"not final {sync.WAITED_DAYS} days after creation" in told
    again = reader.sync()
    assert (again.listings, again.warnings) == (0, ())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def remove(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(b"no Parquet")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


DAMAGES = (cut, remove, garble, empty, flip)


USUAL = ("items", "observed_1h")
"""One table of records, one that is derived; the others are slow."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in TABLES],
)
def test_what_verify_advises_mends_every_table_of_any_damage(
    undamaged: tuple[Reader, dict[str, Rows]], tmp_path: Path, name: str
) -> None:
    whole, before = undamaged
    reader = copied(whole, tmp_path)
    *damaged, other = reader.days
    for day, damage in zip(damaged, DAMAGES, strict=True):
        path = reader.lake.file(name, day)
        assert path is not None
        original = path.read_bytes()
        path.unlink()  # a version's file may be that of an earlier version, too
        path.write_bytes(original)
        damage(path)
    Reader(reader.server, reader.lake, [other]).sync()  # it neither fails nor hides it
    advised = [problem for problem in problems(reader.lake) if problem.day in damaged]
    derives = name in OBSERVED_DATASETS or name == RECONCILIATION.name
    assert derives or {problem.day for problem in advised} == set(damaged)
    assert all(problem.full for problem in advised)
    Reader(reader.server, reader.lake, damaged).sync(full=True, keep_content=True)
    assert problems(reader.lake) == ()
    assert manifest.days_that_owe(reader.lake, "read", "observe", "reconcile") == []
    assert rows_of(reader.lake, TABLES) == before


def test_a_cache_that_speaks_of_records_that_are_not_there_is_not_believed(
    world: World, make: Make
) -> None:
    name = talk(world, 0)
    reader = make()
    reader.sync()
    standing = reader.lake.version(FIRST)
    world.add_response(name, MIDNIGHT + 7_200, [said("q"), said("a")])
    reader.load()
    reader.sync()
    after = rows_of(reader.lake, TABLES)
    assert standing is not None
    link = reader.lake.link(FIRST)
    link.unlink()
    link.symlink_to(Path("..", ".versions", FIRST.isoformat(), standing.name))  # as of a copy
    reader.load()
    reader.sync()
    assert rows_of(reader.lake, TABLES) == after
