"""The report as an asset: files in the home folder, and what Dagster shows of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.assets.report import JOB
from tests.orchestration.conftest import MakeLab, labs
from tests.orchestration.lab import QUIET, Lab, Ran


def make(lab: Lab, tz: str = "UTC") -> Ran:
    """Run the job."""
    asked = {"ops": {"usage_report": {"config": {"tz": tz}}}}
    result = (
        build_defs(lab.services)
        .resolve_job_def(JOB)
        .execute_in_process(instance=lab.instance, raise_on_error=False, run_config=QUIET | asked)
    )
    return Ran(result, lab.instance)


@pytest.fixture(scope="module")
def made(loaded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Ran]]:
    """A run that made the report of three days, and its lab."""
    home = tmp_path_factory.mktemp("made") / "home"
    shutil.copytree(loaded_home, home, symlinks=True)
    with labs(home) as make_lab:
        lab = make_lab()
        yield lab, make(lab, "Asia/Tokyo")


def test_the_page_and_the_pictures_are_in_the_home_folder(made: tuple[Lab, Ran]) -> None:
    lab, ran = made
    assert ran.success
    folder = lab.settings.home / "report"
    names = {path.name for path in folder.iterdir()}
    assert {"usage.html", "usage.png", "users.png", "week.png"} <= names
    assert {path.suffix for path in folder.iterdir()} == {".html", ".png"}
    [(key, shown)] = ran.materialized.items()
    assert key == ("usage_report", None)
    assert shown["file"] == dg.MetadataValue.path(folder / "usage.html")
    assert shown["days"].value == "2024-01-02 to 2024-01-03 (Asia/Tokyo)"
    assert str(shown["preview"].value).startswith("![Usage by hour, 2 to 3 January 2024: ")


def test_it_is_made_anew_each_time_and_is_the_same(made: tuple[Lab, Ran]) -> None:
    lab, _ = made
    pages = [lab.settings.home / "report" / name for name in ("usage.html", "usage.png")]
    before = [(path.stat().st_ino, path.read_bytes()) for path in pages]
    assert make(lab, "Asia/Tokyo").success
    after = [(path.stat().st_ino, path.read_bytes()) for path in pages]
    assert [content for _, content in after] == [content for _, content in before]
    assert not {inode for inode, _ in after} & {inode for inode, _ in before}


def test_a_run_that_can_make_none_says_why(
    make_lab: MakeLab, loaded_lab: Lab, tmp_path: Path
) -> None:
    empty = make_lab(home=tmp_path / "empty")
    assert "nothing is loaded" in make(empty).failures[0]
    assert "'Nowhere' is no time zone" in make(loaded_lab, "Nowhere").failures[0]
    mispriced = make_lab(home=tmp_path / "mispriced")
    mispriced.settings.home.mkdir()
    mispriced.settings.prices.write_text("model,currency\n")
    assert "prices.csv, line 1: " in make(mispriced).failures[0]
    for lab in (empty, loaded_lab, mispriced):
        assert not (lab.settings.home / "report").exists()
