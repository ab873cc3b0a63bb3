"""The cookbook's questions about tokens, money, growth and peaks, as plain Python answers them.

The queries are those of the page, word for word; that each of the others has an answer is tested
with the README's. The week before the last is loaded but for a day, and a day has usage alone: what
is not known there must not be taken for zero.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import duckdb
import pytest

from pipeline.conversations import observe
from pipeline.lake import commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import MEASURES
from pipeline.lake.store import Lake
from pipeline.pricing.prices import read_prices
from pipeline.timeline import DAY, SECONDS, WIDTHS, day_of, day_window
from tests.conversations.seen import Conversation, Item, Response, land_seen
from tests.lake.served import write_rows

PAGE: Final = (Path(__file__).parents[1] / "docs" / "cookbook.md").read_text(encoding="utf-8")
BERLIN: Final = ZoneInfo("Europe/Berlin")
FIRST: Final = date(2024, 3, 4)
"""A Monday. Clocks are moved on the 31st, so the last whole week has 167 hours."""
DAYS: Final = 30
START: Final = day_window(FIRST).start
END: Final = START + DAYS * DAY
MISSING: Final = FIRST + timedelta(days=10)
"""Not loaded at all."""
NOT_READ: Final = FIRST + timedelta(days=24)
"""Of which usage is loaded, and nothing that is listed."""
USERS: Final = ("ada", "bob", None)
MODELS: Final = ("large", "small", "tiny")
BUDGET: Final = 50_000_000
PRICES: Final = """\
model,valid_from,currency,input,cached,output
large,2024-03-01,usd,2.123456789,1,10.000000001
large,2024-03-20,usd,4,2,20
small,2024-03-01,eur,0.5,,1.5
"""
"""Per million tokens; `tiny` has no price."""


@dataclass(frozen=True)
class Use:
    """Operations of a user and a key in a minute."""

    at: int
    user: str | None
    key: str | None
    operations: int


def used() -> list[Use]:
    """Everyone now and then; one doubles from week to week, one was away, and one begins late."""
    draw = random.Random(14)
    found: list[Use] = []
    for day in range(START, END, DAY):
        week = (day - START) // DAY // 7
        some = {"rare": {0, 3, 4}, "new": {3, 4}}
        for user in (*USERS, "eve", *some):
            if week not in some.get(user or "", {week}):
                continue
            times = 2**week if user == "eve" else 1
            found += [
                Use(day + 60 * draw.randrange(1_440), user, key, draw.randrange(1, 9) * times)
                for key in ("web", "batch", None)
            ]
    return [one for one in found if day_of(one.at) != MISSING]


def spoken() -> tuple[list[Conversation], list[Item], list[Response]]:
    """Conversations with up to five items, and responses of which some report no tokens."""
    draw = random.Random(41)
    conversations = [
        Conversation(f"c{number}", START + draw.randrange(DAYS * DAY), draw.choice(USERS), "web")
        for number in range(60)
    ]
    conversations = [one for one in conversations if _read(one.created_at)]
    items = [
        Item(f"i{number}", one.id, seen_at=one.created_at)
        for one in conversations
        for number in range(draw.randrange(6))
    ]
    responses = []
    for number in range(400):
        reported = (1_000 * draw.randrange(1, 99), draw.randrange(900), draw.randrange(5_000))
        read, cached, written = reported if number % 7 else (None, None, None)
        made = Response(
            f"r{number}",
            None,
            # The model `tiny` reports no tokens on the first days.
            START + draw.randrange(DAYS * DAY) + 0.25,
            draw.choice(USERS),
            "web",
            status=draw.choice(["completed", "completed", "failed", "incomplete", "in_progress"]),
            model=draw.choice(MODELS),
            input_tokens=read,
            cached_tokens=cached,
            output_tokens=written,
            reasoning_tokens=None,
            total_tokens=None if read is None or written is None else read + written,
        )
        if made.model == "tiny" and day_of(int(made.created_at)) < FIRST + timedelta(days=3):
            made = replace(
                made, input_tokens=None, cached_tokens=None, output_tokens=None, total_tokens=None
            )
        responses.append(made)
    return conversations, items, [one for one in responses if _read(one.created_at)]


def _read(moment: float) -> bool:
    return day_of(int(moment)) not in {MISSING, NOT_READ}


def load(lake: Lake, uses: Iterable[Use], seen: Iterable[Conversation | Item | Response]) -> None:
    """Publish the days as loads and syncs do, read when they were final."""
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    days.remove(MISSING)
    by_day: dict[date, list[Use]] = defaultdict(list)
    for use in uses:
        by_day[day_of(use.at)].append(use)
    late = END + 30.0 * DAY
    with closing(engine.connect(threads=1)) as con:
        with lake.staging() as folder:
            changes = {}
            for day in days:
                staged = {
                    f"usage_{width}": write_rows(
                        f"usage_{width}",
                        folder / f"{day}" / f"usage_{width}.parquet",
                        rows_of(by_day[day], SECONDS[width]),
                        day_window(day),
                    )
                    for width in WIDTHS
                }
                changes[day] = commit.Change(staged, read_at={"usage": late})
            commit.publish_days(con, lake, changes)
        land_seen(con, lake, *seen, until=late)
        days.remove(NOT_READ)
        observe.observe_days(
            con, lake, {day: day_window(day).end for day in days}, dict.fromkeys(days, late)
        )


def rows_of(uses: Iterable[Use], width: int) -> list[dict[str, Any]]:
    """Rows of a usage table."""
    sums = Counter[tuple[int, str | None, str | None]]()
    for use in uses:
        sums[use.at // width * width, use.user, use.key] += use.operations
    ordered = sorted(sums, key=lambda one: (one[0], one[1] or "", one[2] or ""))
    return [
        {
            "start_time": at,
            "end_time": at + width,
            "user_id": user,
            "api_key_id": key,
            **dict.fromkeys(MEASURES, sums[at, user, key]),
        }
        for at, user, key in ordered
    ]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cookbook")
    lake = Lake(home / "lake")
    conversations, items, responses = spoken()
    load(lake, used(), [*conversations, *items, *responses])
    (home / "prices.csv").write_text(PRICES, encoding="utf-8")
    prices = read_prices(home / "prices.csv").table
    return build_catalog(lake, home / "usage.duckdb", prices=prices)


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def ask(catalog: Path) -> Iterator[Ask]:
    """What the query below a question of the page answers, in clients set to any zone."""

    def answer(question: str) -> list[tuple[Any, ...]]:
        _, found, after = PAGE.partition(question)
        assert found, question
        query = after.split("```sql\n")[1].split("```")[0]
        answers = []
        for zone in ("UTC", "America/New_York"):
            con.execute(f"SET TimeZone = '{zone}'")
            answers.append(con.sql(query).fetchall())
        assert answers[0] == answers[1]
        return answers[0]

    with closing(duckdb.connect(str(catalog), read_only=True)) as con:
        yield answer


K = TypeVar("K")


def local(moment: float) -> date:
    return datetime.fromtimestamp(moment, BERLIN).date()


def monday(moment: float) -> date:
    return local(moment) - timedelta(days=local(moment).weekday())


def whole(day: date, known: Callable[[date], bool], days: int = 1) -> bool:
    """Whether a local day, or days from it on, lie in UTC days that are known."""
    start = datetime(day.year, day.month, day.day, tzinfo=BERLIN).astimezone(UTC)
    after = day + timedelta(days=days)
    end = datetime(after.year, after.month, after.day, tzinfo=BERLIN).astimezone(UTC)
    last = (end - timedelta(seconds=1)).date()
    covered = [start.date() + timedelta(days=n) for n in range((last - start.date()).days + 1)]
    return all(known(one) for one in covered)


def is_loaded(day: date) -> bool:
    return FIRST <= day < FIRST + timedelta(days=DAYS) and day != MISSING


def is_read(day: date) -> bool:
    return is_loaded(day) and day != NOT_READ


def added(values: Iterable[int | None]) -> int | None:
    """The sum of what is reported; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def group(
    responses: Iterable[Response], key: Callable[[Response], K]
) -> Mapping[K, list[Response]]:
    found: dict[K, list[Response]] = defaultdict(list)
    for one in responses:
        found[key(one)].append(one)
    return found


