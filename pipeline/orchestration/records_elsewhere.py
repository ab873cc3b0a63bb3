"""Where Dagster keeps its records, other than in files below its home: servers, and other folders.

Belongs here: what `dagster.yaml` says of it, and which tables of a server are Dagster's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from sqlalchemy import Connection, MetaData

from pipeline.forget.database import Database
from pipeline.orchestration.instance import first_failure_ends_it, opened

_SQLITE: Final = "sqlite"
_Connect: TypeAlias = Callable[[], AbstractContextManager[Connection]]


class Elsewhere(NamedTuple):
    """Servers with tables of Dagster, and folders with files of it."""

    databases: tuple[Database, ...] = ()
    folders: tuple[Path, ...] = ()


@contextmanager
def records_elsewhere(dagster_home: Path) -> Iterator[Elsewhere]:
    """What a Dagster home that is there names, as long as the block lasts.

    Raises what opening an instance raises: DagsterError, STORAGE_ERRORS, ModuleNotFoundError, and
    ConnectionError.
    """
    databases: list[Database] = []
    with ExitStack() as stack:
        with first_failure_ends_it():
            instance = stack.enter_context(opened(dagster_home))
            folders = [Path(instance.root_directory)]
            for connect, tables in _parts(instance):
                with connect() as con:
                    url = con.engine.url
                if url.get_backend_name() != _SQLITE:
                    shown = f"Dagster's database {url.host}:{url.port}/{url.database}"
                    databases.append(Database(shown, connect, tables.sorted_tables))
                elif url.database:
                    folders.append(Path(url.database).parent)
        yield Elsewhere(tuple(databases), tuple(folders))


def _parts(instance: dg.DagsterInstance) -> Iterator[tuple[_Connect, MetaData]]:
    """Runs, events and ticks, which may be on servers of their own."""
    runs, events = instance.run_storage, instance.event_log_storage
    ticks = instance.schedule_storage
    if isinstance(runs, SqlRunStorage):
        yield runs.connect, RunStorageSqlMetadata
    if isinstance(events, SqlEventLogStorage):
        yield events.index_connection, SqlEventLogStorageMetadata
    if isinstance(ticks, SqlScheduleStorage):
        yield ticks.connect, ScheduleStorageSqlMetadata
