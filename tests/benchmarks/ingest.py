"""From the first request to published 1m, 1h and 1d files, on the same served pages for all.

Time runs from the moment the server got a contender's first request to the moment its result was
complete: imports and the start of Python are not in it. Memory is the peak of the whole process.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from dataclasses import replace
from typing import Final

from tests.benchmarks.measure import Sample, Summary, in_turns, measure
from tests.benchmarks.report import Report, Row, Target, at_least_times_faster, within_times
from tests.benchmarks.server import RENDERED_DAYS, Counts, Served, serving

OURS: Final = "mka1-usage"
_MODULE: Final = "tests.benchmarks.ingest_contenders"
_THREEFOLD: Final = "mka1-usage, 9 days"
_INCLUDES: Final = {
    "bytes alone": "httpx reads all pages, keeps nothing",
    OURS: "to published raw_usage, usage_1m, usage_1h, usage_1d",
    _THREEFOLD: "the same, three times the days",
    "hand-written script": "`meetkai-mka1` and Polars, days in turn, to the same four tables",
    "published client": "`meetkai-mka1` pages to the end, rows in a list",
    "dlt": "REST client, rows by the page, to Parquet",
    "dlt, Arrow tables": "REST client, an Arrow table a page, to Parquet",
}
_PEAK_MB: Final = 400
_FLAT: Final = 1.15
_OPTIONAL: Final = {"dlt", "dlt, Arrow tables"}


def _once(served: Served, name: str) -> Sample:
    """Run a contender and check that it produced every row that was served."""
    days = RENDERED_DAYS * (3 if name == _THREEFOLD else 1)
    contender = OURS if name == _THREEFOLD else name
    folder = tempfile.mkdtemp(prefix="mka1-ingest-")
    try:
        served.take_counts()
        sample = measure(
            _MODULE, contender, {"url": served.url, "days": str(days), "folder": folder}
        )
        counts = served.take_counts()
    finally:
        shutil.rmtree(folder)
    _check(name, sample, served, counts, days // RENDERED_DAYS)
    return replace(
        sample,
        started=counts.first_request,
        facts={**sample.facts, "requests": counts.requests, "bytes": counts.bytes},
    )


def _check(name: str, sample: Sample, served: Served, counts: Counts, times: int) -> None:
    expected = {"rows": served.rows * times, "operations": served.operations * times}
    if name == "bytes alone":
        expected = {"bytes": counts.bytes}
    if dict(sample.facts) != expected:
        raise RuntimeError(f"{name} produced {dict(sample.facts)}, served were {expected}")


def _memory(once: Summary, threefold: Summary) -> list[Target]:
    """That the peak is under 400 MB, and as good as the same for three times the days."""
    highest = max(once.peak_bytes, threefold.peak_bytes) / 1e6
    growth = threefold.peak_bytes / once.peak_bytes
    return [
        Target(f"peak memory under {_PEAK_MB} MB", f"{highest:.0f} MB", highest < _PEAK_MB),
        Target(
            f"peak memory flat, within {_FLAT:g}x, when the days are tripled",
            f"{growth:.2f}x",
            growth <= _FLAT,
        ),
    ]


def run(rounds: int) -> Report:
    """Run all contenders ``rounds`` times, in turns.

    Raises ``RuntimeError`` if a contender fails, or if it produced other rows than were served.
    """
    names = list(_INCLUDES)
    if importlib.util.find_spec("dlt") is None:
        print("dlt is not installed: pip install 'dlt[parquet]==1.31.*'", file=sys.stderr)
        names = [name for name in names if name not in _OPTIONAL]
    with serving() as served:
        runs = in_turns(names, rounds, lambda name: _once(served, name))
    facts = runs["bytes alone"].samples[0].facts
    return Report(
        title="From the first request to published files",
        ours=OURS,
        rows=[Row(name, _INCLUDES[name], summary) for name, summary in runs.items()],
        targets=[
            at_least_times_faster(runs, OURS, "dlt", 10),
            at_least_times_faster(runs, OURS, "hand-written script", 2),
            within_times(runs, OURS, "bytes alone", 4),
            *_memory(runs[OURS], runs[_THREEFOLD]),
        ],
        notes=[
            f"{served.rows:,} result rows in {RENDERED_DAYS} days of minutes, 1,000 users, 5 keys, "
            f"{facts['bytes'] / 1e6:.0f} MB of JSON; medians of {rounds}, contenders in turns."
        ],
    )
