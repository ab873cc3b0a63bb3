"""A home that can only be read is read; a full disk is one line, also where Dagster finds it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from filelock import FileLock
from sqlalchemy.exc import DatabaseError, OperationalError

from pipeline import doctor
from pipeline.api.usage import PATH
from pipeline.doctor.configured import check_context
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake import verification
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.lake.verification import Problem, verify
from pipeline.orchestration import instance
from pipeline.timeline import DAY, Window, parse_time
from tests import mounted
from tests.fixtures_local import clean_environment, command, published_home
from tests.serve.asking import serving

START = parse_time("2024-01-01")
DAYS = ["--start", "2024-01-01", "--end", "2024-01-02"]
RUN = ["run", "--usage-only", *DAYS]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one day, and Dagster's databases without a run."""
    home = tmp_path_factory.mktemp("original") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")  # `prepare` sets it
        instance.prepare(home / "dagster")
    with instance.opened(home / "dagster"):
        pass
    return published_home(home, synthetic_world(days=1, users=2), Window(START, START + DAY))


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Path, server: EmulatorServer
) -> Path:
    """A copy of it, and an account."""
    home = tmp_path / "home"
    shutil.copytree(original, home, symlinks=True)
    build_catalog(Lake(home / "lake"), home / "usage.duckdb")
    account = {
        "MKA1_BASE_URL": server.base_url,
        "MKA1_API_KEY": server.api_key,
        "MKA1_USAGE_HOME": str(home),
    }
    clean_environment(monkeypatch, tmp_path, account)
    return home


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(synthetic_world(days=1, users=2)) as server:
        yield server


# A home that can only be read


READING = [
    ["status"],
    ["verify"],
    ["sql", "select 1"],
    ["sql", "--format", "csv", "from usage_1h"],
    ["buckets", *DAYS],
    ["report", "--output", "-"],
    ["report", "--output", "{elsewhere}/report.html"],
    ["export", "{elsewhere}/export"],
    ["export", "{elsewhere}/database", "--format", "duckdb"],
]
WRITING = [
    RUN,
    ["refresh"],
    ["demo"],
    ["export"],
    ["export", "{home}/export"],
    ["report", "--output", "{home}/report.html"],
]


