"""Fine tables of old days are dropped, coarse ones stay, and everybody is told the difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.emulator import EmulatorServer, MeterEvent
from pipeline.emulator.endpoints import ENDPOINTS
from pipeline.endpoints import METERED
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.files import covered
from pipeline.lake.manifest import read_manifest
from pipeline.lake.retention import TABLES, dropped_at, prune
from pipeline.lake.schemas import DATASETS
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.notify.digest import digest_of
from pipeline.notify.rendering import as_text
from pipeline.query.buckets import NotLoadedError, PageQuery, answer
from pipeline.query.status import states
from pipeline.report.figures import read
from pipeline.report.sections import page_content
from pipeline.retention import Retention
from pipeline.timeline import DAY, day_window
from pipeline.usage.load import load_days
from pipeline.usage.meters import Metered
from pipeline.usage.refresh import refresh_days
from pipeline.usage.rollup import rebuild_day
from pipeline.usage.totals_check import compare_days
from tests.forget.people import DAYS, new_world
from tests.synced import Reader

NOW = float(day_window(DAYS[-1]).start + 40 * DAY)
"""40 days after the second day, 41 after the first."""
MINUTES = Retention(minutes=40)
HOURS = Retention(minutes=40, hours=40)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days, final, with conversations and contents; tests copy them."""
    folder = tmp_path_factory.mktemp("original") / "lake"
    with EmulatorServer(new_world()) as server:
        reader = Reader(server, Lake(folder), DAYS)
        reader.load()
        reader.sync(keep_content=True)
    return folder


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(new_world()) as server:
        yield server


@pytest.fixture
def reader(server: EmulatorServer, original: Path, tmp_path: Path) -> Reader:
    """Such days of the test's own, and the API that they are of."""
    folder = shutil.copytree(original, tmp_path / "lake", symlinks=True)
    return Reader(server, Lake(Path(folder)), DAYS)


def tables_of(lake: Lake, day: date) -> set[str]:
    version = lake.version(day)
    assert version is not None
    return {path.stem for path in version.glob("*.parquet")}


def coverage(lake: Lake, table: str) -> dict[str, int]:
    """How many hours of a table have each status."""
    with closing(engine.connect(lake)) as con:
        Snapshot(lake).bind_coverage(con, DAYS)
        sql = "SELECT status, count(*) FROM coverage WHERE dataset = ? GROUP BY ALL"
        return dict(con.execute(sql, [table]).fetchall())


def test_each_kind_has_its_own_age() -> None:
    retention = Retention(minutes=40, hours=400, contents=7)
    assert dropped_at(retention, 7) == frozenset()
    assert dropped_at(retention, 8) == {"item_contents"}
    assert dropped_at(retention, 41) == {"item_contents", *TABLES["minutes"]}
    assert dropped_at(Retention(items=40), 41) == {"items", "item_contents"}
    assert dropped_at(Retention(items=400, contents=40), 41) == {"item_contents"}
    assert dropped_at(Retention(), 100_000) == frozenset()
    assert {name for of in TABLES.values() for name in of} < DATASETS.keys()


def test_minutes_go_and_hours_and_days_stay(reader: Reader, tmp_path: Path) -> None:
    lake, before = reader.lake, tables_of(reader.lake, DAYS[0])
    hours, days = reader.rows("usage_1h"), reader.rows("usage_1d")
    pruned = prune(lake, MINUTES, NOW)
    assert pruned.dropped == {"minutes": [DAYS[0]]}
    assert before - tables_of(lake, DAYS[0]) == before & {*TABLES["minutes"]}
    assert tables_of(lake, DAYS[1]) == before
    assert (reader.rows("usage_1h"), reader.rows("usage_1d")) == (hours, days)
    assert coverage(lake, "usage_1m") == {"dropped": 24, "final": 24}
    assert coverage(lake, "observed_1m")["dropped"] == 24
    assert coverage(lake, "usage_1d") == {"final": 48}
    assert not (lake.root / "usage_1m" / f"day={DAYS[0]}" / "usage_1m.parquet").exists()
    catalog = build_catalog(lake, tmp_path / "usage.duckdb")
    assert verify(lake, catalog).problems == ()
    assert Snapshot(lake).damage == []
    assert prune(lake, MINUTES, NOW).days == []  # once


