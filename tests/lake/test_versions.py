"""Versions of a day: what readers hold on to, what is kept how long, and whose files they are."""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake import files
from pipeline.lake.catalog import build_catalog
from pipeline.lake.commit import restore_links
from pipeline.lake.files import ContractError
from pipeline.lake.manifest import Manifest, read_manifest, write_coverage
from pipeline.lake.schemas import COVERAGE, DATASETS
from pipeline.lake.store import KEPT_SECONDS, MANIFEST, Lake
from pipeline.lake.verification import verify
from pipeline.timeline import Window, day_window
from pipeline.usage.feed import CONVERSATIONS
from tests.conversations.staged import publish as publish_staged
from tests.conversations.staged import usage_row
from tests.ended import publishing_ends
from tests.lake.served import (
    DAY,
    WINDOW,
    Bucket,
    Result,
    plant,
    publish,
    rows_of,
    usage_rows,
    write_rows,
)

Connection = duckdb.DuckDBPyConnection


def version(lake: Lake) -> Path:
    found = lake.version(DAY)
    assert found is not None
    return found


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_whoever_opened_a_version_reads_it_to_the_end(lake: Lake) -> None:
    publish_staged(lake, operations=1)
    opened = (lake.link(DAY)).resolve()
    publish_staged(lake, operations=2)
    assert [row["num_operations"] for row in rows_of(opened / "usage_1d.parquet")] == [1]
    assert [row["num_operations"] for row in rows_of(lake.path("usage_1d", DAY))] == [2]


def test_one_link_decides_what_all_tables_say(lake: Lake) -> None:
    publish_staged(lake, operations=1)
    publish_staged(lake, operations=2)
    first = version(lake).with_name("000001")
    aside = lake.link(DAY).with_name("aside")
    aside.symlink_to(Path("..", ".versions", str(DAY), first.name))
    aside.replace(lake.link(DAY))
    for name in ("raw_usage", "usage_1m", "usage_1h", "usage_1d"):
        assert [row["num_operations"] for row in rows_of(lake.path(name, DAY))] == [1]


def test_files_that_say_nothing_new_are_the_same_files_in_both_versions(lake: Lake) -> None:
    plant(lake, "usage_1d", [usage_row()])
    plant(lake, "usage_1h", [usage_row()])
    old, new = version(lake).with_name("000001"), version(lake)
    assert old != new
    assert (old / "usage_1d.parquet").samefile(new / "usage_1d.parquet")


@pytest.mark.parametrize(
    ("kept_for", "there"), [(KEPT_SECONDS - 60, True), (KEPT_SECONDS + 60, False)]
)
def test_a_version_that_was_replaced_is_kept_for_a_day(
    lake: Lake, kept_for: float, there: bool
) -> None:
    publish_staged(lake, operations=1)
    publish_staged(lake, operations=2)
    age(version(lake), kept_for)
    build_catalog(lake, lake.root.parent / "usage.duckdb")
    assert version(lake).with_name("000001").exists() == there
    assert len(usage_rows(lake, "1d")) == 1


def test_a_version_that_never_came_to_count_is_gone_with_the_next_run(lake: Lake) -> None:
    publish_staged(lake, operations=1)
    unfinished = version(lake).with_name("000002")
    unfinished.mkdir()
    first_of_another_day = lake.versions(DAY + timedelta(days=1)) / "000001"
    first_of_another_day.mkdir(parents=True)
    build_catalog(lake, lake.root.parent / "usage.duckdb")
    assert not unfinished.exists()
    assert not first_of_another_day.exists()


def test_a_day_whose_link_is_lost_loses_none_of_its_other_tables(
    con: Connection, lake: Lake
) -> None:
    plant(lake, "conversations", [{"id": "c"}])
    lake.link(DAY).unlink()
    build_catalog(lake, lake.root.parent / "usage.duckdb")
    publish(con, lake, [[Bucket(0, (Result(),))]])
    assert [row["id"] for row in rows_of(lake.path("conversations", DAY))] == ["c"]
    assert len(usage_rows(lake, "1d")) == 1


def test_everything_is_readable_by_its_owner_only(lake: Lake) -> None:
    before = os.umask(0)
    try:
        publish_staged(lake)
        catalog = build_catalog(lake, lake.root.parent / "home" / "usage.duckdb")
    finally:
        os.umask(before)
    folders = [path for path in lake.root.rglob("*") if path.is_dir() and not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in [lake.root, *folders]} == {0o700}
    files = list(version(lake).iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*files, catalog]} == {0o600}
    assert stat.S_IMODE(catalog.parent.stat().st_mode) == 0o700