@pytest.mark.slow
def test_a_home_that_is_mounted_read_only_is_read_and_each_writer_says_one_line(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    lines = [
        [word.format(elsewhere=tmp_path / "elsewhere", home=home) for word in line]
        for line in [*READING, *WRITING, ["alerts"], ["reconcile"], ["doctor", "--format", "json"]]
    ]
    *ended, alerts, reconcile, looked = mounted.ended(["read-only", str(home)], lines)
    for line, one in zip(lines, ended[: len(READING)], strict=False):
        assert one.code == 0, (line, one.err)
    for line, one in zip(lines[len(READING) :], ended[len(READING) :], strict=False):
        errors = [said for said in one.err.splitlines() if "error" in said.lower()]
        assert one.code == 1, line
        assert len(errors) == 1, one.err
        assert len(one.err.splitlines()) <= 2, "and what it was about to do"
        assert str(home) in errors[0]
        assert "Read-only file system" in errors[0]
    assert alerts.err == "", "it has findings, and no error"
    assert "no such day is reconciled yet" in reconcile.err
    found = {one["subject"]: one for one in json.loads(looked.out)}
    assert found["home"]["state"] == "failed"
    assert "can't be written to" in found["home"]["found"]
    for name in ("lake", "catalog", "runs"):
        assert found[name]["state"] == "ok", found[name]
    assert "nobody is loading" in found["runs"]["found"]


@pytest.fixture(params=[errno.EROFS, errno.EACCES, errno.EPERM])
def unwritable(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, in which nobody can make a file or a folder: not even root."""
    shutil.rmtree(home / "lake" / ".locks", ignore_errors=True)
    refusal: int = request.param

    def guarded(real: Any) -> Any:
        def function(path: Any, *args: Any, **kwargs: Any) -> Any:
            flags = args[0] if args and isinstance(args[0], int) else 0
            writes = real is not os.open or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and str(path).startswith(str(home)):
                raise OSError(refusal, os.strerror(refusal), str(path))
            return real(path, *args, **kwargs)

        return function

    for name in ("open", "mkdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return home


def test_a_home_that_another_user_owns_is_read_and_a_run_says_one_line(unwritable: Path) -> None:
    assert command(["verify"]).code == 0
    assert command(["status"]).code == 0
    with serving(unwritable) as server:
        answer = httpx.get(f"{server.url}{PATH}?start_time={START}", trust_env=False)
        assert answer.status_code == 200
    for line in (RUN, ["refresh"]):
        ended = command(line)
        assert ended.code == 1
        assert "to a folder that can be written to" in ended.err.splitlines()[-1]
        assert len(ended.err.splitlines()) <= 2


def test_verify_without_the_lock_looks_again_before_it_names_anything(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verification._of_day
    seen: list[object] = []

    def of_day(con: Any, lake: Lake, day: Any) -> Iterator[Problem]:
        if not seen:  # as if it was published in the meantime
            seen.append(day)
            yield Problem(lake.root, day, "a moment ago")
        yield from real(con, lake, day)

    monkeypatch.setattr(verification, "_of_day", of_day)
    assert verify(Lake(unwritable / "lake"), unwritable / "usage.duckdb").problems == ()
    assert seen


def test_a_lock_that_is_held_keeps_verify_waiting_as_before(home: Path) -> None:
    lake = Lake(home / "lake")
    with lake.reading("publish") as held:
        assert held
        again = FileLock(home / "lake" / ".locks" / "publish.lock", is_singleton=False)
        with pytest.raises(TimeoutError):
            again.acquire(timeout=0)


# A full disk


@pytest.mark.parametrize(
    "size",
    ["650k", *(pytest.param(size, marks=pytest.mark.slow) for size in ("100k", "900k"))],
)
def test_a_disk_that_is_full_is_one_line_and_after_room_is_made_a_run_goes_on(
    size: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("MKA1_USAGE_HOME", str(disk / "home"))
    lines = [RUN, ["verify"], [mounted.ROOM], RUN, ["verify"]]
    full, looked, after, verified = mounted.ended(["tmpfs", str(disk), size], lines)
    said = [line for line in full.err.splitlines() if "loading" not in line]
    said = [line for line in said if not line.startswith("2024-01-01 published")]
    assert full.code == 1
    assert len(said) == 1, full.err
    assert said[0].startswith("mka1-usage: error: ")
    assert "run the same again" in said[0]
    torn = [line for line in looked.text.splitlines() if "usage.duckdb" not in line]
    assert torn == [], "nothing is half published"
    assert (after.code, verified.code) == (0, 0), after.err


REASONS = [
    ("database or disk is full", "make room"),
    ("disk I/O error", "neither full nor broken"),
    ("database is locked", "no other process holds it"),
    ("unable to open database file", "owner and mode"),
    ("attempt to write a readonly database", "owner and mode"),
    ("database disk image is malformed", "move its `history` away"),
    ("file is not a database", "move its `history` away"),
    ("something\nnew", "DAGSTER_HOME"),
]


CALLS: list[tuple[type, str]] = [
    (SqliteRunStorage, "from_local"),
    (SqliteEventLogStorage, "store_event"),
]


@pytest.mark.parametrize(
    ("owner", "call", "reason", "todo"),
    [
        *((SqliteRunStorage, "add_run", *reason) for reason in REASONS),
        *((*call, *REASONS[0]) for call in CALLS),
    ],
)
def test_what_dagster_cannot_write_is_one_line(
    owner: type,
    call: str,
    reason: str,
    todo: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("INSERT INTO runs", {}, sqlite3.OperationalError(reason))

    monkeypatch.setattr(owner, call, fail)
    ended = command(RUN)
    assert ended.code == 1
    *_, last = ended.err.splitlines()
    assert len(ended.err.splitlines()) == 2, ended.err
    assert last.startswith(f"mka1-usage: error: Dagster can't keep its runs in {home}/dagster (")
    assert " ".join(reason.split()) in last
    assert todo in last


@pytest.mark.parametrize("kind", [OperationalError, DatabaseError])
def test_doctor_says_of_the_database_what_a_run_says(
    kind: type[Exception], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("SELECT", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(SqliteRunStorage, "from_local", fail)
    checks = [check for check in doctor.CHECKS if check.name == "dagster"]
    (found,) = doctor.examine(check_context(dict(os.environ), patience=120), checks)
    assert found.state == "failed"
    assert command(RUN).err.splitlines()[-1] == f"mka1-usage: error: {found.found}: {found.fix}"


def test_a_folder_is_tried_without_a_trace(tmp_path: Path) -> None:
    instance.require_writable(tmp_path / "a" / "b", "MKA1_USAGE_HOME")
    assert list((tmp_path / "a" / "b").iterdir()) == []
