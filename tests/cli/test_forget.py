"""`mka1-usage forget`: what it asks, says and ends with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.emulator import synthetic_world
from pipeline.lake import forgotten
from pipeline.lake.store import Lake
from pipeline.timeline import Window, day_window
from tests.fixtures_local import clean_environment, command, published_home
from tests.forget.people import FIRST, named_in
from tests.truth import digests

WINDOW = Window(day_window(FIRST).start, day_window(FIRST).end)
pytestmark = pytest.mark.slow
WHO = "käthe.müller@example.org"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a made-up day; tests copy it."""
    world = synthetic_world(days=1, users=3, conversations_per_user_day=1)
    return published_home(tmp_path_factory.mktemp("home") / "home", world, WINDOW)


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a home of the test's own, which is that of the settings."""
    home = Path(shutil.copytree(original, tmp_path / "home", symlinks=True))
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})
    return home


def test_without_a_terminal_and_without_yes_nothing_is_changed(home: Path) -> None:
    before = digests(home / "lake")
    ended = command(["forget", WHO])
    assert ended.code == 2
    assert "rows on 1 day are of" in ended.err
    assert "give --yes" in ended.err
    assert digests(home / "lake") == before
    assert not forgotten.forgotten(Lake(home / "lake"))


def test_it_says_what_it_did_and_proves_it(home: Path) -> None:
    assert named_in(home, WHO)
    ended = command(["forget", WHO, "--yes"])
    name = next(iter(forgotten.forgotten(Lake(home / "lake")).names))
    assert (ended.code, ended.out) == (0, b"")
    lines = [line.removeprefix("mka1-usage: ") for line in ended.err.splitlines()]
    assert lines[1:3] == [f"from now on loads write {name}", "2024-01-01: redone"]
    assert lines[-1] == f"nothing names them any more; their rows are those of {name}"
    assert named_in(home, WHO) == []
    assert name in command(["sql", "--format", "csv", "select distinct user_id from usage_1d"]).text


def test_the_name_of_somebody_forgotten_is_nobody_to_forget(home: Path) -> None:
    """Loads would go on to write it, beside a second one."""
    name = forgotten.begin(Lake(home / "lake"), WHO)
    ended = command(["forget", name, "--yes"])
    assert ended.code == 2
    assert f"{name} is the name of somebody who was forgotten already" in ended.err


def test_what_is_left_is_named_and_is_a_failure(home: Path) -> None:
    (home / "budgets.csv").write_text(f"{WHO}\n", encoding="utf-8")
    ended = command(["forget", WHO, "--yes"])
    assert ended.code == 1
    assert ended.text == f"{home.resolve() / 'budgets.csv'}, line 1: names them still\n"
    assert "1 place is left" in ended.err
    found = command(["doctor", "--patience", "5"]).text
    assert "to forget 1 user was begun and not finished" in " ".join(found.split())


def test_names_that_stand_elsewhere_are_searched_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tmp_path / "people.csv"
    names.write_text(f"kind,id,name\nuser,{WHO},Käthe Müller\n", encoding="utf-16")
    monkeypatch.setenv("MKA1_USAGE_NAMES", str(names))
    ended = command(["forget", WHO, "--yes"])
    assert (ended.code, ended.text) == (1, f"{names.resolve()}, line 2: names them still\n")
    assert "people.csv calls them 'Käthe Müller': `--also` looks for that, too" in ended.err
    names.unlink()
    monkeypatch.delenv("MKA1_USAGE_NAMES")
    assert command(["forget", WHO, "--yes"]).code == 0


def test_somebody_unknown_is_noted_all_the_same(home: Path) -> None:
    ended = command(["forget", "nobody@example.com", "--yes"])
    assert ended.code == 0
    assert "no row is of 'nobody@example.com'" in ended.err
    assert forgotten.forgotten(Lake(home / "lake")).name_of("nobody@example.com")


def test_an_empty_id_is_refused(home: Path) -> None:
    assert home.is_dir()
    ended = command(["forget", "", "--yes"])
    assert ended.code == 2
    assert "not empty" in ended.err