class Money(NamedTuple):
    """What some responses come to, of one currency."""

    cost: Decimal | None
    responses: int
    unpriced: int


def currency(response: Response) -> str | None:
    return {"large": "usd", "small": "eur"}.get(response.model or "")


def cost(response: Response) -> Decimal | None:
    """By hand, from the price list."""
    if response.input_tokens is None or response.output_tokens is None or not currency(response):
        return None
    read, cached, written = ("0.5", "0.5", "1.5")
    if response.model == "large" and day_of(int(response.created_at)) < date(2024, 3, 20):
        read, cached, written = ("2.123456789", "1", "10.000000001")
    elif response.model == "large":
        read, cached, written = ("4", "2", "20")
    from_cache = response.cached_tokens or 0
    return (
        (response.input_tokens - from_cache) * Decimal(read)
        + from_cache * Decimal(cached)
        + response.output_tokens * Decimal(written)
    ) / 10**6


def money(responses: Iterable[Response]) -> Money:
    costs = [cost(one) for one in responses]
    known = [one for one in costs if one is not None]
    return Money(sum(known, Decimal()) if known else None, len(costs), costs.count(None))


def last(value: str | float | Decimal | None) -> tuple[bool, Any]:
    """A sort key with None last, as the client sorts by default."""
    return (value is None, "" if value is None else value)


