"""`focus_costs`: what is billed, by the rules of FOCUS 1.2 for a dataset of costs and usage.

The FOCUS project's own validator (2.0.1, rules 1.2) was run over these exports by hand: it needs an
environment of its own. What it checks of columns that are always there is checked here as well.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pytest

from pipeline.export.export import ExportError, export
from pipeline.export.tables import FOCUS_COSTS, chosen
from pipeline.lake.store import Lake
from pipeline.timeline import DAY
from tests.export.exported import rows
from tests.lake.served import Row
from tests.named import names as names_of
from tests.pricing.spent import FIRST, START, spend

TEXT, MONEY, MOMENT = pa.string(), pa.decimal128(38, 9), pa.timestamp("us")
MANDATORY: Final[Mapping[str, tuple[pa.DataType, bool]]] = {
    "BilledCost": (MONEY, False),
    "BillingAccountId": (TEXT, False),
    "BillingAccountName": (TEXT, True),
    "BillingCurrency": (TEXT, False),
    "BillingPeriodEnd": (MOMENT, False),
    "BillingPeriodStart": (MOMENT, False),
    "ChargeCategory": (TEXT, False),
    "ChargeClass": (TEXT, True),
    "ChargeDescription": (TEXT, False),
    "ChargePeriodEnd": (MOMENT, False),
    "ChargePeriodStart": (MOMENT, False),
    "ContractedCost": (MONEY, False),
    "EffectiveCost": (MONEY, False),
    "InvoiceIssuerName": (TEXT, False),
    "ListCost": (MONEY, False),
    "PricingQuantity": (MONEY, False),
    "PricingUnit": (TEXT, False),
    "ProviderName": (TEXT, False),
    "PublisherName": (TEXT, False),
    "ServiceCategory": (TEXT, False),
    "ServiceName": (TEXT, False),
}
"""The columns that FOCUS 1.2 has always, their types, and whether they may be null."""
OTHERS: Final[Mapping[str, tuple[pa.DataType, bool]]] = {
    "ChargeFrequency": (TEXT, False),
    "InvoiceId": (TEXT, True),
    "ServiceSubcategory": (TEXT, False),
    "SubAccountId": (TEXT, True),
    "SubAccountName": (TEXT, True),
}
"""Those that it recommends, or has where there are teams."""


def bill(day: int, cost_nano: int, currency: str | None = "usd", **ids: str) -> Row:
    """A row of costs_1d."""
    row: Row = dict.fromkeys(("user_id", "api_key_id", "model", "team_id", "org_id"))
    start = START + day * DAY
    times = {"start_time": start, "end_time": start + DAY}
    return {**row, **times, "currency": currency, "cost_nano": cost_nano, **ids}


BILLS: Final = [
    bill(0, 12_300_001, user_id="ada", api_key_id="web", model="large", team_id="blue"),
    bill(0, 2**62, currency="eur", user_id="eve", model="batch", org_id="acme"),
    bill(1, 0),
    bill(2, -5, model="large"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three days with bills: a credit, and one that nobody is named on. Tests only read it."""
    return spend(tmp_path_factory.mktemp("home"), [], tables={"costs_1d": BILLS})


