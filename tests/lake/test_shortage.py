"""Too little memory or disk is said as that, in one line, by whatever meets it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake import engine
from pipeline.lake.shortage import shortage, shortage_in
from pipeline.lake.snapshot import reason
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, parse_time
from tests.fixtures_local import clean_environment, command, published_home

LARGE = "CREATE TEMP TABLE t AS SELECT md5(CAST(i AS VARCHAR)) AS a FROM range(1_000_000) r(i)"
SMALL = 30_000_000
"""Bytes of memory that this table outgrows."""
TINY = 2_000_000
"""Bytes of memory with which nothing can be computed of any table."""
MEMORY = "too little memory: queries may use 1.9 MiB (MKA1_USAGE_MEMORY)"
DISK = "too little disk: "


def failed(lake: Lake, limit: str) -> duckdb.Error:
    """How a query fails that needs more memory than there is, and more disk than `limit`."""
    engine.release()
    with closing(engine.connect(lake, threads=1)) as con:
        con.execute(f"SET GLOBAL max_temp_directory_size = '{limit}'")
        with pytest.raises(duckdb.Error) as caught:
            con.execute(LARGE)
    engine.release()
    return caught.value


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    (tmp_path / "lake").mkdir()
    return Lake(tmp_path / "lake", memory=SMALL)


def test_a_full_disk_is_told_from_damage(lake: Lake) -> None:
    said = shortage(error := failed(lake, "1MB"))
    assert said is not None
    assert said.startswith(f"{DISK}what outgrows memory takes more than the 976.5 KiB")
    assert "MKA1_USAGE_MEMORY" in said
    assert "\n" not in said
    assert reason(lake, error) == said == shortage_in(str(error))


NO_ROOM = duckdb.IOException(f"IO Error: Could not write file: {os.strerror(errno.ENOSPC)}")
OTHERS = (duckdb.IOException("IO Error: no such file"), pa.ArrowInvalid("garbage"), OSError(2, "x"))


def test_what_is_too_little_is_told_whoever_says_it() -> None:
    assert str(shortage(pa.ArrowMemoryError("malloc failed"))).startswith("too little memory")
    assert str(shortage(NO_ROOM)).startswith(DISK)
    assert [shortage(error) for error in OTHERS] == [None] * len(OTHERS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    start = parse_time("2024-01-01")
    world = synthetic_world(days=1, users=6)
    return published_home(tmp_path_factory.mktemp("home"), world, Window(start, start + DAY))


@pytest.fixture
def tiny(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings with less memory than the least that they take."""
    monkeypatch.setattr("pipeline.settings.LEAST", 1)
    settings = {"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_MEMORY": f"{TINY}B"}
    clean_environment(monkeypatch, tmp_path, settings)
    yield
    engine.release()


COMMANDS = {
    "status": ["status"],
    "verify": ["verify"],
    "report": ["report", "--output", "report.html"],
    "export": ["export", "out"],
    "buckets": ["buckets", "--start", f"{date(2024, 1, 1)}"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_run_that_has_too_little_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MKA1_API_KEY", "emulator-key-web")
    with EmulatorServer(synthetic_world(days=1, users=6)) as server:
        monkeypatch.setenv("MKA1_BASE_URL", server.base_url)
        ended = command(["run", "--usage-only", "--start", "2024-01-01", "--end", "2024-01-02"])
    assert ended.code == 1
    assert f"error: 2024-01-01: {MEMORY}" in ended.err
    assert "Resume with: mka1-usage run" in ended.err


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_has_too_little_memory_says_so_and_names_no_damage(words: list[str]) -> None:
    ended = command(words)
    assert ended.code == 1
    assert MEMORY in ended.err
    assert "damaged" not in ended.err + ended.text
    assert len(ended.err.splitlines()) == 1
