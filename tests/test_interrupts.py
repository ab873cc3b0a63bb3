"""Ctrl-C, `kill` and a closed terminal end a command in the same way; `nohup` keeps it going.

Real processes. Each waits for the API when the signal comes, and is killed after two minutes.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from types import FrameType

import dagster as dg
import httpx
import pytest

from pipeline.emulator import EmulatorServer, Faults, World, synthetic_world
from pipeline.interrupts import SIGNALS, interrupts, only_the_first
from pipeline.lake.store import Lake
from pipeline.orchestration.instance import prepare
from pipeline.timeline import DAY, Window, parse_time
from tests import bounded
from tests.fixtures_local import published_home

START = parse_time("2024-01-01")
ROOT = Path(__file__).parents[1]
MAIN = "from pipeline.cli import main; main()"
ENDLESS = Faults(quota=5, quota_retry_after=1)
"""Five requests are answered, which are two of totals and a day; the others are tried again."""
RUN = ["run", "--usage-only", "--start", "2024-01-01", "--end", "2024-01-03"]


@pytest.fixture(scope="module")
def world() -> World:
    """Two small days. Tests only read it."""
    return synthetic_world(days=2, users=3)


@pytest.fixture(scope="module")
def first_day(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the first of them. Tests only read it."""
    return published_home(tmp_path_factory.mktemp("home"), world, Window(START, START + DAY))


@pytest.fixture
def server(world: World) -> Iterator[EmulatorServer]:
    with EmulatorServer(world, ENDLESS) as server:
        yield server


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dagster's folder before the first run, its databases made."""
    folder = tmp_path_factory.mktemp("made") / "dagster"
    prepare(folder)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert instance.get_runs() == []
    return folder


