"""What the API restates, however long ago, is found, loaded again and kept: that and no more."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import duckdb
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.emulator import EmulatorServer
from pipeline.lake import engine
from pipeline.lake.schemas import REVISIONS
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from pipeline.usage.refresh import refresh_days
from tests.torture.conftest import Figures
from tests.torture.scenes import days, exact, world
from tests.truth import FAST, load

Change = tuple[int, str | None, str, int | None, int | None]
"""Minute (Unix seconds), user, measure, old and new value."""


def revisions(con: duckdb.DuckDBPyConnection, lake: Lake) -> set[Change]:
    """What the table says."""
    engine.bind(con, {"revisions": (REVISIONS, lake.files(REVISIONS.name))})
    rows = con.sql(
        "SELECT epoch(start_time)::BIGINT, user_id, measure, old_value, new_value FROM revisions"
    ).fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


def test_planted_restatements_are_found_loaded_and_kept(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    """Numbers that grow, numbers that fall, rows that vanish and rows that are new."""
    loaded, restated = (400, 30) if long else (40, 8)
    asked = days(loaded)
    random = Random(3)
    lake = Lake(tmp_path / "home" / "lake")
    with EmulatorServer(world(loaded, per_day=20)) as server, closing(engine.connect()) as con:

        def connect() -> Client:
            return Client(server.base_url, SecretStr(server.api_key), FAST)

        load(server, lake, asked)
        planted: set[Change] = set()
        touched = sorted(random.sample(asked, restated))
        for number, day in enumerate(touched):
            reported = server.world.usage(
                day_window(day).start, day_window(day).end, "1m", ("user_id", "api_key_id")
            )
            bucket = next(b for b in reported if b["results"])
            (result, *_) = bucket["results"]
            minute, user, key = bucket["start_time"], result["user_id"], result["api_key_id"]
            operations = result["num_operations"]
            match number % 4:
                case 0:
                    server.world.restate(minute, user, key, operations=7)
                    planted.add((minute, user, "num_operations", operations, operations + 7))
                case 1:
                    server.world.restate(minute, user, key, operations=-1)
                    planted.add((minute, user, "num_operations", operations, operations - 1))
                case 2:
                    server.world.restate(minute, user, key, drop=True)
                    planted |= {
                        (minute, user, name, result[name], None)
                        for name in result
                        if name.startswith("num_")
                    }
                case _:
                    server.world.restate(minute, "newcomer", key, operations=3)
                    planted |= {
                        (minute, "newcomer", "num_operations", None, 3),
                        (minute, "newcomer", "num_items_added", None, 0),
                        (minute, "newcomer", "num_conversations_created", None, 0),
                    }
        before = len(server.requests)
        refreshed = refresh_days(connect, lake, now=server.world.clock)
        requests = len(server.requests) - before
        found = revisions(con, lake)
        again = refresh_days(connect, lake, now=server.world.clock)
        assert exact(lake, server.world, asked)
    figures(
        "restatements",
        days=loaded,
        restated=restated,
        loaded_again=len(refreshed.changed),
        values_changed=len(planted),
        revisions=len(found),
        requests_to_find=refreshed.requests,
        requests_in_all=requests,
    )
    assert refreshed.changed == tuple(touched)
    assert found == planted
    assert again.changed == ()
    assert revisions_after_nothing(lake) == len(found)


def revisions_after_nothing(lake: Lake) -> int:
    """How many there are once a refresh has found nothing."""
    with closing(engine.connect()) as con:
        return len(revisions(con, lake))
