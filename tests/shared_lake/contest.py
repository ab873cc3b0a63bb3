"""A worker of a contest: it adds what is its own to days that others add to at the same time.

What it adds is one more user of one minute, so that a day that lost a worker's commit lacks a row,
and tables of a day that are not of one commit differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import pyarrow.parquet as pq

from pipeline.lake import engine, user_id_mode
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.timeline import DAY, day_window
from tests.lake.served import Bucket, Result, publish
from tests.shared_lake.worker import work

OPERATIONS: Final = 3
"""Of each worker on each of its days."""
AT_ONCE: Final = 3
"""Days that are hydrated, changed and committed together."""
_MINUTE: Final = 5


def add(con: duckdb.DuckDBPyConnection, lake: Lake, days: Sequence[date], name: str) -> None:
    """Publish days of a home again, with a row of this worker beside those that are there."""
    for day in days:
        users = {name}
        for path in lake.files("raw_usage", [day]):
            users.update(pq.read_table(path, columns=["user_id"])["user_id"].to_pylist())
        results = tuple(Result(user, "key", (1, 2, OPERATIONS)) for user in sorted(users))
        asked_at = day_window(day).end + DAY
        publish(con, lake, [[Bucket(_MINUTE, results, day)]], day=day, fetched_at=asked_at)


def main(task: dict[str, Any]) -> None:
    """Work through the days of a task, in an order of its own; prints how often it was refused."""
    shared = open_shared_lake(Place(task["catalog"], task["warehouse"]))
    lake = Lake(Path(task["home"]) / "lake")
    lake.root.mkdir(parents=True)
    user_id_mode.claim(lake, None)
    days = [date.fromisoformat(day) for day in task["days"]]
    Random(task["name"]).shuffle(days)
    refused = 0
    with closing(engine.connect(threads=1)) as con:
        for first in range(0, len(days), AT_ONCE):
            some = sorted(days[first : first + AT_ONCE])
            refused += work(shared, lake, some, lambda todo: add(con, lake, todo, task["name"])) - 1
    print(refused)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
