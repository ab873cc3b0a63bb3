"""Waits that have a bound: for the processes that a test starts, and for its threads.

Belongs here: starting and ending them. Tests start processes by this module alone, so that none
hangs and none stays behind.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

LIMIT: Final = 120.0
"""Seconds that a process or a thread may take, on a busy machine too."""

LONG: Final = 7_200.0
"""The same, where a test does all that `--long` asks for."""

GRACE: Final = 30.0
"""Seconds that a process has to end after Ctrl-C."""

COPIED: Final = ("pytest.__main__", "tests.torture.worker")
"""What copies of a process find imported."""
_COPIES: Final = multiprocessing.get_context("forkserver")


@contextmanager
def started(
    command: Sequence[Any], *, seconds: float = LIMIT, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process until the end of the block, with text (UTF-8) in its pipes.

    What is still running then gets SIGINT, as from Ctrl-C, and after `GRACE` seconds it is killed
    with all processes of its group. After `seconds` it is killed in any case: nobody reads from it
    for longer than that.
    """
    process = subprocess.Popen(
        command, encoding="utf-8", errors="backslashreplace", start_new_session=True, **options
    )
    give_up = threading.Timer(seconds, _kill, (process,))
    give_up.daemon = True
    give_up.start()
    try:
        yield process
    finally:
        give_up.cancel()
        _end(process)


def finished(
    command: Sequence[Any],
    *,
    text: str | None = None,
    seconds: float = LIMIT,
    check: bool = True,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """A process that ended by itself within `seconds`, and what it wrote.

    It reads `text`. With `check`, any exit code but 0 fails the test.
    """
    options = {"stdin": subprocess.PIPE if text is not None else subprocess.DEVNULL, **options}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, seconds=seconds + GRACE, **pipes, **options) as process:
        out, err = process.communicate(text, timeout=seconds)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    assert not check or done.returncode == 0, f"{command} ended with {done.returncode}\n{out}{err}"
    return done


@contextmanager
def copied(
    target: Callable[[Connection], object], *, seconds: float = LIMIT
) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs `target` until the end of the block, and the other end of what it gets.

    It is a copy of one that has imported what `COPIED` names and done nothing: it starts in no
    time. It is killed at the end of the block, and after `seconds` in any case.
    """
    _COPIES.set_forkserver_preload([*COPIED])
    mine, its = _COPIES.Pipe()
    process = _COPIES.Process(target=target, args=(its,), daemon=True)
    process.start()
    its.close()
    give_up = threading.Timer(seconds, process.kill)
    give_up.daemon = True
    give_up.start()
    try:
        yield process, mine
    finally:
        give_up.cancel()
        process.kill()
        process.join(GRACE)
        mine.close()


def read_until(pattern: str, lines: Iterable[str]) -> str:
    """What a process wrote, up to the first line in which the pattern is found."""
    said = ""
    for line in lines:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"ended without {pattern!r}:\n{said}")


def at_once(tasks: Iterable[Callable[[], object]], seconds: float = LIMIT) -> None:
    """Run each task in a thread of its own, until all have ended."""
    threads = [threading.Thread(target=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread, seconds)


def join(thread: threading.Thread, seconds: float = LIMIT) -> None:
    """Wait for a thread to end; it fails the test if it does not."""
    thread.join(seconds)
    assert not thread.is_alive(), f"{thread.name} has not ended after {seconds} s"


def _end(process: subprocess.Popen[str]) -> None:
    """End a process as a person does, then with force; close its pipes."""
    with suppress(BrokenPipeError):  # it may be gone, with what it was told still in the pipe
        if process.stdin is not None:
            process.stdin.close()
    process.stdin = None  # `communicate` can't do with one that is closed
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=GRACE)  # what it still writes must not stop it
    _kill(process)
    process.wait(GRACE)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process with all of its group, those too that it left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
