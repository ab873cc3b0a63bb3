"""The other usage endpoints: what they say lands whole, exact, and proven against their totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import ManualClock, MeterEvent, World
from pipeline.emulator.endpoints import ENDPOINTS
from pipeline.endpoints import METERED
from pipeline.lake import consistency, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.manifest import manifest_of, meters_of
from pipeline.lake.schemas import COVERAGE, METER_DATASETS, METER_REVISIONS, METERS, RAW_METERS
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.query.status import states
from pipeline.timeline import DAY, SECONDS, WIDTHS, Width, day_window
from pipeline.usage.load import load_days
from pipeline.usage.meters import Metered
from pipeline.usage.refresh import refresh_days
from pipeline.usage.totals_check import compare_days
from tests.bent import BentApi, Page, Params
from tests.torture.scenes import days

FIRST, SECOND = days(2)
START: Final = day_window(FIRST).start
NAMES: Final = list(METERED)
Value = tuple[str, int, str | None, str | None, str | None, str, int]
"""Endpoint, start of the bucket, user, key, model, measure, value."""


def metered(number: int = 2, late: float = 0.0) -> World:
    """So many days with something of every endpoint, long over: users, keys and models, null too.

    `late`: seconds from now on after which some of it counts.
    """
    clock = ManualClock(START + number * DAY + 30.0 * DAY)
    world = World(clock=clock)
    for place, name in enumerate(NAMES):
        with_model = "model" in METERED[name].group_by
        for at in range(0, number * DAY, 5 * 3_600 + 61):
            measures = dict.fromkeys(_measures(name), 1 + at % 977)
            event = MeterEvent(
                name,
                START + at,
                [None, "ada", "bob"][(at // 61 + place) % 3],
                [None, "key_web"][at % 2],
                f"model {at % 3}" if with_model else None,
                measures=measures,
                visible_at=clock() + late if late and at % 5 == 0 else None,
            )
            world.log_meter(event)
    return world


def _measures(name: str) -> Sequence[str]:
    return ENDPOINTS[name].measures


@pytest.fixture
def world() -> World:
    return metered()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def load(
    api: BentApi, lake: Lake, world: World, name: str, asked: Sequence[date] = (FIRST,)
) -> bool:
    """Load days of one endpoint; returns whether any is disputed."""
    done = load_days(api.connect, lake, asked, feed=Metered(METERED[name]), now=world.clock)
    return any(one.disputed for one in done)


def landed(lake: Lake, width: Width, asked: Sequence[date]) -> list[Value]:
    rows: list[Value] = []
    for path in lake.files(METERS[width].name, asked):
        for row in pq.ParquetFile(path).read().to_pylist():
            assert row["end_time"].timestamp() - row["start_time"].timestamp() == SECONDS[width]
            group = row["user_id"], row["api_key_id"], row["model"]
            start = int(row["start_time"].timestamp())
            rows.append((row["endpoint"], start, *group, row["measure"], row["value"]))
    return sorted(rows, key=repr)


def counted(world: World, width: Width, asked: Sequence[date], names: Sequence[str]) -> list[Value]:
    """What the emulator's own ledgers say, background summed; what is zero is left to the API."""
    sums: dict[tuple[Any, ...], int] = {}
    for name in names:
        groups = METERED[name].dimensions
        for day in asked:
            window = day_window(day)
            for bucket in world.meters(name, window.start, window.end, width, groups):
                for result in bucket["results"]:
                    group = (result.get("user_id"), result.get("api_key_id"), result.get("model"))
                    for measure in _measures(name):
                        key = (name, bucket["start_time"], *group, measure)
                        sums[key] = sums.get(key, 0) + result[measure]
    return sorted(((*key, value) for key, value in sums.items()), key=repr)


@pytest.mark.parametrize("name", NAMES)
def test_each_endpoint_lands_as_the_ledger_counts_it_at_every_width(
    world: World, lake: Lake, name: str
) -> None:
    asked = [FIRST, SECOND]
    assert not load(BentApi(world), lake, world, name, asked)
    for width in WIDTHS:
        found = landed(lake, width, asked)
        assert found == counted(world, width, asked, [name])
        assert found
    feed = Metered(METERED[name])
    assert all(one.agrees for one in compare_days(BentApi(world).connect, lake, asked, feed))


