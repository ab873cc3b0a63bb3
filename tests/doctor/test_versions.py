"""What is installed is held against what is pinned."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest

from pipeline.doctor import versions
from tests.doctor.conftest import Look


def test_what_the_tests_run_with_is_as_pinned(look: Look) -> None:
    found = look("versions")
    assert [one.state for one in found] == ["ok"]
    for name in ("duckdb", "pyarrow", "dagster"):
        assert f"{name} {version(name)}" in found[0].found


@pytest.mark.parametrize(
    ("name", "there", "state", "words"),
    [
        ("duckdb", "2.1.0", "warning", "duckdb is 2.1.0, tested is ==2.0.*"),
        ("rich", None, "failed", "rich is not installed"),
        ("pandas", "0.1", "ok", ""),
        ("pandas", None, "ok", ""),
    ],
)
def test_another_version_is_a_warning_and_none_a_failure(
    name: str,
    there: str | None,
    state: str,
    words: str,
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(asked: str) -> str:
        if asked != name:
            return version(asked)
        if there is None:
            raise PackageNotFoundError(asked)
        return there

    monkeypatch.setattr(versions, "version", told)
    found = look("versions")
    assert [one.state for one in found] == [state]
    assert words in found[0].found
    assert ("constraints" in found[0].fix) is (state != "ok")


def test_a_python_that_is_too_old_is_a_failure(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    assert [one.found for one in look("versions")] == ["Python is 3.9.1, wanted is >=3.11"]


def test_code_that_is_not_installed_has_no_pins(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "distribution", lost)
    assert [one.state for one in look("versions")] == ["skipped"]
