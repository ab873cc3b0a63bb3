"""What a shell completes: commands, options, and the values of those that take a choice."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.cli import app
from pipeline.emulator import Event, World
from pipeline.timeline import DAY, Window, parse_time
from tests.bounded import finished
from tests.fixtures_local import clean_environment, command, published_home
from tests.named import write_names
from tests.report.scenes import Bucket, listed

START = parse_time("2024-01-01")

MAIN = """
import contextlib, io, json, os, sys
lines, sys.argv = json.loads(sys.argv[1]), ["mka1-usage"]
from pipeline.cli import app
answers = []
for asked in lines:
    os.environ.update(asked)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        app()
    answers.append([out.getvalue(), [*{"dagster", "duckdb", "pyarrow"} & set(sys.modules)]])
print(json.dumps(answers))
"""


def asking(shell: str, line: str) -> Mapping[str, str]:
    """The variables by which `shell` asks for what may stand at the end of `line`."""
    words = line.split(" ")
    return {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]


@cache
def completed(shell: str) -> Mapping[str, tuple[set[str], list[str]]]:
    """What `shell` is offered at the end of each line, and which heavy modules that took.

    All lines are asked for in one process: most of its time goes into imports.
    """
    lines = [line for line, _ in CASES]
    done = finished(
        [sys.executable, "-c", MAIN, json.dumps([asking(shell, line) for line in lines])],
        env={
            **os.environ,
            "_MKA1_USAGE_COMPLETE": f"complete_{shell}",
            "MKA1_API_KEYS": "key_web=one-secret,key_mobile=another-secret",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    answers: dict[str, tuple[set[str], list[str]]] = {}
    for line, (text, heavy) in zip(lines, json.loads(done.stdout), strict=True):
        in_zsh = re.findall(r'^(?:_arguments .*\(\()?"([^"]+)"', text, re.MULTILINE)
        offered = in_zsh if shell == "zsh" else text.splitlines()
        answers[line] = {one.partition("\t")[0] for one in offered}, heavy
    return answers


CASES = [
    ("mka1-usage buckets --width ", {"1m", "1h", "1d"}),
    ("mka1-usage buckets --group-by u", {"user_id"}),
    ("mka1-usage sql --format p", {"parquet"}),
    ("mka1-usage doctor --format ", {"table", "json"}),
    ("mka1-usage ver", {"verify"}),
    ("mka1-usage doctor --d", {"--deep"}),
    ("mka1-usage report --tz Asia/Kar", {"Asia/Karachi"}),
    ("mka1-usage probe --key-id key_m", {"key_mobile"}),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_a_value_is_completed_and_nothing_heavy_is_imported(
    shell: str, line: str, offered: set[str]
) -> None:
    found, imported = completed(shell)[line]
    assert offered <= found
    assert imported == []
    if len(offered) == 1:
        assert found == offered


def test_every_option_that_takes_a_choice_completes_it() -> None:
    import typer

    choices = 0
    for one in vars(typer.main.get_command(app))["commands"].values():
        for param in one.params:
            names = str(getattr(param, "metavar", None) or "").split("|")
            if len(names) > 1:
                choices += 1
                context = typer.Context(one)
                offered = [item.value for item in param.shell_complete(context, "")]
                assert offered == names
    assert choices >= 4


def offered(command: str, param: str, incomplete: str) -> dict[str, str]:
    """What is offered for a value of a command, and the word beside it."""
    import typer

    found = vars(typer.main.get_command(app))["commands"][command]
    [one] = [one for one in found.params if one.name == param]
    items = one.shell_complete(typer.Context(found), incomplete)
    return {item.value: item.help or "" for item in items}


def offered_users(incomplete: str) -> list[str]:
    """What is offered for --user-id of buckets."""
    return [*offered("buckets", "user_id", incomplete)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A day of a few users, one of them with an id that a shell would take apart."""
    clean_environment(
        monkeypatch, tmp_path, {"MKA1_USAGE_HOME": "home", "MKA1_API_KEYS": "key_web=one-secret"}
    )
    calls = {"ada": 1, "alan": 3, "bob": 2, "a b;c": 9, "u_7": 1}
    events = [Event(START, user, "key_web", operations=number) for user, number in calls.items()]
    return published_home(tmp_path / "home", World.from_events(events), Window(START, START + DAY))


def test_users_are_completed_from_the_lake_the_busiest_first(home: Path) -> None:
    assert offered_users("") == ["alan", "bob", "ada", "u_7"]
    assert offered_users("a") == ["alan", "ada"]
    assert offered_users("%") == []
    assert offered("forget", "user", "a") == offered("probe", "on_behalf_of", "a")
    [file] = (home / "lake").glob("days/*/usage_1d.parquet")
    file.write_bytes(b"damaged")
    assert offered_users("a") == []


