"""Interrupted work is resumed, not repeated: a day that is done stays, another goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.emulator import EmulatorServer, Faults
from pipeline.lake.store import KEPT_SECONDS, Lake
from pipeline.timeline import day_window
from pipeline.usage.load import LoadError, Progress, load_days
from tests.bounded import join
from tests.torture.scenes import days, exact, world
from tests.truth import FAST, load

IMPATIENT = Limits(
    concurrency=1, requests_per_second=10_000, longest_wait=0.001, attempts=2, retry_seconds=0
)


def stop_after(server: EmulatorServer, lake: Lake, asked: Sequence[date], requests: int) -> str:
    """Load until the quota of so many requests is spent; returns what the error says."""
    server.faults = Faults(quota=requests, clamp_limit=60)
    with pytest.raises(LoadError) as stopped:
        load(server, lake, asked, IMPATIENT)
    server.faults = Faults(clamp_limit=60)
    server.requests.clear()
    return str(stopped.value)


def starts(server: EmulatorServer) -> list[int]:
    """Where the questions for minutes began."""
    asked = [path for _, path, _ in server.requests if "bucket_width=1m" in path]
    return sorted(int(path.split("start_time=")[1].split("&")[0]) for path in asked)


def test_a_day_that_stopped_by_quota_goes_on_from_there(tmp_path: Path) -> None:
    (day,) = asked = days(1)
    lake = Lake(tmp_path / "lake")
    with EmulatorServer(world(1)) as server:
        said = stop_after(server, lake, asked, 18)
        assert "quota" in said
        assert "Loaded and kept: 0 of 1 day." in said
        assert lake.days("usage_1d") == []
        load(server, lake, asked)
        assert exact(lake, server.world, asked)
        assert min(starts(server)) > day_window(day).start
    assert list((lake.root / ".partial").iterdir()) == []


def test_a_range_keeps_the_days_that_it_has_done(tmp_path: Path) -> None:
    asked = days(4)
    lake = Lake(tmp_path / "lake")
    with EmulatorServer(world(4)) as server:
        stop_after(server, lake, asked, 60)
        done = lake.days("usage_1d")
        assert 0 < len(done) < 4
        assert exact(lake, server.world, done)
        load(server, lake, [day for day in asked if day not in done])
        assert exact(lake, server.world, asked)
        assert min(starts(server)) >= day_window(asked[len(done)]).start


@pytest.mark.parametrize(
    ("later", "key"), [(KEPT_SECONDS + 1, "key_a"), (0.0, "key_b")], ids=["a day later", "a key"]
)
def test_what_is_long_ago_or_of_another_key_is_asked_for_again(
    tmp_path: Path, later: float, key: str
) -> None:
    (day,) = asked = days(1)
    lake = Lake(tmp_path / "lake")
    with EmulatorServer(world(1)) as server:
        stop_after(server, lake, asked, 12)
        now = server.world.clock() + later
        secret = SecretStr(server.api_keys[key])
        load_days(lambda: Client(server.base_url, secret, FAST), lake, asked, now=lambda: now)
        assert min(starts(server)) == day_window(day).start
        assert exact(lake, server.world, asked)


def test_a_run_waits_for_another_that_has_the_day_and_says_so(tmp_path: Path) -> None:
    (day,) = asked = days(1)
    lake = Lake(tmp_path / "lake")
    told = threading.Event()
    with EmulatorServer(world(1)) as server:

        def tell(progress: Progress) -> None:
            if progress.waiting:
                assert progress.day == day
                told.set()

        def run() -> None:
            load_days(
                lambda: Client(server.base_url, SecretStr(server.api_key), FAST),
                lake,
                asked,
                on_progress=tell,
                now=server.world.clock,
            )

        with lake.day_lock(day):
            waiting = threading.Thread(target=run)
            waiting.start()
            assert told.wait(30)
            assert starts(server) == []
        join(waiting)
        assert exact(lake, server.world, asked)
