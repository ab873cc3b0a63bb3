"""A refresh finds what the API has restated, whenever it was, and asks for nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.emulator import EmulatorServer, Faults, ManualClock
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import day_window
from pipeline.usage.load import load_days
from pipeline.usage.refresh import Refreshed, refresh_days
from tests.torture.scenes import days, exact, world
from tests.truth import FAST, digests, load, published

ASKED = days(3)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(world(3, per_day=30)) as server:
        yield server


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The three days as every server has them at first, loaded; tests take copies."""
    lake = Lake(tmp_path_factory.mktemp("loaded") / "lake")
    with EmulatorServer(world(3, per_day=30)) as server:
        load(server, lake, ASKED)
    return lake


@pytest.fixture
def lake(tmp_path: Path, loaded: Lake) -> Lake:
    """The three days, loaded."""
    lake = Lake(tmp_path / "lake")
    shutil.copytree(loaded.root, lake.root, symlinks=True)
    return lake


def refresh(
    server: EmulatorServer,
    lake: Lake,
    pseudonyms: Pseudonyms | None = None,
    limits: Limits = FAST,
) -> Refreshed:
    return refresh_days(
        lambda: Client(server.base_url, SecretStr(server.api_key), limits),
        lake,
        pseudonyms=pseudonyms,
        now=server.world.clock,
    )


def test_nothing_restated_costs_one_request_and_changes_nothing(
    server: EmulatorServer, lake: Lake
) -> None:
    before = digests(lake.root)
    refreshed = refresh(server, lake)
    assert refreshed == Refreshed(tuple(ASKED), (), 1)
    assert len(server.requests) == 1
    assert digests(lake.root) == before


def test_what_moves_from_one_user_to_another_is_found(server: EmulatorServer, lake: Lake) -> None:
    minute = day_window(ASKED[2]).start
    server.world.restate(minute, "ada", "key_a", operations=2)
    load(server, lake, [ASKED[2]])
    server.world.restate(minute, "ada", "key_a", operations=-2)
    server.world.restate(minute, "bob", "key_a", operations=2)
    assert refresh(server, lake).changed == (ASKED[2],)
    assert exact(lake, server.world, ASKED)


def test_a_day_whose_usage_is_all_taken_back_becomes_empty(
    server: EmulatorServer, lake: Lake
) -> None:
    window = day_window(ASKED[1])
    for bucket in server.world.usage(window.start, window.end, "1m", ("user_id", "api_key_id")):
        for row in bucket["results"]:
            server.world.restate(bucket["start_time"], row["user_id"], row["api_key_id"], drop=True)
    assert refresh(server, lake).changed == (ASKED[1],)
    assert published(lake, "1d", [ASKED[1]]) == []
    assert refresh(server, lake).changed == ()


@pytest.mark.parametrize(
    "faults",
    [
        Faults(sparse=True),
        Faults(split_rows=True),
        pytest.param(
            Faults(duplicate_bucket=True, restate_between=True, clamp_limit=2),
            marks=pytest.mark.slow,
        ),
        Faults(extra_fields={"region": "eu"}),
        Faults(clamp_limit=1, expire_cursors_every=3),
    ],
    ids=["sparse", "split rows", "served twice", "further fields", "expiring cursors"],
)
def test_only_what_changed_is_found_however_the_api_serves_it(
    server: EmulatorServer, lake: Lake, faults: Faults
) -> None:
    server.faults = faults
    assert refresh(server, lake).changed == ()
    server.world.restate(day_window(ASKED[1]).start, None, None, items_added=1)
    assert refresh(server, lake).changed == (ASKED[1],)


@pytest.mark.parametrize("users", [40, 28], ids=["by what is stored", "by the API's answer"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_day_too_large_for_an_answer_is_compared_by_its_hours_and_keys(
    server: EmulatorServer, tmp_path: Path, users: int, hidden: bool
) -> None:
    large, start = ASKED[1], day_window(ASKED[1]).start
    clock = server.world.clock
    assert isinstance(clock, ManualClock)
    clock.now, later = day_window(ASKED[2]).end + 60.0, clock.now
    for number in range(users):
        server.world.restate(start + 60 * number, f"user {number:03}", "key_a", operations=1)
    limits = replace(FAST, max_bytes=6_000)
    pseudonyms = Pseudonyms(SecretStr("k" * 32)) if hidden else None
    lake = Lake(tmp_path / "again")
    load(server, lake, ASKED[1:], pseudonyms=pseudonyms)
    clock.now = later
    server.requests.clear()
    assert refresh(server, lake, pseudonyms, limits).changed == ()
    assert {"1d", "1h"} == {
        target.partition("bucket_width=")[2][:2] for _, target, _ in server.requests
    }
    assert final_days(lake) == [ASKED[2]]  # by user and key it was not compared
    server.world.restate(start, "user 000", "key_a", operations=3)
    server.world.restate(day_window(ASKED[2]).start, "ada", "key_a", operations=3)
    assert refresh(server, lake, pseudonyms, limits).changed == (large, ASKED[2])
    if not hidden:
        assert exact(lake, server.world, ASKED[1:])


def final_days(lake: Lake) -> list[date]:
    """The days of which every hour of usage is final."""
    statuses = {
        day: {
            row["status"]
            for row in pq.read_table(lake.path("coverage", day)).to_pylist()
            if row["dataset"] == "usage_1d"
        }
        for day in lake.all_days()
    }
    return [day for day, of_day in statuses.items() if of_day == {"final"}]


def test_a_day_that_was_loaded_in_part_is_loaded_whole_once_it_is_over(
    server: EmulatorServer, tmp_path: Path
) -> None:
    clock = server.world.clock
    assert isinstance(clock, ManualClock)
    lake, later = Lake(tmp_path / "open"), clock()
    clock.now = day_window(ASKED[1]).start + 7_200.0
    load(server, lake, ASKED[:2])
    assert refresh(server, lake).compared == (ASKED[0],)  # the open day is the trailing window's
    clock.now = later
    assert refresh(server, lake).changed == (ASKED[1],)
    assert exact(lake, server.world, ASKED[:2])


def test_a_refresh_compares_pseudonyms_with_pseudonyms(
    server: EmulatorServer, tmp_path: Path
) -> None:
    lake, pseudonyms = Lake(tmp_path / "hidden"), Pseudonyms(SecretStr("k" * 32))
    load_days(
        lambda: Client(server.base_url, SecretStr(server.api_key), FAST),
        lake,
        ASKED[1:],
        pseudonyms=pseudonyms,
        now=server.world.clock,
    )
    assert refresh(server, lake, pseudonyms).changed == ()
    server.world.restate(day_window(ASKED[2]).start, "ada", "key_a", operations=1)
    assert refresh(server, lake, pseudonyms).changed == (ASKED[2],)


def test_a_gap_between_loaded_days_is_not_asked_for(server: EmulatorServer, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "gaps")
    load(server, lake, [ASKED[0], ASKED[2]])
    assert refresh(server, lake) == Refreshed((ASKED[0], ASKED[2]), (), 2)
