"""No test waits without a bound: what it starts is ended, and what hangs fails."""

from __future__ import annotations

import ast
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, CompletedProcess, TimeoutExpired
from typing import Final

import pytest

from tests import bounded

ROOT: Final = Path(__file__).parents[1]
HANGS: Final = [sys.executable, "-c", "import time; time.sleep(3_600)"]

# What is written in the tests

WAITS: Final = {"acquire", "communicate", "join", "result", "wait"}
STARTS: Final = {"Popen", "call", "check_call", "check_output", "getoutput", "run", "system"}
EXEMPT: Final = {ROOT / "tests" / "bounded.py", *(ROOT / "tests" / "benchmarks").rglob("*.py")}
"""The benchmarks are no tests: a person runs them, and sees how far they are."""


def unbounded(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of the calls that start a process, or wait for as long as it takes.

    What a coroutine awaits is bounded by the time limit of its test, for that is a signal.
    """
    tree = ast.parse(source)
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "subprocess"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in awaited:
            continue
        given = len(node.args) + len(node.keywords)
        match node.func:
            case ast.Attribute(ast.Name("subprocess" | "os"), name):
                found = name in STARTS
            case ast.Name(name):
                found = name in STARTS & imported
            case ast.Attribute(_, "communicate"):
                found = all(keyword.arg != "timeout" for keyword in node.keywords)
            case ast.Attribute(ast.Name(), "get"):  # of a queue
                found = given == 0
            case ast.Attribute(_, name):
                found = name in WAITS and given == 0
            case _:
                found = False
        if found:
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize(
    "line",
    [
        "process.wait()",
        "process.communicate()",
        "process.communicate('text')",
        "threading.Event().wait()",
        "thread.join()",
        "queue.get()",
        "lock.acquire()",
        "future.result()",
        "subprocess.run(['true'], timeout=5)",
        "with subprocess.Popen(['true']) as process: pass",
        "from subprocess import run\nrun(['true'])",
        "os.system('true')",
    ],
)
def test_a_wait_without_a_bound_is_found(line: str) -> None:
    assert len(list(unbounded(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(60)",
        "process.communicate(timeout=60)",
        "event.wait(timeout=60)",
        "','.join(words)",
        "fields.get('name')",
        "dagster.DagsterInstance.get()",
        "run()",
        "async def one(event): await event.wait()",
    ],
)
def test_a_wait_with_a_bound_is_let_be(line: str) -> None:
    assert list(unbounded(line)) == []


def test_no_test_waits_without_a_bound() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted({*(ROOT / "tests").rglob("*.py")} - EXEMPT)
        for line, text in unbounded(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "give it a number of seconds, or use tests/bounded.py"


# Processes and threads


def test_a_process_is_ended_as_by_ctrl_c() -> None:
    script = (
        "import time\n"
        "try: print('there', flush=True); time.sleep(3_600)\n"
        "except KeyboardInterrupt: pass"
    )
    with bounded.started([sys.executable, "-c", script], stdout=PIPE) as process:
        assert process.stdout is not None
        assert bounded.read_until("there", process.stdout) == "there\n"
    assert process.returncode == 0


def test_what_does_not_end_by_ctrl_c_is_killed_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "GRACE", 0.2)
    script = "trap '' INT; sleep 3600 & echo there; wait; sleep 3600"
    reading, writing = os.pipe()
    with bounded.started(["bash", "-c", script], stdout=PIPE, pass_fds=[writing]) as process:
        os.close(writing)
        assert process.stdout is not None
        bounded.read_until("there", process.stdout)
    assert process.returncode < 0
    assert os.read(reading, 1) == b"", "nobody holds the other end any more"
    os.close(reading)


def test_a_process_that_left_others_behind_takes_them_along() -> None:
    reading, writing = os.pipe()
    script = "sleep 3600 >/dev/null 2>&1 &"
    bounded.finished(["bash", "-c", script], pass_fds=[writing])
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_nobody_reads_for_ever_from_a_process_that_hangs() -> None:
    with bounded.started(HANGS, seconds=0.2, stdout=PIPE) as process:
        assert process.stdout is not None
        with pytest.raises(AssertionError, match="ended without 'ready'"):
            bounded.read_until("ready", process.stdout)


def test_a_process_that_takes_too_long_fails() -> None:
    with pytest.raises(TimeoutExpired):
        bounded.finished(HANGS, seconds=0.2)


def test_a_process_that_fails_says_what_it_wrote() -> None:
    with pytest.raises(AssertionError, match="ended with 3\nout\nerr"):
        bounded.finished(["bash", "-c", "echo out; echo err >&2; exit 3"])


def test_a_thread_that_hangs_fails() -> None:
    let_go = threading.Event()
    with pytest.raises(AssertionError, match="has not ended"):
        bounded.at_once([lambda: let_go.wait(bounded.LIMIT)], seconds=0.01)
    let_go.set()


# Whole runs

LAST: Final = """
import tests.conftest
from xdist.workermanage import NodeManager

tests.conftest.LAST_SECONDS = 2.0
NodeManager.EXIT_TIMEOUT = 1  # instead of 10 s, for a worker that has nothing left to do
"""

HANGING: Final = """
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

def test_that_waits():
    Event().wait()

def test_after_it():
    pass

def test_whose_threads_hang():
    with ThreadPoolExecutor() as pool:
        pool.submit(Event().wait).result()

def test_at_the_end():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    Thread(target=Event().wait).start()
"""


def run(folder: Path, *options: str) -> CompletedProcess[str]:
    """pytest with the settings of this project, where the last limit comes two seconds later.

    It ignores SIGINT at first, as what a shell starts in the background does.
    """
    (folder / "conftest.py").write_text(LAST)
    (folder / "test_hanging.py").write_text(HANGING)
    project = [f"--rootdir={ROOT}", "-c", ROOT / "pyproject.toml", "-p", "tests.conftest"]
    command = [sys.executable, "-m", "pytest", *project, "-p", "no:cacheprovider", *options, folder]
    ignoring = ["bash", "-c", "trap '' INT; exec \"$@\"", "bash"]
    return bounded.finished([*ignoring, *command], cwd=ROOT, check=False)


@pytest.mark.slow
def test_what_hangs_fails_and_the_others_are_run(tmp_path: Path) -> None:
    done = run(tmp_path, "-n", "1", "--timeout", "1")
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "Failed: Timeout (>1.0s)" in done.stdout
    assert "crashed while running" in done.stdout
    assert "in test_whose_threads_hang" in done.stderr, "where it hung"


@pytest.mark.slow  # it hangs until its time is over
def test_a_thread_that_hangs_keeps_no_run(tmp_path: Path) -> None:
    done = run(tmp_path, "-k", "test_at_the_end")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
