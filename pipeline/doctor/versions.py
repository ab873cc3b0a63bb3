"""Is what is installed what the project was tested with?"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning

_PACKAGE: Final = "mka1-usage"
_NAMED: Final = ("duckdb", "pyarrow", "dagster")
_INSTALL: Final = "install as the README says, with --require-hashes -r .ci/constraints.txt"


def installed(context: CheckContext) -> Iterator[Finding]:
    """Every requirement that is not met, or what is there."""
    del context
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        yield skipped(f"{_PACKAGE} is not installed, so nothing is pinned")
        return
    python = platform.python_version()
    met = True
    if python not in SpecifierSet(package.metadata["Requires-Python"]):
        met = False
        wanted = package.metadata["Requires-Python"]
        yield failed(f"Python is {python}, wanted is {wanted}", _INSTALL)
    for line in package.requires or ():
        finding = _compared(Requirement(line))
        if finding is not None:
            met = False
            yield finding
    if met:
        found = ", ".join(f"{name} {version(name)}" for name in _NAMED)
        yield ok(f"{_PACKAGE} {package.version}, Python {python}, {found}: as pinned")


def _compared(wanted: Requirement) -> Finding | None:
    """What is wrong with one requirement; an extra's count only where it is installed."""
    extra = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        if extra:
            return None
        return failed(f"{wanted.name} is not installed", _INSTALL)
    if extra or wanted.specifier.contains(found, prereleases=True):
        return None
    return warning(f"{wanted.name} is {found}, tested is {wanted.specifier}", _INSTALL)