def test_endpoints_that_are_loaded_one_after_the_other_stand_in_one_table(
    world: World, lake: Lake, tmp_path: Path
) -> None:
    api = BentApi(world)
    for name in reversed(NAMES):
        load(api, lake, world, name)
    for width in WIDTHS:
        assert landed(lake, width, [FIRST]) == counted(world, width, [FIRST], NAMES)
    files = {name: lake.files(name) for name in METER_DATASETS}
    with closing(engine.connect()) as con:
        assert not consistency.schemas(files)
        assert not consistency.grain(con, files)
        assert not consistency.meters(con, files)
    catalog = build_catalog(lake, tmp_path / "usage.duckdb")
    assert verify(lake, catalog).problems == ()


def test_a_day_that_is_loaded_again_is_the_same_bytes(world: World, lake: Lake) -> None:
    api = BentApi(world)
    digests = []
    for _ in range(2):
        for name in NAMES[:2]:
            load(api, lake, world, name)
        path = lake.file(RAW_METERS.name, FIRST)
        assert path is not None
        digests.append(path.read_bytes())
    assert digests[0] == digests[1]


def statuses(lake: Lake, dataset: str) -> set[str]:
    path = lake.file(COVERAGE.name, FIRST)
    assert path is not None
    rows = pq.ParquetFile(path).read().to_pylist()
    return {row["status"] for row in rows if row["dataset"] == dataset}


def test_coverage_says_of_each_endpoint_what_is_known_and_of_the_tables_the_least(
    world: World, lake: Lake
) -> None:
    api = BentApi(world)
    load(api, lake, world, "files")
    assert statuses(lake, meters_of("files")) == statuses(lake, "meters_1h") == {"final"}
    assert statuses(lake, meters_of("embeddings")) == set()
    api.bend = without_the_last_user
    assert load(api, lake, world, "embeddings")
    assert statuses(lake, meters_of("files")) == {"final"}
    assert statuses(lake, meters_of("embeddings")) == statuses(lake, "meters_1h") == {"disputed"}
    assert statuses(lake, "usage_1h") == {"missing"}


def without_the_last_user(params: Params, page: Page) -> Page:
    """Minutes lack a row each: the totals do not."""
    if params["bucket_width"] == ["1m"]:
        for bucket in page["data"]:
            bucket["results"] = bucket["results"][:-1]
    return page


def test_a_disputed_endpoint_is_loaded_again_until_it_agrees(world: World, lake: Lake) -> None:
    api, feed = BentApi(world, without_the_last_user), Metered(METERED["extract"])
    assert load(api, lake, world, "extract")
    assert feed.to_reload(lake, world.clock()) == [FIRST]
    assert not any(one.agrees for one in compare_days(BentApi(world).connect, lake, [FIRST], feed))
    assert not load(BentApi(world), lake, world, "extract")
    assert feed.to_reload(lake, world.clock()) == []
    assert landed(lake, "1d", [FIRST]) == counted(world, "1d", [FIRST], ["extract"])


def test_what_is_restated_is_found_loaded_and_kept_as_a_revision(lake: Lake) -> None:
    world = metered(late=3_600.0)
    api, feed = BentApi(world), Metered(METERED["completions"])
    asked = [FIRST, SECOND]
    for name in ("completions", "files"):
        load(api, lake, world, name, asked)
    before = landed(lake, "1m", asked)
    assert before == counted(world, "1m", asked, ["completions", "files"])
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(7_200)
    found = refresh_days(api.connect, lake, feed=feed, now=world.clock)
    assert set(found.changed) == set(asked)
    after = counted(world, "1m", asked, ["completions"])
    assert [row for row in landed(lake, "1m", asked) if row[0] == "completions"] == after
    revised = [
        row
        for path in lake.files(METER_REVISIONS.name, asked)
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    assert {row["endpoint"] for row in revised} == {"completions"}
    old, new = dict(map(keyed, before)), dict(map(keyed, after))
    changed = {key for key in old.keys() | new.keys() if key[0] == "completions"}
    assert {
        (
            row["endpoint"],
            int(row["start_time"].timestamp()),
            *(row[name] for name in ("user_id", "api_key_id", "model", "measure")),
        ): (row["old_value"], row["new_value"])
        for row in revised
    } == {key: (old.get(key), new.get(key)) for key in changed if old.get(key) != new.get(key)}
    assert refresh_days(api.connect, lake, feed=feed, now=world.clock).changed == ()


def keyed(row: Value) -> tuple[tuple[Any, ...], int]:
    return row[:-1], row[-1]


def test_a_day_that_was_open_is_provisional_and_is_completed(lake: Lake) -> None:
    world = metered()
    assert isinstance(world.clock, ManualClock)
    world.clock.now = START + 10 * 3_600 + 30
    load(BentApi(world), lake, world, "responses")
    assert statuses(lake, meters_of("responses")) == {"provisional", "missing"}
    feed = Metered(METERED["responses"])
    window = feed.loaded(lake, FIRST)
    assert window is not None
    assert window.end == START + 10 * 3_600
    world.clock.now = START + 30.0 * DAY
    assert refresh_days(BentApi(world).connect, lake, feed=feed, now=world.clock).changed == (
        FIRST,
    )
    assert statuses(lake, meters_of("responses")) == {"final"}
    assert landed(lake, "1d", [FIRST]) == counted(world, "1d", [FIRST], ["responses"])


def test_what_is_damaged_is_left_out_and_those_endpoints_are_to_be_read_again(
    world: World, lake: Lake
) -> None:
    api = BentApi(world)
    for name in ("files", "extract"):
        load(api, lake, world, name)
    path = lake.file(RAW_METERS.name, FIRST)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-3])
    assert [one.path.stem for one in Snapshot(lake).damage] == [RAW_METERS.name]
    load(api, lake, world, "extract")
    assert Snapshot(lake).damage == []
    assert set(manifest_of(lake.version(FIRST)).readings) == {"extract"}
    assert landed(lake, "1m", [FIRST]) == counted(world, "1m", [FIRST], ["extract"])


