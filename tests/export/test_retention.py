"""Days whose hours or minutes are not kept any more are not said to be not loaded: no load
brings them back."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from pipeline.export.export import ExportError, export
from pipeline.lake.retention import prune
from pipeline.lake.store import Lake
from pipeline.retention import Retention
from pipeline.timeline import DAY, day_window
from tests.export.exported import DAYS, rows

NOW = float(day_window(DAYS[1]).start + 50 * DAY)
"""50 days after the second day, 51 after the first, 49 after the third."""


@pytest.fixture
def pruned(lake: Lake, tmp_path: Path) -> Lake:
    """Three days: of the first only days are kept, of the second hours too, of the third all."""
    folder = shutil.copytree(lake.root, tmp_path / "lake", symlinks=True)
    copy = Lake(folder, lookback_days=0)  # what was read when a day was over is final
    prune(copy, Retention(minutes=49, hours=50), NOW)
    return copy


def test_they_are_named_apart_from_what_is_not_loaded(pruned: Lake, tmp_path: Path) -> None:
    exported = export(pruned, tmp_path / "out")
    first, second, _ = DAYS
    assert exported.lacking.words == {"hours not kept any more": f"{first}"}
    assert exported.lacking.complete_through(exported.days) == day_window(DAYS[2]).end
    [note] = exported.notes
    assert note.startswith(f"fact_tokens has no cost of {second}: it is computed by the minute")
    said = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert (said["not_loaded"], said["hours_not_kept"]) == ("none", f"{first}")
    calendar = rows(tmp_path / "out", "dim_date")
    assert [row["is_loaded"] for row in calendar] == [False, True, True]
    assert [row["is_complete"] for row in calendar] == [False, True, True]
    tokens = rows(tmp_path / "out", "fact_tokens")
    assert {row["date"] for row in tokens} == {*DAYS[1:]}
    assert {row["date"] for row in tokens if row["cost"] is not None} <= {DAYS[2]}
    assert "Hours not kept any more: 2024-01-01." in (
        tmp_path / "out" / "DATA_DICTIONARY.md"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "day"),
    [("fact_usage", DAYS[0]), ("dim_date", DAYS[0]), ("usage_1m", DAYS[1])],
)
def test_who_asks_for_them_alone_is_told_that_they_are_not_kept(
    table: str, day: date, pruned: Lake, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=rf"any more of {day} \(MKA1_.*usage_1d") as error:
        export(pruned, tmp_path / "out", [table], first=day, last=day)
    assert f"there is no {table} from {day} through {day}: " in str(error.value)
    exported = export(pruned, tmp_path / "out", ["usage_1d"], first=DAYS[0], last=DAYS[0])
    assert exported.rows["usage_1d"] > 0
