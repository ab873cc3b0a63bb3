"""status, verify and refresh as a person or a script uses them."""

from __future__ import annotations

import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer, Faults, World, synthetic_world
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, day_window, parse_time
from tests import fixtures_local
from tests.fixtures_local import Ended, clean_environment, published_home
from tests.truth import published, reported

START = parse_time("2024-01-01")


def command(line: str) -> Ended:
    """A command as it is typed."""
    return fixtures_local.command(shlex.split(line))


DAYS = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three made-up days."""
    world = synthetic_world(days=3, users=6)
    window = Window(START, START + 3 * DAY)
    return published_home(tmp_path_factory.mktemp("home"), world, window)


@pytest.fixture
def world() -> World:
    """The world that the days are of."""
    return synthetic_world(days=3, users=6)


@pytest.fixture
def server(world: World) -> Iterator[EmulatorServer]:
    with EmulatorServer(world) as server:
        yield server


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Path, server: EmulatorServer
) -> Path:
    """A copy of it, and an account at the emulator."""
    home = tmp_path / "home"
    shutil.copytree(original, home, symlinks=True)
    settings = {
        "MKA1_USAGE_HOME": str(home),
        "MKA1_BASE_URL": server.base_url,
        "MKA1_API_KEY": server.api_key,
        "MKA1_USAGE_REQUESTS_PER_SECOND": "10000",
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    clean_environment(monkeypatch, tmp_path, settings)
    return home


@pytest.mark.usefixtures("home")
def test_status_shows_a_calendar_and_what_to_run() -> None:
    ended = command("status --start 2024-01-01 --end 2024-01-06")
    assert ended.code == 0
    assert "2024-01   ###.." in ended.text
    assert "Complete through 2024-01-04T00:00:00Z" in ended.text
    assert "mka1-usage run --start 2024-01-04 --end 2024-01-06" in ended.text


@pytest.mark.parametrize("asked", ["status", "verify"])
def test_of_an_empty_home_it_is_said_that_nothing_is_loaded_and_what_to_do(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path / "empty")})
    ended = command(asked)
    assert ended.code == 1
    assert ended.text == ""
    assert ended.err.startswith("mka1-usage: error: nothing is loaded in empty/lake: load days ")
    assert "mka1-usage run" in ended.err
    assert not (tmp_path / "empty" / "usage.duckdb").exists()


def test_verify_says_that_all_is_well_or_names_the_file_and_what_mends_it(home: Path) -> None:
    build_catalog(Lake(home / "lake"), home / "usage.duckdb")
    ended = command("verify")
    assert (ended.code, ended.text) == (0, "")
    assert re.search(r"3 days, 18 files: all are as they were published", ended.err)
    path = Lake(home / "lake").path("usage_1h", DAYS[1]).resolve()
    path.write_bytes(path.read_bytes()[:-7])
    ended = command("verify")
    assert ended.code == 1
    assert ended.text.startswith(f"{path}: cut short: ")
    assert "to fix it: mka1-usage run --start 2024-01-02 --end 2024-01-03" in ended.err
    assert command("run --start 2024-01-02 --end 2024-01-03").code == 0
    assert command("verify").code == 0


def test_refresh_loads_again_what_was_restated_and_nothing_else(home: Path, world: World) -> None:
    before = {day: Lake(home / "lake").version(day) for day in DAYS}
    minute = day_window(DAYS[1]).start + 600
    world.restate(minute, "somebody new", "key_web", operations=4)
    ended = command("refresh")
    assert ended.code == 0, ended.err
    assert "3 days compared in 1 request; restated or loaded in part: 2024-01-02" in ended.err
    assert "done: 1 day loaded again" in ended.err
    lake = Lake(home / "lake")
    assert published(lake, "1m", DAYS) == reported(world, "1m", DAYS)
    assert [lake.version(day) == before[day] for day in DAYS] == [True, False, True]
    asked = command('sql --format csv "select user_id, old_value, new_value from revisions"')
    assert "somebody new,,4" in asked.text
    assert "restated or loaded in part: none" in command("refresh").err


def test_a_refresh_that_stops_is_resumed_by_a_refresh(
    home: Path, server: EmulatorServer, world: World
) -> None:
    world.restate(day_window(DAYS[1]).start + 600, "somebody new", "key_web", operations=4)
    server.faults = Faults(quota=1, quota_retry_after=3_600)
    ended = command("refresh")
    assert ended.code == 1
    resume = re.search(r"Resume with: mka1-usage (.*)\n", ended.err)
    assert resume
    server.faults = Faults()
    assert command(resume[1]).code == 0
    assert published(Lake(home / "lake"), "1m", DAYS) == reported(world, "1m", DAYS)


def test_refresh_that_cannot_ask_fails_in_one_line(home: Path, server: EmulatorServer) -> None:
    server.api_keys.clear()
    ended = command("refresh")
    assert ended.code == 1
    assert "401" in ended.err
    assert server.world is not None
    assert home.exists()


def test_what_a_run_writes_is_readable_by_its_owner_only(home: Path, tmp_path: Path) -> None:
    assert command("run --start 2024-01-02 --end 2024-01-03").code == 0
    written = [tmp_path / "dagster", *(tmp_path / "dagster").rglob("*"), home / "usage.duckdb"]
    written += (home / "lake" / ".versions").rglob("*")
    assert len(written) > 20
    private = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [written[0], written[-1]]}
    assert private == {0}
