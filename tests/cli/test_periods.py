"""--last-month and the like stand for --start and --end wherever these are taken."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import typer.main

from pipeline.cli import app, options
from pipeline.emulator import World
from pipeline.timeline import DAY, Window
from tests.fixtures_local import clean_environment, command, published_home
from tests.report.scenes import START, one_a_day

COMMANDS = ["run", "status", "reconcile", "rollup", "buckets", "report", "export", "pull", "push"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Monday to Wednesday, 1 to 3 January 2024. Tests only read it."""
    world = World.from_events(one_a_day(["a", "b"], range(3)))
    window = Window(START, START + 3 * DAY)
    return published_home(tmp_path_factory.mktemp("home"), world, window)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    """Thursday, 4 January 2024, and Friday already in the east."""
    days = {"UTC": date(2024, 1, 4), "Asia/Tokyo": date(2024, 1, 5)}
    monkeypatch.setattr(options, "today", days.__getitem__)
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


def test_every_command_that_takes_a_start_and_an_end_takes_periods() -> None:
    group = typer.main.get_command(app)
    found = {
        name: {option for one in sub.params for option in one.opts}
        for name, sub in group.commands.items()  # type: ignore[attr-defined]
    }
    timed = {name for name, given in found.items() if {"--start", "--end"} <= given}
    assert timed == set(COMMANDS)
    for name in timed:
        assert {"--today", "--yesterday", "--this-week", "--last-week"} <= found[name]
        assert {"--last-7-days", "--this-month", "--last-month"} <= found[name]


@pytest.mark.parametrize(
    ("asked", "the_same"),
    [
        ("buckets --this-week", "--start 2024-01-01"),
        ("buckets --yesterday", "--start 2024-01-03 --end 2024-01-04"),
        ("buckets --yesterday --partial --tz Asia/Tokyo", "--start 2024-01-04 --end 2024-01-05"),
        ("buckets --last-7-days --partial", "--start 2023-12-28 --end 2024-01-04"),
        ("status --last-month", "--start 2023-12-01 --end 2024-01-01"),
    ],
)
def test_a_period_is_the_same_as_its_start_and_end(asked: str, the_same: str) -> None:
    words = asked.split()
    named = command(words)
    period = next(word for word in words if word.startswith(("--this", "--last", "--yesterday")))
    without = [word for word in words if word != period]
    written = command([*without, *the_same.split()])
    assert named.code == written.code == 0, named.err
    assert named.text == written.text
    assert named.text.strip()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("--last-week --this-week", "--this-week and --last-week are two periods: give one"),
        ("--today --start 2024-01-01", "--today says it all: leave out --start and --end"),
        ("--last-month --end 2024-01-01", "--last-month says it all: leave out --start and --end"),
    ],
)
def test_a_period_is_given_alone(name: str, given: str, complaint: str) -> None:
    ended = command([name, *given.split()])
    assert (ended.code, ended.out) == (2, b"")
    assert complaint in " ".join(ended.err.split())
    assert not list(Path().iterdir())


def test_a_period_of_which_nothing_is_loaded_is_said() -> None:
    ended = command(["report", "--last-week"])
    assert ended.code == 1
    assert "no day of 2023-12-25 to 2023-12-31 is loaded" in ended.err


def test_a_period_before_the_first_day_is_refused_by_its_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MKA1_API_KEY", "key")
    ended = command(["run", "--last-month"])
    assert (ended.code, ended.out) == (2, b"")
    assert "2023-12-01 is before the first day, 2024-01-01: set MKA1_USAGE_FIRST_DAY" in " ".join(
        ended.err.split()
    )
