"""Loading days as Dagster runs: what is asked, published, recorded and shown."""

import base64
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from pipeline.definitions import build_defs
from pipeline.emulator import Event, Faults, ManualClock, World
from pipeline.lake.schemas import DATASETS, LEDGER_DATASETS, MEASURES, USAGE_DATASETS
from pipeline.orchestration.partitions import PARTITION
from pipeline.orchestration.schedules import JOB
from pipeline.run_log import RunLog
from pipeline.timeline import day_window
from pipeline.usage.load import load_days
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import ASSETS, DAYS, Lab, Ran, events_of, small_world

FIRST, SECOND, THIRD = DAYS


def expected_totals(world: World, day: date) -> dict[str, int]:
    events = events_of(world, day)
    return {
        "num_conversations_created": sum(event.conversations_created for event in events),
        "num_items_added": sum(event.items_added for event in events),
        "num_operations": sum(event.operations for event in events),
    }


def test_one_day_is_published_at_every_width_and_checked(lab: Lab) -> None:
    ran = lab.run_tagged({PARTITION: str(SECOND)})
    assert ran.success
    assert set(ran.materialized) == {(name, str(SECOND)) for name in ASSETS}
    assert all(lab.lake.days(name) == [SECOND] for name in ASSETS)
    assert len(ran.checks) == 16
    assert not ran.failed_checks


def test_a_range_is_one_run_that_handles_each_of_its_days(whole_run: tuple[Lab, Ran]) -> None:
    lab, ran = whole_run
    assert ran.success
    assert set(ran.materialized) == {(name, str(day)) for name in ASSETS for day in DAYS}
    assert all(lab.lake.days(name) == DAYS for name in ASSETS)


def test_each_partition_shows_its_own_day(whole_run: tuple[Lab, Ran]) -> None:
    lab, ran = whole_run
    shown = ran.materialized
    for day in DAYS:
        totals = expected_totals(lab.server.world, day)
        for name in ASSETS:
            metadata = shown[name, str(day)]
            assert {measure: metadata[measure].value for measure in MEASURES} == totals
            rows = pq.read_metadata(lab.lake.path(name, day)).num_rows
            assert metadata["dagster/row_count"].value == rows
            assert metadata["file"].value == str(lab.lake.path(name, day))
            assert str(metadata["window"].value).startswith(f"{day}T00:00:00Z to ")
            columns = metadata["dagster/column_schema"].value
            assert isinstance(columns, dg.TableSchema)
            assert [column.name for column in columns.columns] == DATASETS[name].schema.names
    # A day's numbers on every partition would pass the above if the days were alike.
    assert len({shown["usage_1m", str(day)]["num_operations"].value for day in DAYS}) == 3


def picture(metadata: Any) -> tuple[str, str]:
    """The words and the SVG of a materialization's chart."""
    words, _, rest = str(metadata["chart"].value).removeprefix("![").partition("](")
    kind, _, encoded = rest.removesuffix(")").partition(",")
    assert kind == "data:image/svg+xml;base64"
    return words, base64.b64decode(encoded).decode()


def test_the_chart_is_a_picture_of_the_day_with_words_beside_it(make_lab: MakeLab) -> None:
    noon = day_window(FIRST).start + 12 * 3_600
    lab = make_lab(World.from_events([Event(noon, "u", "k", 0, 0, 1_234)]))
    words, svg = picture(lab.run(FIRST, checks=False).materialized["usage_1d", str(FIRST)])
    assert words == "Operations by hour on 2024-01-01: busiest at 12:00 UTC (1,234)"
    assert svg.startswith("<svg")
    assert "Operations by hour, 2024-01-01 (UTC)" in svg


@pytest.mark.parametrize("faults", [Faults(), Faults(extra_fields={"num_operations": None})])
def test_a_day_without_operations_has_a_chart_too(make_lab: MakeLab, faults: Faults) -> None:
    # Either there is no usage at all, or the API reports null for the measure that is drawn.
    events = [Event(day_window(FIRST).start, "u", "k", 1, 2, 3)] if faults.extra_fields else []
    lab = make_lab(World.from_events(events), faults=faults)
    ran = lab.run(FIRST)
    assert ran.success, ran.failures
    words, svg = picture(ran.materialized["raw_usage", str(FIRST)])
    assert words == "Operations by hour on 2024-01-01: none"
    assert svg.startswith("<svg")


