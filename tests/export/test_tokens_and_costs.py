"""Tokens and money in the star: exact, joined without losing a row, absent where there are none."""

from __future__ import annotations

import csv
from collections import defaultdict
from contextlib import closing
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from pipeline.export.export import DATABASE, ExportError, export
from pipeline.export.tables import DEFAULT
from pipeline.lake.catalog import prices_of
from pipeline.lake.store import Lake
from pipeline.timeline import DAY
from tests.export.exported import WHOLE_STAR, digests, rows
from tests.export.readers import READERS, Money, Reader
from tests.lake.served import Row
from tests.pricing.spent import FIRST, START, Spent, spend
from tests.spark import needs_java

HOUR: Final = 3_600
PRICES: Final = """\
large,2024-03-01,usd,2.123456789,1,10.000000001,
large,2024-03-31,usd,4,2,20,
small*,2024-03-01,usd,0.1,,0.2,"""
SPENT: Final = (
    Spent(START + 60, input=1_001, output=7, cached=500, reasoning=3),
    Spent(START + 120, input=3, output=10**12 + 1),
    Spent(START + 23 * HOUR, user=None, key=None, input=17, output=19),
    Spent(START + DAY, input=1, output=1),
    Spent(START + DAY + 60, input=None, output=None),
    Spent(START + 2 * HOUR, model="small-2", input=7, output=None),
    Spent(START + 2 * HOUR, user="eve", model="unpriced", input=5, output=5),
    Spent(START + 2 * HOUR, user="eve", model=None, input=5, output=5),
)
"""The third day is loaded and has no tokens."""


def bill(day: int, cost_nano: int, **ids: str) -> Row:
    """A row of costs_1d."""
    row: Row = dict.fromkeys(("user_id", "api_key_id", "model", "team_id", "org_id"))
    start = START + day * DAY
    return row | {
        **{"start_time": start, "end_time": start + DAY, "currency": "usd"},
        **{"cost_nano": cost_nano, **ids},
    }


