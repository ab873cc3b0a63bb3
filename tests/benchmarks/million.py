"""Every command on a platform with very many users: time, peak memory and bytes on disk.

Each command runs in a process of its own, as a user starts it, one after the other in one home
folder; the platform runs in another (`million_server`). A command that fails is a line of the table
that says why, and the others are measured all the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from pipeline.api.usage import PATH
from pipeline.timeline import day_window
from tests.benchmarks.measure import REPOSITORY
from tests.benchmarks.report import Target
from tests.benchmarks.server import serving

FIRST_DAY: Final = date(2024, 1, 1)
GOAL: Final = 2.5e9
SERVE_GOAL: Final = 1.0e9
_DAY: Final = day_window(FIRST_DAY)
_HOURS_BY_KEY: Final = (
    PATH
    + "?"
    + urlencode(
        {
            "start_time": _DAY.start,
            "end_time": _DAY.end,
            "bucket_width": "1h",
            "group_by": "api_key_id",
        }
    )
)
_TEAM: Final = 10_000
"""Users of a team."""
_NONE_FOUND: Final = frozenset({0})
_CODES: Final[Mapping[str, frozenset[int]]] = {"alerts": frozenset({0, 1})}
"""What a command ends with that does its work; alerts end with 1 where one is an error."""


@dataclass(frozen=True)
class Line:
    """A line of the table. Seconds, by the clock and of all processors; bytes; `failure` is what a
    command said that failed."""

    name: str
    what: str
    seconds: float
    processor: float
    peak: int
    on_disk: int
    failure: str = ""

    @property
    def goal(self) -> float:
        """The bytes of memory that it may take."""
        return SERVE_GOAL if self.name == "serve" else GOAL

    @property
    def is_met(self) -> bool:
        """Whether it did its work, within its memory."""
        return not self.failure and self.peak <= self.goal

    def markdown(self) -> str:
        """A row."""
        ended = f"**failed**: {self.failure}" if self.failure else "done"
        return (
            f"| {self.name} | {self.what} | {self.seconds:.1f} | {self.processor:.1f} "
            f"| {self.peak / 1e6:,.0f} | {self.on_disk / 1e6:,.0f} | {ended} |"
        )


@dataclass(frozen=True)
class MillionReport:
    """The outcome."""

    title: str
    lines: Sequence[Line]
    note: str

    @property
    def targets(self) -> list[Target]:
        """What memory may be taken."""
        promised = {
            f"`serve` within {SERVE_GOAL / 1e9:g} GB": [
                one for one in self.lines if one.name == "serve"
            ],
            f"every other command within {GOAL / 1e9:g} GB": [
                one for one in self.lines if one.name != "serve"
            ],
        }
        return [
            Target(
                promise,
                ", ".join(one.name for one in lines if not one.is_met)
                or f"{max(one.peak for one in lines) / 1e9:.2f} GB at most",
                all(one.is_met for one in lines),
            )
            for promise, lines in promised.items()
            if lines
        ]

    def markdown(self) -> str:
        """The table and the lines below it, to be pasted into docs/benchmarks.md as they are."""
        return (
            "\n".join(
                [
                    f"### {self.title}",
                    "",
                    "| command | what is measured | s | processors, s | peak, MB | on disk, MB | |",
                    "| --- | --- | ---: | ---: | ---: | ---: | --- |",
                    *(line.markdown() for line in self.lines),
                    "",
                    *(target.line() for target in self.targets),
                    "",
                    self.note,
                ]
            )
            + "\n"
        )

    def data(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            f"{line.name}, {line.what}": {
                "seconds": line.seconds,
                "processor_seconds": line.processor,
                "peak_bytes": line.peak,
                "bytes_on_disk": line.on_disk,
                "failure": line.failure,
            }
            for line in self.lines
        }


def run(users: int, days: int) -> MillionReport:
    """Load `days` days of `users` users, and run every command over them once."""
    options = ("--users", str(users))
    lines: list[Line] = []
    with (
        tempfile.TemporaryDirectory(prefix="mka1-million-") as folder,
        serving("tests.benchmarks.million_server", *options) as platform,
    ):
        for name, what, measured in _plan(Path(folder), platform.url, users, days):
            lines.append(line := measured(name, what))
            print(f"  {line.markdown()}", file=sys.stderr, flush=True)
        rows = platform.rows
    title = f"{users:,} users, {days} day{'s' if days > 1 else ''}"
    note = (
        f"{rows:,} rows of 1m a day; each command once, in a process of its own, the platform in "
        "another. Peak: resident memory, mapped files included. On disk: the home folder after it."
    )
    return MillionReport(title, lines, note)


def _plan(
    folder: Path, url: str, users: int, days: int
) -> Iterator[tuple[str, str, Callable[[str, str], Line]]]:
    """What is measured, in order."""
    environment = settings(folder / "home", url)
    home, end = folder / "home", FIRST_DAY + timedelta(days=days)
    window = ["--start", f"{FIRST_DAY}", "--end", f"{end}"]
    one_day = ["--start", f"{FIRST_DAY}", "--end", f"{FIRST_DAY + timedelta(days=1)}"]
    report = ["-o", str(folder / "report.html")]
    by_key = ["--width", "1h", "--group-by", "api_key_id"]

    def by(*words: str) -> Callable[[str, str], Line]:
        return lambda name, what: command(name, what, words, environment, home)

    yield "run", f"{days} days" if days > 1 else "a day", by("run", "--usage-only", *window)
    yield "run", "the same again", by("run", "--usage-only", *window)
    yield "verify", "every file and table", by("verify")
    yield "status", "", by("status")
    yield "buckets", "a day by user", by("buckets", *one_day, "--group-by", "user_id")
    yield "buckets", "hours of all days by key", by("buckets", *window, *by_key)
    yield "report", "all days", by("report", *window, *report)
    yield "alerts", "at the end of the last day", by("alerts", "--at", f"{end}")
    yield "export", "the star schema, Parquet", by("export", str(folder / "export"))
    yield "serve", "hours of a day by key, first page", _served(_HOURS_BY_KEY, environment, home)
    page = f"/?first={FIRST_DAY}&last={end - timedelta(days=1)}"
    yield "live page", "all days, the first of a server", _served(page, environment, home)
    _write_names(home / "names.csv", users)
    of = f"all users named, in teams of {_TEAM:,}"
    yield "report", f"all days; {of}", by("report", *window, *report)
    yield "report", "of a team", by("report", *window, *report, "--team", "team_0")
    yield "report", "of a user", by("report", *window, *report, "--user", "user_000000001")
    yield (
        "live page",
        "of a team, the first of a server",
        _served(f"{page}&team=team_0", environment, home),
    )


def settings(home: Path, url: str) -> dict[str, str]:
    """The environment of a command: a home, the platform, and no other settings."""
    return {
        **{name: value for name, value in os.environ.items() if "MKA1_" not in name},
        "MKA1_USAGE_HOME": str(home),
        "MKA1_BASE_URL": url,
        "MKA1_API_KEY": "sk-of-the-bench",
        "MKA1_USAGE_FIRST_DAY": f"{FIRST_DAY}",
    }


def command(
    name: str, what: str, words: Sequence[str], environment: Mapping[str, str], home: Path
) -> Line:
    """Run a command to its end; what it prints is thrown away. `home` is what is on disk."""
    began = time.monotonic()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [_program(), *words],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
        ) as process,
    ):
        code, peak, processor = _ended(process)
        seconds = time.monotonic() - began
        said.seek(0)
        last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
    failure = "" if code in _CODES.get(name, _NONE_FOUND) else f"{last[:200]} ({code})"
    return Line(name, what, seconds, processor, peak, _on_disk(home), failure)


def _served(address: str, environment: Mapping[str, str], home: Path) -> Callable[[str, str], Line]:
    """The first answer of a new server; its time from the question on."""
    return lambda name, what: _answered(name, what, address, environment, home)


def _answered(
    name: str, what: str, address: str, environment: Mapping[str, str], home: Path
) -> Line:
    failure, seconds = "", 0.0
    with subprocess.Popen(
        [_program(), "serve", "--port", "0"],
        cwd=REPOSITORY,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        if found is None:
            failure = line.strip()
        else:
            began = time.monotonic()
            try:
                with urllib.request.urlopen(f"{found[0]}{address}", timeout=300) as answer:
                    answer.read()
            except OSError as error:
                failure = str(error)
            seconds = time.monotonic() - began
        process.terminate()
        _, peak, processor = _ended(process)
    return Line(name, what, seconds, processor, peak, _on_disk(home), failure)


def _write_names(path: Path, users: int) -> None:
    """A name and a team for each user, as the platform numbers them."""
    with path.open("w", encoding="utf-8") as file:
        file.write("kind,id,name,team\n")
        for user in range(users):
            file.write(f"user,user_{user:09d},User {user},team_{user // _TEAM}\n")


def _program() -> str:
    return str(Path(sys.executable).with_name("mka1-usage"))


def _ended(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> tuple[int, int, float]:
    """Wait for a process: its exit code, the peak of its memory in bytes, and the seconds that it
    had of all processors."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
    return process.returncode, peak, used.ru_utime + used.ru_stime


def _on_disk(folder: Path) -> int:
    """Bytes that a folder's files take, a file with several names once."""
    found = [path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({one.st_ino: one.st_size for one in found}.values())