def test_tokens_over_time(ask: Ask) -> None:
    of_day = group(spoken()[2], lambda one: local(one.created_at))
    days = [FIRST + timedelta(days=number) for number in range(DAYS + 1)]
    expected = []
    for day in days:
        known, tokens = of_day.get(day, []), added(one.total_tokens for one in of_day.get(day, []))
        complete = whole(day, is_read)
        nothing = 0 if complete else None
        expected.append((day, len(known) or nothing, tokens if known else nothing, complete))
    assert ask("How many tokens did we use, day by day?") == expected
    assert [row[3] for row in expected].count(False) == 6, "each gap cuts two days of Berlin"


def test_tokens_by_model_and_user(ask: Ask) -> None:
    grouped = group(spoken()[2], lambda one: (local(one.created_at), one.model, one.user_id))
    expected = [
        (
            *of,
            len(members),
            added(one.input_tokens for one in members),
            added(one.cached_tokens for one in members),
            added(one.output_tokens for one in members),
            None,
            added(one.total_tokens for one in members),
        )
        for of, members in grouped.items()
    ]
    expected.sort(key=lambda row: (row[0], last(row[8] and -row[8]), row[1], last(row[2])))
    assert ask("How many tokens did each user take of each model") == expected
    assert any(row[8] is None for row in expected), "unknown is not zero"


def test_top_users_by_tokens(ask: Ask) -> None:
    read = [FIRST + timedelta(days=n) for n in range(DAYS) if is_read(FIRST + timedelta(days=n))]
    recent = [one for one in spoken()[2] if day_of(int(one.created_at)) in read[-7:]]
    grouped = group(recent, lambda one: one.user_id)
    everything = added(one.total_tokens for one in recent)
    ranked = sorted(
        (
            -(added(one.total_tokens for one in members) or 0),
            user or "",
            user,
            len(members),
            added(one.input_tokens for one in members),
            added(one.output_tokens for one in members),
        )
        for user, members in grouped.items()
    )
    assert everything
    assert ask("Who took most tokens in the last seven days?") == [
        (place, user, number, taken, given, -tokens, round(-100 * tokens / everything, 1))
        for place, (tokens, _, user, number, taken, given) in enumerate(ranked, start=1)
    ]


def test_failures_by_model(ask: Ask) -> None:
    expected = []
    for (day, model), members in group(
        spoken()[2], lambda one: (local(one.created_at), one.model)
    ).items():
        failed = len([one for one in members if one.status in {"failed", "incomplete"}])
        share = round(100 * failed / len(members), 1)
        expected.append((day, model, len(members), failed, share))
    expected.sort(key=lambda row: (row[0], -row[4], row[1]))
    assert ask("Which models fail, and how often?") == expected


def test_cost_over_time(ask: Ask) -> None:
    expected: list[tuple[Any, ...]] = []
    for day in [FIRST + timedelta(days=number) for number in range(DAYS + 1)]:
        of_day = [one for one in spoken()[2] if local(one.created_at) == day]
        complete = whole(day, is_read)
        if not of_day:
            expected.append((day, None, 0 if complete else None, None, complete))
        for name, members in sorted(group(of_day, currency).items(), key=lambda it: last(it[0])):
            came = money(members)
            expected.append((day, name, came.cost, came.unpriced, complete))
    assert ask("What did they cost, day by day?") == expected