@pytest.mark.slow
def test_status_and_completeness_stay_what_they_were(reader: Reader) -> None:
    before = states(Snapshot(reader.lake), DAYS[0], DAYS[1], NOW)
    prune(reader.lake, HOURS, NOW)
    assert states(Snapshot(reader.lake), DAYS[0], DAYS[1], NOW) == before


def test_a_report_tells_days_that_are_not_kept_from_days_that_are_not_loaded(
    reader: Reader,
) -> None:
    prune(reader.lake, HOURS, NOW)
    asked = (DAYS[0] - timedelta(days=1), DAYS[1])
    figures = read(reader.lake, *asked, ZoneInfo("UTC"))
    assert [figures.days[day] for day in figures.period.days] == ["missing", "dropped", "final"]
    page = page_content(figures)
    (loaded,) = [section for section in page.sections if section.name == "coverage"]
    assert loaded.finding == "Of 3 days: 1 final, 1 not kept any more, 1 not loaded."
    assert page.warnings[0] == (
        "1 day is not kept any more, 1 January 2024: in no total here; `usage_1d` has these days."
    )
    message = digest_of(figures, {}, NOW)
    assert "Not kept any more: 1 January 2024" in as_text(message)


@pytest.mark.slow
def test_who_asks_for_minutes_is_told_in_one_line_and_days_are_answered(reader: Reader) -> None:
    prune(reader.lake, MINUTES, NOW)
    start = day_window(DAYS[0]).start

    def asked(width: str) -> dict[str, object]:
        query = PageQuery(start, start + DAY, width)  # type: ignore[arg-type]
        return dict(answer(reader.lake, query, partial=True).page)

    with pytest.raises(NotLoadedError) as refused:
        asked("1m")
    assert str(refused.value) == (
        "the minutes of 2024-01-01 are not kept any more (MKA1_USAGE_KEEP_MINUTES_DAYS): ask for "
        "buckets of 1h or 1d that begin and end with those of UTC"
    )
    assert asked("1h")
    prune(reader.lake, HOURS, NOW)
    with pytest.raises(NotLoadedError, match=r"hours of 2024-01-01 .*ask for buckets of 1d that"):
        asked("1h")
    assert asked("1d")


@pytest.mark.parametrize("partial", [False, True])
def test_minutes_that_are_to_be_kept_again_are_not_empty_until_they_are_loaded(
    reader: Reader, partial: bool
) -> None:
    prune(reader.lake, MINUTES, NOW)
    prune(reader.lake, Retention(), NOW)
    start = day_window(DAYS[0]).start
    with pytest.raises(NotLoadedError) as refused:
        answer(reader.lake, PageQuery(start, start + DAY, "1m"), partial=partial)
    assert str(refused.value) == (
        "the minutes of 2024-01-01 were dropped, and are not loaded again: load them with "
        "`mka1-usage run --full --start 2024-01-01 --end 2024-01-02`, or ask for buckets of 1h or "
        "1d that begin and end with those of UTC"
    )


@pytest.mark.slow
def test_later_loads_refreshes_and_syncs_leave_out_what_is_not_kept(reader: Reader) -> None:
    lake = reader.lake
    prune(lake, HOURS, NOW)
    there, days = tables_of(lake, DAYS[0]), reader.rows("usage_1d")
    reader.load()
    connect = next(iter(reader.connect().values()))
    found = refresh_days(connect, lake, now=lambda: NOW)
    assert found.changed == ()
    reader.sync(full=True, keep_content=True)
    assert tables_of(lake, DAYS[0]) == there
    assert reader.rows("usage_1d") == days
    assert all(one.agrees for one in compare_days(connect, lake, DAYS))
    with (
        pytest.raises(FileNotFoundError, match="not kept any more"),
        closing(engine.connect(lake)) as con,
    ):
        rebuild_day(con, lake, DAYS[0])


