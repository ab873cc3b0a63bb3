"""pull, push, expire and verify with a shared lake, as a person or a script uses them."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.emulator import synthetic_world
from pipeline.lake.catalog import names_of
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.timeline import DAY, Window, parse_time
from tests import fixtures_local
from tests.fixtures_local import Ended, clean_environment, published_home
from tests.named import write_names

START = parse_time("2024-01-01")


def command(line: str) -> Ended:
    """A command as it is typed; its messages without its name."""
    ended = fixtures_local.command(shlex.split(line))
    return replace(ended, err=ended.err.replace("mka1-usage: ", ""))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three made-up days, which knows no shared lake."""
    folder = tmp_path_factory.mktemp("home")
    return published_home(folder, synthetic_world(days=3, users=6), Window(START, START + 3 * DAY))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Path, place: Place) -> Path:
    """A copy of it, and a shared lake that has nothing yet."""
    home = tmp_path / "home"
    shutil.copytree(original, home, symlinks=True)
    settings = {
        "MKA1_USAGE_HOME": str(home),
        "MKA1_USAGE_CATALOG": place.catalog,
        "MKA1_USAGE_WAREHOUSE": place.warehouse,
    }
    clean_environment(monkeypatch, tmp_path, settings)
    return home


@pytest.fixture
def reader(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home beside it, which is the one that commands use; all days are pushed."""
    assert command("push").code == 0
    monkeypatch.setenv("MKA1_USAGE_HOME", str(tmp_path / "reader"))
    return tmp_path / "reader"


def test_a_team_begins_by_pushing_what_it_has(home: Path, place: Place) -> None:
    ended = command("push --start 2024-01-02")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "2024-01-02 to 2024-01-03: committed (2 of 2)",
        f"2 days committed to {place.shown}; 0 days of this home were there already",
    ]
    assert "1 day committed to" in command("push").err
    assert "0 days committed to" in command("push").err
    assert open_shared_lake(place).days() == Lake(home / "lake").all_days()


def test_a_pulled_home_answers_as_the_one_that_was_pushed(home: Path, reader: Path) -> None:
    ended = command("pull")
    assert ended.code == 0
    assert ended.err.startswith("3 days of 3 changed: 2024-01-01 to 2024-01-03; ")
    query = "buckets --start 2024-01-01 --end 2024-01-04 --width 1h --group-by user_id"
    here = command(query)
    assert here.code == 0
    assert command("sql 'from usage_1d'").code == 0, "the catalog is built, too"
    assert command("pull").err.startswith("0 days of 3 changed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKA1_USAGE_HOME", str(home))
        assert command(query).out == here.out


def test_a_pulled_catalog_has_the_names_of_this_home(reader: Path) -> None:
    reader.mkdir()
    write_names(reader, "user,user_0000,Ada Lovelace,research")
    assert command("pull").code == 0
    names = names_of(reader / "usage.duckdb")
    assert names is not None
    assert names.to_pylist() == [
        {"kind": "user", "id": "user_0000", "name": "Ada Lovelace", "team_id": "research"}
    ]


def test_days_of_a_range_are_pulled_alone(reader: Path) -> None:
    ended = command("pull --start 2024-01-02 --end 2024-01-03")
    assert ended.code == 0
    assert ended.err.startswith("1 day of 1 changed: 2024-01-02; ")
    assert [str(day) for day in Lake(reader / "lake").all_days()] == ["2024-01-02"]


ANSWERS = [
    "status",
    "buckets --start 2024-01-01 --end 2024-01-02",
    "sql 'from usage_1d limit 1'",
    "report -o report.html",
    "export",
]


def test_what_answers_from_a_copy_says_once_how_old_it_is(
    reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("pull").code == 0
    later = time.time() + 3 * 3_600 + 60
    monkeypatch.setattr(time, "time", lambda: later)
    for line in ANSWERS:
        said = [it for it in command(line).err.splitlines() if "a copy of" in it]
        assert len(said) == 1, line
        assert re.fullmatch(
            r"note: a copy of sqlite:///\S+, pulled 3 hours ago \(20\S+Z\): "
            r"`mka1-usage pull` brings it up to date",
            said[0],
        )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"a copy of the shared lake that was pulled at 20\S+Z\.", page)


@pytest.mark.parametrize("line", [*ANSWERS, "serve"])
def test_an_empty_home_beside_a_shared_lake_is_told_to_pull(line: str, reader: Path) -> None:
    ended = command(line)
    assert ended.code == 1
    assert ended.err.startswith("note: nothing is here yet: `mka1-usage pull` copies what")
    assert ended.err.count("error: ") == 1


def test_verify_reads_the_shared_files_too(home: Path, reader: Path, place: Place) -> None:
    ended = command("verify")
    assert (ended.code, ended.out) == (0, b"")
    assert "the shared lake, 3 days: all are as they were published" in ended.err
    path = open_shared_lake(place).files("usage_1d")[Lake(home / "lake").all_days()[1]]
    Path(path).write_bytes(b"not what it was")
    ended = command("verify")
    assert ended.code == 1
    assert ended.text.startswith(f"{path}: changed: it has 15 bytes")
    assert "mka1-usage run --full --start 2024-01-02 --end 2024-01-03" in ended.err
    assert "1 problem found" in ended.err


def test_expire_says_what_it_removed_and_keeps_what_is_young(reader: Path) -> None:
    assert command("expire").err.startswith("0 snapshots and 0 files (0.0 MB) removed from sqlite")


@pytest.mark.parametrize("line", ["pull", "push", "expire"])
def test_without_a_shared_lake_the_setting_is_named(
    line: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_CATALOG", "")
    monkeypatch.setenv("MKA1_USAGE_WAREHOUSE", "")
    ended = command(line)
    assert ended.code == 2
    assert ended.err.startswith("error: MKA1_USAGE_CATALOG is not set")


@pytest.mark.parametrize("line", ["pull", "push", "expire", "verify"])
def test_a_catalog_that_cannot_be_used_is_one_line(
    line: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_CATALOG", f"sqlite:///{home / 'nowhere' / 'catalog.db'}")
    ended = command(line)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "can't be used" in ended.err
