"""What the exported tables hold: the star and its keys, times, names, and what they say."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.apart import is_apart
from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.export.export import export
from pipeline.export.tables import META, TABLES
from pipeline.lake.manifest import MOMENT
from pipeline.lake.schemas import COST_DATASETS, COVERAGE, DATASETS, METER_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_range, day_window, in_words, parse_time
from tests.disputed import dispute
from tests.export.exported import DAYS, WITH_TOKENS, rows
from tests.named import names as names_of
from tests.truth import load, reported

START = parse_time("2024-02-29")
HOUR = 3_600
MOST = 2**53 - 1


def at(day: int, hour: int = 0) -> datetime:
    """A moment counted from the first day, in UTC without a zone."""
    return datetime.fromtimestamp(START + day * DAY + hour * HOUR, UTC).replace(tzinfo=None)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three days, the second without usage, and a day later that is open; ids that differ little.

    The lake is read on the third day, so that is not final, and the first is.
    """
    events = [
        Event(START + 5 * HOUR, "Alice", "key", 1, 2, 3),
        Event(START + 23 * HOUR + 3_599, "alice", None, 1, 2, MOST),
        Event(START + 6 * HOUR, None, "key", 1, 2, 3),
        Event(START + 2 * DAY + 23 * HOUR, "", "key ", 1, 2, 3),
        Event(START + 2 * DAY + HOUR, "(none)", "key", 1, 2, 3),
        Event(START + 5 * DAY, "alice", "key", 7, 7, 7),
    ]
    lake = Lake(tmp_path_factory.mktemp("odd") / "lake", lookback_days=1)
    world = World.from_events(events, clock=ManualClock(START + 5 * DAY + 12 * HOUR))
    first = date(2024, 2, 29)
    with EmulatorServer(world) as server:
        world.clock = ManualClock(START + 3 * DAY)
        load(server, lake, [first + timedelta(days=number) for number in range(3)])
        world.clock = ManualClock(START + 5 * DAY + 12 * HOUR)
        load(server, lake, [first + timedelta(days=5)])
    return lake


