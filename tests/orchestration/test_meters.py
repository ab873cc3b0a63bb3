"""Every usage endpoint by one run of Dagster: the sums of the published client, checked, shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from meetkai_mka1 import SDK
from rich.console import Console

from pipeline import emulator
from pipeline.api import ApiError, Client
from pipeline.definitions import build_defs
from pipeline.emulator import MeterEvent
from pipeline.emulator.billing import COST_GROUPS
from pipeline.endpoints import METERED
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.manifest import BILLS, manifest_of
from pipeline.lake.schemas import COST_DATASETS, METER_DATASETS
from pipeline.lake.snapshot import Snapshot
from pipeline.orchestration.assets.refresh import JOB as REFRESH_JOB
from pipeline.orchestration.resources import Services
from pipeline.pricing.bill_check import NAMES, print_bill_check
from pipeline.pricing.prices import PriceList, read_prices
from pipeline.settings import ENDPOINTS, load_settings
from pipeline.timeline import Window, day_window
from pipeline.usage import bills
from pipeline.usage.meters import Metered
from tests.orchestration.conftest import MakeLab, labs
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran, small_world

START, END = day_window(DAYS[0]).start, day_window(DAYS[-1]).end
_NOT_MEASURES: Final = {"object", "user_id", "api_key_id", "model", "background", "org_id"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Ran]]:
    """A run that loaded three days of every endpoint, and its lab. Tests only look at them."""
    with labs(tmp_path_factory.mktemp("metered") / "home") as make:
        world = small_world()
        measures = {"num_vector_stores": 1, "usage_bytes": 2**40}
        world.log_meter(MeterEvent("vector_stores", START + 60, "ada", None, measures=measures))
        lab = make(world, endpoints=ENDPOINTS)
        yield lab, lab.run(DAYS[0], DAYS[-1])


def query(lab: Lab, text: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(lab.settings.catalog), read_only=True) as con:
        return con.sql(text).fetchall()


def test_each_endpoint_has_the_sums_that_the_published_client_reads(
    whole: tuple[Lab, Ran],
) -> None:
    lab, ran = whole
    assert ran.success
    sums: Counter[tuple[str, str]] = Counter()
    with SDK(bearer_auth=lab.server.api_key, server_url=lab.server.base_url) as client:
        for name in METERED:
            page = getattr(client.llm.usage, name)(
                start_time=START, end_time=END, bucket_width="1d", limit=3
            )
            for bucket in page.data:
                for result in bucket.model_dump()["results"]:
                    for measure in result.keys() - _NOT_MEASURES:
                        sums[name, measure] += result[measure]
        costs = client.llm.usage.costs(start_time=START, end_time=END)
    assert {name for name, _ in sums} == set(METERED)
    for width in ("1m", "1h", "1d"):
        found = query(
            lab,
            f"SELECT endpoint, measure, SUM(value)::BIGINT FROM meters_{width} GROUP BY ALL "
            "HAVING SUM(value) > 0",
        )
        assert {(name, measure): total for name, measure, total in found} == +sums
    [(nano,)] = query(lab, "SELECT SUM(cost_nano) FROM costs_1d")
    assert nano == int(costs.total_cost_nano)


def test_bills_are_the_emulators_own_by_every_group(whole: tuple[Lab, Ran]) -> None:
    lab, _ = whole
    for day in DAYS:
        window = day_window(day)
        rows = lab.server.world.costs(window.start, window.end, COST_GROUPS)["data"]
        found = query(
            lab,
            "SELECT model, api_key_id, team_id, user_id, org_id, cost_nano::VARCHAR "
            f"FROM costs_1d WHERE day = '{day}'",
        )
        assert set(found) == {(*(row[g] for g in COST_GROUPS), row["cost_nano"]) for row in rows}


def test_what_is_billed_for_tokens_is_what_they_cost_by_the_same_prices(
    whole: tuple[Lab, Ran],
) -> None:
    lab, _ = whole
    prices = read_prices(Path(emulator.__file__).with_name("prices.csv"))
    out = Console(record=True, width=120, file=StringIO())
    snapshot = Snapshot(lab.lake, names=NAMES)
    assert print_bill_check(snapshot, prices, DAYS, out)
    said = out.export_text()
    assert "computed from tokens as reported, 2024-01-01 to 2024-01-03" in said
    classes = re.findall(r"│ (match|different|no tokens|not billed|unpriced) ", said)
    assert sorted(classes) == ["match", "no tokens"]  # tools and storage are no tokens
    billed: dict[bool, int] = {True: 0, False: 0}
    for row in lab.server.world.costs(START, END, COST_GROUPS)["data"]:
        billed[row["model"] is None] += int(row["cost_nano"])
    for without, name in ((False, "match"), (True, "no tokens")):
        assert re.search(rf"{name} .*│ +{Decimal(billed[without]).scaleb(-9):,.9f} │", said)


def test_a_bill_is_not_checked_where_nothing_has_a_price(whole: tuple[Lab, Ran]) -> None:
    snapshot = Snapshot(whole[0].lake, names=NAMES)
    out = Console(file=StringIO())
    assert not print_bill_check(snapshot, PriceList(Path("prices.csv")), DAYS, out)


def test_every_table_of_every_day_is_an_asset_with_checks_that_pass(
    whole: tuple[Lab, Ran],
) -> None:
    _, ran = whole
    assert not ran.failed_checks
    assert {name.split(".")[0] for name in ran.checks} > {*METER_DATASETS, *COST_DATASETS}
    assert "meters_1d.totals_equal_the_api" in ran.checks
    for name in (*METER_DATASETS, *COST_DATASETS):
        for day in DAYS:
            metadata = ran.materialized[name, day.isoformat()]
            rows = metadata["dagster/row_count"].value
            assert isinstance(rows, int)
            assert (rows > 0) == (name != "meter_revisions")
    said = ran.materialized["meters_1d", DAYS[0].isoformat()]["totals"].value
    assert "| responses | total_tokens |" in str(said)


def test_meters_that_are_restated_fail_the_check_and_a_refresh_loads_them(
    whole: tuple[Lab, Ran],
) -> None:
    lab, _ = whole
    world = lab.server.world
    [event, *_] = world.meter_events("files")
    world.restate_meter("files", event.at, event.user_id, event.api_key_id, num_files=3)
    checked = lab.check(DAYS[0], DAYS[-1], names=["meters_1d.totals_equal_the_api"])
    assert checked.failed_checks == {"meters_1d.totals_equal_the_api"}
    job = build_defs(lab.services).resolve_job_def(REFRESH_JOB)
    assert job.execute_in_process(instance=lab.instance, run_config=QUIET).success
    assert lab.check(names=["meters_1d.totals_equal_the_api"]).failed_checks == set()
    [(value,)] = query(
        lab, "SELECT SUM(new_value - COALESCE(old_value, 0))::BIGINT FROM meter_revisions"
    )
    assert value == 3


def test_a_refresh_loads_every_endpoint_of_a_day_again_whose_files_are_damaged(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(endpoints=("conversations", "completions", "responses", "costs"))
    tables = ("meters_1d", "costs_1d")
    assert lab.run(DAYS[0], assets=[*METER_DATASETS, *COST_DATASETS], checks=False).success
    before = [query(lab, f"FROM {table} ORDER BY ALL") for table in tables]
    assert all(before)
    for name, damage in (("raw_meters", cut), ("costs_1d", Path.unlink)):
        path = lab.lake.file(name, DAYS[0])
        assert path is not None
        damage(path)
    job = build_defs(lab.services).resolve_job_def(REFRESH_JOB)
    assert job.execute_in_process(instance=lab.instance, run_config=QUIET).success
    assert Snapshot(lab.lake).damage == []
    assert [query(lab, f"FROM {table} ORDER BY ALL") for table in tables] == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def test_a_disputed_bill_is_asked_for_again_by_the_next_run(make_lab: MakeLab) -> None:
    lab = make_lab(endpoints=("conversations", "costs"))
    assert lab.run(DAYS[0], assets=["costs_1d"]).success
    version = lab.lake.version(DAYS[0])
    disputed = {BILLS: replace(manifest_of(version).readings[BILLS], disputed=True)}
    with closing(engine.connect()) as con:
        publish_days(con, lab.lake, {DAYS[0]: Change(readings=disputed)})
    ran = lab.run(DAYS[1], assets=["costs_1d"])
    assert ran.success
    assert ("costs_1d", DAYS[0].isoformat()) in ran.materialized
    assert not manifest_of(lab.lake.version(DAYS[0])).readings[BILLS].disputed


@pytest.mark.parametrize("refresh", [False, True])
def test_a_bill_that_was_asked_for_again_is_reported_where_the_next_one_fails(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, refresh: bool
) -> None:
    lab = make_lab(endpoints=("conversations", "costs"))
    assert lab.run(DAYS[0], DAYS[1], assets=["costs_1d"]).success
    with closing(engine.connect()) as con:
        for day in DAYS[:2]:
            reading = replace(manifest_of(lab.lake.version(day)).readings[BILLS], disputed=True)
            publish_days(con, lab.lake, {day: Change(readings={BILLS: reading})})
    answered = bills._bills

    async def failing(client: Client, window: Window) -> Any:
        if window == day_window(DAYS[1]):
            raise ApiError("no answer")
        return await answered(client, window)

    monkeypatch.setattr(bills, "_bills", failing)
    if refresh:
        job = build_defs(lab.services).resolve_job_def(REFRESH_JOB)
        result = job.execute_in_process(
            instance=lab.instance, run_config=QUIET, raise_on_error=False
        )
        assert not result.success
        ran = Ran(result, lab.instance)
    else:
        ran = lab.run(DAYS[2], assets=["costs_1d"])
        assert ran.success
    assert not manifest_of(lab.lake.version(DAYS[0])).readings[BILLS].disputed
    days = {DAYS[0], *([] if refresh else [DAYS[2]])}
    assert ran.materialized.keys() == {("costs_1d", str(day)) for day in days}


def test_a_disputed_day_of_meters_that_is_loaded_again_is_reported_once(make_lab: MakeLab) -> None:
    lab = make_lab(endpoints=("conversations", "completions", "responses"))
    assert lab.run(DAYS[0], assets=sorted(METER_DATASETS)).success
    readings = manifest_of(lab.lake.version(DAYS[0])).readings
    disputed = {name: replace(reading, disputed=True) for name, reading in readings.items()}
    with closing(engine.connect()) as con:
        publish_days(con, lab.lake, {DAYS[0]: Change(readings=disputed)})
    ran = lab.run(DAYS[1], assets=sorted(METER_DATASETS))
    assert ran.success
    days = {str(day) for day in DAYS[:2]}
    assert ran.materialized.keys() == {(name, day) for name in METER_DATASETS for day in days}


def test_checks_of_meters_alone_are_of_all_days_that_have_meters(make_lab: MakeLab) -> None:
    """Usage of conversations may have failed on a day of which meters were loaded."""
    lab = make_lab(endpoints=("conversations", "responses"))
    assert lab.run(DAYS[0], assets=sorted(METER_DATASETS), checks=False).success
    path = lab.lake.path("meters_1d", DAYS[0])
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    names = ["meters_1d.grain_unique", "meters_1d.totals_equal_the_api"]
    assert lab.check(names=names).failed_checks == {*names}


def refuse_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Metered.pages

    def refused(feed: Metered, *args: Any, **more: Any) -> Any:
        if feed.endpoint == "completions":
            raise ApiError("completions: not for this key")
        return pages(feed, *args, **more)

    monkeypatch.setattr(Metered, "pages", refused)


def test_an_endpoint_that_fails_keeps_no_other_from_being_loaded(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(endpoints=("conversations", "completions", "responses"))
    refuse_completions(monkeypatch)
    ran = lab.run(DAYS[0], assets=sorted(METER_DATASETS))
    assert not ran.success
    assert "completions: not for this key" in ran.failures[0]
    assert query(lab, "SELECT DISTINCT endpoint FROM meters_1d") == [("responses",)]


def test_an_endpoint_that_fails_keeps_no_other_from_being_refreshed(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(endpoints=("conversations", "completions", "responses"))
    assert lab.run(DAYS[0], assets=sorted(METER_DATASETS), checks=False).success
    late = MeterEvent("responses", START + 60, "late", None, "m", measures={"input_tokens": 7})
    lab.server.world.log_meter(late)
    refuse_completions(monkeypatch)
    job = build_defs(lab.services).resolve_job_def(REFRESH_JOB)
    result = job.execute_in_process(instance=lab.instance, run_config=QUIET, raise_on_error=False)
    assert "completions: not for this key" in Ran(result, lab.instance).failures[0]
    assert query(lab, "SELECT value FROM meters_1d WHERE user_id = 'late' AND value > 0") == [(7,)]


def test_endpoints_that_are_not_asked_for_are_no_assets() -> None:
    def assets(*endpoints: str) -> set[str]:
        settings = load_settings(endpoints=("conversations", *endpoints))
        graph = build_defs(Services(load=lambda: settings)).resolve_asset_graph()
        return {key.to_user_string() for key in graph.get_all_asset_keys()}

    assert not assets() & {*METER_DATASETS, *COST_DATASETS}
    assert assets("costs") - assets() == {*COST_DATASETS}
    assert assets("files") - assets() == {*METER_DATASETS}


def test_the_graph_leads_from_raw_meters_to_days(whole: tuple[Lab, Ran]) -> None:
    graph = build_defs(whole[0].services).resolve_asset_graph()
    for coarser, finer in (("meters_1m", "raw_meters"), ("meters_1h", "meters_1m")):
        assert graph.get(dg.AssetKey(coarser)).parent_keys == {dg.AssetKey(finer)}
