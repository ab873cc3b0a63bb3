"""One-day pages of hours from `mka1-usage serve`, beside the same pages without HTTP.

The server runs in a process of its own, as a user starts it; the load comes from this one, in a
closed loop: whatever the client needs of the two processors, the server has not. Files are in the
system's page cache. *Kept* pages have been asked for before, *new* ones never.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlencode

from pipeline.api.usage import PATH
from pipeline.emulator import START_2024, EmulatorServer, synthetic_world
from pipeline.lake import engine
from pipeline.lake.store import Lake
from pipeline.query.buckets import PageQuery, answer_on
from pipeline.timeline import DAY, day_of
from tests.benchmarks.measure import REPOSITORY
from tests.benchmarks.report import Target
from tests.benchmarks.serving_load import Load, load
from tests.truth import load as load_days

DAYS: Final = 30
USERS: Final = 200
GOALS: Final = {"kept pages": 1_000, "new pages": 600}
"""Pages a second."""
_KEPT_PAGES: Final = 600
_LASTING: Final = 5.0
_LONG: Final = 600.0
_CONNECTIONS: Final = 32
_MANY: Final = f"{_CONNECTIONS} connections"
_ONE: Final = "one connection"
_ALONE: Final = ("without HTTP", "in process, one after the other")
_GROUPS: Final = ((), ("user_id",), ("api_key_id",), ("user_id", "api_key_id"))


@dataclass(frozen=True)
class Question:
    """A day in hours, of one user or (None) of all."""

    day: int
    user: str | None
    group_by: tuple[str, ...]

    def request(self) -> bytes:
        """As it goes over the wire."""
        query: list[tuple[str, object]] = [
            ("start_time", self.day),
            ("end_time", self.day + DAY),
            ("bucket_width", "1h"),
            *(("group_by", name) for name in self.group_by),
        ]
        if self.user is not None:
            query.append(("user_ids", self.user))
        return f"GET {PATH}?{urlencode(query)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@dataclass(frozen=True)
class Line:
    """A line of the table: what was measured, round by round; `server_cpu` in seconds."""

    contender: str
    includes: str
    loads: Sequence[Load]
    server_cpu: Sequence[float]

    @property
    def per_second(self) -> float:
        """Requests a second, the median of all rounds."""
        return statistics.median(each.per_second for each in self.loads)

    def latency(self, share: float) -> float:
        """The quantile of a request's time in milliseconds, the median of all rounds."""
        return statistics.median(each.quantile(share) for each in self.loads) * 1_000

    def markdown(self) -> str:
        """A row."""
        wall = sum(each.seconds for each in self.loads)
        client = sum(each.cpu for each in self.loads) / wall
        server = f"{sum(self.server_cpu) / wall:.2f}" if self.server_cpu else "–"
        return (
            f"| {self.contender} | {self.includes} | {self.per_second:,.0f} "
            f"| {self.latency(0.5):.2f} | {self.latency(0.99):.2f} | {server} | {client:.2f} |"
        )


@dataclass(frozen=True)
class ServingReport:
    """The outcome."""

    lines: Sequence[Line]
    targets: Sequence[Target]
    notes: Sequence[str]

    def markdown(self) -> str:
        """The table and the lines below it, to be pasted into docs/benchmarks.md as they are."""
        return (
            "\n".join(
                [
                    "### One-day pages of hours over HTTP",
                    "",
                    "| | what is measured | requests a second | p50, ms | p99, ms "
                    "| cores, server | cores, client |",
                    "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
                    *(line.markdown() for line in self.lines),
                    "",
                    *(target.line() for target in self.targets),
                    "",
                    *self.notes,
                ]
            )
            + "\n"
        )

    def data(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            line.contender: {
                "per_second": [each.per_second for each in line.loads],
                "p50_seconds": [each.quantile(0.5) for each in line.loads],
                "p99_seconds": [each.quantile(0.99) for each in line.loads],
                "requests": [len(each.latencies) for each in line.loads],
                "client_cpu_seconds": [each.cpu for each in line.loads],
                "server_cpu_seconds": list(line.server_cpu),
            }
            for line in self.lines
        }


def _questions() -> list[Question]:
    """All that can be asked of a day, in an order that knows no day and no user."""
    asked = [
        Question(START_2024 + day * DAY, user, group_by)
        for day in range(DAYS)
        for user in (None, *(f"user_{number:04}" for number in range(USERS)))
        for group_by in _GROUPS
        if user is not None or "user_id" not in group_by
    ]
    Random(0).shuffle(asked)
    return asked


