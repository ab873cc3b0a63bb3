"""`mka1-usage run` against an account: what is loaded, what is said, and the secret nowhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer, Faults, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.orchestration.runs import Outcome
from pipeline.timeline import DAY, parse_time
from tests.fixtures_local import Ended, clean_environment, command

START = parse_time("2024-01-01")
SECRET = "planted-" + "5ec2e7" * 4


@pytest.fixture(scope="module")
def world() -> World:
    """Two made-up days. Tests only read it."""
    return synthetic_world(days=2, users=4, conversations_per_user_day=2)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {})


def lines(ended: Ended) -> list[str]:
    return ended.err.splitlines()


@pytest.fixture
def account(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatorServer]:
    """An account with a secret to look for, set up as a user would, with an empty home."""
    with EmulatorServer(world) as server:
        server.api_keys = {"key_web": SECRET}
        for name, value in {
            "MKA1_USAGE_HOME": str(tmp_path / "home"),
            "MKA1_BASE_URL": server.base_url,
            "MKA1_API_KEY": SECRET,
            "MKA1_USAGE_RETRY_SECONDS": "0.2",
            "MKA1_USAGE_REQUESTS_PER_SECOND": "1000",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def run(*days: str) -> Ended:
    start, end = days or ("2024-01-01", "2024-01-03")
    return command(["run", "--start", start, "--end", end])


def assert_no_secret(ended: Ended, folder: Path) -> None:
    secret = SECRET.encode()
    assert secret not in ended.out + ended.err.encode()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)  # Dagster's own storage is among them
    assert [path for path in files if secret in path.read_bytes()] == []


def test_a_run_loads_its_days_and_leaves_the_secret_nowhere(
    account: EmulatorServer, world: World, tmp_path: Path
) -> None:
    ended = run()
    assert ended.code == 0, ended.err
    assert ended.out == b""
    assert [line[:22] for line in sorted(lines(ended))[:2]] == [
        *("2024-01-01 published: ", "2024-01-02 published: ")
    ]
    assert re.search(r"done: \d+ checks ran, 0 warned; the tables are in ", lines(ended)[-1])
    page = json.loads(command(["buckets", "--start", "2024-01-01"]).out)
    assert page["data"] == world.usage(START, START + 2 * DAY)
    assert account.requests
    assert_no_secret(ended, tmp_path)


FAULTS = {
    "a bad key": ({"MKA1_API_KEY": SECRET + "x"}, None, r"refused with 401: .* MKA1_API_KEY"),
    "a spent quota": (
        {},
        Faults(quota=0, quota_retry_after=3_600),
        r"a quota of this key is spent",
    ),
    "a server that is down": ({"MKA1_BASE_URL": "http://127.0.0.1:1"}, None, r"ConnectError"),
    "a server that is ill": ({}, Faults(rates={"server_error": 1}, max_consecutive=99), "500|502"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_fails_says_why_and_how_to_resume(
    fault: str, account: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, faults, why = FAULTS[fault]
    account.faults = faults or Faults()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = run()
    assert (ended.code, ended.out) == (1, b"")
    [error] = [line for line in lines(ended) if line.startswith("mka1-usage: error: ")]
    assert re.search(why, error)
    assert ended.err.count("2024-01-01:") == 1
    assert (
        "Loaded and kept: 0 of 2 days. "
        "Resume with: mka1-usage run --start 2024-01-01 --end 2024-01-03\n"
    ) in ended.err
    assert "Traceback" not in ended.err
    assert "agster" not in ended.err
    assert_no_secret(ended, tmp_path)


@pytest.mark.parametrize(
    "flags",
    [
        ["--full"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["--usage-only"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_what_a_failed_run_says_to_type_finishes_it_with_the_same_flags(
    flags: list[str], account: EmulatorServer, tmp_path: Path
) -> None:
    account.faults = Faults(quota=1, quota_retry_after=3_600)
    ended = command(["run", *flags, "--start", "2024-01-01", "--end", "2024-01-03"])
    assert ended.code == 1
    resume = re.search(r"Resume with: mka1-usage (run .*)\n", ended.err)
    assert resume
    assert resume[1] == " ".join(["run", *flags, "--start 2024-01-01 --end 2024-01-03"])
    account.faults = Faults()
    assert command(resume[1].split()).code == 0
    lake = Lake(tmp_path / "home" / "lake")
    assert lake.days("usage_1d") == [date(2024, 1, 1), date(2024, 1, 2)]


def test_a_home_that_cannot_be_written_to_is_named(
    account: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MKA1_USAGE_HOME", str(tmp_path / "file"))
    ended = run()
    assert ended.code == 1
    assert str(tmp_path / "file") in lines(ended)[-1]
    assert "set MKA1_USAGE_HOME" in lines(ended)[-1]
    assert "Errno" not in ended.err
    assert account.requests == []


def test_failures_and_warnings_of_a_run_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(("it broke",), ("it creaked",), 16)
    monkeypatch.setattr("pipeline.orchestration.runs.run_days", lambda *_: outcome)
    monkeypatch.setenv("MKA1_API_KEY", SECRET)
    ended = run()
    assert ended.code == 1
    assert lines(ended)[1:] == ["mka1-usage: warning: it creaked", "mka1-usage: error: it broke"]
    monkeypatch.setattr(
        "pipeline.orchestration.runs.run_days", lambda *_: replace(outcome, failures=())
    )
    ended = run()
    assert ended.code == 0
    assert "16 checks ran, 1 warned" in lines(ended)[-1]


def test_an_interrupted_run_ends_with_130_and_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.orchestration.runs.run_days", interrupted)
    monkeypatch.setenv("MKA1_API_KEY", SECRET)
    ended = run()
    assert ended.code == 130
    assert "the days published so far are kept" in lines(ended)[-1]
