"""What a run leaves: its steps together, the last run of a job, and nothing that breaks a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.run_log import RunFigures, RunLog

FIRST = RunFigures("usage_job", "a", 10.0, 20.0, True, 5, 1, 1)


def test_steps_of_a_run_are_added_up_and_a_new_run_takes_its_place(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "home")
    assert log.read() == []
    log.add(FIRST)
    log.add(RunFigures("usage_job", "a", 12.0, 30.0, False, 7, 0, 2))
    assert log.read() == [RunFigures("usage_job", "a", 10.0, 30.0, False, 12, 1, 3)]
    log.add(replace(FIRST, run_id="b"))
    log.add(replace(FIRST, job="refresh_job"))
    assert [(run.job, run.run_id) for run in log.read()] == [
        ("refresh_job", "a"),
        ("usage_job", "b"),
    ]


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON"])
def test_a_file_that_is_no_run_is_left_out_and_replaced(tmp_path: Path, content: bytes) -> None:
    log = RunLog(tmp_path)
    log.add(FIRST)
    (tmp_path / "last_runs" / "usage_job.json").write_bytes(content)
    assert log.read() == []
    log.add(FIRST)
    assert log.read() == [FIRST]


@pytest.mark.parametrize("name", ["", "../usage", "a/b", "a.b"])
def test_a_name_that_no_job_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a job"):
        RunLog(tmp_path).add(replace(FIRST, job=name))
