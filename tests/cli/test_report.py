"""`mka1-usage report` as a person or a script uses it: files whole or not at all, one line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pytest

from pipeline.emulator import World
from pipeline.report import writing
from pipeline.timeline import DAY, Window
from tests.fixtures_local import Ended, clean_environment, command, published_home
from tests.named import write_names
from tests.report.scenes import START, Bucket, listed, one_a_day


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six days. Tests only read it."""
    world = World.from_events(one_a_day(["a", "--b"], range(6)))
    window = Window(START, START + 6 * DAY)
    return published_home(tmp_path_factory.mktemp("home"), world, window)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


@pytest.fixture
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose charts are not drawn: that takes most of a report's time."""
    monkeypatch.setattr("pipeline.report.page._both", lambda *_: "")


def title(text: str) -> str:
    found = re.search("<h1>(.*?)</h1>", text)
    assert found is not None
    return found[1]


def test_it_says_which_days_and_where_the_file_is(tmp_path: Path) -> None:
    ended = command(["report"])
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err == "mka1-usage: 2024-01-01 to 2024-01-06 (UTC): usage.html\n"
    assert [path.name for path in tmp_path.iterdir()] == ["usage.html"]
    assert title((tmp_path / "usage.html").read_text("utf-8")) == "1 to 6 January 2024"


def test_it_goes_to_stdout_too_and_the_pictures_to_a_folder(tmp_path: Path) -> None:
    ended = command(["report", "-o", "-", "--png", "charts/january"])
    assert ended.code == 0
    assert ended.text.startswith("<!DOCTYPE html>")
    drawn = sorted(path.name for path in (tmp_path / "charts" / "january").iterdir())
    assert drawn == [
        "active-users.png",
        "coverage.png",
        "keys.png",
        "usage.png",
        "users.png",
        "week.png",
    ]
    assert ended.err.endswith("6 pictures in charts/january\n")


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize(
    ("options", "days"),
    [
        ("--start 2024-01-03", "3 to 6 January 2024"),
        ("--start 2024-01-03 --end 2024-01-05", "3 to 4 January 2024"),
        ("--start 2024-01-03T15:00 --end 2024-01-04T00:01", "3 to 4 January 2024"),
        ("--end 2024-01-03", "1 to 2 January 2024"),
        ("--start 2024-01-03 --end 2024-01-04 --tz Asia/Tokyo", "3 January 2024"),
        ("--start 2024-01-03T20:00Z --end 2024-01-04 --tz America/New_York", "3 January 2024"),
        ("--start 2024-01-03T20:00Z --end 2024-01-05 --tz Asia/Tokyo", "4 January 2024"),
        ("--tz America/New_York", "1 to 5 January 2024"),
        ("--tz Asia/Kathmandu", "2 to 6 January 2024"),
    ],
)
def test_a_day_that_the_window_touches_is_in_it_whole(options: str, days: str) -> None:
    ended = command(["report", "-o", "-", *options.split()])
    assert ended.code == 0, ended.err
    assert title(ended.text) == days


PARTS: list[tuple[str, str, str]] = [
    ("--user a", "user Ada", "1 user with 1 API key made 21 operations"),
    ("--user=--b", "user --b", "1 user with 1 API key made 21 operations"),
    ("--key key", "API key key", "2 users with 1 API key made 42 operations"),
    ("--team 'R&D \"x\"'", 'team R&D "x"', "1 user with 1 API key made 21 operations"),
    ("--team crew --user a", "user Ada, team The crew", "1 user with 1 API key made 21"),
    ("--team crew --user=--b", "user --b, team The crew", "There is no usage of user --b, team"),
    ("--user=it\\'s", "user it's", "There is no usage of user it's in what is loaded"),
]


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize(("options", "of", "lead"), PARTS)
def test_a_part_is_what_is_asked_for_and_the_page_names_the_command_that_makes_it_again(
    options: str, of: str, lead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write_names(tmp_path, "user,a,Ada,crew", 'user,--b,,"R&D ""x"""', "team,crew,The crew,")
    monkeypatch.setenv("MKA1_USAGE_NAMES", str(names))
    ended = command(["report", *shlex.split(options)])
    assert ended.code == 0, ended.err
    assert ended.err == f"mka1-usage: 2024-01-01 to 2024-01-06 (UTC), {of}: usage.html\n"
    text = unescape((tmp_path / "usage.html").read_text("utf-8"))
    assert f'<p class="of"><bdi>Of {of}</bdi></p>' in text
    assert lead in text
    [again] = re.findall("To make this report again: <code>mka1-usage (.*?)</code>", text)
    ended = command([*shlex.split(again), "-o", "-"])
    assert unescape(ended.text) == text


WRONG: list[tuple[str, int, str]] = [
    ("--tz Mars/Olympus", 2, "'Mars/Olympus' is no time zone"),
    ("--start soon", 2, "'soon' is not a time"),
    ("--start 2024-01-03 --end 2024-01-03", 2, "the window is empty"),
    ("--start 2024-01-03 --end 2024-01-02", 2, "the window is empty"),
    ("--start 1990-01-01", 2, "more than 3,660 days"),
    ("--start 9999-12-30", 2, "too far in the future"),
    ("--start 2025-01-01 --end 2025-02-01", 1, "no day of 2025-01-01 to 2025-01-31 is loaded"),
    ("--user=", 2, "it is empty: give an id, or leave the option out"),
    ("--key=\udcff", 2, "is not UTF-8"),
    ("--model large", 1, "no response of this model is listed"),
    ("--team crew", 1, "nobody is in the team 'crew': names.csv (MKA1_USAGE_NAMES) says who"),
    ("-o missing/usage.html", 1, "missing/usage.html: No such file or directory"),
    ("-o .", 1, "is a folder: name a file in it"),
    ("--png usage.csv", 1, "usage.csv: File exists"),
]


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize(("options", "code", "complaint"), WRONG)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    options: str, code: int, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "usage.csv").touch()
    ended: Ended = command(["report", *options.split()])
    assert ended.code == code
    assert complaint in ended.err
    assert ended.out == b""
    assert "Traceback" not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["usage.csv"]


