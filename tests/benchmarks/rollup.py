"""20 million minute rows to hours and days, as Parquet files by day, beside Polars doing the same.

Time runs from the first read to the last file written; imports and the start of Python are not in
it. The files are in the system's page cache for all contenders alike. Memory is the peak of the
whole process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.benchmarks.measure import REPOSITORY, Facts, Sample, Summary, in_turns, measure
from tests.benchmarks.report import Report, Row, at_least_times_faster, within_times

OURS: Final = "mka1-usage"
_MODULE: Final = "tests.benchmarks.rollup_contenders"
_READING: Final = "reading the columns"
_INCLUDES: Final = {
    _READING: "DuckDB: count, minima, maxima and sums; nothing written",
    OURS: "`sql/rollup.sql`, to hours, then to days; sorted Parquet by day",
    "Polars": "hours, then days from hours; sorted Parquet by day",
}


def _once(minutes: Path, name: str) -> Sample:
    with tempfile.TemporaryDirectory(prefix="mka1-rollup-") as folder:
        return measure(_MODULE, name, {"minutes": str(minutes), "folder": folder})


def _check(runs: dict[str, Summary]) -> Facts:
    """What all contenders that write came to, if it is one and the same."""
    facts = [
        (name, dict(sample.facts))
        for name, summary in runs.items()
        for sample in summary.samples
        if name != _READING
    ]
    _, first = facts[0]
    for name, other in facts:
        if other != first:
            raise RuntimeError(f"{name} produced {other}, {facts[0][0]} produced {first}")
    return first


def run(rounds: int) -> Report:
    """Generate the minutes, then run all contenders ``rounds`` times, in turns.

    Raises ``RuntimeError`` if a contender fails, or if the rows that come out are not the same.
    """
    with tempfile.TemporaryDirectory(prefix="mka1-minutes-") as folder:
        print("  writing 20 million minute rows", file=sys.stderr, flush=True)
        generate = [sys.executable, "-m", "tests.benchmarks.rollup_data", folder]
        subprocess.run(generate, cwd=REPOSITORY, check=True)
        runs = in_turns(list(_INCLUDES), rounds, lambda name: _once(Path(folder), name))
    facts = _check(runs)
    return Report(
        title="20 million minute rows to hours and days",
        ours=OURS,
        rows=[Row(name, _INCLUDES[name], summary) for name, summary in runs.items()],
        targets=[
            within_times(runs, OURS, _READING, 3.5),
            at_least_times_faster(runs, OURS, "Polars", 2),
        ],
        notes=[
            f"70 days, 1,000 users, 5 keys; {facts['usage_1h.rows']:,} hour rows and "
            f"{facts['usage_1d.rows']:,} day rows, the same from all; medians of {rounds}, "
            "contenders in turns."
        ],
    )
