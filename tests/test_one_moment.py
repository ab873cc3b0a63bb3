"""Every reader takes the lake as of one moment, whatever is published between two of its reads.

Two days are replaced at once while a reader reads, after each of its reads in turn. What it answers
must be what it answers before, or what it answers after: never a mixture of both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import duckdb
import pytest

from pipeline.alerts.evaluate import evaluate
from pipeline.export.export import export
from pipeline.lake import engine
from pipeline.lake.catalog import build
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.query.buckets import PageQuery, answer, answer_on
from pipeline.report.figures import read
from tests.alerts.history import FIRST, HOUR, START, History, thresholds

DAYS = 10
LAST_DAYS = [FIRST + timedelta(days=DAYS - 2), FIRST + timedelta(days=DAYS - 1)]
END = START + DAYS * 24 * HOUR
NOW = END + 2 * HOUR
WIDTHS = ("usage_1h", "usage_1d")


def history(now_and_then: int, in_the_end: int) -> History:
    """Ten days of one user; other counts in the last two days."""
    told = History(days=DAYS)
    for hour in range(START, END, HOUR):
        late = hour >= END - 48 * HOUR
        told.use(hour, in_the_end if late else now_and_then, items=5, conversations=3)
    return told


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The ten days; of the last two there is a second version, which does not count yet."""
    home = tmp_path_factory.mktemp("one moment")
    lake = history(100, 100).publish(home / "before", catalog=False)
    later = history(100, 9_000).publish(home / "after", catalog=False)
    for day in LAST_DAYS:
        version = later.version(day)
        assert version is not None
        shutil.copytree(version, lake.versions(day) / "000002")
    return lake


def publish(lake: Lake) -> None:
    """Both days at once, by the one rename of a commit."""
    lake.commit.write_text(json.dumps({f"{day}": "000002" for day in LAST_DAYS}))


def bucket_page(lake: Lake) -> object:
    return answer(lake, PageQuery(START, bucket_width="1d")).page


def served_page(lake: Lake) -> object:
    with closing(engine.connect()) as con:
        query = PageQuery(START, END, "1h", limit=1_440)
        return answer_on(con, lake, query, now=NOW).page


def alerts(lake: Lake) -> object:
    return evaluate(lake, thresholds(), NOW)


def report(lake: Lake) -> object:
    return read(lake, None, None, ZoneInfo("UTC"))


def exported(lake: Lake) -> object:
    with TemporaryDirectory() as folder:
        export(lake, Path(folder), WIDTHS, form="csv")
        return [(Path(folder) / f"{name}.csv").read_bytes() for name in WIDTHS]


def catalog(lake: Lake) -> object:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.duckdb"
        build(Snapshot(lake), path)
        with closing(duckdb.connect(str(path), read_only=True)) as con:
            return [
                con.sql(f"SELECT start_time, num_operations FROM {name} ORDER BY ALL").fetchall()
                for name in WIDTHS
            ]


READERS: Mapping[str, Callable[[Lake], object]] = {
    "buckets": bucket_page,
    "serve": served_page,
    "alerts": alerts,
    "report": report,
    "export": exported,
    "catalog": catalog,
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_while_days_are_published_is_all_old_or_all_new(
    lake: Lake, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = READERS[reader]
    lake.commit.unlink(missing_ok=True)
    old = ask(lake)
    publish(lake)
    new = ask(lake)
    assert old != new, "the reader reads what is published"
    reads = 0
    at = 0
    read_version = Lake._version

    def reading(self: Lake, day: date, committed: Mapping[date, str]) -> Path | None:
        nonlocal reads
        version = read_version(self, day, committed)
        if day in LAST_DAYS:
            reads += 1
            if reads == at:
                publish(lake)
        return version

    monkeypatch.setattr(Lake, "_version", reading)
    while reads >= at:  # until the days are published after the last of its reads
        lake.commit.unlink(missing_ok=True)
        reads, at = 0, at + 1
        assert ask(lake) in (old, new), f"published after read {at}"
    assert at > 2