def test_files_of_a_day_that_are_of_no_version_of_it_are_refused_and_left(
    con: Connection, lake: Lake
) -> None:
    path = lake.path("conversations", DAY)
    write_rows("conversations", path, [], WINDOW)
    with pytest.raises(ContractError, match=r"of no version of its day.*: move it away") as refused:
        publish(con, lake, [[Bucket(0, (Result(),))]])
    assert str(path) in str(refused.value)
    assert path.is_file()
    assert lake.all_days() == []


def test_a_lost_link_is_found_again(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]])
    standing = lake.version(DAY)
    lake.link(DAY).unlink()
    restore_links(lake)
    assert lake.version(DAY) == standing
    assert len(usage_rows(lake, "1d")) == 1


def test_a_day_whose_first_commit_was_killed_does_not_come_to_count(lake: Lake) -> None:
    """Its version is whole, and stands as one whose link was lost; a commit counts as a whole."""
    publish_staged(lake)
    lake.link(DAY).unlink()
    for table in lake.root.glob("[!.]*/day=*"):
        shutil.rmtree(table)
    lake.changing.write_text(json.dumps({f"{DAY}": False}))
    catalog = build_catalog(lake, lake.root.parent / "usage.duckdb")
    assert verify(lake, catalog).problems == ()
    restore_links(lake)
    assert lake.all_days() == []
    assert not lake.versions(DAY).exists()
    assert not lake.changing.exists()


def test_a_version_whose_manifest_was_being_written_is_not_found_again(lake: Lake) -> None:
    publish_staged(lake)
    (version(lake) / MANIFEST).write_bytes(b"")
    lake.link(DAY).unlink()
    restore_links(lake)
    assert lake.version(DAY) is None


def test_a_commit_that_was_killed_before_its_links_gets_them_without_another(lake: Lake) -> None:
    steps_before = 2  # the commit, and the link to the version
    with suppress(KeyboardInterrupt), publishing_ends(steps_before):
        publish_staged(lake)
    assert lake.days("usage_1d") == [DAY]
    assert not lake.path("usage_1d", DAY).exists()
    restore_links(lake)
    assert lake.path("usage_1d", DAY).is_file()


def test_a_lake_that_was_copied_without_its_links_can_be_read_and_loaded(
    con: Connection, lake: Lake, tmp_path: Path
) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]])
    copied = Lake(tmp_path / "copied")
    for path in lake.root.rglob("*"):
        target = copied.root / path.relative_to(lake.root)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    day = copied.link(DAY)
    day.mkdir(exist_ok=True)
    for file in version(lake).iterdir():
        (day / file.name).write_bytes(file.read_bytes())
    assert usage_rows(copied, "1d") == usage_rows(lake, "1d")
    publish(con, copied, [[Bucket(0, (Result("bob"),))]])
    assert [row["user_id"] for row in usage_rows(copied, "1d")] == ["bob"]


# Coverage

Hour = tuple[str, str | None, int]


def coverage(lake: Lake, dataset: str) -> list[Hour]:
    """Status, complete_through (as the time of day) and rows of each hour."""
    return [
        (
            str(row["status"]),
            None
            if row["complete_through"] is None
            else f"{(int(str(row['complete_through'])) - WINDOW.start) // 60}",
            int(str(row["rows"])),
        )
        for row in rows_of(lake.path(COVERAGE.name, DAY))
        if row["dataset"] == dataset
    ]


LONG_AFTER = WINDOW.end + 3 * 86_400


@pytest.mark.parametrize(
    ("minutes", "read_at", "expected"),
    [
        (1_440, LONG_AFTER, ["final"] * 24),
        (1_440, LONG_AFTER - 1, ["final"] * 23 + ["provisional"]),
        (1_440, WINDOW.end, ["provisional"] * 24),
        (90, WINDOW.start + 5_400, ["provisional"] * 2 + ["missing"] * 22),
        (60, LONG_AFTER, ["final"] + ["missing"] * 23),
        (90, LONG_AFTER, ["final", "provisional"] + ["missing"] * 22),
    ],
)
def test_coverage_tells_final_from_provisional_from_missing(
    con: Connection, lake: Lake, minutes: int, read_at: int, expected: list[str]
) -> None:
    window = Window(WINDOW.start, WINDOW.start + 60 * minutes)
    publish(con, lake, [[Bucket(0, (Result(), Result("bob")))]], window=window, fetched_at=read_at)
    found = coverage(lake, "usage_1m")
    assert [status for status, _, _ in found] == expected
    assert found[0][2] == 2
    last = max(place for place, (status, _, _) in enumerate(found) if status != "missing")
    assert found[last][1] == str(min(minutes, 60 * (last + 1)))
    assert set(coverage(lake, "items")) == {("missing", None, 0)}


