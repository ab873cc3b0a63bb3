"""The macros and views of `usage.duckdb` say what a count of the events in plain Python says."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from pipeline.emulator import Event, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.macros import MACROS, VIEWS
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import ANY_WIDTHS, DAY, Window, day_window
from tests.disputed import dispute
from tests.fixtures_local import published_home

FIRST = date(2024, 3, 4)
"""A Monday; on the Sunday after it New York moves its clocks."""
START = day_window(FIRST).start
DAYS = 14
WINDOW = Window(START, START + DAYS * DAY)
USERS = ("ada", "o'brien", None, "ユーザー七")
BURST = START + 9 * DAY + 15 * 3_600


def events() -> list[Event]:
    """Everyone now and then, one only in the second week, and an hour in which ada goes wild."""
    found = [
        Event(at, USERS[at // 2_400 % 3], "web" if at % 3 else None, at % 2, 2, at // 2_400 % 5)
        for at in range(WINDOW.start + 600, WINDOW.end, 2_400)
    ]
    found += [Event(START + 8 * DAY + n * 3_600, USERS[3], "batch", 1, 1, 1) for n in range(3)]
    found += [Event(BURST + n, "ada", "web", 0, 0, 50) for n in range(3)]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weeks in a lake with its catalog. Tests only read it."""
    folder = tmp_path_factory.mktemp("macros")
    return published_home(folder, World.from_events(events()), WINDOW)


