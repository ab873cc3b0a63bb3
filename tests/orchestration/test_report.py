"""The report as an asset: files in the home folder, and what Dagster shows of them."""

from __future__ import annotations

import dagster as dg

from pipeline.definitions import build_defs
from pipeline.orchestration.assets.report import JOB
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran


def make(lab: Lab, tz: str = "UTC") -> Ran:
    """Run the job."""
    asked = {"ops": {"usage_report": {"config": {"tz": tz}}}}
    result = (
        build_defs(lab.services)
        .resolve_job_def(JOB)
        .execute_in_process(instance=lab.instance, raise_on_error=False, run_config=QUIET | asked)
    )
    return Ran(result, lab.instance)


def test_the_page_and_the_pictures_are_in_the_home_folder(lab: Lab) -> None:
    assert lab.run(DAYS[0], DAYS[-1]).success
    ran = make(lab, "Asia/Tokyo")
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


def test_it_is_made_anew_each_time_and_is_the_same(lab: Lab) -> None:
    assert lab.run(DAYS[0]).success
    pages = [lab.settings.home / "report" / name for name in ("usage.html", "usage.png")]
    assert make(lab).success
    before = [path.read_bytes() for path in pages]
    assert make(lab).success
    assert [path.read_bytes() for path in pages] == before


def test_a_run_that_can_make_none_says_why(make_lab: MakeLab) -> None:
    lab = make_lab()
    assert "nothing is loaded" in make(lab).failures[0]
    assert lab.run(DAYS[0]).success
    assert "'Nowhere' is no time zone" in make(lab, "Nowhere").failures[0]
    assert not (lab.settings.home / "report").exists()