@pytest.mark.slow
@pytest.mark.parametrize("retention", [MINUTES, HOURS], ids=["minutes", "hours"])
def test_what_the_api_restates_of_such_a_day_is_loaded(
    reader: Reader, retention: Retention
) -> None:
    prune(reader.lake, retention, NOW)
    server = reader.server
    server.world.restate(day_window(DAYS[0]).start + 60, "bob", "key_web", operations=5)
    connect = next(iter(reader.connect().values()))
    found = refresh_days(connect, reader.lake, now=lambda: NOW)
    assert found.changed == (DAYS[0],)
    assert all(one.agrees for one in compare_days(connect, reader.lake, DAYS))
    assert "usage_1m" not in tables_of(reader.lake, DAYS[0])
    assert refresh_days(connect, reader.lake, now=lambda: NOW).changed == ()


@pytest.mark.slow
def test_what_is_not_final_is_kept(server: EmulatorServer, tmp_path: Path) -> None:
    """It was read too early, so it may be wrong: a refresh makes it final first."""
    lake = Lake(tmp_path / "lake", lookback_days=60)
    Reader(server, lake, DAYS).load()
    pruned = prune(lake, MINUTES, NOW)
    assert (pruned.days, pruned.not_final) == ([], [DAYS[0]])
    assert "usage_1m" in tables_of(lake, DAYS[0])


@pytest.mark.slow
def test_a_longer_time_lets_a_load_bring_them_back(reader: Reader) -> None:
    minutes = reader.rows("usage_1m")
    prune(reader.lake, MINUTES, NOW)
    pruned = prune(reader.lake, Retention(), NOW)
    assert pruned.kept_again == {"minutes": [DAYS[0]]}
    assert coverage(reader.lake, "usage_1m") == {"missing": 24, "final": 24}
    reader.load()
    assert reader.rows("usage_1m") == minutes


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_contents_go_alone(reader: Reader) -> None:
    prune(reader.lake, Retention(contents=40), NOW)
    assert "item_contents" not in tables_of(reader.lake, DAYS[0])
    assert {"items", "usage_1m"} <= tables_of(reader.lake, DAYS[0])
    reader.sync(full=True, keep_content=True)
    assert "item_contents" not in tables_of(reader.lake, DAYS[0])


@pytest.mark.slow
def test_a_manifest_says_nothing_of_it_where_all_is_kept(reader: Reader) -> None:
    version = reader.lake.version(DAYS[1])
    assert version is not None
    assert "dropped" not in json.loads((version / "record.json").read_text(encoding="utf-8"))
    prune(reader.lake, MINUTES, NOW)
    first = reader.lake.version(DAYS[0])
    assert first is not None
    assert "usage_1m" in read_manifest(first).dropped
    assert covered(first / "usage_1d.parquet").complete(DAYS[0])


@pytest.mark.slow
def test_a_load_of_one_endpoint_keeps_the_hours_of_the_others(
    server: EmulatorServer, tmp_path: Path
) -> None:
    """Their minutes are gone, so they can't be counted again."""
    lake = Lake(tmp_path / "lake")
    connect = next(iter(Reader(server, lake, DAYS).connect().values()))
    feeds = [Metered(METERED[name]) for name in ("responses", "completions")]
    world = server.world
    for number, name in enumerate(("responses", "completions")):
        at = day_window(DAYS[0]).start + 600 * number
        measures = dict.fromkeys(ENDPOINTS[name].measures, 5)
        world.log_meter(MeterEvent(name, at, "bob", "key_web", "m", measures=measures))
    for feed in feeds:
        load_days(connect, lake, DAYS, feed=feed, now=world.clock)
    Reader(server, lake, DAYS).load()
    reader = Reader(server, lake, DAYS)
    hours, days = reader.rows("meters_1h"), reader.rows("meters_1d")
    assert {row["endpoint"] for row in hours} >= {"responses", "completions"}
    prune(lake, MINUTES, NOW)
    load_days(connect, lake, DAYS, feed=feeds[0], now=world.clock)
    assert (reader.rows("meters_1h"), reader.rows("meters_1d")) == (hours, days)
    assert coverage(lake, "meters:completions") == {"final": 48}
    assert "meters_1m" not in tables_of(lake, DAYS[0])
