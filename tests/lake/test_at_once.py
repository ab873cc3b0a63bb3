"""Days side by side: each once, on its own connection; an error keeps none from it."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Lock

import duckdb
import pytest

from pipeline.lake import engine
from pipeline.lake.store import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


@pytest.mark.usefixtures("_two_cores")
def test_two_cores_work_on_two_at_once_each_on_its_own_connection(lake: Lake) -> None:
    both_here = Barrier(2)
    seen: list[tuple[int, int]] = []

    def work(con: duckdb.DuckDBPyConnection, task: int) -> None:
        both_here.wait(10)  # fails unless the other is under way too
        seen.append((task, id(con)))

    engine.at_once(lake, work, range(2))
    assert sorted(task for task, _ in seen) == [0, 1]
    assert len({con for _, con in seen}) == 2


@pytest.mark.usefixtures("_two_cores")
def test_each_task_is_done_once_and_connections_are_used_again(lake: Lake) -> None:
    lock, done, connections = Lock(), list[int](), set[int]()

    def work(con: duckdb.DuckDBPyConnection, task: int) -> None:
        row = con.execute("SELECT CAST($task AS BIGINT) * 2", {"task": task}).fetchone()
        assert row is not None
        with lock:
            done.append(row[0])
            connections.add(id(con))

    engine.at_once(lake, work, range(20))
    assert sorted(done) == [2 * task for task in range(20)]
    assert len(connections) <= 2


def test_what_fails_keeps_none_of_the_others_from_being_done(lake: Lake) -> None:
    done: list[int] = []

    def work(_: duckdb.DuckDBPyConnection, task: int) -> None:
        if task in {3, 7}:
            raise OSError(f"no room for {task}")
        done.append(task)

    with pytest.raises(OSError, match="no room for 3"):
        engine.at_once(lake, work, range(10))
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 8, 9]


def test_nothing_to_do_is_done_at_once(lake: Lake) -> None:
    engine.at_once(lake, lambda con, task: None, [])


def test_all_that_is_done_at_once_shares_the_memory_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    limits: list[str] = []

    def work(con: duckdb.DuckDBPyConnection, _: int) -> None:
        limits.append(con.sql("SELECT current_setting('memory_limit')").fetchall()[0][0])

    engine.at_once(Lake(tmp_path, memory=512 * 1024**2), work, range(2))
    assert limits == ["256.0 MiB", "256.0 MiB"]
