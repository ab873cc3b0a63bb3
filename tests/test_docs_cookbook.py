"""The cookbook's questions about tokens, growth and peaks, answered as plain Python counts them.

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
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import duckdb
import pytest

from pipeline.conversations import observe
from pipeline.lake import commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import MEASURES
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, SECONDS, WIDTHS, day_of, day_window
from tests.conversations.seen import Conversation, Item, Response, land_seen
from tests.lake.served import write_rows

PAGE: Final = (Path(__file__).parents[1] / "docs" / "cookbook.md").read_text(encoding="utf-8")
BERLIN: Final = ZoneInfo("Europe/Berlin")
FIRST: Final = date(2024, 3, 4)
"""A Monday. Clocks are moved on the 31st, so the last two weeks are of 167 and 168 hours."""
DAYS: Final = 36
START: Final = day_window(FIRST).start
END: Final = START + DAYS * DAY
MISSING: Final = FIRST + timedelta(days=10)
"""Not loaded at all."""
NOT_READ: Final = FIRST + timedelta(days=30)
"""Of which usage is loaded, and nothing that is listed."""
USERS: Final = ("ada", "bob", None)
MODELS: Final = ("large", "small", "tiny")
BUDGET: Final = 50_000_000


@dataclass(frozen=True)
class Use:
    """Operations of a user and a key in a minute."""

    at: int
    user: str | None
    key: str | None
    operations: int


def used() -> list[Use]:
    """Everyone now and then; one begins in the third week and doubles, one is away for a week."""
    draw = random.Random(14)
    found: list[Use] = []
    for day in range(START, END, DAY):
        week = (day - START) // DAY // 7
        for user in (*USERS, "eve", "rare"):
            if (user == "eve" and week < 2) or (user == "rare" and week not in {0, 3, 4}):
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
    return build_catalog(lake, home / "usage.duckdb")


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


def last(value: str | int | float | None) -> tuple[bool, Any]:
    """A sort key with None last, as the client sorts by default."""
    return (value is None, value or 0 if isinstance(value, (int, float)) else value or "")


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
    assert {user for _, user, *_ in expected} >= {"eve", "rare"}


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
