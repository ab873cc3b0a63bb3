"""What the last run of each job left: when, how it ended, what it asked the API for.

A file a job in the home folder, so that `serve` can show it without Dagster. It is no history: that
is Dagster's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from pipeline.lake.store import private_folder, replacing

_FOLDER: Final = "last_runs"
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,100}")


class RunFigures(msgspec.Struct, frozen=True):
    """The steps of a run that load from the API, together. Times are Unix seconds."""

    job: str
    run_id: str
    started_at: float
    ended_at: float
    succeeded: bool
    """None of these steps failed or was interrupted; what checks found is not in it."""
    requests: int
    """Those sent, retries included."""
    retries: int
    quota_answers: int
    """Answers with status 429."""


class RunLog:
    """The last run of each job of a home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / _FOLDER

    def add(self, step: RunFigures) -> None:
        """Note a step; its figures join those of the same run. OSError, ValueError for a name that
        no job has."""
        if not _NAME.fullmatch(step.job):
            raise ValueError(f"{step.job!r} is no name of a job")
        path = self._folder / f"{step.job}.json"
        known = _read(path)
        if known is not None and known.run_id == step.run_id:
            step = RunFigures(
                job=step.job,
                run_id=step.run_id,
                started_at=min(known.started_at, step.started_at),
                ended_at=max(known.ended_at, step.ended_at),
                succeeded=known.succeeded and step.succeeded,
                requests=known.requests + step.requests,
                retries=known.retries + step.retries,
                quota_answers=known.quota_answers + step.quota_answers,
            )
        private_folder(self._folder)
        with replacing(path) as aside:
            aside.write_bytes(msgspec.json.encode(step))

    def read(self) -> list[RunFigures]:
        """The last run of each job, by name; those whose file can't be read are left out."""
        found = (_read(path) for path in sorted(self._folder.glob("[!.]*.json")))
        return [one for one in found if one is not None]


def _read(path: Path) -> RunFigures | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunFigures)
    except (OSError, msgspec.DecodeError):
        return None
