"""A report's numbers are those of the emulator's own events, on the wall clock of any zone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.emulator import Event, World
from pipeline.lake.store import Lake
from pipeline.report import figures as figures_module
from pipeline.report.figures import Counts, NothingToReportError, PeriodError, read
from pipeline.report.sections import page_content
from pipeline.report.source import EVERYTHING, Only
from pipeline.timeline import DAY
from tests.disputed import dispute
from tests.report.scenes import FIRST, LATER, ODD_IDS, START, loaded, on, one_a_day

UTC = ZoneInfo("UTC")
ZONES = [
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"),
    *("Australia/Lord_Howe", "Pacific/Kiritimati"),
]
PERIODS = [
    (date(2024, 3, 27), date(2024, 4, 2)),  # by day; the clock is moved in Europe
    (date(2024, 3, 31), date(2024, 3, 31)),  # by hour
    (date(2024, 4, 6), date(2024, 4, 8)),  # by hour; it is moved by half an hour on Lord Howe
]


def within(events: Iterable[Event], first: date, last: date, zone: ZoneInfo) -> list[Event]:
    """The events of local days."""
    return [
        one for one in events if first <= datetime.fromtimestamp(one.second, zone).date() <= last
    ]


def total(events: Iterable[Event]) -> Counts:
    conversations, items, operations = 0, 0, 0
    for one in events:
        conversations += one.conversations_created
        items += one.items_added
        operations += one.operations
    return Counts(conversations, items, operations)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(("first", "last"), PERIODS)
def test_every_number_is_that_of_the_events(
    world: World, lake: Lake, first: date, last: date, name: str
) -> None:
    compare(world, lake, first, last, ZoneInfo(name), EVERYTHING)


@pytest.mark.parametrize(
    "only",
    [
        *(Only(user="user_0003"), Only(key="key_web"), Only(user="user_0000", key="key_batch")),
        *(Only(user="nobody"), Only(user="' OR 1 = 1 --\0")),
    ],
)
def test_a_part_is_that_of_its_events(world: World, lake: Lake, only: Only) -> None:
    compare(world, lake, *PERIODS[0], ZoneInfo("Asia/Kathmandu"), only)


def test_an_id_stands_for_itself_whatever_it_is_made_of(tmp_path: Path) -> None:
    events = one_a_day(ODD_IDS, range(1))
    lake = loaded(tmp_path / "lake", events, (LATER, [0]))
    for id_ in ODD_IDS:
        [found] = read(lake, None, None, UTC, only=Only(user=id_)).users.top
        assert found.id == id_


def compare(world: World, lake: Lake, first: date, last: date, zone: ZoneInfo, only: Only) -> None:
    """That a report's numbers are those of the events of what it is `only` of."""
    figures = read(lake, first, last, zone, only=only)
    everything = [
        one
        for one in world.events()
        if only.user in {None, one.user_id} and only.key in {None, one.api_key_id}
    ]
    events = within(everything, first, last, zone)
    gone = timedelta(days=(last - first).days + 1)
    before = within(everything, first - gone, last - gone, zone)
    users = {one.user_id for one in events} - {None}
    assert figures.totals.counts == total(events)
    assert figures.totals.users == len(users)
    assert figures.totals.keys == len({one.api_key_id for one in events} - {None})
    assert figures.compared is not None
    assert figures.compared.before.counts == total(before)
    assert set(figures.days.values()) == {"final"}

    groups: dict[datetime, list[Event]] = defaultdict(list)
    week: Counter[tuple[int, int]] = Counter()
    for one in events:
        shown = datetime.fromtimestamp(one.second, zone).replace(minute=0, second=0, tzinfo=None)
        groups[shown if figures.period.unit == "hour" else shown.replace(hour=0)].append(one)
        week[shown.isoweekday(), shown.hour] += one.operations
    assert {bar.first: bar.counts for bar in figures.bars} == {
        bar.first: total(groups[bar.first]) for bar in figures.bars
    }
    assert set(groups) <= {bar.first for bar in figures.bars}
    assert {
        (cell.weekday, cell.hour): cell.operations for cell in figures.week if cell.operations
    } == {place: n for place, n in week.items() if n}
    assert sum(cell.asked for cell in figures.week) * 3_600 == (
        figures.period.window.end - figures.period.window.start
    )

    by_user = Counter[str | None]()
    for one in events:
        by_user[one.user_id] += one.operations
    assert [one.counts.operations for one in figures.users.top] == [
        n for _, n in by_user.most_common(10)
    ]
    assert figures.users.ids == len(by_user)
    assert all(by_user[one.id] == one.counts.operations for one in figures.users.top)

    earlier = {one.user_id for one in everything if one.second < figures.period.window.start}
    were = {one.user_id for one in before} - {None}
    assert figures.people.counts == {
        "new": len(users - earlier),
        "kept": len(users & were),
        "back": len((users & earlier) - were),
        "lapsed": len(were - users),
    }
    assert sum(bar.new_users or 0 for bar in figures.bars) == len(users - earlier)


