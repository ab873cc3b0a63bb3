"""Spark, as tests need it: one Spark Connect server for all of a process, on loopback.

Belongs here: starting and ending it. It is the JVM of the installed pyspark, ready in some seconds,
on one core, and its sessions are in America/New_York unless they say otherwise: no answer may
depend on that.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from subprocess import STDOUT
from typing import TYPE_CHECKING, Final

import pytest

from tests.bounded import LONG, started

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

needs_java: Final = pytest.mark.skipif(
    shutil.which("java") is None or find_spec("pyspark") is None,
    reason="Spark needs Java and the extra `spark`, and one of them is not here",
)
_SERVER: Final = "org.apache.spark.sql.connect.service.SparkConnectServer"
_PATIENCE: Final = 120.0
_RUNNING: Final = ExitStack()
"""The server and its session, once they are started: they end with the tests."""


@pytest.fixture(scope="session", autouse=True)
def _spark_ends() -> Iterator[None]:
    yield
    _RUNNING.close()


@cache
def spark_remote() -> str:
    """The URL of the server, which is started where it is not running yet."""
    import pyspark

    home = Path(pyspark.__file__).parent
    folder = Path(_RUNNING.enter_context(tempfile.TemporaryDirectory(prefix="mka1-spark-")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "768m",
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": folder / "warehouse",
        "spark.ui.enabled": "false",
    }
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    command = [home / "bin" / "spark-submit", "--class", _SERVER, "--master", "local[1]"]
    log = _RUNNING.enter_context((folder / "log").open("w"))
    server = _RUNNING.enter_context(
        started(
            [*command, *options, "spark-internal"],
            seconds=LONG,
            cwd=folder,
            env={**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"},
            stdout=log,
            stderr=STDOUT,
        )
    )
    give_up = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return f"sc://127.0.0.1:{port}"
        assert server.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < give_up, "Spark does not answer"
        threading.Event().wait(0.1)


@cache
def spark() -> SparkSession:
    """The one session of a test run that is in UTC."""
    with warnings.catch_warnings():  # what it says of pandas, which it is not asked to use here
        warnings.simplefilter("ignore")
        from pyspark.sql.connect.session import SparkSession

    session = SparkSession(connection=spark_remote())
    _RUNNING.callback(session.stop)
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session
