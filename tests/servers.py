"""What a shared lake stands on, on loopback: S3, Postgres and a REST catalog, while a test runs.

Belongs here: starting and ending them. `s3()` is moto in a thread of this process, ready in less
than a second, and child processes reach it too. `postgres()` and `seaweedfs()` are programs, for
`--long`: a test is skipped where they are not installed.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any, Final

import pytest
from pyarrow import fs

from tests.bounded import LONG, finished, started

BUCKET: Final = "lake"
_PATIENCE: Final = 30.0
"""Seconds that a server may take to start, or to answer."""
_UNPRIVILEGED: Final = ("postgres", "nobody")
"""Who runs Postgres where root runs the tests: it refuses root."""


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server, with a bucket that holds nothing yet."""

    endpoint: str
    """`http://127.0.0.1:…`."""
    access_key: str = "tester"
    secret_key: str = "not-a-secret"
    region: str = "us-east-1"

    @property
    def warehouse(self) -> str:
        """A prefix in the bucket, as MKA1_USAGE_WAREHOUSE names it."""
        return f"s3://{BUCKET}/warehouse"

    @property
    def environment(self) -> Mapping[str, str]:
        """The usual AWS variables: all that a client needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",  # else clients ask a host that is not there
        }

    def files(self) -> fs.S3FileSystem:
        """Its objects as Arrow sees them; paths begin with the bucket, without `s3://`."""
        return fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )

    def keys(self, under: str = "") -> list[str]:
        """The objects that there are below a prefix of the bucket, in order."""
        selector = fs.FileSelector(f"{BUCKET}/{under}", recursive=True, allow_not_found=True)
        found = self.files().get_file_info(selector)
        return sorted(one.path for one in found if one.type is fs.FileType.File)


@contextmanager
def s3() -> Iterator[S3]:
    """An S3 server in this process until the end of the block; skips without moto.

    It honours If-Match and If-None-Match. What it holds is this process's: one at a time.
    """
    pytest.importorskip("moto.server", reason="moto, of the extra `test`, is the S3 server")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        place = S3(f"http://{host}:{port}")
        reset = urllib.request.Request(f"{place.endpoint}/moto-api/reset", method="POST")
        with urllib.request.urlopen(reset, timeout=_PATIENCE):
            place.files().create_dir(BUCKET)
        yield place
    finally:
        server.stop()


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty Postgres database until the end of the block; skips without Postgres."""
    programs = _programs("initdb", "postgres")
    account = _account()
    with tempfile.TemporaryDirectory(prefix="mka1-postgres-") as name:
        folder = Path(name)
        as_: dict[str, Any] = {"cwd": folder}
        if account is not None:  # root's own
            os.chown(folder, account.pw_uid, account.pw_gid)
            as_ |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}
        data = folder / "data"
        options = ("--username=tester", "--auth=trust", "--encoding=UTF8", "--no-sync")
        finished([programs["initdb"], *options, data], **as_)
        [port] = _free_ports(1)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        words = [word for one in settings.items() for word in ("-c", f"{one[0]}={one[1]}")]
        with (
            (folder / "log").open("w") as log,
            started(
                [programs["postgres"], "-D", data, *words],
                seconds=LONG,
                stdout=log,
                stderr=STDOUT,
                **as_,
            ) as server,
        ):
            from sqlalchemy import create_engine
            from sqlalchemy.exc import OperationalError

            place = f"tester@127.0.0.1:{port}/postgres"
            engine = create_engine(f"postgresql+psycopg2://{place}")
            _until(lambda: engine.connect().close(), OperationalError, server)
            engine.dispose()
            yield f"postgresql://{place}"


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """An S3 server whose bucket has an Iceberg REST catalog, which keeps its tables there."""

    s3: S3
    catalog: str
    """The URL of the REST catalog. It takes the keys of S3 as client id and secret."""

    @property
    def warehouse(self) -> str:
        """What the catalog calls a warehouse: the bucket."""
        return f"s3://{BUCKET}"

    @property
    def credential(self) -> str:
        """What OAuth2 calls client id and secret."""
        return f"{self.s3.access_key}:{self.s3.secret_key}"

    @property
    def token_url(self) -> str:
        """Where the catalog gives tokens for them."""
        return f"{self.catalog}/v1/oauth/tokens"


@contextmanager
def seaweedfs() -> Iterator[SeaweedFS]:
    """SeaweedFS until the end of the block; skips without `weed`, of the extra `long`.

    Its REST catalog commits several tables at once, all or none, and does not say so in its list of
    endpoints.
    """
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.exceptions import NoSuchNamespaceError, RESTError
    from requests import RequestException

    weed = _programs("weed")["weed"]
    names = ("master", "filer", "volume", "s3")
    servers = [port for name in names for port in (f"{name}.port", f"{name}.port.grpc")]
    ports = dict(zip([*servers, "s3.port.iceberg"], _free_ports(len(servers) + 1), strict=True))
    with tempfile.TemporaryDirectory(prefix="mka1-seaweedfs-") as name:
        folder = Path(name)
        place = SeaweedFS(
            S3(f"http://127.0.0.1:{ports['s3.port']}"),
            f"http://127.0.0.1:{ports['s3.port.iceberg']}",
        )
        options = {
            "dir": folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "tableBucket": BUCKET,
            "s3.port.lance": 0,
            "admin.ui": "false",
            "webdav": "false",
            **ports,
        }
        with (
            (folder / "log").open("w") as log,
            started(
                [weed, "mini", *(f"-{option}={value}" for option, value in options.items())],
                seconds=LONG,
                cwd=folder,
                env={**os.environ, **place.s3.environment},
                stdout=log,
                stderr=STDOUT,
            ) as server,
        ):

            def answers() -> None:
                """The catalog is up before its bucket is there."""
                RestCatalog(
                    "ready",
                    uri=place.catalog,
                    warehouse=place.warehouse,
                    credential=place.credential,
                    **{"oauth2-server-uri": place.token_url},
                ).list_namespaces()

            _until(answers, (NoSuchNamespaceError, RESTError, RequestException), server)
            yield place


def _programs(*names: str) -> Mapping[str, str]:
    """Where programs are: on the path, beside Python, or where Debian keeps those of Postgres."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folders = [os.environ.get("PATH", ""), str(Path(sys.executable).parent), *map(str, postgres)]
    found = {name: shutil.which(name, path=os.pathsep.join(folders)) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"there is no `{missing[0]}` here")
    return {name: str(path) for name, path in found.items()}


def _account() -> pwd.struct_passwd | None:
    """Who runs what refuses root; None where the tests are not root's. Skips without any."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("Postgres refuses root, and there is no other account here")


def _free_ports(number: int) -> list[int]:
    """Loopback ports that were free a moment ago, all different."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _until(
    answers: Callable[[], object],
    not_yet: type[Exception] | tuple[type[Exception], ...],
    server: Popen[str],
) -> None:
    """Ask a server until it answers; it fails the test if it ends, or takes too long."""
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            answers()
        except not_yet:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < give_up, "the server does not answer"
            threading.Event().wait(0.05)
        else:
            return
