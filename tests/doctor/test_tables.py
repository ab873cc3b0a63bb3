"""What is wrong with the lake and its catalog is found, and nothing that is not."""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path
from subprocess import PIPE

import pytest

from pipeline.lake.store import Lake
from pipeline.timeline import DAY
from tests.bounded import LIMIT, started
from tests.doctor.conftest import NOW, Look, told

ALL = ("lake", "days", "runs", "catalog", "duckdb")
SECOND = date(2024, 1, 2)


@pytest.mark.usefixtures("catalog")
def test_a_lake_that_is_well_is_found_to_be(
    look: Look, home: Path, place: pytest.MonkeyPatch
) -> None:
    place.setenv("PATH", str(Path(sys.executable).parent))
    found = look(*ALL)
    assert [one.state for one in found] == ["ok"] * 5
    words = told(found)
    assert "all 3 days read again, as published" in words
    assert "3 final; complete through 2024-01-04T00:00:00Z" in words
    assert "nobody is loading" in words
    assert "(v" in found[-1].found


def test_a_home_without_a_lake_is_no_failure(look: Look) -> None:
    assert {one.state for one in look(*ALL)} == {"skipped", "ok"}


def test_a_file_that_was_changed_is_named(look: Look, home: Path) -> None:
    path = Lake(home / "lake").file("usage_1h", SECOND)
    assert path is not None
    path.write_bytes(path.read_bytes() + b"!")
    (found,) = look("lake")
    assert found.state == "failed"
    assert str(path) in found.found
    assert "mka1-usage verify" in found.fix


def test_a_file_that_is_gone_is_named_also_on_a_day_that_no_sample_has(
    look: Look, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.doctor.tables._spread", lambda days: days[:1])
    path = Lake(home / "lake").file("usage_1h", SECOND)
    assert path is not None
    path.unlink()
    (found,) = look("lake")
    assert found.state == "failed"
    assert str(path) in found.found
    assert "damaged: 1 file" in told(look("days"))


def test_of_many_days_some_are_read_and_all_where_that_is_asked_for(look: Look, home: Path) -> None:
    lake = Lake(home / "lake")
    for number in range(4, 31):
        lake.link(date(2024, 1, number)).symlink_to("../.versions/none")
    lake.link(SECOND).unlink()  # of which other traces tell
    (found,) = look("lake")
    assert found.state == "failed"
    (found_deep,) = look("lake", deep=True)
    assert int(found.found.rpartition("and ")[2].split()[0]) < 10
    assert int(found_deep.found.rpartition("and ")[2].split()[0]) == 27


@pytest.mark.usefixtures("home")
def test_days_that_are_too_large_to_be_read_at_once_are_left_to_deep(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.doctor.tables._SAMPLE_BYTES", 1)
    (found,) = look("lake")
    (found_deep,) = look("lake", deep=True)
    assert (found.state, found_deep.state) == ("ok", "ok")
    assert "only --deep reads them again" in found.found
    assert "read again, as published" in found_deep.found


def test_ids_of_another_kind_than_is_set_are_a_failure(
    look: Look, home: Path, place: pytest.MonkeyPatch
) -> None:
    place.setenv("MKA1_USAGE_PSEUDONYM_KEY", "k" * 32)
    found = look("lake")
    assert found[0].state == "failed"
    assert "with user ids as they are" in found[0].found
    assert "MKA1_USAGE_HOME" in found[0].fix


def test_days_that_are_missing_come_with_what_loads_them(look: Look, home: Path) -> None:
    (found,) = look("days", now=lambda: NOW + 10 * DAY)
    assert found.state == "warning"
    assert found.found.startswith("3 final, 10 missing")
    assert found.fix == "mka1-usage run --start 2024-01-04 --end 2024-01-14"


HOLD = (
    "import sys; from filelock import FileLock\n"
    "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(("hours", "state"), [(0, "ok"), (7, "warning")])
def test_who_is_loading_is_told_and_who_may_hang(
    hours: int, state: str, look: Look, home: Path
) -> None:
    lock = home / "lake" / ".locks" / f"day-{SECOND}.lock"
    with started([sys.executable, "-c", HOLD, str(lock)], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        found = look("runs", now=lambda: time.time() + hours * 3_600)
        process.stdin.close()
        process.wait(LIMIT)
    assert str(SECOND) in found[0].found
    if Path("/proc/locks").exists():  # elsewhere nobody tells whose a lock is
        assert f"process {process.pid}" in found[0].found
        assert [one.state for one in found] == [state]
    assert [one.state for one in look("runs")] == ["ok"], "it is free when its holder is gone"


def test_days_that_were_begun_are_said_to_be_resumed(look: Look, home: Path) -> None:
    (home / "lake" / ".partial" / str(SECOND)).mkdir(parents=True)
    assert "begun: 1 day, which" in told(look("runs"))


@pytest.mark.usefixtures("catalog")
def test_a_catalog_that_was_moved_shows_another_lake(
    look: Look, home: Path, place: pytest.MonkeyPatch
) -> None:
    place.setenv("MKA1_USAGE_HOME", str(home.rename(home.with_name("elsewhere"))))
    found = look("catalog", "duckdb")
    assert [one.state for one in found] == ["failed", "skipped"]
    assert "shows another lake" in found[0].found
    assert "mka1-usage run" in found[0].fix


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("content", [None, b"no database"])
def test_a_catalog_that_is_gone_or_damaged_is_built_by_any_run(
    content: bytes | None, look: Look, home: Path
) -> None:
    (home / "usage.duckdb").unlink()
    if content is not None:
        (home / "usage.duckdb").write_bytes(content)
    (found,) = look("catalog")
    assert found.state == "failed"
    assert "any run builds it anew" in found.fix


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("script", ["exit 3", "echo nonsense >&2; exit 1"])
def test_a_duckdb_that_cannot_open_the_catalog_is_a_warning(
    script: str, look: Look, home: Path, place: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "duckdb"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o700)
    place.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (found,) = look("duckdb")
    assert (found.state, found.subject) == ("warning", "duckdb")
    assert str(fake) in found.found
    place.setenv("PATH", str(tmp_path))
    assert [one.state for one in look("duckdb")] == ["skipped"]


@pytest.mark.usefixtures("catalog")
def test_a_duckdb_that_is_asked_is_given_no_key_of_ours(
    look: Look, home: Path, place: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "duckdb"
    fake.write_text(f"#!/bin/sh\nenv > {tmp_path}/given\n")
    fake.chmod(0o700)
    place.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    place.setenv("MKA1_API_KEY", "planted-secret-of-usage")
    place.setenv("MKA1_API_KEYS", "key=planted-secret-of-a-key")
    place.setenv("MKA1_USAGE_SERVE_KEYS", "planted-secret-of-a-server")
    place.setenv("MKA1_USAGE_LOOKBACK_DAYS", "4")
    look("duckdb")
    given = (tmp_path / "given").read_text()
    assert "MKA1_USAGE_LOOKBACK_DAYS=4" in given
    assert "planted-secret" not in given