@pytest.fixture
def environment(server: EmulatorServer, tmp_path: Path, dagster: Path) -> Mapping[str, str]:
    shutil.copytree(dagster, tmp_path / "home" / "dagster")
    return {
        **{"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        **{"MKA1_BASE_URL": server.base_url, "MKA1_API_KEY": server.api_key, "TERM": "xterm"},
        **{"MKA1_USAGE_HOME": str(tmp_path / "home"), "MKA1_USAGE_CONCURRENCY": "1"},
    }


@contextmanager
def started(
    args: list[str], environment: Mapping[str, str], before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A command whose stderr is a pipe; `before` is Python that the process runs first."""
    command = [sys.executable, "-c", f"{before}\n{MAIN}", *args]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with bounded.started(command, env=environment, cwd=environment["HOME"], **pipes) as process:
        yield process
        process.wait(bounded.LIMIT)


def said_until(process: subprocess.Popen[str], word: str) -> str:
    """What it says up to the line with this word."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if word in line:
            return said
    pytest.fail(f"it ended, and never said {word!r}: {said}")


def told(home: Path) -> tuple[list[str], set[str]]:
    """What Dagster knows: how each run ended, and which days are materialized."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        days = instance.get_materialized_partitions(dg.AssetKey("usage_1d"))
        return [run.status.value for run in instance.get_runs()], days


ENDINGS: list[tuple[tuple[signal.Signals, ...], set[int]]] = [
    ((signal.SIGINT,), {130}),
    ((signal.SIGTERM,), {143}),
    ((signal.SIGTERM, signal.SIGHUP), {143, 129}),  # as service managers send them, in any order
]


@pytest.mark.parametrize(
    ("signals", "codes"),
    [
        pytest.param(
            *(signals, codes),
            id="+".join(one.name for one in signals),
            marks=() if codes == {130} else pytest.mark.slow,
        )
        for signals, codes in ENDINGS
    ],
)
def test_a_signal_ends_a_run_and_what_is_published_is_kept_and_told(
    signals: tuple[signal.Signals, ...],
    codes: set[int],
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    with started(RUN, environment) as process:
        said_until(process, "2024-01-01 published")
        for number in signals:
            process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode in codes
    assert said.endswith("mka1-usage: interrupted: the days published so far are kept; run the "
                         "same again to go on\n")  # fmt: skip
    assert "Traceback" not in said
    assert Lake(tmp_path / "home" / "lake").days("usage_1d") == [date(2024, 1, 1)]
    assert told(tmp_path / "home") == (["FAILURE"], {"2024-01-01"})


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_run_though_nothing_can_be_written_any_more(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    mine, its = pty.openpty()
    owns = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    command = [sys.executable, "-c", f"{owns}\n{MAIN}", *RUN]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its)
    with bounded.started(command, env=environment, **streams) as process:
        os.close(its)
        shown = b""
        with suppress(OSError):  # which is how a terminal ends
            while b"1/2" not in shown and (more := os.read(mine, 65_536)):
                shown += more
        os.close(mine)
        process.wait(bounded.LIMIT)
    assert process.returncode == 129, shown
    assert Lake(tmp_path / "home" / "lake").days("usage_1d") == [date(2024, 1, 1)]
    assert told(tmp_path / "home") == (["FAILURE"], {"2024-01-01"})


@pytest.mark.slow
def test_a_closed_terminal_ends_a_refresh(
    world: World, server: EmulatorServer, environment: Mapping[str, str], tmp_path: Path
) -> None:
    published_home(tmp_path / "home", world, Window(START, START + DAY))
    server.faults = Faults(quota=0, quota_retry_after=1)
    with started(["refresh"], environment) as process:
        said_until(process, "retrying: ")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 129
    assert told(tmp_path / "home")[0] == ["FAILURE"]


@pytest.mark.slow
def test_under_nohup_a_run_goes_on_though_nobody_reads_its_messages(
    server: EmulatorServer, environment: Mapping[str, str], tmp_path: Path
) -> None:
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with started(RUN, environment, nohup) as process:
        said_until(process, "2024-01-01 published")
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        server.faults = Faults()
    assert process.returncode == 0
    assert told(tmp_path / "home")[0] == ["SUCCESS"]


@pytest.mark.parametrize("number", SIGNALS[1:])
@pytest.mark.parametrize(
    "args", [["serve", "--port", "0"], ["emulator", "--port", "0", "--days", "1"]], ids=" ".join
)
def test_a_server_that_is_told_to_stop_stops(
    args: list[str], number: signal.Signals, first_day: Path, environment: Mapping[str, str]
) -> None:
    with started(args, {**environment, "MKA1_USAGE_HOME": str(first_day)}) as process:
        said = said_until(process, "serving")
        url = next(word for word in said.split() if word.startswith("http://"))
        assert httpx.get(f"{url}/health").status_code < 500
        process.send_signal(number)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


# In one process


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_is_an_interrupt_and_is_known_by_its_number(number: signal.Signals) -> None:
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with interrupts() as came:
        assert came() is None
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert came() == number
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


@pytest.fixture
def others() -> Iterator[list[int]]:
    """Somebody else's handler of SIGINT, and what it was called with."""
    called: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        called.append(number)

    before = signal.signal(signal.SIGINT, handler)
    yield called
    signal.signal(signal.SIGINT, before)


def test_whoever_handles_sigint_is_told_of_the_first_signal_alone(others: list[int]) -> None:
    with interrupts(), only_the_first():
        for number in SIGNALS:
            signal.raise_signal(number)
    assert others == [signal.SIGINT]


def test_what_comes_while_something_is_finished_waits(others: list[int]) -> None:
    with interrupts():
        with only_the_first() as interruption:
            interruption.hold()
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGINT)
        assert others == []
        interruption.deliver()
    assert others == [signal.SIGHUP]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts(), only_the_first():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_threads_have_no_signals_and_do_without() -> None:
    ended: list[int | None] = []

    def work() -> None:
        with interrupts() as came, only_the_first() as interruption:
            interruption.hold()
            ended.append(came())
        interruption.deliver()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    assert ended == [None]
