"""Tokens are what anyone would count by hand from responses: by minute, hour, day, and zone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations import derive, observe
from pipeline.emulator import EmulatorServer, ManualClock, Tokens, World
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import TOKENS
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.timeline import SECONDS, WIDTHS, Width, day_window
from tests.conversations.seen import FAR, Response, land_seen
from tests.lake.served import DAY, MIDNIGHT, rows_of, temporary
from tests.synced import Reader

Connection = duckdb.DuckDBPyConnection
Group = tuple[int, str | None, str | None, str | None]
Sums = tuple[int | None, ...]

REPORTED = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens")
COUNTS = ("num_responses", "num_failed", *REPORTED)
NEXT = DAY + timedelta(days=1)
KEY = "key_web"


def by_hand(responses: Iterable[Response], seconds: int) -> dict[Group, Sums]:
    """The truth: bucket start, user, key and model, to the seven counts."""
    groups: dict[Group, list[Response]] = defaultdict(list)
    for one in responses:
        start = int(one.created_at // seconds * seconds)
        groups[start, one.user_id, one.api_key_id, one.model].append(one)
    found: dict[Group, Sums] = {}
    for group, members in groups.items():
        reported = [[getattr(one, name) for one in members] for name in REPORTED]
        known = [[value for value in values if value is not None] for values in reported]
        found[group] = (
            len(members),
            len([one for one in members if one.status in {"failed", "incomplete"}]),
            *(sum(values) if values else None for values in known),
        )
    return found


def published(lake: Lake, width: Width, days: Sequence[date]) -> dict[Group, Sums]:
    """The published rows, each day's checked to be of the day and in order."""
    found: dict[Group, Sums] = {}
    for day in days:
        rows = rows_of(lake.path(TOKENS[width].name, day))
        starts = [int(str(row["start_time"])) for row in rows]
        assert starts == sorted(starts)
        for start, row in zip(starts, rows, strict=True):
            assert day_window(day).start <= start < day_window(day).end
            assert row["end_time"] == start + SECONDS[width]
            user, key, model = (
                None if row[name] is None else str(row[name])
                for name in ("user_id", "api_key_id", "model")
            )
            group = (start, user, key, model)
            assert group not in found
            found[group] = tuple(
                None if row[name] is None else int(str(row[name])) for name in COUNTS
            )
    return found


def observe_all(con: Connection, lake: Lake, through: int = FAR) -> None:
    bounds = {
        day: max(min(through, day_window(day).end), day_window(day).start) for day in (DAY, NEXT)
    }
    observe.observe_days(con, lake, bounds, {})


MOMENTS = st.integers(0, 2 * 86_400 - 1).map(lambda second: MIDNIGHT + second)
NUMBERS = st.none() | st.integers(0, 2**40)
RESPONSES = st.builds(
    Response,
    id=st.uuids().map(str),
    created_at=MOMENTS | st.sampled_from([MIDNIGHT, MIDNIGHT + 86_399.999999, MIDNIGHT + 86_400]),
    user_id=st.sampled_from(["ada", "bob"]),
    api_key_id=st.sampled_from(["k1", "k2"]),
    status=st.sampled_from(["completed", "failed", "incomplete", "cancelled", "in_progress"]),
    model=st.sampled_from([None, "large", "small"]),
    **dict.fromkeys(REPORTED, NUMBERS),
)


@settings(max_examples=15)
@given(responses=st.lists(RESPONSES, max_size=30, unique_by=lambda one: one.id))
def test_any_responses_come_to_what_is_counted_by_hand(responses: list[Response]) -> None:
    with temporary() as folder, closing(engine.connect()) as con:
        lake = Lake(Path(folder))
        land_seen(con, lake, *responses)
        observe_all(con, lake)
        for width in WIDTHS:
            assert published(lake, width, [DAY, NEXT]) == by_hand(responses, SECONDS[width])


def test_what_no_response_reports_is_null_and_not_zero(con: Connection, lake: Lake) -> None:
    land_seen(
        con,
        lake,
        Response("a", created_at=MIDNIGHT, model="m", input_tokens=0, output_tokens=None),
        Response("b", created_at=MIDNIGHT + 59, model="m", input_tokens=None, output_tokens=None),
    )
    observe_all(con, lake)
    for width in WIDTHS:
        ((counts),) = published(lake, width, [DAY]).values()
        assert counts == (2, 0, 0, None, None, None, None)


def test_what_came_after_the_listings_were_read_is_not_counted(con: Connection, lake: Lake) -> None:
    land_seen(
        con, lake, Response("a", created_at=MIDNIGHT), Response("b", created_at=MIDNIGHT + 60)
    )
    observe_all(con, lake, MIDNIGHT + 60)
    assert list(published(lake, "1m", [DAY])) == [(MIDNIGHT, "ada", "key", None)]


