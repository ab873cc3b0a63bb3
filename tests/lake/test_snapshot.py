"""What a reader sees of the lake: days that nobody loaded, days that hold records alone, damage."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.apart import UNDATED
from pipeline.lake import commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import COVERAGE, COVERED
from pipeline.lake.snapshot import Damage, Snapshot
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.lake.served import temporary, write_rows
from tests.lake.test_damage import cut_short, remove

MONDAY = date(2024, 3, 4)
HOURLY = COVERED


def load(lake: Lake, day: date, names: tuple[str, ...] = ("usage_1h", "usage_1d")) -> None:
    """A day with a row in each of some tables."""
    with lake.staging() as folder, closing(engine.connect(threads=1)) as con:
        staged = {
            name: write_rows(
                name,
                folder / f"{name}.parquet",
                [{"start_time": day_window(day).start, "user_id": "ada", "num_operations": 3}]
                if name.startswith("usage")
                else [
                    {"id": "c", "created_at": datetime(day.year, day.month, day.day, tzinfo=UTC)}
                ],
                day_window(day),
            )
            for name in names
        }
        commit.publish(con, lake, day, staged, {"usage": day_window(day).end + 9e5})


def records(lake: Lake, day: date) -> None:
    """A day of which there are records alone."""
    load(lake, day, ("conversations",))


def after(number: int) -> date:
    return MONDAY + timedelta(days=number)


def ask(lake: Lake, query: str, catalog: Path | None = None) -> list[tuple[Any, ...]]:
    """A query to the catalog, built anew where none is given."""
    path = catalog or build_catalog(lake, lake.root.parent / "usage.duckdb")
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        return con.sql(query).fetchall()


def shown(
    lake: Lake, dataset: str = "usage_1d", catalog: Path | None = None
) -> dict[date, set[str]]:
    """What coverage in the catalog says of a table, day by day: 24 hours each."""
    rows = ask(lake, f"SELECT day, status FROM coverage WHERE dataset = '{dataset}'", catalog)
    assert set(Counter(day for day, _ in rows).values()) <= {24}
    return {day: {status for of, status in rows if of == day} for day, _ in sorted(rows)}


def test_a_day_that_nobody_loaded_is_missing_without_a_folder(lake: Lake) -> None:
    load(lake, MONDAY)
    load(lake, after(4))
    catalog = build_catalog(lake, lake.root.parent / "usage.duckdb")
    expected = {day: {"missing"} for day in map(after, range(5))}
    assert shown(lake, catalog=catalog) == expected | {MONDAY: {"final"}, after(4): {"final"}}
    assert shown(lake, "items", catalog) == expected
    assert lake.all_days() == [MONDAY, after(4)]
    [row] = ask(
        lake,
        "SELECT count(*), count(complete_through), sum(rows), count(fetched_at), count(day), "
        "min(end_time - start_time), max(end_time - start_time) FROM coverage "
        f"WHERE dataset = 'raw_usage' AND day = '{after(1)}'",
        catalog,
    )
    assert row == (24, 0, 0, 0, 24, timedelta(hours=1), timedelta(hours=1))


ROWS = (
    "SELECT start_time, is_complete FROM buckets_by('1d') ORDER BY 1",
    "SELECT count(*) FROM time_zones",
)


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[list[Any]]]:
    """A lake of which tests take copies, and what its catalog answers."""
    lake = Lake(tmp_path_factory.mktemp("two") / "lake")
    load(lake, after(1))
    load(lake, after(2))
    catalog = build_catalog(lake, lake.root.parent / "usage.duckdb")
    return lake, [ask(lake, query, catalog) for query in ROWS]


@pytest.mark.parametrize("old", [date(2014, 3, 4), after(-1), after(7), UNDATED])
def test_records_of_other_days_are_rows_and_stretch_nothing(
    two_days: tuple[Lake, list[list[Any]]], lake: Lake, old: date
) -> None:
    loaded, before = two_days
    shutil.copytree(loaded.root, lake.root, symlinks=True)
    records(lake, old)
    catalog = build_catalog(lake, lake.root.parent / "usage.duckdb")
    assert list(shown(lake, catalog=catalog)) == [after(1), after(2)]
    assert list(shown(lake, "conversations", catalog)) == [after(1), after(2)]
    created = ask(lake, "SELECT CAST(created_at AS DATE) FROM conversations", catalog)
    assert created == [(old,)]
    assert [ask(lake, query, catalog) for query in ROWS] == before
    assert ask(lake, "SELECT count(*) FROM top_users(9, 1)", catalog) == [(1,)]


def test_empty_versions_of_older_lakes_still_mean_missing(lake: Lake) -> None:
    for day in (MONDAY, after(3)):
        load(lake, day)
    with closing(engine.connect(threads=1)) as con:
        for day in (after(-400), after(1)):
            commit.publish(con, lake, day, {})
    expected = {day: {"missing"} for day in map(after, range(4))}
    assert shown(lake) == expected | {MONDAY: {"final"}, after(3): {"final"}}


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of which tests take copies."""
    lake = Lake(tmp_path_factory.mktemp("three") / "lake")
    for number in range(3):
        load(lake, after(number))
    return lake