def test_cost_per_user_this_month(ask: Ask) -> None:
    april = [one for one in spoken()[2] if local(one.created_at) >= date(2024, 4, 1)]
    expected = [
        (user, name, *money(members))
        for (user, name), members in group(april, lambda one: (one.user_id, currency(one))).items()
    ]
    expected.sort(key=lambda row: (last(row[1]), last(row[2] and -row[2]), last(row[0])))
    assert ask("What did each user cost this month") == expected
    assert expected


def test_top_users_by_cost(ask: Ask) -> None:
    recent = [one for one in spoken()[2] if one.created_at >= END - 30 * DAY]
    expected: list[tuple[Any, ...]] = []
    for name, of_currency in sorted(group(recent, currency).items(), key=lambda it: last(it[0])):
        grouped = group(of_currency, lambda one: one.user_id)
        ranked = sorted(
            ((user, money(members)) for user, members in grouped.items()),
            key=lambda it: (last(it[1].cost and -it[1].cost), it[0] is not None, it[0] or ""),
        )
        expected += [
            (name, place, user, came.cost, came.unpriced)
            for place, (user, came) in enumerate(ranked, start=1)
        ]
    assert ask("Who cost most in the last 30 days?") == expected


def test_cost_by_model_with_those_that_have_no_price(ask: Ask) -> None:
    expected = [
        (model, name, *money(members))
        for (model, name), members in group(
            spoken()[2], lambda one: (one.model, currency(one))
        ).items()
    ]
    expected.sort(key=lambda row: (row[2] is not None, -(row[2] or 0), row[0]))
    assert ask("What does each model cost") == expected
    assert expected[0][:3] == ("tiny", None, None)


def test_what_is_left_of_a_months_budget(ask: Ask) -> None:
    months = group(spoken()[2], lambda one: local(one.created_at).replace(day=1))
    expected = []
    for month, members in sorted(months.items()):
        tokens = added(one.total_tokens for one in members)
        assert tokens
        percent = round(100 * tokens / BUDGET, 1)
        expected.append((month, BUDGET, tokens, BUDGET - tokens, percent, False))
    assert ask("How much of a budget of 50 million tokens") == expected


def test_users_who_doubled_week_over_week(ask: Ask) -> None:
    counts = Counter[tuple[date, str | None]]()
    for use in used():
        counts[monday(use.at), use.user] += use.operations
    week = timedelta(days=7)
    expected = []
    for (start, user), operations in counts.items():
        if not (whole(start, is_loaded, 7) and whole(start - week, is_loaded, 7)):
            continue
        before = counts[start - week, user]
        if operations >= 2 * before:
            growth = round(100 * (operations - before) / before, 1) if before else None
            is_new = not any(counts[start - n * week, user] for n in range(1, 6))
            expected.append((start, user, before, operations, growth, is_new))
    expected.sort(key=lambda row: (row[0], -row[3], last(row[1])))
    assert ask("Which users did at least twice as much") == expected
    assert {user: is_new for _, user, *_, is_new in expected} == {
        "eve": False,
        "rare": False,
        "new": True,
    }


def test_the_busiest_minute_of_each_key(ask: Ask) -> None:
    minutes = Counter[tuple[int, str | None]]()
    for use in used():
        minutes[use.at, use.key] += use.operations
    peaks: dict[tuple[date, str | None], tuple[int, int]] = {}
    for (at, key), operations in sorted(minutes.items(), key=lambda one: one[0][0]):
        known = peaks.get((local(at), key))
        if known is None or operations > known[0]:
            peaks[local(at), key] = (operations, at)
    expected = [
        (day, key, operations, datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
        for (day, key), (operations, at) in peaks.items()
    ]
    expected.sort(key=lambda row: (row[0], -row[2], last(row[1])))
    assert ask("how many operations a minute did it peak at") == expected


def test_items_per_conversation(ask: Ask) -> None:
    conversations, items, _ = spoken()
    held = Counter(item.conversation_id for item in items)
    by_day: dict[date, list[int]] = defaultdict(list)
    for one in conversations:
        by_day[day_of(int(one.created_at))].append(held[one.id])
    assert ask("How many items do conversations have") == [
        (day, len(of), sum(of), round(sum(of) / len(of), 2), median(of), max(of))
        for day, of in sorted(by_day.items())
    ]
    assert any(0 in of for of in by_day.values()), "a conversation without items counts"
