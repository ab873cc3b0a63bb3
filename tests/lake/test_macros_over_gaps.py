"""What is loaded is not what was used: the macros go by coverage, over empty days and over gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lake import commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import COVERAGE, MEASURES, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, day_window
from tests.disputed import dispute
from tests.lake.served import write_rows

MONDAY = date(2024, 3, 4)
START = day_window(MONDAY).start
HOUR = 3_600
Used = Mapping[int, Mapping[str, int]]
"""Operations by user, by the number of an hour since Monday."""


def rows(used: Used, width: int) -> list[dict[str, Any]]:
    """The rows of a usage table."""
    sums = Counter[tuple[int, str]]()
    for hour, by_user in used.items():
        for user, operations in by_user.items():
            sums[hour * HOUR // width, user] += operations
    return [
        {
            "start_time": START + number * width,
            "end_time": START + (number + 1) * width,
            "user_id": user,
            **dict.fromkeys(MEASURES, operations),
        }
        for (number, user), operations in sorted(sums.items())
    ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def publish(home: Path, days: Sequence[int], used: Used) -> None:
    """Days by number, with the usage of theirs; the others are not loaded."""
    lake = Lake(home / "lake")
    with lake.staging() as folder, closing(engine.connect(threads=1)) as con:
        changes: dict[date, commit.Change] = {}
        for number in days:
            day = MONDAY + timedelta(days=number)
            mine = {hour: by_user for hour, by_user in used.items() if hour // 24 == number}
            staged = {
                name: write_rows(
                    name, folder / f"{day}" / f"{name}.parquet", rows(mine, width), day_window(day)
                )
                for name, width in (("usage_1m", HOUR), ("usage_1h", HOUR), ("usage_1d", DAY))
            }
            at = day_window(day).end + 30.0 * DAY
            changes[day] = commit.Change(staged, read_at={"usage": at})
        commit.publish_days(con, lake, changes)


_SHOWN: Final[dict[Path, list[Path | None]]] = {}
"""Which versions a catalog shows: it is built anew once others count."""


def ask(home: Path, query: str) -> list[tuple[Any, ...]]:
    lake, path = Lake(home / "lake"), home / "usage.duckdb"
    versions = [lake.version(day) for day in lake.all_days()]
    if not path.exists() or _SHOWN.get(path) != versions:
        build_catalog(lake, path)
        _SHOWN[path] = versions
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        return con.sql(query).fetchall()


def steady(days: Sequence[int], operations: int = 30) -> dict[int, dict[str, int]]:
    """The same in every hour of these days."""
    return {24 * day + hour: {"ada": operations} for day in days for hour in range(24)}


def test_the_last_days_are_those_that_are_loaded_used_or_not(home: Path) -> None:
    publish(home, range(10), {5 * 24 + 1: {"ada": 500}})
    assert ask(home, "FROM top_users(10, 2)") == []
    assert [row[1] for row in ask(home, "FROM top_users(10, 5)")] == ["ada"]
    assert ask(home, "FROM top_keys(10, 4)") == []


def test_a_gap_is_passed_over_by_the_last_days(home: Path) -> None:
    used: Used = {0: {"ada": 1}, 24: {"bob": 2}, 24 * 30: {"eve": 3}}
    publish(home, [0, 1, 30], used)
    assert [row[1] for row in ask(home, "FROM top_users(10, 1)")] == ["eve"]
    assert [row[1] for row in ask(home, "FROM top_users(10, 2)")] == ["eve", "bob"]
    assert [row[1] for row in ask(home, "FROM top_users(10, 3)")] == ["eve", "bob", "ada"]


def test_a_disputed_day_and_the_day_under_way_are_loaded(home: Path) -> None:
    publish(home, range(3), {24 * day: {f"user {day}": 1} for day in range(3)})
    dispute(Lake(home / "lake"), MONDAY + timedelta(days=1))
    lake, day = Lake(home / "lake"), MONDAY + timedelta(days=3)
    open_until = Window(day_window(day).start, day_window(day).start + 90 * 60)
    with lake.staging() as folder, closing(engine.connect(threads=1)) as con:
        used: Used = {72: {"today": 1}, 73: {"today": 400}}
        staged = {
            name: write_rows(name, folder / f"{name}.parquet", rows(used, width), open_until)
            for name, width in (("usage_1h", HOUR), ("usage_1d", DAY))
        }
        commit.publish(con, lake, day, staged, {"usage": float(open_until.end)})
    assert [row[1] for row in ask(home, "FROM top_users(10, 1)")] == ["today"]
    assert {row[1] for row in ask(home, "FROM top_users(10, 3)")} == {"today", "user 1", "user 2"}


@pytest.mark.parametrize("burst", [5, 9])
def test_a_burst_after_quiet_loaded_days_is_a_spike(home: Path, burst: int) -> None:
    publish(home, range(10), {burst * 24 + 1: {"ada": 500}})
    [(user, _, operations, usual, times)] = ask(home, "FROM spikes()")
    assert (user, operations, usual, times) == ("ada", 500, 0, None)


@pytest.mark.parametrize(("gap", "found"), [(1, True), (5, True), (18, True), (30, False)])
def test_what_was_usual_before_a_gap_is_usual_after_it(home: Path, gap: int, found: bool) -> None:
    days = [*range(8), 8 + gap]
    publish(home, days, steady(days) | {24 * (8 + gap) + 5: {"ada": 200}})
    rows = [(user, *counts) for user, _, *counts in ask(home, "FROM spikes()")]
    assert rows == ([("ada", 200, 30, 6.7)] if found else []), "only 28 days make what is usual"


@pytest.mark.parametrize(("more", "found"), [("", 1), (", least_days := 7", 0)])
def test_the_first_days_that_are_loaded_have_no_spike(home: Path, more: str, found: int) -> None:
    publish(home, range(7), {3: {"ada": 500}, 24 * 6 + 3: {"ada": 9_000}})
    assert len(ask(home, f"FROM spikes(hours := 1000{more})")) == found


def test_a_week_is_not_compared_with_one_that_is_loaded_in_part(home: Path) -> None:
    publish(home, range(5, 22), steady(range(5, 22), operations=1))
    query = "SELECT value, previous, difference, percent_change, is_complete FROM {}"
    of = "period_over_period('1w') WHERE measure = 'num_operations'"
    assert ask(home, query.format(of)) == [
        (48, None, None, None, False),
        (168, None, None, None, True),
        (168, 168, 0, 0.0, True),
        (24, 168, -144, -85.7, False),
    ]


def test_loaded_days_without_usage_are_buckets_of_zero_at_either_end(home: Path) -> None:
    publish(home, range(5), {2 * 24: {"ada": 7}})
    query = "SELECT value, is_complete FROM period_over_period('1d') WHERE measure = 'num_{}'"
    for measure in ("operations", "items_added"):
        assert ask(home, query.format(measure)) == [(n, True) for n in (0, 0, 7, 0, 0)]
    assert ask(home, "SELECT active_users, new_users FROM active_users('1d')") == [
        (n, n) for n in (0, 0, 1, 0, 0)
    ]
    edges = ask(home, "SELECT count(*), min(start_time), max(end_time) FROM bucket_edges('1h')")
    [(number, first, last)] = edges
    assert (number, first.date(), last.date()) == (120, MONDAY, MONDAY + timedelta(days=5))


def test_a_lake_without_any_usage_answers_all_the_same(home: Path) -> None:
    assert ask(home, "FROM top_users()") == ask(home, "FROM spikes()") == []
    assert ask(home, "FROM buckets_by('1d')") == []
    publish(home, range(2), {})
    assert ask(home, "FROM top_users()") == ask(home, "FROM spikes()") == []
    assert ask(home, "SELECT is_complete FROM buckets_by('1d')") == [(True,), (True,)]


@dataclass(frozen=True)
class Scene:
    """What is known of each of some days, and what was used in some of their hours."""

    days: tuple[str, ...]
    used: Used


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    kinds = st.sampled_from(("final", "final", "disputed", "missing"))
    days = tuple(draw(st.lists(kinds, min_size=1, max_size=7)))
    hours = [hour for hour in range(24 * len(days)) if days[hour // 24] != "missing"]
    users = st.dictionaries(st.sampled_from("abc"), st.integers(1, 90), max_size=3)
    used = draw(st.dictionaries(st.sampled_from(hours), users, max_size=12)) if hours else {}
    return Scene(days, used)


def answered(scene: Scene, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The query over tables of a scene."""
    coverage = [
        {
            "dataset": dataset,
            "start_time": (START + hour * HOUR) * 1_000_000,
            "status": scene.days[hour // 24],
        }
        for dataset in ("usage_1h", "usage_1d")
        for hour in range(24 * len(scene.days))
    ]
    with closing(engine.connect(threads=1)) as con:
        con.register("coverage", pa.Table.from_pylist(coverage, schema=COVERAGE.schema))
        for width, seconds in (("1h", HOUR), ("1d", DAY)):
            moved = [
                row | {it: row[it] * 1_000_000 for it in ("start_time", "end_time")}
                for row in rows(scene.used, seconds)
            ]
            dataset = USAGE["1h" if width == "1h" else "1d"]
            con.register(dataset.name, pa.Table.from_pylist(moved, schema=dataset.schema))
        return con.execute(engine.sql(name), params).fetchall()


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(1, 8))
def test_the_top_is_counted_over_the_last_loaded_days(scene: Scene, days: int) -> None:
    loaded = [number for number, kind in enumerate(scene.days) if kind != "missing"][-days:]
    counted = Counter[str]()
    for hour, by_user in scene.used.items():
        if hour // 24 in loaded:
            counted.update(by_user)
    expected = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    found = answered(scene, "top", {"by": "user_id", "n": 9, "days": days})
    assert [(row[1], row[4]) for row in found] == expected
