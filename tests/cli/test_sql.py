"""What `mka1-usage sql` and `buckets` print: what was published, in characters that only show."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb
import pytest

from pipeline.emulator import Event, World
from pipeline.timeline import DAY, Window, parse_time
from tests.bounded import finished
from tests.fixtures_local import clean_environment, command, published_home

START: Final = parse_time("2024-01-01")
WRONG: Final = (
    "CREATE TABLE notes AS SELECT 7 AS n; CREATE TABLE mine AS FROM usage_1d; "
    "UPDATE mine SET num_operations = 99; DROP VIEW usage_1d; ALTER TABLE mine RENAME TO usage_1d"
)
KILLED: Final = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1])
con.execute(sys.argv[2])
os._exit(9)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with one operation."""
    world = World.from_events([Event(START, "u", "k", 0, 0, 1)])
    folder = published_home(tmp_path / "home", world, Window(START, START + DAY))
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(folder)})
    return folder


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_catalog_that_a_client_has_changed_is_not_what_answers(
    home: Path, is_killed: bool
) -> None:
    catalog = home / "usage.duckdb"
    if is_killed:
        finished([sys.executable, "-c", KILLED, str(catalog), WRONG], check=False)
    else:
        with closing(duckdb.connect(str(catalog))) as con:
            con.execute(WRONG)
    before = sorted(home.rglob("*"))
    for form in ("csv", "json"):
        ended = command(["sql", "--format", form, "select num_operations as n from usage_1d"])
        assert ended.code == 0
        assert ended.text in {"n\n1\n", '[\n\t{"n":1}\n]\n'}
        assert "another program" in ended.err
        assert "any run" in ended.err
    assert sorted(home.rglob("*")) == before


def test_a_catalog_that_is_as_it_was_published_is_asked_without_a_word(home: Path) -> None:
    ended = command(["sql", "--format", "csv", "select num_operations as n from usage_1d"])
    assert (ended.code, ended.text, ended.err) == (0, "n\n1\n", "")


@pytest.mark.parametrize("name", ["elsewhere", "it's [e]lse*where"])
def test_a_catalog_that_was_moved_says_so(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", str(home.rename(home.with_name(name))))
    ended = command(["sql", "select * from usage_1d"])
    assert ended.code == 1
    assert "shows another lake" in ended.err
    assert "was it moved? Any run builds it anew: `mka1-usage run`" in ended.err


def test_a_catalog_that_was_copied_beside_its_lake_answers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cp -rL` does it: links become what they lead to."""
    copy = home.with_name("copy")
    shutil.copytree(home, copy)
    shutil.rmtree(home)
    monkeypatch.setenv("MKA1_USAGE_HOME", str(copy))
    ended = command(["sql", "select * from usage_1d"])
    assert ended.code == 1
    assert "shows another lake" in ended.err


def test_buckets_write_no_character_that_a_terminal_obeys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = "a\x1b[31m\x9b2J\x7f\u202eb\x85"
    world = World.from_events([Event(START, user, "k", 0, 0, 1)])
    folder = published_home(tmp_path / "odd", world, Window(START, START + DAY))
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(folder)})
    arguments = ["--start", "2024-01-01", "--end", "2024-01-02", "--group-by", "user_id"]
    text = command(["buckets", *arguments]).text
    assert {char for char in text if not char.isprintable()} == {"\n"}
    [bucket] = json.loads(text)["data"]
    assert [result["user_id"] for result in bucket["results"]] == [user]