@pytest.fixture(scope="module")
def exported(odd: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(odd, folder)
    return folder


# The star


def test_every_fact_has_one_row_in_every_dimension(star: Path, exported: Path) -> None:
    for folder in (star, exported):
        facts = rows(folder, "fact_usage")
        for dimension, key in (
            ("dim_user", "user_key"),
            ("dim_api_key", "api_key_key"),
            ("dim_date", "date"),
        ):
            keys = [row[key] for row in rows(folder, dimension)]
            assert len(keys) == len(set(keys))
            assert {row[key] for row in facts} <= set(keys)
            assert None not in keys


def test_ids_that_differ_in_case_or_spaces_are_different_users(exported: Path) -> None:
    users = {row["user_id"]: row["user_key"] for row in rows(exported, "dim_user")}
    assert set(users) == {None, "", "(none)", "Alice", "alice"}
    assert len(set(users.values())) == 5
    assert users[None] == 0
    keys = {row["api_key_id"]: row["api_key_key"] for row in rows(exported, "dim_api_key")}
    assert set(keys) == {None, "key", "key "}
    assert keys[None] == 0


def test_a_fact_is_an_hour_of_a_user_and_a_key(star: Path, world: World) -> None:
    found = [
        (
            int(row["start_time"].replace(tzinfo=UTC).timestamp()),
            *(row[name] for name in ("user_id", "api_key_id")),
            *(row[name] for name in DATASETS["usage_1h"].schema.names[-3:]),
        )
        for row in rows(star, "fact_usage")
    ]

    def order(row: Any) -> Any:
        return [(one is not None, one) for one in row[:3]]

    assert sorted(found, key=order) == sorted(reported(world, "1h", DAYS), key=order)
    assert found == sorted(found, key=order), "by time, then user, then key, NULL first"


def test_a_synced_lake_has_the_tokens_of_every_response_that_can_be_listed(
    star: Path, world: World
) -> None:
    expected: dict[str, int] = defaultdict(int)
    for one in world.all_responses():
        key, _ = one.owner
        if key is not None and one.created_at < day_window(DAYS[-1]).end:
            expected[one.model] += one.tokens.input + one.tokens.output
    found: dict[str, int] = defaultdict(int)
    for row in rows(star, "fact_tokens"):
        found[row["model"]] += row["total_tokens"]
    assert found == expected
    assert {path.stem for path in star.glob("*.parquet")} == set(WITH_TOKENS)


def test_a_fact_says_its_day_its_hour_and_whether_it_may_change(exported: Path) -> None:
    facts = {
        (row["user_id"], row["start_time"]): (row["date"], row["hour_of_day"], row["is_final"])
        for row in rows(exported, "fact_usage")
    }
    assert facts == {
        ("Alice", at(0, 5)): (date(2024, 2, 29), 5, True),
        (None, at(0, 6)): (date(2024, 2, 29), 6, True),
        ("alice", at(0, 23)): (date(2024, 2, 29), 23, True),
        ("", at(2, 23)): (date(2024, 3, 2), 23, False),
        ("(none)", at(2, 1)): (date(2024, 3, 2), 1, False),
        ("alice", at(5, 0)): (date(2024, 3, 5), 0, False),
    }


def test_a_dimension_says_when_somebody_was_first_and_last_there(exported: Path) -> None:
    [alice] = [row for row in rows(exported, "dim_user") if row["user_id"] == "alice"]
    assert alice["first_seen"] == at(0, 23)
    assert alice["last_seen"] == at(5, 1)
    assert (alice["first_seen_date"], alice["last_seen_date"]) == (
        date(2024, 2, 29),
        date(2024, 3, 5),
    )


def test_who_was_last_there_before_midnight_was_there_that_day(exported: Path) -> None:
    [none] = [row for row in rows(exported, "dim_api_key") if row["api_key_key"] == 0]
    assert (none["last_seen"], none["last_seen_date"]) == (at(1), date(2024, 2, 29))
    [user] = [row for row in rows(exported, "dim_user") if row["user_id"] == ""]
    assert (user["last_seen"], user["last_seen_date"]) == (at(3), date(2024, 3, 2))


def test_whoever_exports_a_part_is_told_of_all_users_as_they_are(
    odd: Lake, exported: Path, tmp_path: Path
) -> None:
    day = date(2024, 3, 2)
    export(odd, tmp_path, first=day, last=day)
    assert {row["date"] for row in rows(tmp_path, "fact_usage")} == {day}
    assert {row["date"] for row in rows(tmp_path, "dim_date")} == {day}
    assert rows(tmp_path, "dim_user") == rows(exported, "dim_user")


def test_nobody_has_a_row_even_where_everybody_is_somebody(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with EmulatorServer(World.from_events([Event(START, "a", "k", 1, 1, 1)])) as server:
        load(server, lake, [date(2024, 2, 29)])
    export(lake, tmp_path / "out")
    [nobody] = [row for row in rows(tmp_path / "out", "dim_user") if row["user_key"] == 0]
    assert (nobody["user_name"], nobody["first_seen"]) == ("(no user)", None)


def test_every_day_from_first_to_last_is_in_the_calendar(exported: Path) -> None:
    days = rows(exported, "dim_date")
    assert [row["date"] for row in days] == [
        date(2024, 2, 29) + timedelta(days=number) for number in range(6)
    ]
    assert [row["is_loaded"] for row in days] == [True, True, True, False, False, True]
    assert [row["is_complete"] for row in days] == [True, True, True, False, False, False]
    final, open_, missing = "final", "provisional", "missing"
    assert [row["usage_status"] for row in days] == [final, final, open_, missing, missing, open_]
    assert (
        {row["tokens_status"] for row in days} == {row["costs_status"] for row in days} == {missing}
    )


def test_the_calendar_is_right_for_ninety_years() -> None:
    first = date(1970, 1, 1)
    days = [first + timedelta(days=number) for number in range(33_000)]
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'Pacific/Apia'")
        con.register(
            "days",
            pa.table(
                {
                    "day_number": range(len(days)),
                    "is_loaded": [True] * len(days),
                    "is_complete": [False] * len(days),
                }
            ),
        )
        con.register("coverage", COVERAGE.schema.empty_table())
        found = con.sql((Path(__file__).parents[2] / "sql" / "dim_date.sql").read_text()).fetchall()
    assert found == [
        (
            *(day, day.year, (day.month + 2) // 3, day.month, f"{day:%B}", day.day),
            *(*day.isocalendar(), f"{day:%A}", day.isoweekday() > 5, True, False),
            *("missing", "missing", "missing"),
        )
        for day in days
    ]


def test_names_are_told_in_place_of_ids(odd: Lake, tmp_path: Path) -> None:
    names = names_of({"alice": "Alice Liddell", "who?": "Nobody"}, {"key": "Web shop"})
    exported = export(odd, tmp_path, names=names)
    users = {row["user_id"]: row["user_name"] for row in rows(tmp_path, "dim_user")}
    assert users == {
        None: "(no user)",
        "": "",
        "(none)": "(none)",
        "Alice": "Alice",
        "alice": "Alice Liddell",
    }
    keys = {row["api_key_id"]: row["api_key_name"] for row in rows(tmp_path, "dim_api_key")}
    assert keys == {None: "(no API key)", "key": "Web shop", "key ": "key "}
    assert exported.notes == ["1 name without usage by that user or API key"]


# The plain tables


def test_a_table_of_the_lake_has_its_rows_in_utc_without_a_zone(lake: Lake, tmp_path: Path) -> None:
    apart = {"item_contents", *METER_DATASETS, *COST_DATASETS}  # which nobody has loaded here
    loaded = {name: dataset for name, dataset in DATASETS.items() if name not in apart}
    export(lake, tmp_path, list(loaded))
    for name, dataset in loaded.items():
        days = [day for day in lake.all_days() if name != "coverage" or not is_apart(day)]
        files = lake.files(name, days)
        there = [row for path in files for row in pq.read_table(path).to_pylist()]
        if name in MOMENT:  # what stands apart comes on its own day
            there.sort(key=lambda row: row[MOMENT[name]].date())
        found = rows(tmp_path, name)
        assert len(found) == len(there)
        for row, source in zip(found, there, strict=True):
            expected = {key: value for key, value in source.items() if key != "day"}
            moments = [one for one in source.values() if isinstance(one, datetime)]
            assert row == {"date": row["date"], **_naive(expected)}
            assert row["date"] in {moment.date() for moment in moments}
        assert set(dataset.schema.names) - {"day"} < set(TABLES[name].schema.names)


def _naive(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.replace(tzinfo=None) if isinstance(value, datetime) else value
        for key, value in row.items()
    }


# What a file says of itself


@pytest.mark.parametrize("name", WITH_TOKENS)
def test_a_file_has_the_columns_that_it_says_and_says_what_they_mean(star: Path, name: str) -> None:
    schema = pq.read_schema(star / f"{name}.parquet")
    kinds = {"timestamp[us]", "date32[day]", "int64", "string", "bool", "decimal128(38, 15)"}
    assert {str(field.type) for field in schema} <= kinds
    assert schema.names == [column.name for column in TABLES[name].columns]
    for field, column in zip(schema, TABLES[name].columns, strict=True):
        assert field.metadata[b"description"].decode() == column.description
    with duckdb.connect() as con:
        con.execute("SET VARIABLE file = $1", [str(star / f"{name}.parquet")])
        said = dict(
            con.sql(
                "SELECT decode(key), decode(value) FROM parquet_kv_metadata(getvariable('file'))"
            ).fetchall()
        )
    facts = json.loads(said[META])
    assert facts["table"] == name
    assert facts["columns"] == {column.name: column.description for column in TABLES[name].columns}


def test_the_dictionary_has_every_table_and_column_of_the_export(star: Path) -> None:
    page = (star / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == WITH_TOKENS
    for name, part in zip(WITH_TOKENS, page.split("\n## ")[1:], strict=True):
        assert f"`{name}.parquet`" in part
        columns = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", part, re.MULTILINE)
        assert columns == pq.read_schema(star / f"{name}.parquet").names


def test_the_dictionary_says_which_days_are_not_loaded(exported: Path) -> None:
    page = (exported / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert "from 2024-02-29 through 2024-03-05" in page
    assert "Not loaded: 2024-03-03 to 2024-03-04." in page
    assert "Loaded in part: 2024-03-05 (through 2024-03-05T12:00:00Z)." in page


@pytest.mark.parametrize(
    ("first", "last", "missing"),
    [
        (date(2024, 2, 20), date(2024, 3, 1), "2024-02-20 to 2024-02-28"),
        (date(2024, 3, 2), date(2024, 3, 4), "2024-03-03 to 2024-03-04"),
        (date(2024, 2, 28), None, "2024-02-28, 2024-03-03 to 2024-03-04"),
        (None, date(2024, 3, 8), "2024-03-03 to 2024-03-04, 2024-03-06 to 2024-03-08"),
        (date(2024, 2, 29), date(2024, 3, 2), "none"),
    ],
)
def test_what_is_not_loaded_of_the_window_asked_for_is_said(
    odd: Lake, tmp_path: Path, first: date | None, last: date | None, missing: str
) -> None:
    exported = export(odd, tmp_path, first=first, last=last)
    begin, end = first or date(2024, 2, 29), last or date(2024, 3, 5)
    assert in_words(exported.lacking.missing) == missing
    calendar = [row["date"] for row in rows(tmp_path, "dim_date")]
    assert calendar == list(day_range(begin, end))
    assert json.loads((tmp_path / "export.json").read_text())["not_loaded"] == missing
    page = (tmp_path / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert f"from {begin} through {end}" in page
    assert f"Not loaded: {missing}." in page


def test_a_day_that_is_open_or_disputed_is_said(odd: Lake, tmp_path: Path) -> None:
    shutil.copytree(odd.root, tmp_path / "lake", symlinks=True)
    lake, folder = Lake(tmp_path / "lake"), tmp_path / "out"
    dispute(lake, date(2024, 3, 1))
    exported = export(lake, folder)
    words = {
        "not loaded": "2024-03-03 to 2024-03-04",
        "loaded in part": "2024-03-05 (through 2024-03-05T12:00:00Z)",
        "disputed, since the totals differ from the API's own": "2024-03-01",
    }
    assert exported.lacking.words == words
    facts = json.loads((folder / "export.json").read_text())
    assert facts["loaded_in_part"] == {"2024-03-05": "2024-03-05T12:00:00Z"}
    assert facts["disputed"] == "2024-03-01"
    page = (folder / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    for what, days in words.items():
        assert f"{what[0].upper()}{what[1:]}: {days}." in page
    calendar = rows(folder, "dim_date")
    assert calendar[1]["usage_status"] == "disputed"
    complete = [row["is_complete"] for row in calendar]
    assert complete == [True, False, True, False, False, False]
    assert not any(
        row["is_final"] for row in rows(folder, "fact_usage") if row["date"] == date(2024, 3, 1)
    )
