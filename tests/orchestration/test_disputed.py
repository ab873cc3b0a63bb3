"""What runs make of days that contradict the API's totals, and of a clock that is ahead."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from pipeline.definitions import build_defs
from pipeline.emulator import Event, Faults, World
from pipeline.lake import engine, user_id_mode
from pipeline.lake.commit import publish
from pipeline.lake.manifest import days_to_reload, manifest_of
from pipeline.orchestration.assets.refresh import JOB
from pipeline.timeline import closed_through, day_of, day_window
from tests.lake.served import publish as publish_rows
from tests.orchestration.conftest import MakeLab, labs
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran

FIRST, SECOND, THIRD = DAYS
CUT_OFF = Faults(clamp_limit=30, page_quirk="early_end")
"""Of an hour's minutes, half are served, and nothing tells of the others."""


@pytest.fixture
def noted(lab: Lab) -> list[str]:
    """What the lab's runs tell a person."""
    noted: list[str] = []
    lab.services.on_note = noted.append
    return noted


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Ran, list[str]]]:
    """A run whose day was cut off, its lab, and what it told. Tests only look at them."""
    with labs(tmp_path_factory.mktemp("cut off") / "home") as make:
        noted: list[str] = []
        lab = make(faults=CUT_OFF)
        lab.services.on_note = noted.append
        yield lab, lab.run(FIRST), noted


@pytest.fixture
def disputed(lab: Lab, noted: list[str], cut_off: tuple[Lab, Ran, list[str]]) -> Lab:
    """A lab with what that run left; the API serves all again."""
    assert noted == []
    shutil.copytree(cut_off[0].settings.home, lab.settings.home, symlinks=True)
    return lab


def test_a_run_over_a_disputed_day_says_so_and_fails_once_it_is_settled(
    cut_off: tuple[Lab, Ran, list[str]],
) -> None:
    lab, ran, noted = cut_off
    assert "usage_1d.totals_equal_the_api" in ran.failed_checks
    assert not ran.success
    assert [line for line in noted if "2024-01-01: its totals are not the API's own" in line]
    assert days_to_reload(lab.lake, lab.services.now()) == [FIRST]


def test_following_runs_load_a_disputed_day_again_until_it_agrees(
    disputed: Lab, noted: list[str]
) -> None:
    lab = disputed
    lab.server.faults = CUT_OFF
    lab.run(SECOND)
    assert "to be loaded again: 2024-01-01" in "\n".join(noted)
    lab.server.faults = Faults()
    noted.clear()
    ran = lab.run(THIRD)
    assert ran.success, ran.failures
    assert noted == [
        "loaded again, as disputed or read while a clock was ahead: 2024-01-01 to 2024-01-02; "
        "to be loaded again: none"
    ]
    reloaded = {day for _, day in ran.materialized}
    assert reloaded == {str(day) for day in DAYS}
    assert not lab.check().failed_checks
    lab.server.requests.clear()
    lab.run(THIRD, checks=False)
    asked = [int(path.split("start_time=")[1].split("&")[0]) for _, path, _ in lab.server.requests]
    assert min(asked) == day_window(THIRD).start


@pytest.mark.slow  # two runs
def test_a_reload_that_fails_leaves_the_run_as_it_is(lab: Lab, noted: list[str]) -> None:
    lab.server.faults = CUT_OFF
    lab.run(FIRST)
    lab.server.faults = Faults()
    before = len(lab.server.requests)
    assert lab.run(SECOND, checks=False).success
    needed = len(lab.server.requests) - before
    lab.server.faults = CUT_OFF
    lab.run(FIRST)
    assert days_to_reload(lab.lake, lab.services.now()) == [FIRST]
    lab.server.faults = Faults(quota=needed // 2 + 1)
    ran = lab.run(SECOND, checks=False)
    assert ran.success, ran.failures
    assert days_to_reload(lab.lake, lab.services.now()) == [FIRST]
    assert noted[-1].endswith("to be loaded again: 2024-01-01")


def test_a_clock_that_is_ahead_is_told_and_what_it_did_is_taken_back(make_lab: MakeLab) -> None:
    """The emulator's answers carry the real date; the lab's clock is four days ahead of it."""
    now = time.time()
    today = day_of(closed_through(now) - 1)
    yesterday, later = day_of(int(now) - 86_400), day_of(int(now) + 3 * 86_400)
    world = World.from_events([Event(day_window(yesterday).start + 60, "ada", "key_a", 1, 1, 1)])
    lab = make_lab(world, now=lambda: time.time() + 4 * 86_400)
    noted: list[str] = []
    lab.services.on_note = noted.append
    user_id_mode.claim(lab.lake, None)
    with closing(engine.connect()) as con:  # what a run before left, of which nothing had told
        publish_rows(con, lab.lake, [], day=later, fetched_at=int(now) + 4 * 86_400)
        publish(con, lab.lake, yesterday, {}, {"usage": now + 40 * 86_400})
    ran = lab.run(yesterday, later)
    assert not ran.success
    assert "no closed minute yet by the API's clock" in "\n".join(ran.failures)
    # A Date has whole seconds.
    assert re.search("clock of this machine is 345,60[01] s ahead", "\n".join(noted))
    assert f"warning: removed, since they have not begun: {later}" in noted
    assert lab.lake.all_days() == [yesterday, today]
    assert manifest_of(lab.lake.version(yesterday)).read_at["usage"] <= time.time()
    path = lab.lake.file("coverage", yesterday)
    assert path is not None
    assert "final" not in pq.read_table(path).column("status").to_pylist()


def test_a_refresh_says_which_days_are_still_disputed(disputed: Lab, noted: list[str]) -> None:
    lab = disputed
    lab.server.faults = CUT_OFF
    job = build_defs(lab.services).resolve_job_def(JOB)
    assert job.execute_in_process(instance=lab.instance, run_config=QUIET).success
    assert [line for line in noted if line.startswith("warning: 2024-01-01: its totals")]
