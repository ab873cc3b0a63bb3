"""Planted damage in published files: the checks find it, say where, and stop the run."""

from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.emulator import ManualClock
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.schemas import USAGE_DATASETS
from pipeline.timeline import day_window
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, Lab, small_world

FIRST, SECOND, THIRD = DAYS
API_CHECK = "usage_1d.totals_equal_the_api"
ACROSS = "usage_1d.totals_equal_across_grains"
ADDS = "usage_1d.widths_add_up"


def edited(edit: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Damage that leaves a readable file, with its footer."""

    def damage(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(edit(table).replace_schema_metadata(table.schema.metadata), path)

    return damage


def first_row_twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def null_group_twice(table: pa.Table) -> pa.Table:
    nobody = table.slice(0, 1).to_pylist()[0] | {"user_id": None, "api_key_id": None}
    return pa.concat_tables([table, pa.Table.from_pylist([nobody] * 2, schema=table.schema)])


def negative(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[0]["num_items_added"] = -1
    return pa.Table.from_pylist(rows, schema=table.schema)


def without_a_row(table: pa.Table) -> pa.Table:
    return table.slice(1)


def without_a_column(table: pa.Table) -> pa.Table:
    return table.drop_columns(["num_operations"])


def counts_as_floats(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("num_operations")
    return table.set_column(
        place, "num_operations", table.column("num_operations").cast(pa.float64())
    )


def columns_reordered(table: pa.Table) -> pa.Table:
    return table.select(sorted(table.column_names))


def garbage(path: Path) -> None:
    path.write_bytes(b"not a Parquet file")


def gone(path: Path) -> None:
    path.resolve().unlink()


UNREADABLE = {"schema_as_contracted", "grain_unique", "counts_not_negative"}


@pytest.mark.parametrize(
    ("damage", "dataset", "expected"),
    [
        (edited(first_row_twice), "usage_1m", {"usage_1m.grain_unique", ACROSS, ADDS}),
        (edited(first_row_twice), "usage_1d", {"usage_1d.grain_unique", ACROSS, API_CHECK}),
        (edited(null_group_twice), "usage_1h", {"usage_1h.grain_unique", ACROSS, ADDS, API_CHECK}),
        (edited(first_row_twice), "raw_usage", {ACROSS, ADDS}),
        (edited(negative), "usage_1h", {"usage_1h.counts_not_negative", ACROSS, ADDS, API_CHECK}),
        (edited(negative), "raw_usage", {"raw_usage.counts_not_negative", ACROSS, ADDS}),
        (edited(without_a_row), "usage_1m", {ACROSS, ADDS}),
        (edited(counts_as_floats), "usage_1m", {"usage_1m.schema_as_contracted"}),
        (edited(columns_reordered), "usage_1h", {"usage_1h.schema_as_contracted"}),
        (gone, "usage_1h", {ACROSS, ADDS, API_CHECK}),
        (
            edited(without_a_column),
            "usage_1m",
            {ACROSS, ADDS, "usage_1m.schema_as_contracted", "usage_1m.counts_not_negative"},
        ),
        (garbage, "usage_1m", {ACROSS, ADDS, *(f"usage_1m.{check}" for check in UNREADABLE)}),
        (
            garbage,
            "usage_1d",
            {ACROSS, ADDS, API_CHECK, *(f"usage_1d.{check}" for check in UNREADABLE)},
        ),
        (
            garbage,
            "raw_usage",
            {ACROSS, ADDS, "raw_usage.schema_as_contracted", "raw_usage.counts_not_negative"},
        ),
    ],
)
def test_planted_damage_is_found_by_the_checks_that_it_breaks_and_by_no_other(
    loaded_lab: Lab, damage: Callable[[Path], None], dataset: str, expected: set[str]
) -> None:
    damage(loaded_lab.lake.path(dataset, SECOND))
    ran = loaded_lab.check()
    assert len(ran.checks) == 16, "a check that can't be made must say so, and stop no other"
    assert ran.failed_checks == expected
    assert all(ran.checks[name].severity is dg.AssetCheckSeverity.ERROR for name in expected)
    assert all(ran.checks[name].blocking for name in ran.checks)
    assert not ran.success
    for name in expected:
        found = ran.checks[name]
        said = str(found.metadata["found"].value) if "found" in found.metadata else ""
        assert said or found.description


def test_a_day_whose_items_are_dropped_is_summed_as_others_are(loaded_lab: Lab) -> None:
    with closing(engine.connect()) as con:
        publish_days(con, loaded_lab.lake, {SECOND: Change(dropped={"items", "item_contents"})})
    edited(without_a_row)(loaded_lab.lake.path("usage_1m", SECOND))
    assert loaded_lab.check(SECOND, names=[ACROSS, ADDS]).failed_checks == {ACROSS, ADDS}


def test_damage_on_another_day_does_not_concern_a_run(loaded_lab: Lab) -> None:
    edited(first_row_twice)(loaded_lab.lake.path("usage_1d", SECOND))
    assert loaded_lab.check(THIRD).success
    assert not loaded_lab.check(SECOND, THIRD).success


def test_a_finding_says_which_bucket_it_is_about(loaded_lab: Lab) -> None:
    edited(first_row_twice)(loaded_lab.lake.path("usage_1d", SECOND))
    found = loaded_lab.check(names=["usage_1d.grain_unique"]).checks["usage_1d.grain_unique"]
    assert "2024, 1, 2" in str(found.metadata["found"].value)


def test_a_file_whose_footer_was_lost_fails_the_comparison_in_words(loaded_lab: Lab) -> None:
    path = loaded_lab.lake.path("usage_1d", SECOND)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    found = loaded_lab.check(names=[API_CHECK])
    assert not found.success
    assert "can't be read as it was published" in str(found.checks[API_CHECK].description)


def test_checks_started_without_a_partition_cover_all_that_is_loaded(loaded_lab: Lab) -> None:
    ran = loaded_lab.check()
    assert ran.success, ran.failures
    assert {one.metadata["days"].value for one in ran.checks.values()} == {
        "2024-01-01 to 2024-01-03"
    }
    files = {one.metadata["files"].value for one in ran.checks.values() if "files" in one.metadata}
    assert files == {"3"}


def test_checks_of_a_partition_cover_that_day(loaded_lab: Lab) -> None:
    ran = loaded_lab.check(SECOND)
    assert {one.metadata["days"].value for one in ran.checks.values()} == {"2024-01-02"}


def test_an_empty_lake_passes_and_asks_nothing(lab: Lab) -> None:
    ran = lab.check()
    assert ran.success, ran.failures
    assert {one.metadata["days"].value for one in ran.checks.values()} == {"none"}
    assert lab.server.requests == []


@pytest.mark.parametrize("dataset", USAGE_DATASETS)
def test_the_checks_of_one_asset_can_be_run_alone(loaded_lab: Lab, dataset: str) -> None:
    names = [f"{dataset}.schema_as_contracted", f"{dataset}.counts_not_negative"]
    ran = loaded_lab.check(names=names)
    assert ran.success
    assert set(ran.checks) == set(names)
    assert loaded_lab.server.requests == []


@pytest.mark.parametrize(
    ("hours_later", "day", "severity"),
    [
        # 2024-01-04 12:00, three days back: all of them may still move.
        (12, FIRST, dg.AssetCheckSeverity.WARN),
        (12, THIRD, dg.AssetCheckSeverity.WARN),
        # At the next midnight the first day leaves the window, the second does not.
        (24 + 1, FIRST, dg.AssetCheckSeverity.ERROR),
        (24 + 1, SECOND, dg.AssetCheckSeverity.WARN),
        (24 * 30, THIRD, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_a_restated_day_warns_inside_the_trailing_window_and_blocks_outside_it(
    make_lab: MakeLab,
    loaded_lab: Lab,
    hours_later: int,
    day: date,
    severity: dg.AssetCheckSeverity,
) -> None:
    clock = ManualClock(day_window(THIRD).end + 3_600 * hours_later)
    lab = make_lab(small_world(clock), now=clock, home=loaded_lab.settings.home)
    lab.server.world.restate(day_window(day).start, "late", "key_web", operations=3, items_added=1)
    ran = lab.check(names=[API_CHECK])
    found = ran.checks[API_CHECK]
    assert not found.passed
    assert found.severity is severity
    assert ran.success == (severity is dg.AssetCheckSeverity.WARN)
    assert f"disagree on {day}." in str(found.description)
    table = found.metadata["totals"]
    assert isinstance(table, dg.TableMetadataValue)
    differences = {
        (record.data["day"], record.data["measure"]): record.data["difference"]
        for record in table.records
    }
    assert differences == {
        (str(day), "num_conversations_created"): 0,
        (str(day), "num_items_added"): -1,
        (str(day), "num_operations"): -3,
    }


def test_a_disagreement_is_settled_by_loading_the_day_again(loaded_lab: Lab) -> None:
    minute = day_window(SECOND).start
    loaded_lab.server.world.restate(minute, "late", "key_web", operations=3)
    assert loaded_lab.check(names=[API_CHECK]).failed_checks == {API_CHECK}
    assert loaded_lab.run(SECOND).success
    assert loaded_lab.check(names=[API_CHECK]).success


def test_an_api_that_does_not_answer_fails_the_check_in_words(
    make_lab: MakeLab, loaded_lab: Lab
) -> None:
    ran = make_lab(api_key="not-the-key", home=loaded_lab.settings.home).check(names=[API_CHECK])
    assert not ran.success
    assert "Check the key in MKA1_API_KEY" in ran.failures[0]
    assert "not-the-key" not in ran.failures[0]
