"""The Dagster instance below the home folder: where runs started here are kept."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Final, TextIO, cast

import dagster as dg
from sqlalchemy.exc import DBAPIError

from pipeline.lake.store import writable_folder
from pipeline.settings import SettingsError

_MISREAD: Final = re.compile(r"[%?*\[\x00-\x1f\x7f\udc80-\udcff]")

_DAGSTER_YAML: Final = """\
# Written once by mka1-usage; yours to change. Reference: Dagster's "dagster.yaml" page.
telemetry:
  enabled: false
compute_logs:
  # What a step says is in the event log. Copying its stdout and stderr to files too would take
  # the terminal away from the progress bar, and start two more processes for each step.
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
nux:
  enabled: false # no sign-up dialog over the first page
concurrency:
  # So many runs read the API at a time as MKA1_USAGE_WORKERS says: they share its quota. `run`,
  # not `op`: a killed process would leave an op's slot taken.
  pools:
    granularity: run
    default_limit: {workers}
  runs:
    max_concurrent_runs: {runs}
"""
_SERVER: Final = ".dagster/grpc_info"
"""The tag by which Dagster notes which code server has a run, as JSON."""
_NOBODY: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED})
"""What connecting says where nobody listens. That of a service can be opened by its user alone."""
_OTHER_RUNS: Final = 3
"""Runs that may go on beside those that read the API."""


def prepare(dagster_home: Path, workers: int = 1) -> None:
    """Make the folder and its `dagster.yaml` where there are none, and point Dagster at it.

    A new one lets so many `workers` read the API at a time. Raises OSError, with what to set, where
    the folder can't be made or written.
    """
    config = dagster_home / "dagster.yaml"
    require_writable(dagster_home, "MKA1_USAGE_HOME (or DAGSTER_HOME)")
    if not config.exists():
        written = _DAGSTER_YAML.format(workers=workers, runs=workers + _OTHER_RUNS)
        config.write_text(written, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(dagster_home)


def require_writable(folder: Path, setting: str) -> None:
    """Make the folder where there is none. OSError, with what to set, where it can't be written."""
    try:
        writable_folder(folder)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: set {setting} to a folder that can be written to",
            str(folder),
        ) from error


@contextmanager
def opened(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a Dagster home that is there. SettingsError as for `readable`."""
    with readable(dagster_home) as home, dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@contextmanager
def first_failure_ends_it() -> Iterator[None]:
    """A database that is down is asked again for half a minute, each time with a warning: here the
    first one is raised, as ConnectionError.
    """
    listener = _Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(listener)


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _, retried, reason = record.getMessage().partition("Retrying failed database connection: ")
        if retried:
            raise ConnectionError(" ".join(reason.partition("(Background")[0].split()))


@contextmanager
def readable(dagster_home: Path) -> Iterator[Path]:
    """The path of a Dagster home; where Dagster would misread it, another one to the same folder.

    SettingsError where there is none.
    """
    if not misread(dagster_home):
        yield dagster_home
        return
    with tempfile.TemporaryDirectory(prefix="mka1-usage-") as temporary:
        home = Path(temporary) / "dagster"
        home.symlink_to(dagster_home)
        if sign := misread(home):
            raise SettingsError(
                f"TMPDIR holds {sign!r}, as DAGSTER_HOME does, which Dagster can't use in a "
                "path: set one of the two to another folder"
            )
        yield home


def fail_lost_runs(dagster_home: Path) -> int:
    """Record the runs as failed whose code server is no more; returns how many they are.

    Nothing else does where Dagster was killed, or lost its power, with them: they would seem to go
    on for ever, and keep their turn of reading the API. Raises STORAGE_ERRORS.
    """
    statuses = [*map(dg.DagsterRunStatus, ("STARTING", "STARTED", "CANCELING"))]
    with opened(dagster_home) as dagster:
        runs = dagster.get_runs(dg.RunsFilter(statuses=statuses))
        lost = [run for run in runs if _is_gone(run.tags.get(_SERVER))]
        for run in lost:
            dagster.report_run_failed(run, "The process that this run was in has ended.")
    return len(lost)


def _is_gone(server: str | None) -> bool:
    """Whether nobody answers for the code server that a run's tag names, on this machine."""
    path = json.loads(server).get("socket") if server else None
    if path is None:  # a run of `mka1-usage run`, or of a server that may be on another machine
        return False
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        return asking.connect_ex(path) in _NOBODY


@contextmanager
def quietly() -> Iterator[None]:
    """Without what Dagster writes to stderr of each event that it could not keep: the whole event.

    It raises too, and that is reported once, or it goes on where it can.
    """
    with redirect_stderr(cast("TextIO", _WithoutEvents(sys.stderr))):
        yield


class _WithoutEvents:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        noise = text.startswith("Exception while writing logger call to event log")
        return len(text) if noise else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


STORAGE_ERRORS: Final = (DBAPIError, sqlite3.Error)
"""What Dagster raises where its database fails: any of it, at any moment of a run."""


def storage_failure(error: Exception, dagster_home: Path) -> tuple[str, str]:
    """What is wrong with Dagster's database, and what to do, each without a line end."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    todo = next(
        (todo for words, todo in _STORAGE_TODO.items() if words in reason),
        "correct it, or set DAGSTER_HOME to another folder",
    )
    return f"Dagster can't keep its runs in {dagster_home} ({reason})", todo


_STORAGE_TODO: Final = {
    "full": "make room on that disk, then run the same again",
    "locked": "see that no other process holds it, then run the same again",
    "disk I/O": "see that the disk is neither full nor broken, then run the same again",
    "unable to open": "fix the owner and mode of its files, or set DAGSTER_HOME to another folder",
    "readonly": "fix the owner and mode of its files, or set DAGSTER_HOME to another folder",
    "malformed": "move its `history` away, which holds runs and no usage",
    "not a database": "move its `history` away, which holds runs and no usage",
}
"""By words of SQLite's own messages."""


def misread(dagster_home: Path) -> str | None:
    """The character of a path that makes Dagster misread it; None where there is none.

    It makes a URL of the path of its databases, and a pattern of that of `dagster.yaml`.
    """
    found = _MISREAD.search(str(dagster_home))
    return found.group() if found else None