@pytest.fixture
def con(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog as any client opens it."""
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as opened:
        yield opened


def ask(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """Rows as dicts, times in UTC but for `local_start`."""
    rows: list[dict[str, Any]] = con.sql(query).to_arrow_table().to_pylist()
    return [
        {
            key: it.replace(tzinfo=UTC) if isinstance(it, datetime) and key != "local_start" else it
            for key, it in row.items()
        }
        for row in rows
    ]


def local_day(event: Event, tz: str) -> date:
    return datetime.fromtimestamp(event.second, ZoneInfo(tz)).date()


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_usage_by_counts_local_days(con: duckdb.DuckDBPyConnection, tz: str) -> None:
    expected = Counter[tuple[date, str | None, str | None]]()
    for event in events():
        expected[local_day(event, tz), event.user_id, event.api_key_id] += event.operations
    rows = ask(con, f"from usage_by('1d', '{tz}')")
    counted = {
        (
            row["start_time"].astimezone(ZoneInfo(tz)).date(),
            row["user_id"],
            row["api_key_id"],
        ): row["num_operations"]
        for row in rows
    }
    assert counted == dict(expected)
    assert rows == sorted(
        rows, key=lambda r: (r["start_time"], *((k is not None, k or "") for k in ids(r)))
    )


def ids(row: dict[str, Any]) -> tuple[str | None, str | None]:
    return row["user_id"], row["api_key_id"]


@pytest.mark.parametrize("width", ANY_WIDTHS)
def test_usage_adds_up_at_every_width(con: duckdb.DuckDBPyConnection, width: str) -> None:
    [row] = ask(
        con,
        "select CAST(sum(num_items_added) AS BIGINT) AS items, min(start_time) AS first, "
        f"max(end_time) AS last from usage_by('{width}', 'Asia/Kathmandu')",
    )
    assert row["items"] == sum(event.items_added for event in events())
    assert row["first"].timestamp() <= events()[0].second
    assert row["last"].timestamp() > events()[-1].second


def test_active_and_new_users(con: duckdb.DuckDBPyConnection) -> None:
    tz = "America/New_York"
    seen: dict[date, set[str]] = defaultdict(set)
    for event in events():
        if event.user_id is not None:
            seen[local_day(event, tz)].add(event.user_id)
    before: set[str] = set()
    expected = []
    for day in sorted(seen):
        expected.append((len(seen[day]), len(seen[day] - before)))
        before |= seen[day]
    rows = ask(con, f"from active_users('1d', '{tz}')")
    assert [(row["active_users"], row["new_users"]) for row in rows] == expected
    # The lake's UTC days cut the first and the last local day.
    assert [row["is_complete"] for row in rows] == [False, *[True] * (len(rows) - 2), False]
    sunday = next(r for r in rows if r["start_time"].astimezone(ZoneInfo(tz)).day == 10)
    assert sunday["end_time"] - sunday["start_time"] == timedelta(hours=23)


def test_period_over_period(con: duckdb.DuckDBPyConnection) -> None:
    weeks = Counter(
        {0: 0, 1: 0},
    )
    for event in events():
        weeks[(event.second - START) // (7 * DAY)] += event.operations
    rows = ask(con, "from period_over_period('1w') where measure = 'num_operations'")
    assert [(row["value"], row["previous"], row["is_complete"]) for row in rows] == [
        (weeks[0], None, True),
        (weeks[1], weeks[0], True),
    ]
    assert rows[1]["difference"] == weeks[1] - weeks[0]
    assert rows[1]["percent_change"] == round(100 * (weeks[1] - weeks[0]) / weeks[0], 1)


@pytest.mark.parametrize(
    ("macro", "column"), [("share_by_key", "api_key_id"), ("share_by_user", "user_id")]
)
def test_shares(con: duckdb.DuckDBPyConnection, macro: str, column: str) -> None:
    counted: dict[int, Counter[str | None]] = defaultdict(Counter)
    for event in events():
        counted[(event.second - START) // (7 * DAY)][getattr(event, column)] += event.operations
    expected = [
        (START + week * 7 * DAY, name, n, round(100 * n / sum(of.values()), 1))
        for week, of in sorted(counted.items())
        for name, n in sorted(of.items(), key=lambda it: (-it[1], it[0] is not None, it[0] or ""))
    ]
    rows = ask(con, f"from {macro}('1w')")
    assert [
        (
            int(row["start_time"].timestamp()),
            row["id"],
            row["num_operations"],
            row["percent_of_operations"],
        )
        for row in rows
    ] == expected


@pytest.mark.parametrize(("n", "days"), [(10, 7), (2, 7), (10, 1), (10, 100)])
def test_top_users(con: duckdb.DuckDBPyConnection, n: int, days: int) -> None:
    counted = Counter[str | None]()
    for event in events():
        if event.second >= WINDOW.end - days * DAY:
            counted[event.user_id] += event.operations
    ranked = sorted(counted.items(), key=lambda it: (-it[1], it[0] is not None, it[0] or ""))
    rows = ask(con, f"from top_users({n}, {days})")
    assert [(row["place"], row["id"], row["num_operations"]) for row in rows] == [
        (place, *of) for place, of in enumerate(ranked[:n], start=1)
    ]


def test_a_spike_is_held_against_the_busiest_hours_of_the_days_before(
    con: duckdb.DuckDBPyConnection,
) -> None:
    hour = BURST // 3_600
    mine = Counter(
        {
            at: sum(e.operations for e in events() if e.user_id == "ada" and e.second // 3600 == at)
            for at in range(hour - 9 * 24, hour + 1)
        }
    )
    peaks = [max(mine[hour - 24 * day - at] for at in range(1, 25)) for day in range(9)]
    usual = sorted(peaks)[-2]
    [row] = ask(con, "from spikes(hours := 24 * 14)")
    assert row == {
        "user_id": "ada",
        "start_time": datetime.fromtimestamp(BURST, UTC),
        "num_operations": mine[hour],
        "usual_operations": usual,
        "times_usual": round(mine[hour] / usual, 1),
    }
    assert ask(con, "from spikes(at_least := 1000, hours := 24 * 14)") == []
    assert ask(con, "from spikes(times := 1000, hours := 24 * 14)") == []
    assert ask(con, "from spikes(hours := 24)") == [], "it is not of the last 24 hours"


@pytest.mark.parametrize(("view", "column"), [("users", "user_id"), ("api_keys", "api_key_id")])
def test_everyone_with_when_and_how_much(
    con: duckdb.DuckDBPyConnection, view: str, column: str
) -> None:
    rows = ask(con, f"from {view}")
    names = {getattr(event, column) for event in events()}
    assert [row[column] for row in rows] == sorted(names, key=lambda k: (k is not None, k or ""))
    for row in rows:
        of = [event for event in events() if getattr(event, column) == row[column]]
        assert row["num_items_added"] == sum(event.items_added for event in of)
        assert row["active_days"] == len({event.second // DAY for event in of})
        first, last = min(it.second for it in of) // 3_600, max(it.second for it in of) // 3_600
        assert row["first_seen"].timestamp() == first * 3_600
        assert row["last_seen"].timestamp() == (last + 1) * 3_600


def test_a_gap_is_unknown_not_zero(tmp_path: Path) -> None:
    world = World.from_events(
        [Event(START + n * DAY + 60, "ada", None, 1, 1, 5) for n in (0, 2, 3, 4)]
    )
    for window in (Window(START, START + DAY), Window(START + 2 * DAY, START + 5 * DAY)):
        published_home(tmp_path, world, window)
    with closing(duckdb.connect(str(tmp_path / "usage.duckdb"), read_only=True)) as con:
        rows = ask(con, "from period_over_period('1d') where measure = 'num_operations'")
        assert [row["value"] for row in rows] == [5, None, 5, 5, 5]
        assert [row["is_complete"] for row in rows] == [True, False, True, True, True]
        active = ask(con, "from active_users('1d')")
        assert [row["active_users"] for row in active] == [1, None, 1, 1, 1]


def test_a_disputed_day_is_not_complete(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "lake", tmp_path / "lake", symlinks=True)
    lake = Lake(tmp_path / "lake")
    dispute(lake, FIRST + timedelta(days=3))
    path = build_catalog(lake, tmp_path / "usage.duckdb")
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        complete = [row["is_complete"] for row in ask(con, "from buckets_by('1d')")]
        weeks = [row["is_complete"] for row in ask(con, "from buckets_by('1w')")]
    assert complete == [number != 3 for number in range(DAYS)]
    assert weeks == [False, True]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("from usage_by('2d')", "width 2d is none of 1m, 5m, 15m, 1h, 6h, 1d, 1w, 1mo"),
        ("from active_users('day')", "width day is none of 1m"),
        ("from usage_by('1d', 'Asia/Karach')", "tz Asia/Karach is no time zone"),
        ("from share_by_key('1d', '')", "time zone"),
        ("from buckets_by('1d', table_name := 'tokens')", "tokens is no table that coverage"),
    ],
)
def test_a_width_or_a_zone_that_is_none_is_refused_in_words(
    con: duckdb.DuckDBPyConnection, query: str, complaint: str
) -> None:
    with pytest.raises(duckdb.Error, match=complaint):
        con.sql(query).fetchall()


@pytest.mark.parametrize("macro", [macro.name for macro in MACROS])
def test_an_empty_lake_has_no_rows(tmp_path: Path, macro: str) -> None:
    path = build_catalog(Lake(tmp_path / "lake"), tmp_path / "usage.duckdb")
    [parameters] = [it.parameters for it in MACROS if it.name == macro]
    given = ["'1d'" for default in parameters.values() if not default]
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        assert con.sql(f"from {macro}({', '.join(given)})").fetchall() == []


def test_the_rules_of_a_zone_are_the_catalogs_not_those_of_the_client(home: Path) -> None:
    """DuckDB's own may be out of date: it is not even asked."""
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as con:
        con.execute("SET TimeZone = 'Pacific/Apia'")
        theirs = ask(con, "from usage_by('1d', 'America/New_York')")
        con.execute("SET TimeZone = 'UTC'")
        assert ask(con, "from usage_by('1d', 'America/New_York')") == theirs
        query = f"select sql from duckdb_views() union select macro_definition from {FUNCTIONS}"
        definitions = " ".join(str(row) for row in con.sql(query).fetchall())
    assert "New_York" not in definitions
    assert "AT TIME ZONE" not in definitions


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kathmandu", "Africa/Cairo"])
@pytest.mark.parametrize(
    "macro",
    [
        "bucket_edges",
        "buckets_by",
        "usage_by",
        "active_users",
        "period_over_period",
        "share_by_key",
        "peaks_by_key",
    ],
)
@pytest.mark.parametrize("width", ["1h", "1d"])
def test_local_start_is_what_a_clock_of_the_zone_shows(
    con: duckdb.DuckDBPyConnection, macro: str, tz: str, width: str
) -> None:
    rows = ask(con, f"from {macro}('{width}', tz := '{tz}')")
    assert rows
    for row in rows:
        local = row["start_time"].astimezone(ZoneInfo(tz)).replace(tzinfo=None)
        assert row["local_start"] == local


def test_no_time_of_the_catalog_depends_on_the_zone_of_the_client(
    con: duckdb.DuckDBPyConnection,
) -> None:
    zoned = [f"{it.name}('1d')" for it in MACROS if "width" in it.parameters]
    others = [f"{it.name}()" for it in MACROS if "width" not in it.parameters]
    for source in [*DATASETS, *VIEWS, *zoned, *others]:
        assert "TIMESTAMP WITH TIME ZONE" not in [str(it) for it in con.sql(f"FROM {source}").types]
    assert [str(it) for it in con.sql("SELECT utc_now()").types] == ["TIMESTAMP"]


def test_now_is_now_in_utc_whatever_zone_the_client_is_set_to(
    con: duckdb.DuckDBPyConnection,
) -> None:
    for zone in ("America/New_York", "Asia/Kathmandu"):
        con.execute(f"SET TimeZone = '{zone}'")
        [(now,)] = con.sql("SELECT utc_now()").fetchall()
        assert abs(datetime.now(UTC) - now.replace(tzinfo=UTC)) < timedelta(minutes=5)


FUNCTIONS = "duckdb_functions() where not internal"
