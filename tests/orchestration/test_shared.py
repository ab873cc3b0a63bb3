"""Runs with a shared lake: days are hydrated, done as without one, and committed.

Another worker is a home of its own, which commits at the moment that a test wants it to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.definitions import build_defs
from pipeline.emulator import World
from pipeline.lake.manifest import manifest_of
from pipeline.lake.schemas import (
    COST_DATASETS,
    LEDGER_DATASETS,
    METER_DATASETS,
    USAGE_DATASETS,
)
from pipeline.lake.store import Lake
from pipeline.orchestration.assets.refresh import JOB as REFRESH_JOB
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.schedules import CONVERSATIONS_JOB, EXPORT_JOB
from pipeline.orchestration.shared import TRIES
from pipeline.settings import COSTS
from pipeline.shared_lake import Place, copied, open_shared_lake
from pipeline.shared_lake.shared import SharedLake
from pipeline.timeline import day_window
from pipeline.usage.load import Progress
from tests import bounded
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran, small_world
from tests.orchestration.test_conversations import keys_of
from tests.truth import load, published, reported

FIRST, SECOND, THIRD = DAYS


@dataclass
class Team:
    """A shared lake, and the workers that use it: each has a home of its own."""

    make_lab: MakeLab
    folder: Path
    world: World = field(default_factory=small_world)
    said: list[str] = field(default_factory=list[str])

    @property
    def place(self) -> Place:
        return Place(f"sqlite:///{self.folder / 'catalog.db'}", str(self.folder / "warehouse"))

    @property
    def shared(self) -> SharedLake:
        return open_shared_lake(self.place)

    def worker(self, name: str, **settings: Any) -> Lab:
        """A worker with an empty home, and the API's world before it."""
        lab = self.make_lab(
            self.world,
            home=self.folder / name,
            shared_catalog=self.place.catalog,
            shared_warehouse=self.place.warehouse,
            **settings,
        )
        lab.services.on_note = self.said.append
        return lab

    def commits(self, lab: Lab, day: date) -> None:
        """Another worker loads a day of whatever the API says now, and commits it."""
        other = Lake(self.folder / "another" / "lake")
        self.shared.hydrate(other, [day])
        load(lab.server, other, [day])
        assert self.shared.commit(other, [day]) == [day]

    def restate(self, day: date, operations: int) -> None:
        """The API counts something else from now on."""
        at = day_window(day).start
        bucket = next(it for it in self.world.usage(at, at + 86_400, "1m") if it["results"])
        self.world.restate(bucket["start_time"], "user_0000", "key_web", operations=operations)

    def pulled(self) -> Lake:
        """What stands in the shared lake, in an empty home."""
        shutil.rmtree(self.folder / "reader", ignore_errors=True)
        lake = Lake(self.folder / "reader" / "lake")
        self.shared.hydrate(lake)
        return lake


@pytest.fixture
def team(make_lab: MakeLab, tmp_path: Path) -> Team:
    return Team(make_lab, tmp_path)


def run_job(lab: Lab, name: str, tags: dict[str, str], **config: Any) -> Ran:
    result = (
        build_defs(lab.services)
        .resolve_job_def(name)
        .execute_in_process(
            instance=lab.instance, tags=tags, raise_on_error=False, run_config={**QUIET, **config}
        )
    )
    return Ran(result, lab.instance)


def content(lake: Lake, day: date) -> dict[str, bytes]:
    version = lake.version(day)
    assert version is not None
    return {path.name: path.read_bytes() for path in version.iterdir()}


def once_published(
    lab: Lab, day: date, then: Callable[[], None], times: int = 1, *, endpoint: str = ""
) -> None:
    """Do something each time that a run has published a day here, so many times."""
    left = times

    def listen(progress: Progress) -> None:
        nonlocal left
        if progress.published and (progress.day, progress.endpoint) == (day, endpoint) and left:
            left -= 1
            then()

    lab.services.on_progress = listen


def test_what_a_run_publishes_is_committed_and_any_home_can_have_it(team: Team) -> None:
    worker = team.worker("one")
    ran = worker.run(FIRST, THIRD)
    assert ran.success, ran.failures
    assert ran.failed_checks == set()
    assert team.said == ["3 days committed: 2024-01-01 to 2024-01-03"]
    reader = team.pulled()
    assert reader.days("usage_1d") == DAYS
    for day in DAYS:
        assert content(reader, day) == content(worker.lake, day)
    assert list(team.shared.verify()) == []