@pytest.fixture(scope="module")
def folder(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export in Parquet and in CSV."""
    folder = tmp_path_factory.mktemp("focus")
    for form in ("parquet", "csv"):
        export(lake, folder, ["focus_costs"], form=form, names=names_of({"ada": "Ada Lovelace"}))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return rows(folder, "focus_costs")


def test_it_has_the_columns_of_focus_and_what_is_beside_them_says_so() -> None:
    expected = {**MANDATORY, **OTHERS}
    types = {column.name: column.type for column in FOCUS_COSTS.columns}
    own = {name for name in types if name.startswith("x_")}
    assert types.keys() - own == expected.keys()
    for name, (kind, _) in expected.items():
        assert types[name] == kind


@pytest.mark.parametrize(
    "name", [name for name, (_, null) in {**MANDATORY, **OTHERS}.items() if not null]
)
def test_what_may_not_be_null_is_not(name: str, found: list[dict[str, Any]]) -> None:
    assert all(row[name] is not None for row in found)


def test_every_cost_is_what_is_billed_to_the_last_digit(found: list[dict[str, Any]]) -> None:
    assert len(found) == len(BILLS)
    for row, bill in zip(found, BILLS, strict=True):
        amount = Decimal(int(str(bill["cost_nano"]))) / 10**9
        for name in ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"):
            assert row[name] == row["PricingQuantity"] == amount
        assert row["BillingCurrency"] == row["PricingUnit"] == str(bill["currency"]).upper()


def test_a_charge_is_of_a_day_of_a_month(found: list[dict[str, Any]]) -> None:
    for row, day in zip(found, (0, 0, 1, 2), strict=True):
        start = datetime.combine(FIRST + timedelta(days=day), datetime.min.time())
        assert row["ChargePeriodStart"] == start
        assert row["ChargePeriodEnd"] == start + timedelta(days=1)
        assert row["BillingPeriodStart"] == start.replace(day=1)
        assert row["BillingPeriodStart"] <= start < row["BillingPeriodEnd"]
        assert row["BillingPeriodEnd"].day == 1
        assert row["BillingPeriodEnd"] - row["BillingPeriodStart"] <= timedelta(days=31)


def test_allowed_values_and_what_a_charge_is_for(found: list[dict[str, Any]]) -> None:
    assert [row["ChargeCategory"] for row in found] == ["Usage", "Usage", "Usage", "Credit"]
    assert [row["ChargeDescription"] for row in found] == [
        "Use of large",
        "Use of batch",
        "Use without a model",
        "Credit for large",
    ]
    assert {row["ServiceCategory"] for row in found} == {"AI and Machine Learning"}
    assert {row["ServiceSubcategory"] for row in found} == {"Generative AI"}
    assert {row["ChargeFrequency"] for row in found} == {"Usage-Based"}
    assert [row["BillingAccountId"] for row in found] == [
        "(no organisation)",
        "acme",
        *["(no organisation)"] * 2,
    ]
    assert [row["SubAccountId"] for row in found] == ["blue", None, None, None]
    for row in found:
        assert row["SubAccountName"] == row["SubAccountId"]
    assert [row["x_UserName"] for row in found] == ["Ada Lovelace", "eve", None, None]
    assert [row["x_ApiKeyName"] for row in found] == ["web", None, None, None]


def test_a_csv_has_times_and_numbers_as_focus_writes_them(folder: Path) -> None:
    with (folder / "focus_costs.csv").open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == [column.name for column in FOCUS_COSTS.columns]
    for row in read:
        for name, value in row.items():
            if name.endswith(("PeriodStart", "PeriodEnd")):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", value)
            if name.endswith("Cost"):
                assert re.fullmatch(r"-?\d+\.\d{9}", value)


def test_a_currency_that_the_api_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    unnamed = {"costs_1d": [bill(0, 5, currency=None)]}
    lake = spend(tmp_path / "home", [], days=1, tables=unnamed)
    export(lake, tmp_path / "out", ["focus_costs"], form="duckdb")
    with closing(duckdb.connect(str(tmp_path / "out" / "mka1_usage.duckdb"))) as con:
        query = "SELECT BillingCurrency, PricingUnit FROM focus_costs"
        assert con.sql(query).fetchall() == [(None, None)]


def test_it_is_there_only_where_bills_are_loaded_and_asked_for(tmp_path: Path) -> None:
    assert FOCUS_COSTS.name not in chosen(())
    without = spend(tmp_path / "home", [], days=1)
    with pytest.raises(ExportError, match="there is no focus_costs in this lake: what the API"):
        export(without, tmp_path / "out", ["focus_costs"])
