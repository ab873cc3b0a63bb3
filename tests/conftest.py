"""What every test relies on: no account, no proxy, no settings of whoever runs them, no hanging.

`timeout` in pyproject.toml is how long a test may take. It comes as a signal, so that a test which
waits for something fails, clears up, and the next ones run. Where the signal is of no use (a thread
pool waits for its threads, a call never comes back from C), the process ends `LAST_SECONDS` later
with the stacks of all threads, and pytest-xdist goes on in a new one.

A file of tests keeps to one worker (`--dist loadfile`), so that its fixtures are made once.

There are two tiers. `pytest` runs all tests but those marked `slow` (`@pytest.mark.slow`);
`pytest --slow` runs only those, also where a file or a test is named. `--long` runs both, each
test at full length. CI runs the two tiers, one after the other.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import socket
import sqlite3.dbapi2
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings

pytest_plugins = ["tests.empty_lake", "tests.spark"]

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")

LONGEST_FIRST: Final = (
    "torture",
    "orchestration",
    "conversations",
    "usage",
    "tests",
    "cli",
    "report",
    "lake",
    "query",
    "serve",
    "export",
    "api",
)
"""Folders by how long their files take; the others come after them."""

LAST_SECONDS: Final = 60.0
MEMORY_DISK: Final = Path("/dev/shm")
"""A disk of memory, on Linux. Tests make and remove some 100,000 folders, which takes a tenth of
their time on a disk."""
ROOM: Final = 4_000_000_000
"""Bytes that must be free on it: more than the tests ever have at once."""
_STDERR: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite."""
    parser.addoption(
        "--slow",
        action="store_true",
        help="run the tests marked slow, and no others",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="run both tiers, tests/torture at full length and the queries on Spark",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one tier, and bring what takes long to the front.

    So no worker waits at the end for the long file of another one.
    """
    if not config.getoption("--long"):
        tiers: dict[bool, list[pytest.Item]] = {True: [], False: []}
        for item in items:
            tiers[item.get_closest_marker("slow") is not None].append(item)
        slow = bool(config.getoption("--slow"))
        config.hook.pytest_deselected(items=tiers[not slow])
        items[:] = tiers[slow]
    folders = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: folders.get(item.path.parent.name, len(folders)))


@pytest.fixture
def at_length(request: pytest.FixtureRequest) -> None:
    """Only with `--long`."""
    if not request.config.getoption("--long"):
        pytest.skip("only with --long")


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and tests: they stay until the end anyway.

    What tests leave in circles is looked for less often than usual, too: it took a twentieth.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the stderr that is not captured; let Ctrl-C reach what tests start; choose a disk.

    A shell in which pytest runs in the background (`&`) has it ignore SIGINT, and its children too.
    """
    config.stash[_STDERR] = os.dup(2)
    if _is_fit(MEMORY_DISK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):  # `nohup` has it ignored
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _is_fit(disk: Path) -> bool:
    """Whether tests may keep their folders on a disk: some run programs that they write there."""
    return (
        os.access(disk, os.W_OK)
        and not os.statvfs(disk).f_flag & os.ST_NOEXEC
        and shutil.disk_usage(disk).free > ROOM
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let no thread that hangs keep the process; a worker waits for the others, and is ended."""
    gc.unfreeze()  # at the end of the process, modules want to be collected
    if not hasattr(config, "workerinput"):
        _end_after(LAST_SECONDS, config)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Set the last limit beside that of pytest-timeout."""
    _end_after(settings.timeout + LAST_SECONDS, item.config)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Set it anew for the teardown: pytest drops all limits of a test that fails."""
    if isinstance(node, pytest.Item):
        _end_after(LAST_SECONDS, node.config)


@pytest.hookimpl(trylast=True)
def pytest_enter_pdb() -> None:
    """Let a person who debugs take as long as it takes."""
    faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logfinish() -> None:
    """Drop the last limit: the test has ended."""
    faulthandler.cancel_dump_traceback_later()


def _end_after(seconds: float, config: pytest.Config) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_STDERR])


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    for name in list(os.environ):
        ours = name.startswith(("MKA1_", "DAGSTER_", "SSL_CERT_")) or name == "SSLKEYLOGFILE"
        if ours or name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_a_disk() -> Iterator[None]:
    """What is flushed outlasts a loss of power, which no test brings about; each takes some ms."""
    connect = sqlite3.dbapi2.connect

    def unflushed(*args: Any, **options: Any) -> sqlite3.Connection:
        """Dagster's: it opens a file, writes, and closes it, for each event of a run."""
        connection: sqlite3.Connection = connect(*args, **options)
        with suppress(sqlite3.Error):  # no database at all: whoever asks first is told
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # it refuses what is no open file too
        patch.setattr(sqlite3.dbapi2, "connect", unflushed)  # what SQLAlchemy calls
        yield


@pytest.fixture
def unused_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
