"""What a benchmark prints: a Markdown table, a line for each target, a line for the machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

from tests.benchmarks.measure import Summary

_LIBRARIES: Final = ("mka1-usage", "duckdb", "pyarrow", "polars", "meetkai-mka1", "dlt")


@dataclass(frozen=True)
class Target:
    """A promise and what became of it."""

    promise: str
    measured: str
    met: bool | None
    """``None`` when a contender that it needs was left out."""

    def line(self) -> str:
        """One Markdown list item."""
        verdict = {True: "met", False: "**NOT met**", None: "not measured"}[self.met]
        return f"- {self.promise}: {verdict}" + (f" ({self.measured})" if self.measured else "")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    contender: str
    includes: str
    summary: Summary


class Printed(Protocol):
    """What the command needs of a benchmark's outcome."""

    def markdown(self) -> str:
        """A table and the lines below it."""

    def data(self) -> dict[str, object]:
        """The same as plain values."""


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark."""

    title: str
    ours: str
    """The contender that the ratios are to."""
    rows: Sequence[Row]
    targets: Sequence[Target]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table and the lines below it, to be pasted into docs/benchmarks.md as they are."""
        ours = next((row.summary.seconds for row in self.rows if row.contender == self.ours), None)
        lines = [
            f"### {self.title}",
            "",
            "| contender | what is measured | median, s | ratio to ours | peak, MB |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
        for row in self.rows:
            seconds = row.summary.seconds
            ratio = "–" if ours is None else f"{seconds / ours:.2f}"
            peak = row.summary.peak_bytes / 1e6
            lines.append(
                f"| {row.contender} | {row.includes} | {seconds:.2f} | {ratio} | {peak:.0f} |"
            )
        lines += ["", *(target.line() for target in self.targets)]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """The same as plain values, with every run. Seconds and bytes."""
        return {
            "title": self.title,
            "contenders": {
                row.contender: {
                    "includes": row.includes,
                    "median_seconds": row.summary.seconds,
                    "peak_bytes": row.summary.peak_bytes,
                    "seconds": [sample.seconds for sample in row.summary.samples],
                    "peaks_bytes": [sample.peak_bytes for sample in row.summary.samples],
                    "facts": dict(row.summary.samples[-1].facts),
                }
                for row in self.rows
            },
            "targets": [
                {"promise": each.promise, "measured": each.measured, "met": each.met}
                for each in self.targets
            ],
        }


def at_least_times_faster(
    runs: Mapping[str, Summary], ours: str, other: str, times: float
) -> Target:
    """That ``ours`` is ``times`` times as fast as ``other``, by medians."""
    promise = f"at least {times:g}x faster than {other}"
    if ours not in runs or other not in runs:
        return Target(promise, "", None)
    ratio = runs[other].seconds / runs[ours].seconds
    return Target(promise, f"{ratio:.2f}x", ratio >= times)


def within_times(runs: Mapping[str, Summary], ours: str, other: str, times: float) -> Target:
    """That ``ours`` takes no more than ``times`` times as long as ``other``, by medians."""
    promise = f"within {times:g}x of {other}"
    if ours not in runs or other not in runs:
        return Target(promise, "", None)
    ratio = runs[ours].seconds / runs[other].seconds
    return Target(promise, f"{ratio:.2f}x", ratio <= times)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE)
        if named:
            return named.group(1)
    return platform.processor() or platform.machine()


def machine() -> str:
    """One line: processor, cores, memory, system, Python, and the libraries that were measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions: list[str] = []
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB memory, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(versions)
    )
