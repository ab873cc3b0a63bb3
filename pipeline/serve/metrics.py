"""`/metrics` for Prometheus: how far the lake is, the last runs, and how fast answers are.

Belongs here: names, help and labels of the metrics. No label names a user or a key. What is not
known has no sample: never a 0. The registry is the server's own, so nothing of another library is
in it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as CounterOf
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import duckdb
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.query.status import STATES, Days, states
from pipeline.run_log import RunFigures, RunLog

_PREFIX: Final = "mka1_usage"
_KEPT: Final = 5.0
"""Seconds for which what was read of the lake is shown again: several scrapers cost no more."""
_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
_RUNS: Final[dict[str, tuple[str, Callable[[RunFigures], float]]]] = {
    "start_timestamp_seconds": ("When it began.", lambda run: run.started_at),
    "end_timestamp_seconds": ("When it ended.", lambda run: run.ended_at),
    "success": ("1 if none of its loading steps failed.", lambda run: float(run.succeeded)),
    "requests": ("Requests to the API, retries included.", lambda run: run.requests),
    "retries": ("Tries that failed and were followed by another.", lambda run: run.retries),
    "quota_answers": ("Answers of the API with status 429.", lambda run: run.quota_answers),
}


class Metrics:
    """The metrics of one server. `clock` gives Unix seconds."""

    def __init__(self, lake: Lake, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_LakeCollector(lake, clock))
        self._registry.register(_RunCollector(RunLog(home)))
        ProcessCollector(registry=self._registry)
        self.answers: Final = Histogram(
            f"{_PREFIX}_serve_answer_duration_seconds",
            "Time from a request to the end of its answer.",
            ["route", "code"],
            registry=self._registry,
            buckets=_BUCKETS,
        )

    def page(self, accept: str) -> tuple[bytes, str]:
        """All of them now, in the format that the header `Accept` asks for, and its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class Timed:
    """ASGI middleware that times answers, by the route's name and the status."""

    def __init__(self, app: ASGIApp, answers: Histogram) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, code = time.perf_counter(), "none"

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # Named by the function, of which there are few: a path is whatever a client sends.
            route = getattr(scope.get("endpoint"), "__name__", "none")
            self._answers.labels(route, code).observe(time.perf_counter() - began)


class _LakeCollector(Collector):
    """What is known of the lake, read when it is asked for."""

    def __init__(self, lake: Lake, clock: Callable[[], float]) -> None:
        self._lake = lake
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._known: Days | None = None

    def collect(self) -> Iterator[Metric]:
        """One family after the other; of a lake that can't be read, that alone."""
        with self._lock:
            if time.monotonic() - self._read_at > _KEPT:
                self._known = self._states()
                self._read_at = time.monotonic()
            known = self._known
        version = GaugeMetricFamily(f"{_PREFIX}_build_info", "The version.", labels=["version"])
        version.add_metric([metadata.version("mka1-usage")], 1)
        yield version
        yield _gauge("lake_readable", "1 if the lake can be read.", float(known is not None))
        if known is not None:
            yield from self._of_days(known)

    def _states(self) -> Days | None:
        try:
            return states(Snapshot(self._lake), None, None, self._clock())
        except (duckdb.Error, OSError):
            return None

    def _of_days(self, known: Days) -> Iterator[Metric]:
        counted = CounterOf(known.states.values())
        days = GaugeMetricFamily(
            f"{_PREFIX}_partitions",
            "UTC days from the first that is loaded through today, by what is known of them.",
            labels=["status"],
        )
        for state in STATES:
            days.add_metric([state], counted[state])
        yield days
        yield _gauge(
            "partitions_in_part", "Days with hours that are not loaded.", len(known.in_part)
        )
        yield _gauge("damaged_files", "Files that are not as published.", len(known.damage))
        if known.complete_through is not None:
            yield _gauge(
                "complete_through_timestamp_seconds",
                "Before this, nothing from the first loaded day on is missing or disputed.",
                known.complete_through,
            )
            yield _gauge(
                "freshness_seconds",
                "How long ago that is.",
                max(0.0, self._clock() - known.complete_through),
            )
        if known.loaded_through is not None:
            yield _gauge(
                "loaded_through_timestamp_seconds",
                "Usage is loaded up to this, whatever is missing before.",
                known.loaded_through,
            )


class _RunCollector(Collector):
    """The last run of each job."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """A family a figure, a sample a job."""
        runs = self._log.read()
        for name, (words, figure) in _RUNS.items():
            family = GaugeMetricFamily(
                f"{_PREFIX}_last_run_{name}", f"Of the last run: {words}", labels=["dagster_job"]
            )
            for run in runs:
                family.add_metric([run.job], figure(run))
            yield family


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", words, value=value)