BILLS: Final = [
    bill(0, 12_300_001, user_id="ada", api_key_id="web", model="large", team_id="blue"),
    bill(0, 2**62, user_id="only billed", api_key_id="billing", model="batch", org_id="acme"),
    bill(1, -5),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("spent")
    spend(home, SPENT, tables={"costs_1d": BILLS}, prices=PRICES)
    return home


@pytest.fixture(scope="module")
def folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of it. Tests only read it."""
    folder = tmp_path_factory.mktemp("exported")
    exported = export(Lake(home / "lake"), folder, prices=prices_of(home / "usage.duckdb"))
    assert exported.notes == []
    return folder


def cost(spent: Spent) -> Decimal | None:
    """By hand, per million tokens."""
    prices = {
        "small-2": ("0.1", "0.1", "0.2"),
        "large": ("4", "2", "20")
        if spent.at >= START + DAY
        else ("2.123456789", "1", "10.000000001"),
    }
    if spent.model not in prices or (spent.input is None and spent.output is None):
        return None
    read, cached, written = map(Decimal, prices[spent.model])
    from_cache = spent.cached or 0
    of = (spent.input or 0) - from_cache, from_cache, spent.output or 0
    return (of[0] * read + of[1] * cached + of[2] * written) / 10**6


def test_a_fact_is_an_hour_of_a_user_a_key_and_a_model_with_its_exact_cost(folder: Path) -> None:
    expected: dict[tuple[Any, ...], list[Spent]] = defaultdict(list)
    for one in SPENT:
        expected[one.at // HOUR * HOUR, one.user, one.key, one.model].append(one)
    found = rows(folder, "fact_tokens")
    assert len(found) == len(expected)
    for row in found:
        seconds = int(row["start_time"].replace(tzinfo=UTC).timestamp())
        members = expected[seconds, row["user_id"], row["api_key_id"], row["model"]]
        costs = [cost(one) for one in members]
        known = [one for one in costs if one is not None]
        assert row["cost"] == (sum(known) if known else None)
        assert row["num_unpriced"] == costs.count(None)
        assert row["currency"] == (None if row["model"] in {None, "unpriced"} else "usd")
        assert row["num_responses"] == len(members)
        assert (row["date"], row["hour_of_day"]) == (
            FIRST + timedelta(days=(seconds - START) // DAY),
            seconds // HOUR % 24,
        )
        assert row["is_final"] is False, "the listings were not asked for again"


def test_it_adds_up_to_what_the_macro_says(home: Path, folder: Path) -> None:
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as con:
        query = "SELECT model, sum(cost), sum(num_unpriced) FROM {} GROUP BY model ORDER BY model"
        here = con.sql(query.format(f"read_parquet('{folder / 'fact_tokens.parquet'}')"))
        assert here.fetchall() == con.sql(query.format("cost_by('1w')")).fetchall()


def test_what_is_billed_is_exact(folder: Path) -> None:
    found = rows(folder, "fact_costs")
    assert [row["cost_nano"] for row in found] == [12_300_001, 2**62, -5]
    for row, bill in zip(found, BILLS, strict=True):
        assert row["cost"] == Decimal(row["cost_nano"]) / 10**9
        names = ("user_id", "api_key_id", "model", "team_id", "org_id", "currency")
        assert [row[name] for name in names] == [bill[name] for name in names]
    assert [row["date"] for row in found] == [FIRST, FIRST, FIRST + timedelta(days=1)]


def test_every_fact_has_one_row_in_every_dimension(folder: Path) -> None:
    for fact in ("fact_usage", "fact_tokens", "fact_costs"):
        for dimension, key in (
            ("dim_user", "user_key"),
            ("dim_api_key", "api_key_key"),
            ("dim_model", "model_key"),
            ("dim_date", "date"),
        ):
            keys = [row[key] for row in rows(folder, dimension)]
            assert len(keys) == len(set(keys))
            if (fact, key) != ("fact_usage", "model_key"):
                assert {row[key] for row in rows(folder, fact)} <= set(keys)


def test_who_is_only_billed_is_in_the_dimensions_and_was_seen_in_no_hour(folder: Path) -> None:
    for dimension, column, name in (
        ("dim_user", "user_id", "only billed"),
        ("dim_api_key", "api_key_id", "billing"),
        ("dim_model", "model", "batch"),
    ):
        [row] = [row for row in rows(folder, dimension) if row[column] == name]
        assert row["first_seen"] is row["last_seen_date"] is None


def test_a_model_says_when_it_was_first_and_last_used(folder: Path) -> None:
    models = {row["model"]: row for row in rows(folder, "dim_model")}
    assert set(models) == {None, "batch", "large", "small-2", "unpriced"}
    assert (models[None]["model_key"], models[None]["model_name"]) == (0, "(no model)")
    assert models["large"]["first_seen_date"] == FIRST
    assert models["large"]["last_seen"].replace(tzinfo=UTC).timestamp() == START + DAY + HOUR


def test_a_model_has_the_same_number_in_every_export(folder: Path, tmp_path: Path) -> None:
    spent = [Spent(START, model="large"), Spent(START, model="another")]
    spend(tmp_path / "home", spent, days=1)
    export(Lake(tmp_path / "home" / "lake"), tmp_path / "out")
    numbers = {row["model"]: row["model_key"] for row in rows(folder, "dim_model")}
    others = {row["model"]: row["model_key"] for row in rows(tmp_path / "out", "dim_model")}
    assert set(others) == {None, "another", "large"}
    assert others["large"] == numbers["large"]


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(
            reader, id=name, marks=[needs_java, pytest.mark.slow] if name == "spark" else []
        )
        for name, reader in READERS.items()
    ],
)
def test_every_reader_finds_the_same_tokens_and_money(reader: Reader, folder: Path) -> None:
    expected: Money = {}
    for one in SPENT:
        name = one.model or "(no model)"
        tokens, money = expected.get(name, (0, None))
        price = cost(one)
        expected[name] = (tokens + one.total, money if price is None else (money or 0) + price)
    assert reader.money(folder) == expected


def test_a_csv_has_every_digit(home: Path, folder: Path, tmp_path: Path) -> None:
    prices = prices_of(home / "usage.duckdb")
    export(Lake(home / "lake"), tmp_path, ["fact_tokens"], form="csv", prices=prices)
    with (tmp_path / "fact_tokens.csv").open(encoding="utf-8-sig", newline="") as file:
        said = [Decimal(row["cost"]) if row["cost"] else None for row in csv.DictReader(file)]
    assert said == [row["cost"] for row in rows(folder, "fact_tokens")]


def test_without_a_price_list_nothing_costs_0(home: Path, tmp_path: Path) -> None:
    export(Lake(home / "lake"), tmp_path, ["fact_tokens"])
    found = rows(tmp_path, "fact_tokens")
    assert {row["cost"] for row in found} == {None}
    assert sum(row["num_unpriced"] for row in found) == len(SPENT)


def test_a_new_price_rewrites_the_facts_alone(home: Path, tmp_path: Path) -> None:
    lake, prices = Lake(home / "lake"), prices_of(home / "usage.duckdb")
    assert prices is not None
    export(lake, tmp_path, prices=prices)
    before = digests(tmp_path)
    export(lake, tmp_path, prices=prices.slice(0, 1))
    after = digests(tmp_path)
    changed = {name for name, digest in after.items() if before[name] != digest}
    assert changed == {"fact_tokens.parquet", "export.json"}


# Where there are none


def test_a_lake_without_responses_or_bills_is_exported_as_ever(tmp_path: Path) -> None:
    spend(tmp_path / "home", [], days=1)
    lake = Lake(tmp_path / "home" / "lake")
    exported = export(lake, tmp_path / "out")
    assert set(exported.rows) == set(DEFAULT)
    page = (tmp_path / "out" / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert "Tokens are" not in page


def test_one_duckdb_file_has_all_tables_so_that_no_dashboard_breaks(tmp_path: Path) -> None:
    spend(tmp_path / "home", [], days=1)
    exported = export(Lake(tmp_path / "home" / "lake"), tmp_path / "out", form="duckdb")
    assert [*exported.rows] == WHOLE_STAR
    assert exported.rows["fact_tokens"] == exported.rows["fact_costs"] == 0
    empty = "fact_tokens and fact_costs are empty: the lake has no rows for them"
    assert [note for note in exported.notes if "fact_" in note] == [empty]
    with closing(duckdb.connect(str(tmp_path / "out" / DATABASE), read_only=True)) as con:
        assert con.sql("SELECT model_name FROM dim_model").fetchall() == [("(no model)",)]
        assert con.sql("SELECT team_name FROM dim_team").fetchall() == [("(no team)",)]
        for fact in ("fact_usage", "fact_tokens", "fact_costs"):
            assert "team_key" in con.sql(f"FROM {fact}").columns


def test_bills_alone_bring_no_tokens(tmp_path: Path) -> None:
    spend(tmp_path / "home", [], days=1, tables={"costs_1d": [bill(0, 5, model="large")]})
    exported = export(Lake(tmp_path / "home" / "lake"), tmp_path / "out")
    assert set(exported.rows) == {*DEFAULT, "dim_model", "fact_costs"}


def test_days_whose_responses_were_not_read_are_named(tmp_path: Path) -> None:
    spend(tmp_path / "home", SPENT, left_out=[1])
    exported = export(Lake(tmp_path / "home" / "lake"), tmp_path / "out")
    said = "fact_tokens has nothing of days whose responses were not read: 2024-03-31"
    assert exported.notes == [said]
    page = (tmp_path / "out" / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert "Responses not read: 2024-03-31." in page


def test_a_table_that_there_is_nothing_of_is_refused_by_name(tmp_path: Path) -> None:
    spend(tmp_path / "home", [], days=1)
    with pytest.raises(ExportError, match="there is no fact_costs in this lake: what the API"):
        export(Lake(tmp_path / "home" / "lake"), tmp_path / "out", ["fact_costs"])
