"""The digest says what a week came to, what of it is not known, and what to run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.store import Lake
from pipeline.notify.digest import last_week, make_digest
from pipeline.notify.message import Message
from pipeline.notify.rendering import as_text
from pipeline.report.figures import NothingToReportError
from pipeline.settings import load_settings
from pipeline.timeline import DAY, day_range, day_window
from tests.documented import blocks
from tests.synced import Reader
from tests.truth import in_2024

MONDAY = date(2024, 1, 1)
NOW = day_window(MONDAY).start + 7 * DAY
PRICES, BUDGETS = blocks((Path(__file__).parents[2] / "docs" / "pricing.md").read_text(), "csv")


@pytest.mark.parametrize(
    ("now", "monday"),
    [
        ("2024-01-08T00:00:00", "2024-01-01"),
        ("2024-01-07T23:59:59", "2023-12-25"),
        ("2024-01-14T12:00:00", "2024-01-01"),
        ("2024-03-01T06:00:00", "2024-02-19"),
    ],
)
def test_the_last_week_is_the_last_that_is_over(now: str, monday: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    assert str(last_week(moment)) == monday


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a week of usage and responses, prices and budgets."""
    home = tmp_path_factory.mktemp("week") / "home"
    world = synthetic_world(users=5, conversations_per_user_day=1.5, clock=in_2024)
    with EmulatorServer(world) as server:
        reader = Reader(server, Lake(home / "lake"), list(day_range(MONDAY, date(2024, 1, 7))))
        reader.load()
        reader.sync()
    (home / "prices.csv").write_text(PRICES)
    (home / "budgets.csv").write_text(BUDGETS)
    (home / "names.csv").write_text(
        "kind,id,name,team\nuser,user_0000,,research\nuser,user_0001,Ada,\nteam,research,Labs,\n"
    )
    return home


def digest(home: Path, now: float = NOW) -> Message:
    """The digest of a home."""
    settings = load_settings(home=home)
    return make_digest(Lake(settings.lake), settings.thresholds, settings, now)


def parts(message: Message) -> Mapping[str, str]:
    """Lines and command by heading."""
    return {part.heading: "\n".join([*part.lines, part.command]) for part in message.parts}


@pytest.mark.slow
def test_a_week_of_usage_tokens_money_and_budgets_is_a_message(week: Path) -> None:
    message = digest(week)
    said = parts(message)
    assert next(iter(said)) == "Usage"
    assert message.parts[-1].heading == "These numbers may still change"
    assert message.parts[-1].lines == ("Provisional: 7 January 2024",)
    assert (
        message.title
        == f"Usage of 1 to 7 January 2024: {message.data['operations']} operations so far"
    )
    assert "mka1-usage report --start 2024-01-01 --end 2024-01-08" in said["Usage"]
    assert "Cost: 0." in said["Tokens and cost, of the responses that were listed"]
    assert (
        f"{message.data['tokens']:,}" in said["Tokens and cost, of the responses that were listed"]
    )
    budgets = said["Budgets, at the end of the week"]
    assert "tokens of user Ada (user_0001) in the day: " in budgets
    assert "operations of team Labs (research) in the month: " in budgets
    assert message.data["top_users"][0]["operations"] > message.data["top_users"][1]["operations"]
    assert message.data["days"]["2024-01-06"] == "final"
    assert message.id == digest(week, NOW + 6 * DAY).id
    assert as_text(message).isascii() is False  # ids of any script stand as they are


@pytest.mark.slow
def test_what_is_not_loaded_is_said_first_with_the_command_that_loads_it(
    week: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(week, home, symlinks=True)
    (home / "lake" / "days" / "2024-01-03").unlink()
    message = digest(home)
    assert message.title.endswith(" operations, and 1 day is not whole")
    first = message.parts[0]
    assert first.heading == "These numbers are not whole"
    assert first.lines == ("Not loaded: 3 January 2024", "Provisional: 7 January 2024")
    assert first.command == "mka1-usage run --start 2024-01-03 --end 2024-01-04"
    assert message.data["days"]["2024-01-03"] == "missing"
    assert "1 error now" in parts(message)["Alerts"]


def test_a_week_of_which_nothing_is_loaded_is_no_digest(tmp_path: Path) -> None:
    with pytest.raises(NothingToReportError, match="nothing is loaded in"):
        digest(tmp_path)