def test_a_day_that_was_observed_before_there_were_tokens_gets_them(
    con: Connection, lake: Lake
) -> None:
    response = Response("a", created_at=MIDNIGHT, total_tokens=7)
    land_seen(con, lake, response)
    observe_all(con, lake)
    for width in WIDTHS:
        lake.path(TOKENS[width].name, DAY).resolve().unlink()
    derive.derive(con, lake)
    for width in WIDTHS:
        assert published(lake, width, [DAY]) == by_hand([response], SECONDS[width])


def test_a_response_that_ends_later_is_counted_also_where_its_day_is_not_asked_for(
    lake: Lake,
) -> None:
    clock = ManualClock(MIDNIGHT + 2 * 86_400)
    world = World(keys=(KEY,), clock=clock)
    slow = world.create_conversation(MIDNIGHT + 60, "ada", KEY)
    tokens = Tokens(input=40, output=2)
    world.add_response(slow, MIDNIGHT + 60, tokens=tokens, finished_at=MIDNIGHT + 3 * 86_400)
    with EmulatorServer(world) as server:
        reader = Reader(server, lake, [DAY, NEXT])
        reader.load()
        reader.sync()
        assert [row["total_tokens"] for row in reader.rows("tokens_1d")] == [0]
        clock.advance(2 * 86_400)
        Reader(server, lake, [NEXT]).sync()
        assert [row["total_tokens"] for row in reader.rows("tokens_1d")] == [42]


# The whole path, from the API to a query

FIRST = date(2024, 3, 30)  # the clocks of Europe are moved in the night to the 31st
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
START = day_window(FIRST).start
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Response]]:
    """A catalog over three synced days, and the responses that there were."""
    world = World(keys=(KEY,), clock=ManualClock(START + 12 * 86_400))
    made: list[Response] = []
    for number in range(60):
        at = START + number * 4_000 + number % 7
        user, model = ("ada", "bob")[number % 2], ("large", "small", "tiny")[number % 3]
        status = ("completed", "completed", "failed", "incomplete")[number % 4]
        tokens = Tokens(
            input=100 + number, cached=number, output=10 * number, reasoning=number // 2
        )
        name = world.create_conversation(at, user, KEY)
        made.append(
            Response(
                world.add_response(name, at, tokens=tokens, status=status, model=model),
                created_at=at,
                user_id=user,
                api_key_id=KEY,
                status=status,
                model=model,
                input_tokens=tokens.input,
                cached_tokens=tokens.cached,
                output_tokens=tokens.output,
                reasoning_tokens=tokens.reasoning,
                total_tokens=tokens.input + tokens.output,
            )
        )
    home = tmp_path_factory.mktemp("spoken")
    with EmulatorServer(world) as server:
        reader = Reader(server, Lake(home / "lake"), DAYS)
        reader.load()
        reader.sync()
    catalog = build_catalog(reader.lake, home / "usage.duckdb")
    assert verify(reader.lake, catalog).problems == ()
    return catalog, made


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("width", ["1m", "1h", "1d", "1w"])
def test_the_macro_counts_by_the_clock_of_any_zone(
    spoken: tuple[Path, list[Response]], zone: str, width: str
) -> None:
    catalog, made = spoken

    def begins(moment: float) -> float:
        shown = datetime.fromtimestamp(moment, ZoneInfo(zone))
        if width == "1m":
            return moment // 60 * 60
        if width == "1h":
            return moment - (shown.minute * 60 + shown.second)
        back = shown.weekday() if width == "1w" else 0
        midnight = shown.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        return midnight.astimezone(UTC).timestamp()

    expected: dict[tuple[float, str | None, str | None], list[int]] = {}
    for one in made:
        counts = expected.setdefault((begins(one.created_at), one.user_id, one.model), [0, 0, 0])
        counts[0] += 1
        counts[1] += one.status != "completed"
        counts[2] += one.total_tokens or 0
    query = f"""
        SELECT epoch(start_time), user_id, model, num_responses, num_failed, total_tokens
        FROM tokens_by('{width}', tz := '{zone}')
    """
    with closing(duckdb.connect(str(catalog), read_only=True)) as con:
        rows = con.execute(query).fetchall()
    assert {(start, user, model): counts for start, user, model, *counts in rows} == expected


def test_coverage_says_how_far_tokens_are_known(spoken: tuple[Path, list[Response]]) -> None:
    with closing(duckdb.connect(str(spoken[0]), read_only=True)) as con:
        query = "SELECT status, count(*) FROM coverage WHERE dataset = 'tokens_1h' GROUP BY 1"
        assert con.execute(query).fetchall() == [("final", 72)]
