"""The demo: from nothing to tables, and commands to go on with that work as printed."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli.tour import FIRST, LAST
from pipeline.emulator import synthetic_world
from pipeline.timeline import day_window
from tests.fixtures_local import Ended, clean_environment, command

pytestmark = pytest.mark.slow  # the demo takes 10 s; the first line of README runs it too
MEASURES = ("num_conversations_created", "num_items_added", "num_operations")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder; its name needs quotes in a shell."""
    return tmp_path_factory.mktemp("an empty folder")


@pytest.fixture(scope="module")
def ended(folder: Path) -> Ended:
    """The demo, run in it with nothing set but real credentials, which it must not use."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch, folder, {"MKA1_API_KEY": "planted-real-key"})
        return command(["demo"])


def test_it_ends_well_and_shows_the_emulators_own_totals(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    start, end = day_window(FIRST).start, day_window(LAST).end
    for bucket in synthetic_world().usage(start, end, "1d"):
        [result] = bucket["results"]
        numbers = r"\W+".join(f"{result[name]:,}" for name in MEASURES)
        assert re.search(numbers, ended.text)
    assert re.search(r"\d+ requests, \d+ checks passed", ended.text)


def test_it_fits_a_terminal_of_80_columns(ended: Ended) -> None:
    tables, _, _ = ended.text.partition("What to try next")
    assert max(map(len, tables.splitlines())) <= 80


def test_progress_is_on_stderr(ended: Ended) -> None:
    lines = ended.err.splitlines()
    assert lines[0].startswith("mka1-usage: loading a made-up week")
    published = [line.partition(":")[0] for line in lines if not line.startswith("mka1-usage")]
    assert sorted(published) == sorted(
        f"2024-01-0{day} {endpoint}published"
        for day in range(1, 8)
        for endpoint in ("", "responses ")
    )
    assert "29 pairs of user and key" in lines[-2]


def test_it_shows_models_what_they_cost_and_what_fails(ended: Ended) -> None:
    counted: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for response in synthetic_world().all_responses():
        if response.owner[0] is not None:  # of calls without a key nothing can be listed
            counted[response.model] += 1
            failed[response.model] += response.status in {"failed", "incomplete"}
    assert len(counted) >= 3
    for model, number in counted.items():
        assert re.search(rf"{model}\W+{number:,}\W+[\d,]+\.\d\d\W+0 ", ended.text)
        assert re.search(rf"{model}\W+[\d,]+\W+{failed[model]:,}\W+\d\.\d ", ended.text)
    assert re.search(r"cost of everybody\W+80\.00 usd\W+[\d.]+ usd", ended.text)


def test_it_keeps_to_a_home_of_its_own_and_uses_no_real_key(ended: Ended, folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["data"]
    assert [path.name for path in (folder / "data").iterdir()] == ["demo"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    for secret in (b"planted-real-key", b"emulator-key"):
        assert secret not in ended.out + ended.err.encode()
        assert [path for path in files if secret in path.read_bytes()] == []


def test_what_it_says_to_try_next_works_as_printed(
    ended: Ended, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, folder, {})
    _, _, printed = ended.text.partition("What to try next:\n")
    steps = [shlex.split(line) for line in printed.partition("\n\n")[0].splitlines()]
    [name, home] = steps[0][1].split("=")
    assert (steps[0][0], name) == ("export", "MKA1_USAGE_HOME")
    monkeypatch.setenv(name, home)
    ours = [step[1:] for step in steps if step[0].endswith("mka1-usage")]
    assert [args[0] for args in ours] == ["sql", "report", "budgets", "dagster"]
    for args in ours[:-1]:  # tests/cli/test_dagster.py runs the last, which serves
        done = command(args)
        assert done.code == 0, done.err
        assert done.out or "usage.html" in done.err
    [duckdb] = [step for step in steps if step[0].endswith("duckdb")]
    assert duckdb[1] == "-readonly"
    assert (folder / duckdb[2]).is_file()
