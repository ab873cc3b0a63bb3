"""The hourly window: what is asked of the API an hour after a load, by how much has changed.

The world of the ingest benchmark, four days of it with the last one open. Each contender begins
with the same lake. What counts is what the server sent; times are those of the whole load.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.benchmarks.measure import (
    Contender,
    Job,
    Prepared,
    Sample,
    Summary,
    contend,
    in_turns,
    measure,
)
from tests.benchmarks.report import Target
from tests.benchmarks.server import WINDOW_START, Counts, Served, serving

_MODULE: Final = "tests.benchmarks.window"
_DAYS: Final = 4
_LOADED_AT: Final = WINDOW_START + 3 * 86_400 + 11 * 3_600 + 300
_HOUR: Final = 3_600
FULL: Final = "a full reading"
_CHANGED: Final[Mapping[str, range]] = {
    "nothing": range(0),
    "1 hour": range(5, 6),
    "10 hours": range(0, 60, 6),
    "every hour": range(3 * 24 + 11),
    FULL: range(0),
}
"""By contender, the hours of the window in which the API has restated a minute."""
_FEWER: Final = 20


def _load(job: Job) -> Prepared:
    """The product: reads the window into the lake that stands in ``folder``."""
    from pydantic import SecretStr

    from pipeline.api import Client
    from pipeline.lake.store import Lake
    from pipeline.timeline import Window
    from pipeline.usage.changed_hours import Reads
    from pipeline.usage.load import load_days

    lake = Lake(Path(job["folder"]))
    days = Window(WINDOW_START, WINDOW_START + _DAYS * 86_400).days
    reads: Reads = "full" if job["reads"] == "full" else "totals"

    def run() -> None:
        load_days(
            lambda: Client(job["url"], SecretStr("benchmark")),
            lake,
            days,
            reads=reads,
            now=lambda: float(job["now"]),
        )

    return Prepared(run, dict)


_CONTENDERS: Final[Mapping[str, Contender]] = {"load": _load}


@dataclass(frozen=True)
class Report:
    """What each contender asked for."""

    runs: Mapping[str, Summary]
    rounds: int

    def markdown(self) -> str:
        """The table and the lines below it."""
        lines = [
            "### An hour later: four days, the last one open",
            "",
            "| what has changed | requests | rows received | MB received | of a full reading "
            "| median, s |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        most = self._facts(FULL)["bytes"]
        for name, summary in self.runs.items():
            facts = self._facts(name)
            lines.append(
                f"| {name} | {facts['requests']:,} | {facts['rows']:,} "
                f"| {facts['bytes'] / 1e6:.2f} | {100 * facts['bytes'] / most:.1f} % "
                f"| {summary.seconds:.2f} |"
            )
        lines += ["", *(target.line() for target in self._targets()), ""]
        lines.append(
            "The hour that was open is read in each case, and counts as one of the requests; "
            f"medians of {self.rounds}, contenders in turns."
        )
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            name: {**self._facts(name), "median_seconds": summary.seconds}
            for name, summary in self.runs.items()
        }

    def _facts(self, name: str) -> Mapping[str, int]:
        return self.runs[name].samples[-1].facts

    def _targets(self) -> Sequence[Target]:
        nothing, full = self._facts("nothing"), self._facts(FULL)
        fewer = full["bytes"] / nothing["bytes"]
        requests = {name: self._facts(name)["requests"] for name in ("nothing", "1 hour")}
        return [
            Target(
                "at most 3 requests when nothing has changed, one more for an hour",
                f"{requests['nothing']} and {requests['1 hour']}",
                requests["nothing"] <= 3 and requests["1 hour"] <= 4,
            ),
            Target(
                f"at least {_FEWER}x fewer bytes than a full reading when nothing has changed",
                f"{fewer:.0f}x",
                fewer >= _FEWER,
            ),
        ]


def run(rounds: int) -> Report:
    """Load the window ``rounds`` times for each contender, in turns."""
    with serving() as served, tempfile.TemporaryDirectory(prefix="mka1-window-") as place:
        lake = Path(place) / "loaded"
        _measured(served, lake, _LOADED_AT, "full")

        def once(name: str) -> Sample:
            copy = Path(place) / "lake"
            shutil.copytree(lake, copy, symlinks=True)
            served.restate(WINDOW_START + hour * _HOUR for hour in _CHANGED[name])
            try:
                reads = "full" if name == FULL else "totals"
                return _measured(served, copy, _LOADED_AT + _HOUR, reads)
            finally:
                shutil.rmtree(copy)

        return Report(in_turns(list(_CHANGED), rounds, once), rounds)


def _measured(served: Served, lake: Path, now: int, reads: str) -> Sample:
    """A load of the window; the sample's facts are what the server has counted."""
    served.take_counts()
    job = {"url": served.url, "folder": str(lake), "now": str(now), "reads": reads}
    sample = measure(_MODULE, "load", job)
    counts: Counts = served.take_counts()
    facts = {"requests": counts.requests, "rows": counts.rows, "bytes": counts.bytes}
    return replace(sample, facts=facts)


if __name__ == "__main__":
    contend(_CONTENDERS)