def test_where_hours_are_damaged_and_minutes_are_not_kept_no_other_endpoint_counts_as_loaded(
    world: World, lake: Lake
) -> None:
    api = BentApi(world)
    for name in ("files", "extract"):
        load(api, lake, world, name)
    dropped = (RAW_METERS.name, METERS["1m"].name, METER_REVISIONS.name)
    with closing(engine.connect()) as con:
        publish_days(con, lake, {FIRST: Change(dropped=dropped)})
    path = lake.file(METERS["1h"].name, FIRST)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-3])
    load(api, lake, world, "extract")
    assert set(manifest_of(lake.version(FIRST)).readings) == {"extract"}
    load(api, lake, world, "files")
    for width in ("1h", "1d"):
        expected = counted(world, width, [FIRST], ["files", "extract"])
        assert landed(lake, width, [FIRST]) == expected


def unknown(page: Page, change: Callable[[dict[str, Any]], None]) -> Page:
    for bucket in page["data"]:
        for result in bucket["results"]:
            change(result)
    return page


def test_fields_that_nobody_knows_are_kept(world: World, lake: Lake) -> None:
    def bend(_: Params, page: Page) -> Page:
        more = {"num_new": 2.0, "tier": "gold", "share": 0.5, "cached": True, "region": None}
        return unknown(page, lambda result: result.update(more))

    load(BentApi(world, bend), lake, world, "vector_stores")
    path = lake.file(RAW_METERS.name, FIRST)
    assert path is not None
    rows = pq.ParquetFile(path).read().to_pylist()
    assert {row["extra"] for row in rows} == {
        '{"cached":true,"region":null,"share":0.5,"tier":"gold"}'
    }
    assert "num_new" in {row["measure"] for row in rows}


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_count_that_is_none_is_refused_and_nothing_is_published(
    world: World, lake: Lake, value: int
) -> None:
    def bend(_: Params, page: Page) -> Page:
        return unknown(page, lambda result: result.update(num_odd=value))

    with pytest.raises(Exception, match="num_odd"):
        load(BentApi(world, bend), lake, world, "files")
    assert lake.days("meters_1d") == []


def test_a_sum_beyond_64_bits_is_refused(world: World, lake: Lake) -> None:
    def bend(_: Params, page: Page) -> Page:
        for bucket in page["data"]:
            bucket["results"] = bucket["results"] * 2
        return unknown(page, lambda result: result.update(num_files=2**62 + 1))

    with pytest.raises(Exception, match=r"(?i)range|overflow|INT64"):
        load(BentApi(world, bend), lake, world, "files")
    assert lake.days("meters_1d") == []


def test_status_says_which_days_of_each_endpoint_are_loaded(world: World, lake: Lake) -> None:
    load(BentApi(world), lake, world, "files", [FIRST, SECOND])
    load(BentApi(world, without_the_last_user), lake, world, "extract", [SECOND])
    said = [str(one) for one in states(Snapshot(lake), None, None, world.clock()).endpoints]
    assert said == [
        f"extract       {SECOND} to {SECOND}, 1 day disputed",
        f"files         {FIRST} to {SECOND}",
    ]
