"""A process that loads and syncs days, task after task, or is killed at one.

Belongs here: what `mka1-usage run` does, without Dagster, which takes seconds to start.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from datetime import date
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.conversations.sync import SyncError, sync_days
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.usage.load import LoadError, load_days
from tests.torture.steps import count_steps
from tests.truth import FAST


def load(task: dict[str, Any]) -> str:
    """Load the days of a task; `done`, or the error in words."""
    lake = Lake(Path(task["root"]))
    secret = SecretStr(task["key"])
    try:
        try:
            load_days(
                lambda: Client(task["base_url"], secret, FAST, now=lambda: task["now"]),
                lake,
                [date.fromisoformat(day) for day in task["days"]],
                now=lambda: task["now"],
            )
        finally:
            build_catalog(lake, lake.root.parent / "usage.duckdb")
    except (LoadError, OSError, duckdb.Error, pa.ArrowException) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def sync(task: dict[str, Any]) -> str:
    """Read the conversations of a task's days, of its `keys`; `done`, or the error in words."""
    lake = Lake(Path(task["root"]))
    connect = {
        key: partial(Client, task["base_url"], SecretStr(secret), FAST, now=lambda: task["now"])
        for key, secret in task["keys"].items()
    }
    days = [date.fromisoformat(day) for day in task["days"]]
    try:
        try:
            sync_days(connect, lake, days, full=task["full"], now=lambda: task["now"])
        finally:
            build_catalog(lake, lake.root.parent / "usage.duckdb")
    except (SyncError, OSError, duckdb.Error, pa.ArrowException) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def work(tasks: Connection) -> None:
    """Answer task by task until there are no more, with the steps of one that has a last step."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, no death
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with suppress(EOFError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # as in tests/conftest.py: nobody takes the power away
        while True:
            task = tasks.recv()
            resource.setrlimit(resource.RLIMIT_FSIZE, (task.get("largest_file", most), most))
            steps = count_steps(task["last_step"]) if "last_step" in task else None
            answer = sync(task) if "keys" in task else load(task)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            tasks.send((answer, steps() if steps else 0))