@pytest.mark.usefixtures("_without_charts")
def test_costs_are_those_of_the_price_list_and_a_wrong_one_is_said_in_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "spoken"
    listed(home / "lake", [Bucket(0)], range(1), range(1))
    monkeypatch.setenv("MKA1_USAGE_HOME", str(home))
    assert "Cost by" not in command(["report", "-o", "-"]).text
    (home / "prices.csv").write_text(
        "model,valid_from,currency,input,output\n*,2024-01-01,usd,1,2\n"
    )
    ended = command(["report", "-o", "-"])
    assert ended.code == 0, ended.err
    assert "0.0012 USD by the price list" in ended.text
    (home / "prices.csv").write_text("model,valid_from,currency,input,output\n*,soon,usd,1,2\n")
    ended = command(["report"])
    assert ended.code == 2
    assert re.fullmatch(
        r"mka1-usage: error: .*prices\.csv, line 2, column valid_from: valid_from is 'soon'.*\n",
        ended.err,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["spoken"]


@pytest.mark.usefixtures("_without_charts")
def test_budgets_are_in_it_and_what_is_wrong_with_them_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "budgets.csv"
    monkeypatch.setenv("MKA1_USAGE_BUDGETS", str(path))
    path.write_text("scope,id,period,measure,amount\nuser,a,week,operations,20\n")
    ended = command(["report", "-o", "-"])
    assert ended.code == 0, ended.err
    assert "At 7 January 2024, 00:00, 1 of 1 budget is used up." in ended.text
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", "k" * 40)
    ended = command(["report", "-o", "-"])
    assert ended.code == 1
    assert "was written with user ids as they are" in ended.err
    path.write_text("scope,id,period,measure,amount\nuser,a,year,operations,20\n")
    ended = command(["report", "-o", "-"])
    assert ended.code == 2
    assert re.fullmatch(
        r"mka1-usage: error: .*budgets\.csv, line 2, column period: .*\n", ended.err
    )


def test_without_a_lake_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", "nowhere")
    ended = command(["report"])
    assert ended.code == 1
    assert re.fullmatch(
        r"mka1-usage: error: nothing is loaded in .*nowhere/lake: load .* `mka1-usage run`\n",
        ended.err,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_lake_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.from_events(one_a_day(["a"], range(1)))
    home = published_home(tmp_path / "home", world, Window(START, START + DAY))
    [file] = home.glob("lake/.versions/*/*/usage_1h.parquet")
    file.chmod(0o600)
    file.write_bytes(b"PAR1 and no more")
    monkeypatch.setenv("MKA1_USAGE_HOME", str(home))
    ended = command(["report"])
    assert ended.code == 1
    assert "cannot be read" in ended.err
    assert "`mka1-usage verify`" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("last", ["b", "missing/b", "folder"])
def test_all_files_are_written_or_none(tmp_path: Path, last: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_bytes(b"before")
    files: dict[Path, bytes] = {tmp_path / "a": b"now", tmp_path / last: b"too"}
    if last == "b":
        writing.write(files)
    else:
        with pytest.raises(OSError, match=last):
            writing.write(files)
    assert (tmp_path / "a").read_bytes() == (b"now" if last == "b" else b"before")
    left: Sequence[str] = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["a", "b", "folder"] if last == "b" else ["a", "folder"])
