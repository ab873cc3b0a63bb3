"""The doctor looks at everything, whatever happens to one of its checks."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from pipeline import doctor
from pipeline.cli.operating import show
from pipeline.doctor import CheckContext, Finding
from pipeline.doctor.configured import check_context
from pipeline.settings import Settings
from tests.bounded import LIMIT
from tests.doctor.conftest import PATIENT, told
from tests.fixtures_local import command

SECRET = "mka1-planted-Secret_0123456789"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of checks that a test fills."""
    module = ModuleType("pipeline.doctor.made_up")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def well(_: CheckContext) -> Iterator[Finding]:
    yield Finding("ok", "well", "all is well")


def examined(module: ModuleType, patience: float = PATIENT, **checks: object) -> list[Finding]:
    for name, look in checks.items():
        setattr(module, name, look)
    wanted = [doctor.Check(name, f"made_up.{name}") for name in checks]
    return list(doctor.examine(CheckContext(Settings.model_construct(), patience=patience), wanted))


def test_a_check_that_raises_is_a_finding_of_its_own(made_up: ModuleType) -> None:
    def broken(_: CheckContext) -> Iterator[Finding]:
        yield Finding("ok", "broken", "so far")
        raise RuntimeError("no\nidea")

    found = examined(made_up, broken=broken, well=well)
    assert [one.state for one in found] == ["ok", "failed", "ok"]
    assert found[1].found == "could not be looked at: RuntimeError no idea"


def test_a_check_that_hangs_is_given_up_and_the_next_ones_are_made(made_up: ModuleType) -> None:
    let_go = threading.Event()

    def hanging(_: CheckContext) -> Iterator[Finding]:
        yield Finding("ok", "hanging", "so far")
        let_go.wait(LIMIT)
        yield Finding("ok", "hanging", "too late")

    try:
        found = examined(made_up, patience=0.2, hanging=hanging)
        assert [one.state for one in found] == ["ok", "failed"]
        assert found[1].found == "no answer within 0.2 s: given up"
        assert examined(made_up, well=well) == [Finding("ok", "well", "all is well")]
    finally:
        let_go.set()


def test_an_installation_that_lacks_something_is_looked_at_all_the_same(
    made_up: ModuleType,
) -> None:
    wanted = [doctor.Check("lost", "no_such_module.look"), doctor.Check("well", "made_up.well")]
    made_up.__dict__["well"] = well
    found = list(doctor.examine(CheckContext(Settings.model_construct()), wanted))
    assert [one.state for one in found] == ["failed", "ok"]
    assert "no_such_module" in found[0].found


def test_no_finding_quotes_a_secret(made_up: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKA1_API_KEYS", f"key_a={SECRET}-a, {SECRET}-b")
    monkeypatch.setenv("MKA1_API_KEY", f"{SECRET}-c")
    monkeypatch.setenv("SOME_DATABASE_PASSWORD", f"{SECRET}-d")

    def telling(_: CheckContext) -> Iterator[Finding]:
        for end in "abcd":
            yield Finding("failed", "telling", f"{SECRET}-{end} is", f"change {SECRET}-{end}")

    made_up.__dict__["telling"] = telling
    given = check_context(
        {
            "MKA1_API_KEYS": f"key_a={SECRET}-a, {SECRET}-b",
            "MKA1_API_KEY": f"{SECRET}-c",
            "SOME_DATABASE_PASSWORD": f"{SECRET}-d",
        }
    )
    found = list(doctor.examine(replace(given, wrong={}), [doctor.Check("t", "made_up.telling")]))
    assert len(found) == 4
    assert SECRET not in told(found)
    assert found[3].fix == "change (the value of SOME_DATABASE_PASSWORD)"


def test_every_check_can_be_found() -> None:
    for check in doctor.CHECKS:
        assert callable(check.imported())


def test_with_nothing_set_all_is_looked_at_and_nothing_is_left_behind(
    place: pytest.MonkeyPatch, tmp_path: Path, unused_port: int
) -> None:
    for name in ("MKA1_API_KEY", "MKA1_USAGE_HOME"):
        place.setenv(name, "")
    place.setenv("MKA1_BASE_URL", f"http://127.0.0.1:{unused_port}")
    ended = command(["doctor", "--patience", str(PATIENT), "--format", "json"])
    assert ended.code == 1
    assert " 2 failed, " in ended.err
    failed = [one for one in json.loads(ended.text) if one["state"] == "failed"]
    assert [one["subject"] for one in failed] == ["settings", "TCP"]
    assert all(one["mend"] for one in failed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("catalog")
def test_a_place_that_is_well_ends_with_0(home: Path) -> None:
    ended = command(["doctor", "--patience", str(PATIENT), "--deep"])
    assert ended.code == 0
    assert "failed" not in ended.text + ended.err
    words = {" ".join(line.split()[:2]) for line in ended.text.splitlines()}
    assert {"ok settings", "ok TCP", "ok clock", "ok lake", "ok catalog", "ok versions"} <= words


@pytest.mark.parametrize("width", [60, 100])
def test_a_finding_stands_in_columns_with_what_mends_it_below(width: int) -> None:
    screen = StringIO()
    finding = Finding("failed", "settings", "a [b]c[/b] " * 9, "do [this]")
    show(finding, Console(file=screen, width=width))
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("failed   settings     a [b]c[/b] a")
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith(" " * 22) for line in lines[1:])
    assert lines[-1].strip() == "-> do [this]"


@pytest.mark.parametrize(
    "arguments", [["--format", "xml"], ["--patience", "0"], ["--patience", "soon"], ["all"]]
)
def test_arguments_that_mean_nothing_end_with_2(arguments: list[str]) -> None:
    assert command(["doctor", *arguments]).code == 2
