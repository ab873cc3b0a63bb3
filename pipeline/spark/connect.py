"""A session of a Spark Connect server, in UTC, and what it complains of as one line.

Belongs here: how a server is reached. Its URL may hold a token, so no message has all of it.
"""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

PORT: Final = 15_002
"""Where a server listens, if its URL does not say."""
_SCHEME: Final = "sc://"
_REACHED_WITHIN: Final = 10.0
"""Seconds: pyspark itself would go on trying for ten minutes."""
_RETRIES: Final = 7
"""They take about a minute, each some four times as long as the one before."""
_LOGGER: Final = "SQLQueryContextLogger"
"""Where pyspark writes each error to stderr, with the stack of the server."""
_OF_FILES: Final = (
    *("PATH_NOT_FOUND", "FAILED_READ_FILE", "Mkdirs failed", "Permission denied"),
    *("No FileSystem for scheme", "FileSystem not found"),
)
"""Signs in Spark's errors that it does not see files as they are seen here."""
SHARE: Final = (
    "the server and its workers have to read and write the warehouse by the name that it has here "
    "(docs/spark.md)"
)
"""What is said then."""
_SETTINGS: Final = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
"""Of the session, not of the server. No query of `sql/` depends on its time zone; people's do."""


class SparkError(Exception):
    """Spark can't be reached, or can't do what it was asked. One line, with what to do.

    `of_question`: what was asked is wrong, and not Spark.
    """

    def __init__(self, message: str, *, of_question: bool = False) -> None:
        super().__init__(message)
        self.of_question = of_question


def shown(remote: str) -> str:
    """A server's URL without its parameters, of which one may be a token."""
    return remote.partition("/;")[0].partition(";")[0]


@contextmanager
def connected(remote: str) -> Iterator[SparkSession]:
    """A session of its own on the server at `remote` (`sc://host:port`), ended with the block.

    SparkError where the client is not installed, or the server can't be reached. What the session
    raises is for `complaints`.
    """
    address = _address(remote)
    with warnings.catch_warnings():  # of a pandas that it does not know, and that is not used here
        warnings.simplefilter("ignore")
        try:
            from pyspark.sql.connect.client.retries import DefaultPolicy  # noqa: PLC0415
            from pyspark.sql.connect.session import SparkSession  # noqa: PLC0415
        except ImportError as error:
            raise SparkError(
                "Spark's client is not installed: pip install 'mka1-usage[spark]' "
                f"({error.name or error})"
            ) from None
    logging.getLogger(_LOGGER).disabled = True
    _reach(address, remote)
    with complaints(remote):
        session = SparkSession(connection=remote)
    try:
        session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES)])
        with complaints(remote):
            for name, value in _SETTINGS.items():
                session.conf.set(name, value)
        try:
            yield session
        except BaseException:
            with suppress(Exception):  # the error at hand says more
                session.interruptAll()
            raise
    finally:
        session.stop()


@contextmanager
def complaints(remote: str) -> Iterator[None]:
    """Turn what a session raises into SparkError."""
    from grpc import RpcError  # noqa: PLC0415
    from pyspark import errors  # noqa: PLC0415

    asked_wrong = (
        *(errors.AnalysisException, errors.ArithmeticException, errors.NumberFormatException),
        *(errors.DateTimeException, errors.IllegalArgumentException),
    )
    try:
        yield
    except errors.PySparkException as error:
        said = _in_one_line(error)
        words = f"Spark ({shown(remote)}): {said}"
        if any(sign in said for sign in _OF_FILES):
            raise SparkError(f"{words}: {SHARE}") from None
        raise SparkError(words, of_question=isinstance(error, asked_wrong)) from None
    except RpcError as error:
        raise SparkError(f"Spark ({shown(remote)}) can't be asked: {_in_one_line(error)}") from None


def _in_one_line(error: Exception) -> str:
    """What an error says, without the stack of the server."""
    said = str(error).partition("\n\nJVM stacktrace:")[0].partition("\n\tat ")[0].strip()
    return " ".join(said.partition("\n\n")[0].split()).partition(" SQLSTATE: ")[0].rstrip(".")


def _address(remote: str) -> tuple[str, int]:
    """The host and the port of a server's URL; SparkError where it is none."""
    host, _, port = shown(remote).removeprefix(_SCHEME).rstrip("/").rpartition(":")
    if not host:
        host, port = port, str(PORT)
    number = int(port) if port.isascii() and port.isdigit() else 0
    if not remote.startswith(_SCHEME) or not host or "/" in host or not 0 < number < 65_536:
        raise SparkError(
            f"{shown(remote)} is no Spark Connect server: its URL is such as sc://spark.example:"
            f"{PORT}"
        )
    return host.strip("[]"), number


def _reach(address: tuple[str, int], remote: str) -> None:
    """SparkError where nothing listens there."""
    try:
        socket.create_connection(address, timeout=_REACHED_WITHIN).close()
    except OSError as error:
        raise SparkError(
            f"no Spark Connect server answers at {shown(remote)} ({error}): is it running, and is "
            "--remote (or MKA1_USAGE_SPARK_REMOTE) its URL?"
        ) from None
