"""`mka1-usage` as a person or a script uses it: exit codes, streams, one clear line an error."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import app
from pipeline.emulator import Event, ManualClock, World, synthetic_world
from pipeline.orchestration.runs import Outcome
from pipeline.settings import load_settings
from pipeline.timeline import DAY, Window, parse_time
from tests.fixtures_local import Ended, clean_environment, command, published_home

START = parse_time("2024-01-01")
COMMANDS = [it.callback.__name__.replace("_", "-") for it in app.registered_commands if it.callback]
SECRET = "planted-" + "5ec2e7" * 4
NOW = parse_time("2024-03-10T12:34:56Z")
NEEDS_KEY = {"MKA1_API_KEY": SECRET}
TODAY = "2024-03-10"


@pytest.fixture(scope="module")
def world() -> World:
    return synthetic_world(days=2, users=15)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """A home with two made-up days. Tests only read it."""
    return published_home(tmp_path_factory.mktemp("home"), world, Window(START, START + 2 * DAY))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


def lines(ended: Ended) -> list[str]:
    return ended.err.splitlines()


# Arguments and settings

MISUSED: list[tuple[str, Mapping[str, str], str]] = [
    ("buckets", {}, "say which time: --start, or a period such as --last-month"),
    ("buckets --start yesterday", {}, "'yesterday' is not a time"),
    ("buckets --start 2024-01-01T00:00:00.5", {}, "fraction of a second"),
    ("buckets --start 2024-01-02 --end 2024-01-02", {}, "--end is 2024-01-02T00:00:00Z"),
    ("buckets --start 2024-01-01 --end 2023-01-01", {}, "the window is empty"),
    ("buckets --start 2024-01-01 --width 2d", {}, "'2d' is none of 1m, 5m, 15m, 1h, 6h, 1d, 1w"),
    ("buckets --start 2024-01-01 --tz Asia/Karach", {}, "did you mean Asia/Karachi"),
    ("buckets --start 2024-01-01 --tz ''", {}, "no time zone"),
    ("buckets --start 2024-01-01 --limit 0", {}, "limit is 0: .*from 1 to 1440"),
    ("buckets --start 2024-01-01 --limit 1441", {}, "limit is 1441"),
    ("buckets --start 2024-01-01 --limit x", {}, "--limit"),
    ("buckets --start 2024-01-01 --group-by org_id", {}, "'org_id' is none of user_id, api_key_id"),
    ("buckets --start 2024-01-01 --group-by user_id --group-by user_id", {}, "repetition"),
    ("buckets --start 2024-01-01 --page x", {}, "page 'x' is not a cursor"),
    ("buckets --start 2024-01-01 --user-id \udcff", {}, "UTF-8"),
    ("buckets --start 2024-01-01", {"MKA1_USAGE_LOOKBACK_DAYS": "x"}, "MKA1_USAGE_LOOKBACK_DAYS"),
    ("status --start 2024-01-03 --end 2024-01-02", {}, "the window is empty"),
    ("reconcile --start 2024-01-03 --end 2024-01-03", {}, "the window is empty"),
    ("sql", {}, "one query is wanted, 0 were given"),
    ("sql selec", {}, "syntax error"),
    ("sql --format xml x", {}, "'xml' is none of table, csv, json, parquet"),
    ("emulator --port 99999", {}, "--port"),
    ("emulator --days 0", {}, "--days"),
    ("emulator --trace /nope.csv", {}, "/nope.csv"),
    ("emulator --start 2024-13-01", {}, "is not a time"),
    ("run", {}, "MKA1_API_KEY is not set"),
    ("run", {"MKA1_API_KEY": "two words"}, "MKA1_API_KEY"),
    ("run", {**NEEDS_KEY, "MKA1_BASE_URL": "ftp://x"}, "MKA1_BASE_URL"),
    ("run", {**NEEDS_KEY, "MKA1_BASE_URL": f"https://u:{SECRET}@x"}, "MKA1_BASE_URL"),
    ("run", {**NEEDS_KEY, "MKA1_USAGE_CONCURRENCY": "0"}, "MKA1_USAGE_CONCURRENCY"),
    ("run", {**NEEDS_KEY, "MKA1_API_KEYS": SECRET}, "MKA1_API_KEYS: entry 1 is not key_id=secret"),
    ("run --start soon", NEEDS_KEY, "'soon' is not a time"),
    ("run --start 2024-01-03 --end 2024-01-02", NEEDS_KEY, "the window is empty"),
    ("run --start 2024-01-01T06:00 --end 2024-01-01T03:00", NEEDS_KEY, "the window is empty"),
    ("run --start 2024-01-01T06:00 --end 2024-01-01T06:00", NEEDS_KEY, "the window is empty"),
    ("run --end 2024-01-02", NEEDS_KEY, "give --start"),
    ("run --start 2023-12-31", NEEDS_KEY, "set MKA1_USAGE_FIRST_DAY to 2023-12-31 or earlier"),
    ("run --start 2024-03-11", NEEDS_KEY, f"2024-03-11 has not begun: .* today, {TODAY}"),
    ("run --start 2024-03-01 --end 2024-03-12", NEEDS_KEY, "--end lies in the future"),
    ("nope", {}, "No such command"),
    ("demo extra", {}, "unexpected extra argument"),
]


@pytest.mark.parametrize(("line", "environment", "complaint"), MISUSED)
def test_bad_arguments_and_settings_end_with_2_and_a_line_that_names_them(
    line: str, environment: Mapping[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = command(line.split(" "))
    assert ended.code == 2
    assert ended.out == b""
    assert re.search(complaint, lines(ended)[0] if len(lines(ended)) == 1 else ended.err)
    assert SECRET not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("start", "end", "now", "first", "last"),
    [
        ("2024-01-01", "2024-01-08", TODAY, "2024-01-01", "2024-01-07"),
        ("2024-01-01T23:59:59", "2024-01-02T00:00:01", TODAY, "2024-01-01", "2024-01-02"),
        (str(START), str(START + 1), TODAY, "2024-01-01", "2024-01-01"),
        (None, None, "2024-03-10T00:01:00", "2024-03-07", "2024-03-10"),
        # Seconds after midnight the new day has no closed minute: today is still yesterday.
        (None, None, "2024-03-10T00:00:59", "2024-03-06", "2024-03-09"),
        (None, None, "2024-01-02T12:00", "2024-01-01", "2024-01-02"),
        (None, "2024-03-10", "2024-03-10T12:00", "2024-03-07", "2024-03-09"),
        ("2024-03-10", "2024-03-11", "2024-03-10T12:00", "2024-03-10", "2024-03-10"),
        ("2024-03-09", None, "2024-03-10T12:00", "2024-03-09", "2024-03-10"),
    ],
)
def test_a_run_is_about_the_utc_days_that_its_window_touches(
    start: str | None,
    end: str | None,
    now: str,
    first: str,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = what_runs_ask_for(monkeypatch)
    monkeypatch.setattr(time, "time", lambda: parse_time(now))
    monkeypatch.setenv("MKA1_API_KEY", SECRET)
    given = (("--start", start), ("--end", end))
    ended = command(["run", *(word for name, at in given if at for word in (name, at))])
    assert ended.code == 0
    reads = "full" if start else "totals"
    assert asked == [(date.fromisoformat(first), date.fromisoformat(last), reads)]
    assert f"loading {first} to {last} from https://apigw.mka1.com" in ended.err


def what_runs_ask_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[date, date, str]]:
    """The days of each run from now on, and how much of them it reads; none is carried out."""
    asked: list[tuple[date, date, str]] = []

    def run_days(
        _: object, first: date, last: date, console: object, flags: object, reads: str
    ) -> Outcome:
        asked.append((first, last, reads))
        return Outcome((), (), 13)

    monkeypatch.setattr("pipeline.orchestration.runs.run_days", run_days)
    return asked


def test_the_trailing_window_is_read_minute_by_minute_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = what_runs_ask_for(monkeypatch)
    monkeypatch.setenv("MKA1_API_KEY", SECRET)
    assert command(["run", "--full", "--usage-only"]).code == 0
    assert [reads for _, _, reads in asked] == ["full"]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_the_terminal_and_is_not_cut_off(name: str) -> None:
    ended = command([*name.split(), "--help"])
    assert ended.code == 0
    assert max(map(len, ended.text.splitlines())) <= 80
    assert "..." not in ended.text.replace("[ARGS]...", "")
    assert not re.search(r"<(str|int|list|path)", re.sub(r"(QUERY|DIR|USER) <\w+>", "", ended.text))


# Buckets


def test_buckets_are_one_page_of_json_with_a_cursor_that_works(world: World) -> None:
    options = "buckets --width 1h --start 2024-01-01 --end 2024-01-03 --limit 30 --group-by user_id"
    first = command(options.split())
    page = json.loads(first.out)
    assert (first.code, first.err, first.out[-1:]) == (0, "", b"\n")
    second = command([*options.split(), "--page", page["next_page"]])
    rest = json.loads(second.out)
    assert rest["has_more"] is False
    expected = world.usage(START, START + 2 * DAY, "1h", ("user_id",))
    assert page["data"] + rest["data"] == expected


def test_a_page_that_is_printed_while_it_is_counted_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["buckets", "--width", "1h", "--start", "2024-01-01", "--group-by", "user_id"]
    whole = command(options)
    monkeypatch.setattr("pipeline.cli.querying._SHORT", 1)
    assert command(options).out == whole.out != b""


def test_buckets_of_a_time_zone_begin_at_its_midnights_and_so_do_the_times_that_one_types() -> None:
    options = "--tz Asia/Kolkata --start 2024-01-02 --end 2024-01-03"
    ended = command(["buckets", *options.split(), "--partial"])
    assert ended.code == 0
    [day] = json.loads(ended.out)["data"]
    assert day["start_time"] == parse_time("2024-01-01T18:30:00Z")
    assert day["end_time"] == parse_time("2024-01-02T18:30:00Z")
    assert day["results"][0]["num_operations"] > 0


def test_users_with_odd_ids_can_be_filtered_by(world: World) -> None:
    users = ["ユーザー七", 'o"brien, "pat"', "it's;--\\n", "100%+plus&more=yes"]
    ended = command(
        ["buckets", "--start", "2024-01-01", "--group-by", "user_id"]
        + [word for user in users for word in ("--user-id", user)]
    )
    expected = world.usage(START, START + 2 * DAY, "1d", ("user_id",), users)
    assert json.loads(ended.out)["data"] == expected
    assert "ユーザー七" in ended.text
    assert any(bucket["results"] for bucket in expected)


@pytest.mark.parametrize(
    ("options", "code", "note"),
    [
        ("--end 2024-01-04", 1, "error: not loaded: 2024-01-03. Load with `mka1-usage run "),
        ("--end 2024-01-04 --partial", 0, "note: complete through 2024-01-03T00:00:00Z only"),
        ("--end 2024-01-03", 0, ""),
    ],
)
def test_days_that_are_not_loaded_are_refused_or_noted(options: str, code: int, note: str) -> None:
    ended = command(["buckets", "--start", "2024-01-01", *options.split()])
    assert ended.code == code
    assert ended.err.startswith(f"mka1-usage: {note}" if note else "")
    assert bool(ended.err) == bool(note)
    assert bool(ended.out) == (code == 0)


def test_an_open_day_is_noted_on_stderr_and_data_alone_is_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World.from_events([Event(START, "u", "k", 0, 0, 1)], clock=ManualClock(START + 5_430))
    monkeypatch.setenv(
        "MKA1_USAGE_HOME", str(published_home(tmp_path, world, Window(START, START + 1)))
    )
    ended = command(["buckets", "--start", "2024-01-01"])
    assert ended.code == 0
    assert ended.err == "mka1-usage: note: complete through 2024-01-01T01:30:00Z only\n"
    assert json.loads(ended.out)["data"][0]["results"][0]["num_operations"] == 1


# SQL


def test_sql_prints_a_table_or_a_format() -> None:
    query = "select count(*) as n from usage_1d; -- all of it"
    table = command(["sql", query])
    assert table.code == 0
    assert "│" in table.text
    n = json.loads(command(["sql", "--format", "json", query]).out)[0]["n"]
    assert n > 0
    assert command(["sql", query, "--format", "csv"]).out == f"n\n{n}\n".encode()
    assert command(["sql", query, "--format", "parquet"]).out[:4] == b"PAR1"


def test_sql_without_tables_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", "data")
    ended = command(["sql", "from usage_1d"])
    assert ended.code == 1
    path = Path("data") / "usage.duckdb"
    assert ended.err.startswith(f"mka1-usage: error: there is no {path} yet: load days with")
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_a_env_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKA1_USAGE_HOME")
    (tmp_path / ".env").write_text(f"MKA1_API_KEY={SECRET}\nMKA1_USAGE_HOME=elsewhere\n")
    settings: Any = load_settings()
    assert settings.home == tmp_path / "elsewhere"
    assert settings.key().get_secret_value() == SECRET
    assert SECRET not in repr(settings) + str(settings)


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_setting_is_warned_of_once_and_its_value_not_shown(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slips = {"MKA1_APIKEY": SECRET, "MKA1_USAGE_HOMES": SECRET, "MKA1_USAGE_QQQQQQ": SECRET}
    if place == ".env":
        lines = "".join(f"{name}={value}\n" for name, value in slips.items())
        (tmp_path / ".env").write_text(lines)
    else:
        for name, value in slips.items():
            monkeypatch.setenv(name, value)
    ended = command(["buckets", "--start", "2024-01-01"])
    assert ended.code == 0
    assert ended.err.splitlines()[:3] == [
        "mka1-usage: warning: MKA1_APIKEY is no setting, so it is ignored: MKA1_API_KEY?",
        "mka1-usage: warning: MKA1_USAGE_HOMES is no setting, so it is ignored: MKA1_USAGE_HOME?",
        "mka1-usage: warning: MKA1_USAGE_QQQQQQ is no setting, so it is ignored",
    ]
    assert ended.err.count("warning") == 3
    assert SECRET not in ended.err + ended.text
    assert "mka1-usage: warning" not in command(["doctor"]).err, "it has findings"