def test_a_second_load_of_the_same_says_that_nothing_changed(lab: Lab) -> None:
    first = lab.run(FIRST, checks=False).materialized
    again = lab.run(FIRST, checks=False).materialized
    assert [first[name, str(FIRST)]["changed"].value for name in USAGE_DATASETS] == [True] * 4
    assert [again[name, str(FIRST)]["changed"].value for name in USAGE_DATASETS] == [False] * 4


def test_the_open_day_is_loaded_up_to_the_last_closed_minute(make_lab: MakeLab) -> None:
    clock = ManualClock(day_window(THIRD).start + 10 * 3_600 + 90)
    lab = make_lab(small_world(clock), now=clock)
    ran = lab.run(THIRD)
    assert ran.success, ran.failures
    shown = ran.materialized
    window = "2024-01-03T00:00:00Z to 2024-01-03T10:01:00Z"
    assert shown["usage_1d", str(THIRD)]["window"].value == window
    assert not ran.failed_checks
    # The day goes on, and another run completes it.
    clock.now = day_window(THIRD).end + 60
    ran = lab.run(THIRD)
    assert ran.success
    metadata = ran.materialized["usage_1d", str(THIRD)]
    assert (
        metadata["num_operations"].value
        == (expected_totals(lab.server.world, THIRD)["num_operations"])
    )


@pytest.mark.parametrize(
    ("tags_or_days", "said"),
    [
        (None, "names no day"),
        ((date(2023, 12, 31), FIRST), "2023-12-31 is before the first partition, 2024-01-01"),
        ((SECOND, date(2024, 1, 5)), "2024-01-05 has no closed minute yet"),
        ((date(2024, 1, 4), date(2024, 1, 4)), "2024-01-04 has no closed minute yet"),
    ],
    ids=["no partition", "before the first", "tomorrow", "the first half minute of a day"],
)
def test_a_run_over_days_that_cannot_be_loaded_asks_nothing_and_records_nothing(
    make_lab: MakeLab, tags_or_days: tuple[date, date] | None, said: str
) -> None:
    clock = ManualClock(day_window(THIRD).end + 30)
    lab = make_lab(small_world(clock), now=clock)
    ran = lab.run(*tags_or_days) if tags_or_days else lab.run_tagged({})
    assert not ran.success
    assert said in ran.failures[0]
    assert not ran.materialized
    assert not ran.checks
    assert lab.server.requests == []