def test_days_that_another_worker_has_committed_meanwhile_are_done_again_and_reported_once(
    team: Team,
) -> None:
    worker = team.worker("one")
    team.restate(SECOND, 5)

    def other_commits() -> None:
        team.commits(worker, SECOND)
        team.restate(SECOND, 7)  # what was loaded here is no longer what the API says

    once_published(worker, THIRD, other_commits)
    ran = worker.run(FIRST, THIRD, checks=False)
    assert ran.success, ran.failures
    assert "2024-01-02: committed by another worker meanwhile" in team.said[0]
    assert f"(1 of {TRIES - 1})" in team.said[0]
    tables = [*USAGE_DATASETS, *LEDGER_DATASETS]
    assert set(ran.materialized) == {(name, str(day)) for name in tables for day in DAYS}
    assert published(team.pulled(), "1m") == reported(team.world, "1m", DAYS)


@pytest.mark.slow  # three steps, one of them twice
def test_other_endpoints_and_bills_are_committed_and_done_again_as_usage_is(team: Team) -> None:
    worker = team.worker("one", endpoints=("conversations", "completions", COSTS))
    once_published(worker, SECOND, lambda: team.commits(worker, SECOND), endpoint="completions")
    ran = worker.run(FIRST, SECOND)
    assert ran.success, ran.failures
    assert ran.failed_checks == set()
    assert [line for line in team.said if "done again" in line] == [
        "2024-01-02: committed by another worker meanwhile; hydrated, and done again (1 of 7)"
    ]
    tables = {name for name, _ in ran.materialized}
    assert {*METER_DATASETS, *COST_DATASETS} <= tables
    reader = team.pulled()
    for name in ("meters_1d", "costs_1d", "usage_1d"):
        assert reader.days(name) == [FIRST, SECOND]
    team.restate(FIRST, 8)
    refreshed = run_job(worker, REFRESH_JOB, {})
    assert refreshed.success, refreshed.failures
    assert ("usage_1d", str(FIRST)) in refreshed.materialized
    assert list(team.shared.verify()) == []


@pytest.mark.slow  # as many loads as there are tries
def test_a_day_that_is_committed_by_others_each_time_is_given_up_and_the_others_are_kept(
    team: Team,
) -> None:
    worker = team.worker("one")
    operations = iter(range(5, 100))

    def other_commits() -> None:
        team.restate(SECOND, next(operations))
        team.commits(worker, SECOND)

    once_published(worker, SECOND, other_commits, times=TRIES)
    ran = worker.run(FIRST, THIRD, checks=False)
    assert not ran.success
    assert len(ran.failures) == 1
    assert ran.failures[0].startswith(f"2024-01-02: committed by another worker each of {TRIES} ")
    assert "\n" not in ran.failures[0]
    assert team.shared.days() == DAYS
    assert len([it for it in team.said if "done again" in it]) == TRIES - 1


def test_what_was_published_before_a_failure_is_committed(team: Team) -> None:
    worker = team.worker("one")

    def fail() -> None:
        raise RuntimeError("the disk is gone")

    once_published(worker, FIRST, fail)
    ran = worker.run(FIRST, THIRD, checks=False)
    assert not ran.success
    assert "the disk is gone" in ran.failures[0]
    days = team.shared.days()
    assert FIRST in days
    assert days == worker.lake.days("usage_1d")


def test_a_full_reading_heals_what_is_damaged_in_the_shared_lake(team: Team) -> None:
    """As `mka1-usage verify` says, from any home, though the API says what it said before."""
    assert team.worker("one").run(FIRST, SECOND, checks=False).success
    [changed, removed] = team.shared.files("usage_1m").values()
    Path(changed).write_bytes(b"x" * len(Path(changed).read_bytes()))
    Path(removed).unlink()
    assert len(list(team.shared.verify())) == 2
    hourly = team.worker("two").run(FIRST, SECOND, checks=False, reads="totals")
    assert not hourly.success
    assert "loading its day again puts that right" in hourly.failures[0]
    full = team.worker("three").run(FIRST, SECOND, checks=False)
    assert full.success, full.failures
    assert list(team.shared.verify()) == []
    assert published(team.pulled(), "1m") == reported(team.world, "1m", [FIRST, SECOND])


def test_rolling_up_again_hydrates_first_and_commits_what_is_different(team: Team) -> None:
    assert team.worker("one").run(FIRST, SECOND, checks=False).success
    other = team.worker("two")
    ran = other.run(FIRST, assets=["usage_1h", "usage_1d"], checks=False)
    assert ran.success, ran.failures
    assert other.lake.days("usage_1d") == [FIRST]
    assert other.server.requests == []


def test_a_refresh_from_an_empty_home_finds_what_was_restated_and_commits_that(
    team: Team,
) -> None:
    assert team.worker("one").run(FIRST, THIRD, checks=False).success
    team.restate(SECOND, 9)
    team.said.clear()
    refreshing = team.worker("two")
    ran = run_job(refreshing, REFRESH_JOB, {})
    assert ran.success, ran.failures
    assert team.said[-1] == "1 day committed: 2024-01-02"
    assert {partition for _, partition in ran.materialized} == {str(SECOND)}
    assert published(team.pulled(), "1d") == reported(team.world, "1d", DAYS)


