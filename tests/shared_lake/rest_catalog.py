"""An Iceberg REST catalog on loopback, as far as a shared lake asks one: its tables are in SQLite.

Belongs here: the requests of the published specification, answered through pyiceberg's own models.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, Table
from pyiceberg.table.sorting import SortOrder

from pipeline.shared_lake.catalogs import SharedSqlCatalog, TableCommit


@dataclass
class Behaviour:
    """What the catalog can do, and what it was asked for."""

    transactions: bool = True
    """Whether it commits several tables at once."""
    asked: list[str] = field(default_factory=list[str])
    """Method and path of each request that changed something."""
    fail_after: int | None = None
    """After so many commits of one table it answers 409 to all others."""


@contextmanager
def rest_catalog(of: SharedSqlCatalog, behaviour: Behaviour) -> Iterator[str]:
    """The URL of the catalog, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            behaviour.asked.append(f"POST {self.path}")
            self._answer(json.loads(self.rfile.read(size) or b"{}"))

        def _answer(self, body: Any) -> None:
            try:
                status, answer = _answered(of, behaviour, self.path, body)
            except NoSuchTableError as error:
                status, answer = 404, _error(error, 404)
            except (
                CommitFailedException,
                TableAlreadyExistsError,
                NamespaceAlreadyExistsError,
            ) as error:
                status, answer = 409, _error(error, 409)
            content = b"" if answer is None else answer.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def _answered(  # noqa: PLR0911  a request a line
    of: SharedSqlCatalog, behaviour: Behaviour, path: str, body: Any
) -> tuple[int, str | None]:
    parts = path.partition("?")[0].removeprefix("/v1/").split("/")
    match parts, body:
        case ["config"], None:
            return 200, '{"defaults": {}, "overrides": {}}'
        case ["namespaces"], {"namespace": [name]}:
            of.create_namespace((name,))
            return 200, json.dumps({"namespace": [name], "properties": {}})
        case ["namespaces", space, "tables"], {"name": str(name)}:
            return 200, _loaded(_created(of, space, name, body))
        case ["namespaces", space, "tables", name], None:
            return 200, _loaded(of.load_table((space, name)))
        case ["namespaces", space, "tables", name], _:
            if behaviour.fail_after is not None:
                if behaviour.fail_after == 0:
                    raise CommitFailedException("refused, as the test wants")
                behaviour.fail_after -= 1
            table = of.load_table((space, name))
            asked = CommitTableRequest.model_validate(body)
            of.commit_table(table, asked.requirements, asked.updates)
            return 200, _loaded(of.load_table((space, name)))
        case ["transactions", "commit"], {"table-changes": list(changes)} if behaviour.transactions:
            asked_of = [CommitTableRequest.model_validate(one) for one in changes]
            of.commit_together([_commit(of, one) for one in asked_of])
            return 204, None
    return 404, _error(LookupError("no such request"), 404)


def _commit(of: SharedSqlCatalog, asked: CommitTableRequest) -> TableCommit:
    table = of.load_table((*asked.identifier.namespace.root, asked.identifier.name))
    return TableCommit(table, asked.requirements, asked.updates)


def _created(of: SharedSqlCatalog, space: str, name: str, body: Any) -> Table:
    return of.create_table(
        (space, name),
        schema=Schema.model_validate(body["schema"]),
        location=body["location"],
        partition_spec=PartitionSpec.model_validate(body["partition-spec"]),
        sort_order=SortOrder.model_validate(body["write-order"]),
        properties=body["properties"],
    )


def _loaded(table: Table) -> str:
    metadata = table.metadata.model_dump_json()
    return f'{{"metadata-location": "{table.metadata_location}", "metadata": {metadata}}}'


def _error(error: Exception, code: int) -> str:
    return json.dumps(
        {"error": {"message": str(error), "type": type(error).__name__, "code": code}}
    )