def test_a_range_that_fails_in_the_middle_keeps_and_records_its_finished_days(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    rehearsal = make_lab(home=tmp_path / "rehearsal", concurrency=1)
    assert rehearsal.run(FIRST, checks=False).success
    enough_for_one_day = len(rehearsal.server.requests)
    lab = make_lab(faults=Faults(quota=enough_for_one_day), concurrency=1)
    ran = lab.run(FIRST, SECOND)
    assert not ran.success
    kept = lab.lake.days("usage_1d")
    assert kept == [FIRST]
    assert all(lab.lake.days(name) == kept for name in ASSETS)
    assert all(lab.partitions(name) == {str(FIRST)} for name in ASSETS)
    metadata = ran.materialized["usage_1h", str(FIRST)]
    totals = expected_totals(lab.server.world, FIRST)
    assert {measure: metadata[measure].value for measure in MEASURES} == totals
    assert "Resume with: mka1-usage run --start 2024-01-02 --end 2024-01-03" in ran.failures[0]
    assert lab.settings.catalog.exists()
    (figures,) = RunLog(lab.settings.home).read()
    assert (figures.job, figures.succeeded) == (JOB, False)
    assert figures.requests == len(lab.server.requests) == enough_for_one_day + 1
    assert (figures.retries, figures.quota_answers) == (0, 1)
    # What it says to do is what helps.
    lab.server.faults = Faults()
    assert lab.run(SECOND).success
    assert all(lab.partitions(name) == {str(FIRST), str(SECOND)} for name in ASSETS)
    (figures,) = RunLog(lab.settings.home).read()
    assert (figures.succeeded, figures.quota_answers) == (True, 0)
    assert 0 < figures.requests < len(lab.server.requests) - enough_for_one_day


def test_an_interrupted_run_records_what_it_has_published(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        load_days(*args, **options)
        raise dg.DagsterExecutionInterruptedError

    monkeypatch.setattr("pipeline.orchestration.assets.usage.load_days", interrupted)
    assert not lab.run(FIRST, SECOND).success
    assert all(lab.partitions(name) == {str(FIRST), str(SECOND)} for name in ASSETS)


def test_a_missing_key_fails_the_run_in_words(make_lab: MakeLab) -> None:
    ran = make_lab(api_key=None).run(FIRST)
    assert not ran.success
    assert "MKA1_API_KEY is not set" in ran.failures[0]


@pytest.mark.parametrize("assets", [["usage_1m", "usage_1h", "usage_1d"], ["usage_1d"]])
def test_buckets_alone_are_rolled_up_again_without_a_request(
    loaded_lab: Lab, assets: list[str]
) -> None:
    spoilt = loaded_lab.lake.path("usage_1d", SECOND)
    good = spoilt.read_bytes()
    table = pq.read_table(spoilt)
    pq.write_table(table.slice(1), spoilt)
    ran = loaded_lab.run(FIRST, THIRD, assets=assets, checks=False)
    assert ran.success, ran.failures
    assert loaded_lab.server.requests == []
    ledger = {(name, str(SECOND)) for name in LEDGER_DATASETS}  # new with what has changed
    of_assets = {(name, str(day)) for name in assets for day in DAYS}
    assert set(ran.materialized) == of_assets | ledger
    assert spoilt.read_bytes() == good
    changed = [ran.materialized["usage_1d", str(day)]["changed"].value for day in DAYS]
    assert changed == [False, True, False]


def test_what_changed_without_being_selected_is_recorded_as_well(loaded_lab: Lab) -> None:
    minute = day_window(FIRST).start
    loaded_lab.server.world.restate(minute, "u", "k", operations=5)
    ran = loaded_lab.run(FIRST, assets=["raw_usage"])
    assert ran.success, ran.failures
    assert set(ran.materialized) == {(name, str(FIRST)) for name in ASSETS}
    assert all(loaded_lab.partitions(name) == {str(FIRST)} for name in ASSETS)
    again = loaded_lab.run(FIRST, assets=["raw_usage"])
    assert set(again.materialized) == {("raw_usage", str(FIRST))}


def test_a_rebuild_without_raw_days_keeps_and_records_those_it_could_do(
    loaded_lab: Lab,
) -> None:
    loaded_lab.lake.path("raw_usage", SECOND).resolve().unlink()
    ran = loaded_lab.run(FIRST, THIRD, assets=["usage_1m", "usage_1h", "usage_1d"])
    assert not ran.success
    assert "raw_usage has no day 2024-01-02" in ran.failures[0]
    assert "Rolled up again and kept: 2 of 3 days." in ran.failures[0]
    assert loaded_lab.partitions("usage_1d") == {str(FIRST), str(THIRD)}


def test_every_step_that_asks_the_api_is_in_its_pool() -> None:
    defs = build_defs()
    pools: dict[str, str | None] = {}
    for node in defs.resolve_implicit_global_asset_job_def().nodes:
        assert isinstance(node.definition, dg.OpDefinition)
        pools[node.name] = node.definition.pool
    asking = {"load_usage", "sync_conversations", "usage_1d_totals_equal_the_api"}
    assert {name for name, pool in pools.items() if pool == "mka1_usage_api"} == asking
    # Dagster cuts these in parts where their assets are made one after the other.
    parts = ("check_tables", "check_alerts")
    assert {name for name in pools if not name.startswith(parts)} - asking == {
        "reconciliation_no_unexplained_differences",
        "bi_export",
        "usage_report",
    }