def test_conversations_are_committed_with_the_days_they_are_on_and_outputs_begin_with_a_pull(
    team: Team,
) -> None:
    loading = team.worker("one")
    assert loading.run(FIRST, THIRD, checks=False).success
    talking = team.worker("two", api_keys=keys_of(loading))
    ran = run_job(talking, CONVERSATIONS_JOB, range_tags(FIRST, THIRD))
    assert ran.success, ran.failures
    assert ran.failed_checks == set()
    reader = team.worker("three")
    exported = run_job(reader, EXPORT_JOB, {})
    assert exported.success, exported.failures
    assert reader.lake.days("reconciliation") == DAYS
    assert (team.folder / "three" / "export" / "fact_usage.parquet").is_file()
    copy = copied(reader.lake)
    assert copy is not None
    assert copy.catalog == team.place.catalog
    for day in DAYS:
        assert content(reader.lake, day) == content(talking.lake, day)


@pytest.mark.slow  # two syncs
def test_a_home_that_knows_no_listings_leaves_the_reconciliation_to_the_next_sync(
    team: Team,
) -> None:
    loading = team.worker("one")
    assert loading.run(FIRST, THIRD, checks=False).success
    talking = team.worker("two", api_keys=keys_of(loading))
    assert run_job(talking, CONVERSATIONS_JOB, range_tags(FIRST, THIRD)).success
    team.restate(SECOND, 9)
    assert team.worker("three").run(SECOND, checks=False).success

    def reconciled() -> tuple[bytes, bool]:
        lake = team.pulled()
        owed = manifest_of(lake.version(SECOND)).owed
        return content(lake, SECOND)["reconciliation.parquet"], "reconcile" in owed

    before = content(talking.lake, SECOND)["reconciliation.parquet"]
    assert reconciled() == (before, True)
    assert run_job(talking, CONVERSATIONS_JOB, range_tags(FIRST, THIRD)).success
    after, owed = reconciled()
    assert not owed
    assert after != before


def test_runs_of_one_home_with_the_same_days_take_turns(team: Team) -> None:
    """Each has whole days: what one has published is not replaced before it is committed."""
    ran: list[Ran] = []
    workers = [team.worker("one"), team.worker("one")]

    def run(lab: Lab) -> Callable[[], None]:
        return lambda: ran.append(lab.run(FIRST, SECOND, checks=False))

    bounded.at_once([run(lab) for lab in workers])
    assert [one.success for one in ran] == [True, True], [one.failures for one in ran]
    assert not any("done again" in line for line in team.said)
    for day in (FIRST, SECOND):
        assert content(team.pulled(), day) == content(workers[0].lake, day)


def test_a_catalog_that_cannot_be_used_fails_a_step_in_one_line(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(
        shared_catalog=f"sqlite:///{tmp_path / 'nowhere' / 'catalog.db'}",
        shared_warehouse=str(tmp_path / "warehouse"),
    )
    ran = lab.run(FIRST, checks=False)
    assert not ran.success
    [words] = ran.failures
    assert "can't be used" in words
    assert "\n" not in words
    assert lab.server.requests == []


def test_schedules_of_a_worker_without_a_home_know_what_the_shared_lake_has(team: Team) -> None:
    fresh = team.worker("two", api_keys="key_web=secret")
    schedule = build_defs(fresh.services).resolve_schedule_def("daily_refresh")

    def requests() -> int:
        now = datetime(2024, 1, 4, 4, 5, tzinfo=UTC)
        with dg.build_schedule_context(
            scheduled_execution_time=now, resources={"services": fresh.services}
        ) as context:
            return len(schedule.evaluate_tick(context).run_requests or [])

    assert requests() == 0
    assert team.worker("one").run(FIRST, checks=False).success
    assert requests() == 1


def test_a_daily_schedule_expires_what_nobody_needs_where_there_is_a_shared_lake(
    team: Team, lab: Lab
) -> None:
    worker = team.worker("one")
    names = {it.name for it in build_defs(worker.services).schedules or []}
    assert names - {it.name for it in build_defs(lab.services).schedules or []} == {"daily_expire"}
    ran = run_job(worker, "expire_job", {})
    assert ran.success, ran.failures


def test_without_the_setting_nothing_is_claimed_and_nothing_noted(loaded_lab: Lab) -> None:
    assert loaded_lab.services.shared is None
    names = {path.name for path in loaded_lab.lake.root.iterdir()}
    assert not names & {".claims", ".shared.json"}
