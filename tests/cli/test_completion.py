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


def offered(command: str, option: str, incomplete: str) -> list[str]:
    """What is offered for an option of a command."""
    import typer

    found = vars(typer.main.get_command(app))["commands"][command]
    [param] = [param for param in found.params if param.name == option]
    return [item.value for item in param.shell_complete(typer.Context(found), incomplete)]


def offered_users(incomplete: str) -> list[str]:
    """What is offered for --user-id of buckets."""
    return offered("buckets", "user_id", incomplete)


def test_users_are_completed_from_the_lake_the_busiest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": "home"})
    assert offered_users("") == [], "a lake that is not there is no error"
    calls = {"ada": 1, "alan": 3, "bob": 2, "a b;c": 9}
    events = [Event(START, user, "key_web", operations=number) for user, number in calls.items()]
    home = published_home(tmp_path / "home", World.from_events(events), Window(START, START + DAY))
    assert offered_users("") == ["alan", "bob", "ada"]
    assert offered_users("a") == ["alan", "ada"]
    assert offered_users("%") == []
    marker = home / "lake" / ".identity.json"
    known = marker.read_text()
    marker.write_text(known.replace("null", '"a fingerprint"'))
    assert offered_users("a") == [], "a pseudonym is no id that a command takes"
    marker.write_text(known)
    [file] = (home / "lake").glob("days/*/usage_1d.parquet")
    file.write_bytes(b"damaged")
    assert offered_users("a") == []


def test_what_a_report_can_be_of_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": "home"})
    for option in ("user", "key", "model", "team"):
        assert offered("report", option, "") == [], "a lake that is not there is no error"
    buckets = [
        Bucket(0, "ada", "web", "small"),
        Bucket(0, "ada", "web", "sonnet", responses=9),
        Bucket(0, "bob", "jobs", "large"),
    ]
    listed(tmp_path / "home" / "lake", buckets, range(1), range(1))
    names = write_names(tmp_path / "home", "user,ada,Ada,sales", "key,web,,shop", "team,idle,Idle,")
    assert offered("report", "user", "") == ["ada", "bob"]
    assert offered("report", "key", "w") == ["web"]
    assert offered("report", "model", "s") == ["sonnet", "small"]
    assert offered("report", "team", "s") == ["sales", "shop"]
    assert offered("report", "team", "i") == [], "nobody is in it"
    names.write_text("no,such,columns")
    assert offered("report", "team", "") == []


def test_the_version_is_that_of_the_package() -> None:
    ended = command(["--version"])
    assert (ended.code, ended.text) == (0, f"mka1-usage {version('mka1-usage')}\n")
