"""How much the torture does, and the figures that it prints.

Belongs here: the length of a run and the table at its end. All figures, at full length: `pytest
tests/torture --long`; on two cores, with `-n 2` behind it. At short length: `pytest tests/torture
--slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.bounded import LONG

Figures = Callable[..., None]

_NOTED: Final = "figures"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of it is slow; full length takes longer than a test may take otherwise."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            if config.getoption("--long"):
                item.add_marker(pytest.mark.timeout(LONG))


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether to run at full length."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Note figures under a name, `figures("faults", runs=3, wrong=0)`; they are printed at the end.

    What is noted twice under one name adds up. They travel as properties of the test's report,
    which reach the terminal from the processes of pytest-xdist too.
    """

    def note(name: str, **numbers: int) -> None:
        request.node.user_properties.append((_NOTED, (name, numbers)))

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures of all tests, those that failed too."""
    noted: dict[str, dict[str, int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name == _NOTED and isinstance(value, tuple):
                        _add_up(noted, *value)
    if noted:
        length = "full length" if config.getoption("--long") else "short: --long runs them all"
        terminalreporter.section(f"figures ({length})")
        for line in table(noted):
            terminalreporter.write_line(line)


def _add_up(noted: dict[str, dict[str, int]], name: str, numbers: Mapping[str, int]) -> None:
    sums = noted.setdefault(name, {})
    for column, number in numbers.items():
        sums[column] = sums.get(column, 0) + number


def table(noted: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The figures as lines: a table for each set of columns, its rows by name."""
    lines: list[str] = []
    for columns in dict.fromkeys(tuple(numbers) for _, numbers in sorted(noted.items())):
        rows = [
            [name, *(f"{number:,}" for number in numbers.values())]
            for name, numbers in sorted(noted.items())
            if tuple(numbers) == columns
        ]
        cells = [["", *(column.replace("_", " ") for column in columns)], *rows]
        widths = [max(len(row[place]) for row in cells) for place in range(len(columns) + 1)]
        if lines:
            lines.append("")
        for name, *numbers in cells:
            aligned = (one.rjust(width) for one, width in zip(numbers, widths[1:], strict=True))
            lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    return lines
