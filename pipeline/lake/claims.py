"""Which run of a home works on which days, where what is done there is to be committed elsewhere.

Between the moment at which a day becomes a local version and the one at which that is committed, no
other run of the home may replace it. So a run claims its days for all of that time; days that
another one has claimed are waited for. Runs with other days go on side by side.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Final
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.lake.store import Lake, private_folder

_FOLDER: Final = ".claims"
_LOOK_AGAIN: Final = 0.1
"""Seconds."""


class Claim:
    """The days that are one run's for now. `days` is None for all that there are and will be."""

    def __init__(self, lake: Lake, days: Iterable[date] | None) -> None:
        self.days = None if days is None else set(days)
        self._lake = lake
        self._path = lake.root / _FOLDER / f"{uuid4().hex}.json"

    def take(self) -> bool:
        """Claim the days, all of them or none; returns whether nobody has one of them."""
        with self._lake.lock("claims"):
            for others in self._others():
                if self.days is None or others is None or self.days & others:
                    return False
            self._write()
        return True

    def extend(self, days: Iterable[date]) -> set[date]:
        """Claim further days, those that nobody has; returns all of `days` that are this run's."""
        wanted = set(days)
        if self.days is None or wanted <= self.days:
            return wanted
        with self._lake.lock("claims"):
            for others in self._others():
                wanted = wanted & self.days if others is None else wanted - others
            self.days |= wanted
            self._write()
        return wanted

    @contextmanager
    def alive(self) -> Iterator[None]:
        """While this lasts, others see that the run is alive; afterwards, nothing is claimed."""
        private_folder(self._path.parent)
        lock = _lock_of(self._path)
        with lock:
            try:
                yield
            finally:
                self._path.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)

    def _write(self) -> None:
        days = None if self.days is None else sorted(day.isoformat() for day in self.days)
        self._path.write_text(json.dumps(days), encoding="utf-8")

    def _others(self) -> Iterator[set[date] | None]:
        """The days of each other run that is alive; what those have left that are not is removed.

        With the lock `claims`.
        """
        for path in sorted(self._path.parent.glob("*.json")):
            if path == self._path:
                continue
            with suppress(Timeout):
                with _lock_of(path).acquire(timeout=0):
                    path.unlink(missing_ok=True)
                Path(_lock_of(path).lock_file).unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError):  # it has ended at this moment
                days = json.loads(path.read_text(encoding="utf-8"))
                yield None if days is None else {date.fromisoformat(day) for day in days}


@contextmanager
def claiming(
    lake: Lake, days: Iterable[date] | None, on_wait: Callable[[], None]
) -> Iterator[Claim]:
    """Claim days (None: all) until the end of the block; wait while another run has one of them.

    `on_wait` is called once, where it has to wait.
    """
    claim = Claim(lake, days)
    with claim.alive():
        waited = False
        while not claim.take():
            if not waited:
                on_wait()
            waited = True
            time.sleep(_LOOK_AGAIN)
        yield claim


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), thread_local=False)
