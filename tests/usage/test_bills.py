"""What the API bills lands to the billionth, and is held against the API's own totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.emulator import ManualClock, World
from pipeline.emulator.billing import COST_GROUPS, Charge
from pipeline.lake.manifest import BILLS, manifest_of
from pipeline.lake.schemas import COSTS, COVERAGE
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import DAY, day_window
from pipeline.usage.bills import billed_days, load_bills, restated_bills
from pipeline.usage.load import LoadError
from tests.bent import BentApi, Page, Params
from tests.torture.scenes import days

DAYS: Final = days(5)
START: Final = day_window(DAYS[0]).start
_COLUMNS: Final = ("model", "api_key_id", "team_id", "user_id", "org_id", "cost_nano")
Row = tuple[Any, ...]


@pytest.fixture
def world() -> World:
    """Charges and credits of users and keys, null too, with sums that no float holds."""
    world = World(clock=ManualClock(START + 40.0 * DAY))
    for number in range(60):
        charge = Charge(
            START + number * 7_201,
            [None, "ada", "bob"][number % 3],
            [None, "key_web"][number % 2],
            2**53 + number if number % 7 else -number,
            [None, "m"][number % 2],
        )
        world.charge(charge)
    return world


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def load(api: BentApi, lake: Lake, world: World, asked: Sequence[date] = DAYS) -> list[bool]:
    return [one.disputed for one in load_bills(api.connect, lake, asked, now=world.clock)]


def landed(lake: Lake, day: date) -> set[Row]:
    path = lake.file(COSTS.name, day)
    assert path is not None
    rows = pq.ParquetFile(path).read().to_pylist()
    assert {int(row["start_time"].timestamp()) for row in rows} <= {day_window(day).start}
    assert {row["currency"] for row in rows} <= {"usd"}
    return {tuple(row[name] for name in _COLUMNS) for row in rows}


def billed(world: World, day: date) -> set[Row]:
    window = day_window(day)
    answer = world.costs(window.start, window.end, COST_GROUPS)
    return {(*(row[name] for name in COST_GROUPS), int(row["cost_nano"])) for row in answer["data"]}


def status(lake: Lake, day: date) -> set[str]:
    path = lake.file(COVERAGE.name, day)
    assert path is not None
    rows = pq.ParquetFile(path).read().to_pylist()
    return {row["status"] for row in rows if row["dataset"] == COSTS.name}


def test_each_day_lands_to_the_billionth(world: World, lake: Lake) -> None:
    assert load(BentApi(world), lake, world) == [False] * len(DAYS)
    for day in DAYS:
        assert landed(lake, day) == billed(world, day)
        assert landed(lake, day)
        assert status(lake, day) == {"final"}


def test_a_day_without_a_bill_is_a_file_without_rows(lake: Lake) -> None:
    world = World(clock=ManualClock(START + 40.0 * DAY))
    load(BentApi(world), lake, world, DAYS[:1])
    assert landed(lake, DAYS[0]) == set()
    assert status(lake, DAYS[0]) == {"final"}


def test_several_rows_of_a_group_are_one(world: World, lake: Lake) -> None:
    def in_halves(_: Params, page: Page) -> Page:
        page["data"] = [
            {**row, "cost_nano": str(part)}
            for row in page["data"]
            for nano in [int(row["cost_nano"])]
            for part in (nano // 2, nano - nano // 2)
        ]
        return page

    assert load(BentApi(world, in_halves), lake, world, DAYS[:1]) == [False]
    assert landed(lake, DAYS[0]) == billed(world, DAYS[0])


def test_rows_that_do_not_sum_to_the_total_are_disputed_until_they_do(
    world: World, lake: Lake
) -> None:
    def lacks_one(_: Params, page: Page) -> Page:
        page["data"] = page["data"][1:]
        return page

    assert load(BentApi(world, lacks_one), lake, world, DAYS[:2]) == [True, True]
    assert status(lake, DAYS[0]) == {"disputed"}
    assert restated_bills(BentApi(world).connect, lake, DAYS) == DAYS[:2]
    assert load(BentApi(world), lake, world, DAYS[:2]) == [False, False]
    assert status(lake, DAYS[0]) == {"final"}


def test_rows_that_lack_one_are_disputed_on_a_recent_day_too(world: World, lake: Lake) -> None:
    assert isinstance(world.clock, ManualClock)
    world.clock.now = day_window(DAYS[0]).end + 3_600.0

    def lacks_one(_: Params, page: Page) -> Page:
        page["data"] = page["data"][1:]
        return page

    assert load(BentApi(world, lacks_one), lake, world, DAYS[:1]) == [True]


@pytest.mark.parametrize("nano", ["12.5", "1e3", "", "0.1", 7, str(2**63)])
def test_a_cost_that_is_no_whole_number_of_billionths_is_refused_not_rounded(
    world: World, lake: Lake, nano: object
) -> None:
    def bend(_: Params, page: Page) -> Page:
        for row in page["data"]:
            row["cost_nano"] = nano
        return page

    with pytest.raises(LoadError, match="cost_nano"):
        load(BentApi(world, bend), lake, world)
    assert lake.days(COSTS.name) == []


def test_days_before_one_that_fails_are_kept(world: World, lake: Lake) -> None:
    def bend(params: Params, page: Page) -> Page:
        if int(params["start_time"][0]) == day_window(DAYS[2]).start:
            page["total_cost_nano"] = "x"
        return page

    with pytest.raises(LoadError) as raised:
        load(BentApi(world, bend), lake, world)
    assert [one.day for one in raised.value.published] == DAYS[:2]
    assert list(raised.value.missing) == DAYS[2:]
    assert lake.days(COSTS.name) == DAYS[:2]


def test_only_days_whose_bills_were_restated_are_asked_for_again(world: World, lake: Lake) -> None:
    api = BentApi(world)
    load(api, lake, world)
    api.asked.clear()
    assert restated_bills(api.connect, lake, DAYS) == []
    assert len(api.asked) == 1
    world.charge(Charge(day_window(DAYS[3]).start + 60.0, "ada", "key_web", 1))
    assert restated_bills(api.connect, lake, DAYS) == [DAYS[3]]
    load(api, lake, world, [DAYS[3]])
    assert landed(lake, DAYS[3]) == billed(world, DAYS[3])


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"PAR1"), Path.unlink])
def test_a_bill_whose_file_is_damaged_is_asked_for_again(
    world: World, lake: Lake, damage: Callable[[Path], object]
) -> None:
    api = BentApi(world)
    load(api, lake, world)
    path = lake.file(COSTS.name, DAYS[1])
    assert path is not None
    damage(path)
    assert billed_days(lake) == DAYS
    assert restated_bills(api.connect, lake, DAYS) == [DAYS[1]]
    load(api, lake, world, [DAYS[1]])
    assert landed(lake, DAYS[1]) == billed(world, DAYS[1])


def test_a_day_that_is_not_over_is_provisional_and_asked_for_again(
    world: World, lake: Lake
) -> None:
    assert isinstance(world.clock, ManualClock)
    world.clock.now = day_window(DAYS[1]).start + 7 * 3_600.0 + 30
    load(BentApi(world), lake, world, DAYS[:2])
    assert status(lake, DAYS[0]) == {"provisional"}
    assert status(lake, DAYS[1]) == {"provisional", "missing"}
    assert manifest_of(lake.version(DAYS[1])).readings[BILLS].through == (
        day_window(DAYS[1]).start + 7 * 3_600
    )
    assert restated_bills(BentApi(world).connect, lake, DAYS[:2]) == [DAYS[1]]


def test_users_have_their_pseudonyms(world: World, lake: Lake) -> None:
    pseudonyms = Pseudonyms(SecretStr("sixteen characters"))
    load_bills(BentApi(world).connect, lake, DAYS[:1], pseudonyms=pseudonyms, now=world.clock)
    users = {row[_COLUMNS.index("user_id")] for row in landed(lake, DAYS[0])}
    assert users == {None, pseudonyms.of("ada"), pseudonyms.of("bob")}
