"""A home folder may be called anything, or one line says which setting is to name another."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline import doctor
from pipeline.doctor.configured import check_context
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.paths import unusable
from pipeline.query import ad_hoc
from pipeline.timeline import DAY, Window, parse_time
from tests.fixtures_local import Ended, clean_environment, command, published_home

START = parse_time("2024-01-01")
DAYS = ["--start", "2024-01-01", "--end", "2024-01-02"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(synthetic_world(days=1, users=2)) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EmulatorServer) -> Path:
    """A folder to make homes in, and an account."""
    account = {"MKA1_BASE_URL": server.base_url, "MKA1_API_KEY": server.api_key}
    clean_environment(monkeypatch, tmp_path, account)
    return tmp_path


def done(args: list[str]) -> Ended:
    ended = command(args)
    assert ended.code == 0, ended.err
    return ended


NAMES = [
    "per%20cent %s qu?st*r [a-z]\n#1;&$HOME ~'a' \"b\" {c} `d` = Üñí中😀 \x1b[31m",
    "back\\slash %41 # \\",
]


@pytest.mark.slow  # every command; the usual run reads tables below such names
@pytest.mark.parametrize("name", NAMES)
def test_everything_works_in_a_home_of_any_name(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = here / name
    monkeypatch.setenv("MKA1_USAGE_HOME", str(home))
    done(["run", *DAYS])
    assert (home / "dagster" / "history").is_dir(), "Dagster's storage is where it belongs"
    assert {path.name for path in here.iterdir()} == {name}, "and nothing is beside it"
    rows = json.loads(done(["sql", "--format", "json", "select count(*) n from usage_1h"]).text)
    assert rows[0]["n"] > 0
    assert json.loads(done(["buckets", *DAYS]).text)["data"]
    for form in ("parquet", "csv", "duckdb"):
        done(["export", "--format", form, str(home / f"to {form}")])
    with (
        engine.openable(home / "to duckdb" / "mka1_usage.duckdb") as readable,
        duckdb.connect(str(readable), read_only=True) as con,
    ):
        assert con.sql("FROM usage_1h").fetchall()
    done(["report", "--output", str(home / "page.html")])
    done(["verify"])
    done(["status"])
    assert command(["reconcile"]).code == 1, "there is nothing to reconcile"
    looks = ("home", "file system", "permissions", "lake", "catalog", "dagster")
    checks = [check for check in doctor.CHECKS if check.name in looks]
    found = list(doctor.examine(check_context(dict(os.environ), patience=120), checks))
    assert {one.subject for one in found if one.state == "failed"} == set()
    done(["run", *DAYS])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one day."""
    home = tmp_path_factory.mktemp("original") / "home"
    return published_home(home, synthetic_world(days=1, users=2), Window(START, START + DAY))


NAME = st.text(
    st.sampled_from("\\%?*[]'\";#&a ~\n") | st.characters(exclude_characters="/\0"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in {".", ".."} and len(name.encode("utf-8", "replace")) < 200)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAME)
@example(name="a\\b")
@example(name="\\")
@example(name="[a]*?")
@example(name="a'b%")
def test_tables_are_found_below_any_name(name: str, original: Path, tmp_path: Path) -> None:
    home = tmp_path / name
    if unusable(home):
        assert "\\" in name or not name.isascii()
        return
    shutil.copytree(original, home, symlinks=True)
    try:
        lake, catalog = Lake(home / "lake"), home / "usage.duckdb"
        build_catalog(lake, catalog)
        assert verify(lake, catalog).problems == ()
        out = io.BytesIO()
        ad_hoc.export(catalog, Lake(home / "lake"), "select count(*) n from usage_1h", "csv", out)
        assert int(out.getvalue().split()[1]) > 0
    finally:
        shutil.rmtree(home)


REFUSED = [
    (b"not \xff UTF-8", "holds bytes that are no UTF-8 text"),
    (b"back\\slash and st*r", "holds a backslash together with '*'"),
    (b"back\\slash and qu?st", "holds a backslash together with '?'"),
    (b"back\\slash and br[acket]", "holds a backslash together with '['"),
]


@pytest.mark.parametrize(("name", "words"), REFUSED)
@pytest.mark.parametrize("line", ["run", "sql 'select 1'", "export", "status", "verify"])
def test_a_name_that_no_library_can_read_is_told_before_anything_is_written(
    line: str, name: bytes, words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", os.fsdecode(os.fsencode(here) + b"/" + name))
    ended = command(shlex.split(line))
    assert ended.code == 2
    assert ended.err.startswith(f"mka1-usage: error: MKA1_USAGE_HOME: {words}")
    assert ended.err.endswith("name another folder\n")
    assert len(ended.err.splitlines()) == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_a_folder_to_export_to_is_held_to_the_same(
    name: bytes, words: str, here: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", str(original))
    ended = command(["export", os.fsdecode(os.fsencode(here) + b"/" + name)])
    assert ended.code == 2
    assert words in ended.err
    assert list(here.iterdir()) == []


def test_what_outgrows_memory_is_written_below_any_name(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "back\\slash", memory=30_000_000)
    lake.root.mkdir()
    with engine.connect(lake, threads=1) as con:
        con.execute("CREATE TEMP TABLE t AS SELECT md5(i::VARCHAR) AS a FROM range(1_000_000) r(i)")
        assert con.execute("SELECT count(*) FROM duckdb_temporary_files()").fetchone() != (0,)
        assert list((lake.root / ".staging").glob("spilled-*/*")) != []