@contextmanager
def _server(home: Path) -> Iterator[subprocess.Popen[str]]:
    command = [str(Path(sys.executable).with_name("mka1-usage")), "serve", "--port", "0"]
    environment = {**os.environ, "MKA1_USAGE_HOME": str(home)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _cpu(process: subprocess.Popen[str]) -> float | None:
    """Seconds of processor time that the process has used; None where nobody tells."""
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        return None
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _in_process(lake: Lake, questions: Iterator[Question]) -> Load:
    """The same pages, one after the other, on a connection that is open: no HTTP, nothing kept."""
    result = Load()
    with closing(engine.connect(lake, threads=1)) as con:
        started, cpu = time.perf_counter(), time.process_time()
        while (begun := time.perf_counter()) < started + _LASTING:
            question = next(questions)
            users = () if question.user is None else (question.user,)
            query = PageQuery(
                question.day,
                question.day + DAY,
                "1h",
                user_ids=users,
                group_by=question.group_by,
            )
            b"".join(answer_on(con, lake, query).text)
            result.latencies.append(time.perf_counter() - begun)
        result.seconds = time.perf_counter() - started
        result.cpu = time.process_time() - cpu
    return result


def run(rounds: int) -> ServingReport:
    """Load a month, serve it, and ask. Raises RuntimeError for an answer that is not 200."""
    with tempfile.TemporaryDirectory(prefix="mka1-serving-") as folder:
        home = Path(folder)
        lake = Lake(home / "lake")
        print(f"  loading {DAYS} days of {USERS} users", file=sys.stderr, flush=True)
        with EmulatorServer(synthetic_world(days=DAYS, users=USERS)) as api:
            load_days(api, lake, [day_of(START_2024 + day * DAY) for day in range(DAYS)])
        return _measured(home, lake, rounds)


def _measured(home: Path, lake: Lake, rounds: int) -> ServingReport:
    loads: dict[tuple[str, str], list[Load]] = {}
    server_cpu: dict[tuple[str, str], list[float]] = {}
    for number in range(1, rounds + 1):
        with _server(home) as process:
            for name, work in _plan(process, lake):
                before = _cpu(process)
                result = work()
                after = _cpu(process)
                loads.setdefault(name, []).append(result)
                if before is not None and after is not None and name != _ALONE:
                    server_cpu.setdefault(name, []).append(after - before)
                print(
                    f"  round {number}/{rounds}  {', '.join(name)}: {result.per_second:,.0f}/s",
                    file=sys.stderr,
                    flush=True,
                )
    lines = [Line(*name, found, server_cpu.get(name, [])) for name, found in loads.items()]
    size = lines[0].loads[0]
    return ServingReport(
        lines,
        [
            Target(
                f"{GOALS[line.contender]:,} {line.contender} a second",
                f"{line.per_second:,.0f}",
                line.per_second >= GOALS[line.contender],
            )
            for line in lines
            if line.includes == _MANY
        ],
        [
            f"{DAYS} days of {USERS} users; {_KEPT_PAGES:,} pages kept; an answer has "
            f"{size.received / len(size.latencies) / 1e3:.1f} KB on average; medians of {rounds}. "
            "Client and server share the processors."
        ],
    )


def _plan(
    process: subprocess.Popen[str], lake: Lake
) -> list[tuple[tuple[str, str], Callable[[], Load]]]:
    """What is to be measured, in order; the server has answered what is to be kept before."""
    assert process.stderr is not None
    said = re.search(r"http://([\d.]+):(\d+)", process.stderr.readline())
    if said is None:
        raise RuntimeError("the server did not start")
    host, port = said[1], int(said[2])
    questions = _questions()
    kept = [question.request() for question in questions[:_KEPT_PAGES]]
    new = (question.request() for question in questions[_KEPT_PAGES:])
    again, alone = cycle(kept), iter(questions[_KEPT_PAGES:])
    load(host, port, iter(kept), _CONNECTIONS, _LONG)
    return [
        (("kept pages", _MANY), lambda: load(host, port, again, _CONNECTIONS, _LASTING)),
        (("kept pages", _ONE), lambda: load(host, port, again, 1, _LASTING)),
        (("new pages", _MANY), lambda: load(host, port, new, _CONNECTIONS, _LASTING)),
        (("new pages", _ONE), lambda: load(host, port, new, 1, _LASTING)),
        (_ALONE, lambda: _in_process(lake, alone)),
    ]