def test_rows_of_the_first_hour_of_1970_are_counted_and_times_that_cannot_be_do_no_harm(
    lake: Lake, tmp_path: Path
) -> None:
    epoch = date(1970, 1, 1)
    moments = [0, 3_599_999_999, 3_600_000_000, 9 * 10**18, -(9 * 10**18)]
    rows = [{"id": str(moment), "created_at": moment} for moment in moments]
    table = pa.Table.from_pylist(rows, schema=DATASETS["conversations"].schema)
    path = tmp_path / "conversations.parquet"
    files.write(DATASETS["conversations"], table.to_batches(), path, day_window(epoch))
    write_coverage(lake, epoch, Manifest(), tmp_path)
    covered = rows_of(tmp_path / f"{COVERAGE.name}.parquet")
    assert [row["rows"] for row in covered if row["dataset"] == "conversations"][:3] == [2, 1, 0]


def test_a_day_without_usage_is_covered_and_a_day_that_nobody_loaded_has_no_version(
    con: Connection, lake: Lake
) -> None:
    publish(con, lake, [], fetched_at=LONG_AFTER)
    later = DAY + timedelta(days=2)
    publish(con, lake, [], day=later, fetched_at=LONG_AFTER + 2 * 86_400)
    restore_links(lake)
    assert {status for status, _, _ in coverage(lake, "usage_1d")} == {"final"}
    assert lake.all_days() == lake.days("usage_1d") == lake.days(COVERAGE.name) == [DAY, later]


def test_a_day_that_is_still_the_same_by_user_and_key_later_becomes_final(
    con: Connection, lake: Lake
) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]], fetched_at=WINDOW.end)
    provisional = version(lake)
    CONVERSATIONS.confirm(con, lake, DAY, LONG_AFTER, "totals")
    assert {status for status, _, _ in coverage(lake, "usage_1d")} == {"provisional"}
    CONVERSATIONS.confirm(con, lake, DAY, LONG_AFTER, "usage")
    assert {status for status, _, _ in coverage(lake, "usage_1d")} == {"final"}
    assert (version(lake) / "usage_1d.parquet").samefile(provisional / "usage_1d.parquet")


# Revisions


def test_what_had_been_loaded_and_is_restated_is_a_revision_and_what_is_new_is_not(
    con: Connection, lake: Lake
) -> None:
    half = Window(WINDOW.start, WINDOW.start + 600)
    publish(con, lake, [[Bucket(0, (Result(),)), Bucket(1, (Result(),))]], window=half)
    publish(
        con,
        lake,
        [[Bucket(0, (Result(counts=(1, 2, 9)),)), Bucket(20, (Result("bob"),))]],
        fetched_at=WINDOW.end,
    )
    found = [
        (row["start_time"], row["user_id"], row["measure"], row["old_value"], row["new_value"])
        for row in rows_of(lake.path("revisions", DAY))
    ]
    gone = {"num_conversations_created": 1, "num_items_added": 2, "num_operations": 3}
    assert found == [
        (WINDOW.start, "ada", "num_operations", 3, 9),
        *((WINDOW.start + 60, "ada", name, old, None) for name, old in gone.items()),
    ]
    publish(con, lake, [[Bucket(0, (Result(),))]], fetched_at=WINDOW.end + 60)
    rows = rows_of(lake.path("revisions", DAY))
    assert len(rows) == len(found) + 1 + 3
    assert {row["seen_at"] for row in rows} == {WINDOW.end, WINDOW.end + 60}


def test_the_record_says_what_each_file_is(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(counts=(2**62, 2**62, 1)), Result("bob")))]])
    record = read_manifest(version(lake))
    assert set(record.files) == {
        *("raw_usage", "usage_1m", "usage_1h", "usage_1d", "coverage", "revisions")
    }
    assert record.files["usage_1h"].sums["num_conversations_created"] == 2**62 + 1
    assert record.files["raw_usage"].rows == 2
    assert set(record.files) <= set(DATASETS)


def test_a_sum_beyond_64_bits_is_recorded_exactly(lake: Lake) -> None:
    rows = [usage_row() | {"user_id": name, "num_operations": 2**62} for name in "abcd"]
    plant(lake, "usage_1m", rows)
    assert read_manifest(version(lake)).files["usage_1m"].sums["num_operations"] == 2**64
