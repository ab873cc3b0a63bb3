"""A server under load keeps its memory, its word and its fair clients.

500 connections ask for kept and new pages as fast as they are answered. Beside them are clients
that do not read what they asked for, that hang up on what is hard to answer, and that never end a
request; and a fair one, whose times are the figures. wrk makes the load; without it (`apt-get
install wrk`), a client of ours does for the short run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Event
from typing import Final

import httpx
import pytest

from pipeline.api.usage import PATH
from pipeline.emulator import START_2024, synthetic_world
from pipeline.timeline import DAY, Window
from tests.benchmarks.serving_load import load
from tests.bounded import LIMIT, LONG, at_once, finished, started
from tests.fixtures_local import published_home
from tests.torture.conftest import Figures

CONNECTIONS: Final = 500
WINDOW: Final = f"start_time={START_2024}&end_time={START_2024 + DAY}"
TARGET: Final = f"{PATH}?{WINDOW}&bucket_width=1h&group_by=user_id"
HUGE: Final = f"{PATH}?{WINDOW}&bucket_width=1m&limit=1440&group_by=user_id&group_by=api_key_id"
HARD: Final = f"{PATH}?start_time=0&end_time={START_2024 + DAY}&bucket_width=1mo&tz=Asia/Karachi"
MB: Final = 1 << 20
ROOM: Final = 300 * MB
"""What a server takes more under load than before at most: twice what docs/serving.md adds up to,
less what is never there at once."""


@dataclass
class Fair:
    """A client that asks one question after the other, and comes again when it is told to."""

    url: str
    targets: Iterator[str]
    times: list[float] = field(default_factory=list[float])
    """Seconds that its pages took."""
    refused: int = 0

    def ask(self, over: Event) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=60) as http:
            while not over.is_set():
                begun = time.perf_counter()
                answer = http.get(next(self.targets))
                if answer.status_code == 503:
                    self.refused += 1
                    over.wait(float(answer.headers["retry-after"]))
                else:
                    assert answer.status_code == 200
                    self.times.append(time.perf_counter() - begun)

    def note(self, name: str, figures: Figures) -> None:
        figures(
            f"load, a fair client's {name} pages",
            pages=len(self.times),
            p50_ms=percentile(self.times, 0.5),
            p99_ms=percentile(self.times, 0.99),
            refused=self.refused,
        )


@contextmanager
def server(home: Path, seconds: float) -> Iterator[tuple[int, str, int]]:
    """`mka1-usage serve`: its process, host and port."""
    program = Path(sys.executable).with_name("mka1-usage")
    environment = {"PATH": os.environ["PATH"], "MKA1_USAGE_HOME": str(home)}
    command = [program, "serve", "--port", "0", "--partial"]
    with started(command, seconds=seconds, env=environment, stdout=DEVNULL, stderr=PIPE) as process:
        assert process.stderr is not None
        found = re.search(r"http://([\d.]+):(\d+)", process.stderr.readline())
        assert found is not None
        yield process.pid, found[1], int(found[2])


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def by_wrk(host: str, port: int, lasting: int) -> dict[str, int]:
    """What 500 connections of wrk were answered."""
    script = Path(__file__).with_name("load.lua")
    options = ["-t2", f"-c{CONNECTIONS}", f"-d{lasting}s", "--timeout", "60s", "-s", script]
    done = finished(
        ["wrk", *options, f"http://{host}:{port}", "--", TARGET], seconds=lasting + LIMIT
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def by_ourselves(host: str, port: int, lasting: int) -> dict[str, int]:
    """The same, as far as a client in Python gets."""

    def questions() -> Iterator[bytes]:
        for number in count():
            yield request(f"{TARGET}&limit={number % 24 + 1}")
            yield request(f"{TARGET}&user_ids=user_0000&user_ids={number}")

    done = load(host, port, questions(), CONNECTIONS, lasting)
    return {
        "pages": len(done.latencies),
        "refused": done.refused,
        "other_answers": 0,
        "errors": 0,
        "p99_ms": round(done.quantile(0.99) * 1_000),
    }


def resident(process: int) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def watch(process: int, memory: list[int], over: Event) -> None:
    """Note what memory a process has, ten times a second."""
    while not over.wait(0.1):
        memory.append(resident(process))


def read_nothing(host: str, port: int, over: Event) -> None:
    """Ask for much, and read next to nothing of it, until the server hangs up."""
    with ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(closing(socket.socket()))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.connect((host, port))
            connection.sendall(request(f"{HUGE}&user_ids=user_{number:04}") + 3 * request(HUGE))
        over.wait(LONG)


def hang_up(host: str, port: int, over: Event) -> None:
    """Ask for what is hard to answer, and go."""
    for number in count():
        if over.wait(0.1):
            return
        with suppress(ConnectionError), closing(socket.create_connection((host, port))) as one:
            one.sendall(request(f"{HARD}&limit=1440&user_ids={number}"))


def end_no_request(host: str, port: int, over: Event) -> None:
    """Send half of a request each, on as many connections as there may be."""
    with ExitStack() as stack:
        for _ in range(400):
            one = stack.enter_context(closing(socket.create_connection((host, port))))
            one.sendall(request(TARGET)[:-2] + b"X: " + b"a" * 20_000)
        over.wait(LONG)


def percentile(times: list[float], share: float) -> int:
    """In whole milliseconds."""
    return round(sorted(times)[int(share * (len(times) - 1))] * 1_000) if times else 0


def test_a_server_under_load_keeps_its_memory_its_word_and_its_fair_clients(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("a process's memory is read from /proc")
    has_wrk = shutil.which("wrk") is not None
    if long and not has_wrk:
        pytest.skip("the long load is made by wrk: apt-get install wrk")
    lasting = 180 if long else 4
    world = synthetic_world(days=1, users=100)
    home = published_home(tmp_path, world, Window(START_2024, START_2024 + DAY))
    over, memory = Event(), list[int]()
    found: dict[str, int] = {}

    with server(home, LONG if long else LIMIT) as (process, host, port):
        url, before = f"http://{host}:{port}", resident(process)
        kept = Fair(url, (f"{TARGET}&limit={number % 24 + 1}" for number in count()))
        new = Fair(url, (f"{TARGET}&user_ids=fair-{number}" for number in count()))

        def press() -> None:
            try:
                found.update((by_wrk if has_wrk else by_ourselves)(host, port, lasting))
            finally:
                over.set()

        others: list[Callable[[], None]] = [
            lambda: kept.ask(over),
            lambda: new.ask(over),
            lambda: watch(process, memory, over),
            lambda: read_nothing(host, port, over),
            lambda: hang_up(host, port, over),
            lambda: end_no_request(host, port, over),
        ]
        at_once([press, *others], lasting + LIMIT)
        afterwards = Fair(url, (f"{TARGET}&user_ids=after-{number}" for number in range(20)))
        with suppress(StopIteration):
            afterwards.ask(Event())

    # By then, as many pages are kept as may be.
    third = len(memory) // 3
    early, late = max(memory[: 2 * third + 1]), max(memory[2 * third :])
    figures(f"load, {CONNECTIONS} connections, {'wrk' if has_wrk else 'our client'}", **found)
    for name, fair in (("kept", kept), ("new", new), ("new, after that,", afterwards)):
        fair.note(name, figures)
    figures(
        "load, memory of the server",
        megabytes_before=before // MB,
        first_two_thirds=early // MB,
        last_third=late // MB,
    )
    assert min(found["pages"], len(kept.times), len(afterwards.times)) > 0
    assert (found["other_answers"], found["errors"]) == (0, 0)
    assert late <= before + ROOM
    if long:
        assert late <= early + 32 * MB
