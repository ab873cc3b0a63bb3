"""How many requests we made ourselves, and how many were refused: what is knowable of a quota.

Belongs here: counting, by key and UTC day, in files that outlast a run.

The API tells nothing of a quota but the 429 that says it is spent, so what is left of one can only
be reckoned from what was asked. Files are lines of JSON below `<home>/requests`, one file a day::

    {"at": "2024-01-05T13:00:00Z", "key": "key_web", "requests": 50, "refused": 0}

A line is appended in one write, so runs at once need no lock. They name keys by their ids and hold
no secret. A process that is killed loses what it had not written: fifty requests at most.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.lake.store import private_folder
from pipeline.timeline import day_of, iso, parse_time

_EVERY: Final = 50
_KEPT_DAYS: Final = 31


@dataclass(frozen=True, slots=True)
class Tallied:
    """What one process asked with one key up to a moment (Unix seconds), since its last line."""

    at: int
    key: str
    requests: int
    refused: int


class Meter:
    """Counts the requests of one client. What can't be written is let go: no load fails of it."""

    def __init__(self, folder: Path, key: str, now: Callable[[], float]) -> None:
        self._folder = folder
        self._key = key
        self._now = now
        self._requests = 0
        self._refused = 0

    def sent(self) -> None:
        """A request leaves."""
        self._requests += 1
        if self._requests >= _EVERY:
            self.close()

    def refused(self) -> None:
        """A request was answered 429."""
        self._refused += 1

    def close(self) -> None:
        """Write down what was counted since the last time."""
        if self._requests or self._refused:
            at = int(self._now())
            with suppress(OSError):
                _append(self._folder, Tallied(at, self._key, self._requests, self._refused))
            self._requests = self._refused = 0


def tally_file(folder: Path, day: date) -> Path:
    """Where the requests of a UTC day are counted."""
    return folder / f"{day.isoformat()}.jsonl"


def read_tally(folder: Path, day: date) -> list[Tallied]:
    """What was counted on a UTC day; nothing where there is no file. A line cut short is no line.

    OSError where the file can't be read.
    """
    found: list[Tallied] = []
    with suppress(FileNotFoundError):
        for line in tally_file(folder, day).read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                said = json.loads(line)
                at, key = parse_time(said["at"]), str(said["key"])
                found.append(Tallied(at, key, int(said["requests"]), int(said["refused"])))
    return found


def _append(folder: Path, tallied: Tallied) -> None:
    day = day_of(tallied.at)
    path = tally_file(folder, day)
    if not path.exists():
        private_folder(folder)
        _clear_up(folder, day)
    line = {
        "at": iso(tallied.at),
        "key": tallied.key,
        "requests": tallied.requests,
        "refused": tallied.refused,
    }
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(handle)


def _clear_up(folder: Path, today: date) -> None:
    oldest = tally_file(folder, today - timedelta(days=_KEPT_DAYS)).name
    for path in folder.glob("????-??-??.jsonl"):
        if path.name < oldest:
            path.unlink(missing_ok=True)