@pytest.mark.parametrize("damage", [remove, cut_short])
@pytest.mark.parametrize("name", ["usage_1d", "usage_1h", "coverage"])
@pytest.mark.parametrize("day", [MONDAY, after(1), after(2)])
def test_a_damaged_file_is_left_out_its_hours_are_missing_and_the_build_tells(
    three_days: Lake, lake: Lake, damage: Any, name: str, day: date
) -> None:
    shutil.copytree(three_days.root, lake.root, symlinks=True)
    version = lake.version(day)
    assert version is not None
    damage(version / f"{name}.parquet")
    told: list[Damage] = []
    catalog = build_catalog(lake, lake.root.parent / "usage.duckdb", on_damage=told.append)
    assert [(one.day, one.path) for one in told] == [(day, version / f"{name}.parquet")]
    lost = {"usage_1d", "usage_1h"} if name == "coverage" else {name}
    for dataset in ("usage_1d", "usage_1h"):
        expected = {it: {"final"} for it in map(after, range(3))}
        missing = {day: {"missing"}} if dataset in lost else {}
        assert shown(lake, dataset, catalog) == expected | missing
        days = ask(lake, f"SELECT day FROM {dataset} ORDER BY 1", catalog)
        assert [it for (it,) in days] == [
            it for it in map(after, range(3)) if dataset != name or it != day
        ]
    damaged = ask(lake, "SELECT day, path FROM damaged_files", catalog)
    assert damaged == [(told[0].day, str(told[0].path))]


def test_a_lake_without_damage_says_so(lake: Lake) -> None:
    load(lake, MONDAY)
    assert ask(lake, "FROM damaged_files") == []
    assert Snapshot(lake).damage == []


DAYS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["usage", "records", "nothing", "damaged"])),
    max_size=8,
    unique_by=lambda one: one[0],
)


@settings(max_examples=15, deadline=None)
@given(DAYS)
def test_coverage_has_every_hour_between_the_first_and_the_last_loaded_day_once(
    days: list[tuple[int, str]],
) -> None:
    with temporary() as folder:
        lake = Lake(Path(folder) / "lake")
        for number, kind in days:
            day = after(number)
            if kind == "nothing":
                with closing(engine.connect(threads=1)) as con:
                    commit.publish(con, lake, day, {})
            elif kind == "records":
                records(lake, day)
            else:
                load(lake, day)
                if kind == "damaged":
                    remove(lake.path("usage_1d", day).resolve())
        with closing(engine.connect(threads=1)) as con:
            Snapshot(lake).bind_coverage(con)
            assert con.sql(f"FROM {COVERAGE.name}").columns == COVERAGE.schema.names
            rows = con.sql("SELECT dataset, start_time, status FROM coverage").fetchall()
    loaded = {number for number, kind in days if kind in ("usage", "damaged")}
    extent = range(min(loaded), max(loaded) + 1) if loaded else range(0)
    hours = [day_window(after(n)).start + 3_600 * h for n in extent for h in range(24)]
    sound = {number for number, kind in days if kind == "usage"}
    expected = [
        (
            name,
            hour,
            "final"
            if name.startswith("usage_1")
            and (hour - day_window(MONDAY).start) // 86_400
            in (sound if name == "usage_1d" else loaded)
            and name != "usage_1m"
            else "missing",
        )
        for name in HOURLY
        for hour in hours
    ]
    found = [(name, int(at.timestamp()), status) for name, at, status in rows]
    assert sorted(found) == sorted(expected)