NAMED = [
    ("grace", {"u_7": "Grace Hopper"}),
    ("HOP", {"u_7": "Grace Hopper"}),
    ("race", {}),
    ("al", {"alan": "Alan T"}),
    ("zo", {}),
    ("bob", {"bob": ""}),
    ("quiet", {"u_9": "Quiet One"}),
    ("spaced", {}),
]


@pytest.mark.parametrize(("incomplete", "expected"), NAMED)
def test_a_name_completes_to_its_id_where_no_id_begins_so_and_one_user_is_named_so(
    incomplete: str, expected: Mapping[str, str], home: Path
) -> None:
    write_names(
        home,
        *("user,u_7,Grace Hopper,", 'user,alan,"Alan $(T)`",'),
        *("user,ada,Zoë One,", "user,bob,,team", "user,u_8,Zoë Two,", "user,u_9,Quiet One,"),
        "user,a b;c,Spaced,",
    )
    assert offered("buckets", "user_id", incomplete) == expected


def test_keys_are_completed_by_their_names_too(home: Path) -> None:
    write_names(home, "key,key_web,Web shop,", "key,key_old,Without a secret,")
    for incomplete in ("", "key", "shop", "WEB"):
        assert offered("probe", "key_id", incomplete) == {"key_web": "Web shop"}
    assert offered("probe", "key_id", "without") == {}


def test_with_pseudonyms_no_name_and_no_real_id_is_offered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_names(home, "user,u_7,Grace Hopper,")
    marker = home / "lake" / ".identity.json"
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", "planted-pseudonym-key-0001")
    assert offered_users("grace") == offered_users("a") == [], "the lake has real ids yet"
    marker.write_text(marker.read_text().replace("null", '"a fingerprint"'))
    assert offered_users("grace") == offered_users("a") == []
    assert offered("forget", "user", "grace") == {}
    assert offered("forget", "user", "al") == {"alan": ""}, "what the lake has is what it takes"


def test_a_name_file_that_is_wrong_is_no_error(home: Path) -> None:
    (home / "names.csv").write_text("kind,id\nuser", encoding="utf-8")
    assert offered_users("al") == ["alan"]


def test_tables_of_an_export_are_completed() -> None:
    assert [*offered("export", "table", "fact_")] == ["fact_usage", "fact_tokens", "fact_costs"]


FREE = {
    *("TIME", "N", "PORT", "ADDRESS", "SECONDS", "URL", "CURSOR", "TEXT", "QUERY"),
    *("DIR", "FILE"),
}
"""What has no values to offer; paths are completed by the shell itself, where nothing is."""


def test_every_value_is_completed_but_for_numbers_times_paths_and_free_text() -> None:
    import typer

    root = typer.main.get_command(app)
    commands = {**vars(root)["commands"]}
    for name in ("names", "prices"):
        commands |= {
            f"{name} {sub}": it for sub, it in vars(commands.pop(name))["commands"].items()
        }
    lacking = {
        f"{name} {param.name}"
        for name, one in commands.items()
        for param in one.params
        if not vars(param).get("is_flag")
        and vars(param).get("metavar") not in FREE
        and vars(param).get("_custom_shell_complete") is None
    }
    assert lacking == {"probe conversation"}, "of which the lake may have millions"


def test_what_a_report_can_be_of_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": "home"})
    for option in ("user", "key", "model", "team"):
        assert offered("report", option, "") == {}, "a lake that is not there is no error"
    buckets = [
        Bucket(0, "ada", "web", "small"),
        Bucket(0, "ada", "web", "sonnet", responses=9),
        Bucket(0, "bob", "jobs", "large"),
    ]
    listed(tmp_path / "home" / "lake", buckets, range(1), range(1))
    names = write_names(tmp_path / "home", "user,ada,Ada,sales", "key,web,,shop", "team,idle,Idle,")
    assert offered("report", "user", "") == {"ada": "Ada", "bob": ""}
    assert offered("report", "key", "w") == {"web": ""}
    assert [*offered("report", "model", "s")] == ["sonnet", "small"]
    assert offered("report", "team", "s") == {"sales": "", "shop": ""}
    assert offered("report", "team", "i") == {}, "nobody is in it"
    large = "\n" * 4_000_000
    names.write_text(f"{names.read_text()}{large}")
    assert offered("report", "user", "") == {"ada": "", "bob": ""}, "nobody waits for a large file"
    assert offered("report", "team", "") == {}
    names.write_text("no,such,columns")
    assert offered("report", "team", "") == {}


def test_the_version_is_that_of_the_package() -> None:
    ended = command(["--version"])
    assert (ended.code, ended.text) == (0, f"mka1-usage {version('mka1-usage')}\n")
