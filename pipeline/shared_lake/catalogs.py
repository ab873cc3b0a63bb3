"""Iceberg catalogs that commit several tables at once: all of them, or none.

Belongs here: one commit for many tables, in a database transaction or by one request. A REST
catalog that has no such request commits one table after the other, in the order in which they come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import CommitTableRequest, Namespace, StagedTable, Table, TableIdentifier
from pyiceberg.table.update import TableRequirement, TableUpdate
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from pipeline.shared_lake.place import Place

NAME: Final = "mka1_usage"
"""Of the catalog, and of the namespace in it."""
_AT_ONCE: Final = 8
_NO_SUCH_REQUEST: Final = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
}
_WAIT_FOR_LOCK: Final = 60
"""Seconds that SQLite waits for another process to end its transaction."""


class TableCommit(NamedTuple):
    """What becomes of one table, if it still is what it was."""

    table: Table
    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]


class SharedSqlCatalog(SqlCatalog):
    """A catalog in SQLite or Postgres: the tables of a commit change in one transaction."""

    commits_together = True
    """Readers see all tables of a commit change at one moment."""

    def commit_together(self, commits: Sequence[TableCommit]) -> None:
        """Write the new metadata of each table, then let all of it count at once.

        CommitFailedException where a table is not what it was.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            staged = list(pool.map(self._staged, commits))
        pairs = zip(commits, staged, strict=True)
        # In one order: two transactions that want the same rows wait for each other once at most.
        ordered = sorted(pairs, key=lambda pair: pair[0].table.name())
        with Session(self.engine) as session:
            for one, new in ordered:
                *namespace, name = one.table.name()
                changed = session.execute(
                    update(IcebergTables)
                    .where(
                        IcebergTables.catalog_name == self.name,
                        IcebergTables.table_namespace == ".".join(namespace),
                        IcebergTables.table_name == name,
                        IcebergTables.metadata_location == one.table.metadata_location,
                    )
                    .values(
                        metadata_location=new.metadata_location,
                        previous_metadata_location=one.table.metadata_location,
                    )
                )
                if changed.rowcount != 1:  # type: ignore[attr-defined]  # of an UPDATE it is there
                    session.rollback()
                    raise CommitFailedException(f"{name} was committed by another worker")
            session.commit()

    def _staged(self, one: TableCommit) -> StagedTable:
        staged = self._update_and_stage_table(
            one.table, one.table.name(), one.requirements, one.updates
        )
        self._write_metadata(staged.metadata, staged.io, staged.metadata_location)
        return staged


class SharedRestCatalog(RestCatalog):
    """An Iceberg REST catalog: one request, where it has the one for several tables."""

    commits_together = True

    def commit_together(self, commits: Sequence[TableCommit]) -> None:
        """Ask for all changes at once; one by one where the catalog has no such request."""
        if self.commits_together and len(commits) > 1:
            changes = [_request(one).model_dump_json() for one in commits]
            answer = self._session.post(
                self.url("transactions/commit"),
                data=f'{{"table-changes": [{", ".join(changes)}]}}'.encode(),
                headers={"Content-Type": "application/json"},
            )
            if answer.ok:
                return
            if answer.status_code not in _NO_SUCH_REQUEST:
                raise _refusal(answer.status_code, answer.text)
            self.commits_together = False
        for one in commits:
            self.commit_table(one.table, one.requirements, one.updates)


SharedCatalog: TypeAlias = SharedSqlCatalog | SharedRestCatalog


def open_catalog(place: Place, files: Mapping[str, str]) -> SharedCatalog:
    """The catalog at a place; `files` are the properties by which it finds its files."""
    parts = urlsplit(place.catalog)
    if parts.scheme in {"http", "https"}:
        user = parts.netloc.rpartition("@")[0]
        address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        own = {"oauth2-server-uri": f"{address.rstrip('/')}/v1/oauth/tokens"}
        if user:
            own["credential"] = user
        return SharedRestCatalog(NAME, uri=address, **own, **files)
    address = place.catalog
    if parts.scheme == "sqlite":
        address += f"{'&' if parts.query else '?'}timeout={_WAIT_FOR_LOCK}"
    else:  # SQLAlchemy would look for psycopg 3 by itself
        address = address.replace("postgresql://", "postgresql+psycopg2://", 1)
    try:
        return _sql(address, files)
    except DBAPIError:  # another worker has made its tables at this moment
        return _sql(address, files)


def _sql(address: str, files: Mapping[str, str]) -> SharedSqlCatalog:
    # A process that stays may come back to a connection that the database has closed long ago.
    return SharedSqlCatalog(NAME, uri=address, pool_pre_ping="true", **files)


def file_properties(place: Place) -> dict[str, str]:
    """The properties of a catalog by which it finds its files, from the usual AWS variables."""
    local = "://" not in place.warehouse
    found = {"warehouse": f"file://{place.warehouse}" if local else place.warehouse}
    if local:
        return found
    names = {
        "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "s3.access-key-id": ("AWS_ACCESS_KEY_ID",),
        "s3.secret-access-key": ("AWS_SECRET_ACCESS_KEY",),
        "s3.session-token": ("AWS_SESSION_TOKEN",),
    }
    for name, variables in names.items():
        value = next((os.environ[it] for it in variables if os.environ.get(it)), None)
        if value is not None:
            found[name] = value
    found.setdefault("s3.region", "us-east-1")
    return found


def _request(one: TableCommit) -> CommitTableRequest:
    *namespace, name = one.table.name()
    return CommitTableRequest(
        identifier=TableIdentifier(namespace=Namespace(namespace), name=name),
        requirements=one.requirements,
        updates=one.updates,
    )


def _refusal(status: int, text: str) -> Exception:
    words = f"the catalog answered {status} to a commit of several tables: {text[:200]}"
    if status == HTTPStatus.CONFLICT:
        return CommitFailedException(words)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CommitStateUnknownException(words)
    return ValueError(words)