@pytest.mark.parametrize("name", ["UTC", "Australia/Lord_Howe"])
@pytest.mark.parametrize(("first", "last"), PERIODS)
def test_usage_that_is_grouped_some_bars_at_a_time_makes_the_same_report(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, first: date, last: date, name: str
) -> None:
    expected = read(lake, first, last, ZoneInfo(name))
    monkeypatch.setattr(figures_module, "MOST_ROWS", 10)
    assert read(lake, first, last, ZoneInfo(name)) == expected


@pytest.mark.parametrize(
    ("first", "last", "unit", "bars"),
    [
        (date(2024, 3, 20), date(2024, 3, 22), "hour", 72),
        (date(2024, 3, 20), date(2024, 3, 23), "day", 4),
        (date(2024, 1, 1), date(2024, 4, 1), "day", 92),
        (date(2024, 1, 1), date(2024, 4, 2), "week", 14),
        (date(2022, 4, 1), date(2024, 4, 30), "month", 25),
    ],
)
def test_a_bar_is_as_wide_as_a_phone_can_show(
    world: World, lake: Lake, first: date, last: date, unit: str, bars: int
) -> None:
    figures = read(lake, first, last, UTC)
    assert figures.period.unit == unit
    assert len(figures.bars) == bars
    assert figures.bars[0].first.date() == first
    assert figures.bars[-1].end.date() == last + timedelta(days=1)
    assert figures.totals.counts == total(within(world.events(), first, last, UTC))
    summed = sum(bar.counts.operations or 0 for bar in figures.bars if bar.counts)
    assert summed == figures.totals.counts.operations


DEFAULTS = [
    # Days that are loaded; the first and last that are reported.
    ((0, 5, 20, 29), 2, 29),
    (range(7), 0, 6),
    (range(1), 0, 0),
    ((*range(3), *range(20, 25)), 0, 24),
]


@pytest.mark.parametrize(("numbers", "first", "last"), DEFAULTS)
def test_by_default_it_is_about_the_last_28_days_or_as_many_as_there_are(
    tmp_path: Path, numbers: range, first: int, last: int
) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(30)), (LATER, numbers))
    period = read(lake, None, None, UTC).period
    assert (period.first, period.last) == (on(first), on(last))


def test_a_day_that_is_still_open_is_not_in_it_unless_it_is_asked_for(tmp_path: Path) -> None:
    now = START + 5 * DAY + 14 * 3_600
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(6)), (now, range(6)))
    assert read(lake, None, None, UTC).period.last == on(4)
    figures = read(lake, on(3), on(5), UTC)
    assert figures.days[on(5)] == "in part"
    assert figures.through == now
    assert figures.totals.counts.operations == 4 + 5 + 6


def test_what_is_known_of_a_day_is_told_and_what_is_not_is_no_zero(tmp_path: Path) -> None:
    now = START + 9 * DAY + 3_600
    lake = loaded(
        tmp_path / "lake",
        one_a_day(["a"], range(8)),
        (LATER, [0, 1, 2, 5]),
        (now, [7, 8]),
    )
    figures = read(lake, on(1), on(8), UTC)
    known = [bar.known for bar in figures.bars]
    assert known == [
        *("final", "final", "missing", "missing", "final", "missing"),
        *("provisional", "provisional"),
    ]
    counts = [bar.counts.operations if bar.counts else None for bar in figures.bars]
    assert counts == [2, 3, None, None, 6, None, 8, 0]
    assert figures.totals.counts.operations == 2 + 3 + 6 + 8
    unknown = [cell for cell in figures.week if cell.average is None]
    assert {cell.weekday for cell in unknown} == {4, 5, 7}


def test_a_local_day_is_in_part_where_one_of_its_utc_days_is_missing(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(4), hour=0), (LATER, [0, 1, 3]))
    figures = read(lake, on(0), on(3), ZoneInfo("Asia/Kathmandu"))
    assert list(figures.days.values())[-4:] == ["in part", "final", "in part", "in part"]
    assert figures.week[5] == (1, 5, 1, 1.0, 0.25)


def test_only_days_that_are_loaded_in_both_periods_are_compared(tmp_path: Path) -> None:
    events = [*one_a_day(["a", "b"], range(8)), *one_a_day(["c"], range(4, 8))]
    lake = loaded(tmp_path / "lake", events, (LATER, [0, 2, 3, 4, 5, 6, 7]))
    compared = read(lake, on(4), on(7), UTC).compared
    assert compared is not None
    assert compared.days == 3
    assert compared.before.counts.operations == 2 * (1 + 3 + 4)
    assert compared.this.counts.operations == 3 * (5 + 7 + 8)
    assert (compared.before.users, compared.this.users) == (2, 3)


@pytest.mark.parametrize("numbers", [range(4, 8), [3, 4, 5, 6, 7]])
def test_nothing_is_compared_where_too_little_is_loaded(
    tmp_path: Path, numbers: range | list[int]
) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(8)), (LATER, numbers))
    figures = read(lake, on(4), on(7), UTC)
    assert figures.compared is None
    assert [(one.compared, one.before) for one in figures.users.top] == [(None, None)]
    assert all(bar.before is None for bar in figures.bars)


def test_who_is_new_and_who_has_lapsed(tmp_path: Path) -> None:
    events = [
        *one_a_day(["kept", None], range(9)),
        *one_a_day(["back"], range(1)),
        *one_a_day(["back", "new"], range(7, 9)),
        *one_a_day(["lapsed"], range(3, 5)),
    ]
    lake = loaded(tmp_path / "lake", events, (LATER, range(9)))
    figures = read(lake, on(6), on(8), UTC)
    assert figures.history == 6
    assert figures.people.counts == {"new": 1, "kept": 1, "back": 1, "lapsed": 1}
    [lapsed] = figures.people.top["lapsed"]
    assert (lapsed.id, lapsed.operations, lapsed.before) == ("lapsed", None, 4 + 5)
    assert [bar.new_users for bar in figures.bars if bar.new_users] == [1]


def test_without_a_day_before_nobody_is_called_new(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(2)), (LATER, range(2)))
    figures = read(lake, None, None, UTC)
    assert figures.history == 0
    assert [bar.new_users for bar in figures.bars] == [None] * 48


def test_who_came_earlier_in_the_same_utc_day_is_not_new(tmp_path: Path) -> None:
    """Samoa skipped a day: the period begins at 10:00 UTC, and the one before it has no second."""
    number = (date(2011, 12, 30) - FIRST).days
    events = [
        Event(START + number * DAY + hour * 3_600, "a", "key", 0, 0, 1) for hour in (9, 11, 35)
    ]
    lake = loaded(tmp_path / "lake", events, (LATER, range(number - 1, number + 2)))
    figures = read(lake, on(number + 1), on(number + 1), ZoneInfo("Pacific/Apia"))
    assert figures.totals.counts.operations == 1
    assert figures.people.counts["new"] == 0


def test_loaded_days_without_usage_are_zero(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", [], (LATER, range(4)))
    figures = read(lake, None, None, UTC)
    assert figures.totals == (Counts(0, 0, 0), 0, 0)
    assert [bar.counts for bar in figures.bars] == [Counts(0, 0, 0)] * 4
    assert figures.users == ([], 0)


REFUSED: list[tuple[date | None, date | None, type[Exception], str]] = [
    (on(5), on(8), NothingToReportError, "no day of 2024-01-06 to 2024-01-09 is loaded: .*--end"),
    (on(1), on(0), PeriodError, "ends before it begins"),
    (None, FIRST - timedelta(days=5), NothingToReportError, "is loaded"),
    (date(2010, 1, 1), on(1), PeriodError, "more than 3,660 days"),
    (date(9999, 12, 31), None, PeriodError, "too far in the future"),
    (date.min, None, PeriodError, "too far in the past"),
    (None, date.min, PeriodError, "too far in the past"),
    (date.min, date.min, PeriodError, "too far in the past"),
]


@pytest.mark.parametrize(("first", "last", "error", "words"), REFUSED)
def test_what_cannot_be_reported_is_said(
    tmp_path: Path, first: date | None, last: date | None, error: type[Exception], words: str
) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(2)), (LATER, range(2)))
    with pytest.raises(error, match=words):
        read(lake, first, last, UTC)


def test_an_empty_lake_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(NothingToReportError, match=r"nothing is loaded in .* `mka1-usage run`"):
        read(Lake(tmp_path / "lake"), None, None, UTC)


def test_a_disputed_day_is_said_and_not_compared(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(14)), (LATER, range(14)))
    dispute(lake, on(9))
    figures = read(lake, on(7), on(13), UTC)
    assert figures.days[on(9)] == "disputed"
    assert figures.known("final") == [on(7), on(8), *(on(number) for number in range(10, 14))]
    assert figures.through == START + 9 * DAY
    assert figures.totals.counts.operations == sum(number + 1 for number in range(7, 14))
    assert figures.compared is not None
    assert figures.compared.days == 6
    [warning] = page_content(figures).warnings
    assert warning.startswith("1 day is disputed, 10 January 2024: the totals differ")
    assert "complete through" in page_content(figures).about


def test_a_report_is_complete_through_the_first_hole(tmp_path: Path) -> None:
    numbers = [*range(3), *range(5, 14)]
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(14)), (LATER, numbers))
    assert read(lake, on(7), on(13), UTC).through == START + 3 * DAY
