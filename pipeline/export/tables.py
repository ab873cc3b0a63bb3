"""What can be exported: each table's grain, columns and what they mean.

Timestamps are microseconds in UTC without a zone, since some tools read no other, and each row has
a DATE beside. Counts are 64-bit integers, and money is decimal, with as many digits as it is
computed with: whoever adds it up gets what `cost_by` says, and no row was rounded. The columns of
the lake's own tables are as in its data contract; ids are text as there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from pipeline.lake.schemas import COSTS, DATASETS, TOKENS, USAGE, Column, Dataset

Labels = Mapping[str, Mapping[str | int, str]]
"""Names by what a column of ids or keys holds, by that column."""

_MOMENT: Final = pa.timestamp("us")

META: Final = "mka1_usage_export"
"""The key of a Parquet file's metadata under which it says what it holds, as JSON."""


@dataclass(frozen=True, slots=True)
class Table:
    """One exported table. `by_day`: each row is of one UTC day, so it can be cut into days."""

    name: str
    grain: str
    description: str
    columns: tuple[Column, ...]
    by_day: bool = True

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of its files, with what table and columns mean in its metadata."""
        fields = [
            pa.field(column.name, column.type, metadata={"description": column.description})
            for column in self.columns
        ]
        facts = {
            **{"table": self.name, "description": self.description, "grain": self.grain},
            "columns": {column.name: column.description for column in self.columns},
        }
        return pa.schema(fields, metadata={META: json.dumps(facts)})


_DATE: Final = Column("date", pa.date32(), "UTC day; joins dim_date.")

_USER_KEY: Final = Column("user_key", pa.int64(), "Joins dim_user; 0 for calls without a user.")
_API_KEY_KEY: Final = Column(
    "api_key_key", pa.int64(), "Joins dim_api_key; 0 for calls without an API key."
)
_USER_ID: Final = Column("user_id", pa.string(), "External user id; NULL for calls without a user.")
_API_KEY_ID: Final = Column(
    "api_key_id", pa.string(), "Id of the API key; NULL for calls without one."
)
_MODEL_KEY: Final = Column("model_key", pa.int64(), "Joins dim_model; 0 where none is named.")
_TEAM_KEY: Final = Column(
    "team_key",
    pa.int64(),
    "Joins dim_team: the team of the user or, where that has none, of the API key; 0 for none.",
)
_HOUR: Final = (
    Column("start_time", _MOMENT, "Start of the hour, inclusive, UTC."),
    Column("hour_of_day", pa.int64(), "Hour of the UTC day, 0 to 23."),
)
_IS_FINAL: Final = Column(
    "is_final",
    pa.bool_(),
    "Whether the hour was read after the API's time to restate it; if not, it may change.",
)

FACT_USAGE: Final = Table(
    name="fact_usage",
    grain="1h bucket x user x API key",
    description="Usage by hour, user and API key: the fact table of the star.",
    columns=(
        _DATE,
        *_HOUR,
        *(_USER_KEY, _API_KEY_KEY),
        *(_USER_ID, _API_KEY_ID),
        *USAGE["1h"].columns[-3:],
        _IS_FINAL,
    ),
)
FACT_TOKENS: Final = Table(
    name="fact_tokens",
    grain="1h bucket x user x API key x model",
    description=(
        "Responses, their tokens and what these cost by hour, user, API key and model: those that "
        "a sync could list."
    ),
    columns=(
        _DATE,
        *_HOUR,
        *(_USER_KEY, _API_KEY_KEY, _MODEL_KEY),
        *(_USER_ID, _API_KEY_ID),
        *TOKENS["1h"].columns[-8:],
        Column("currency", pa.string(), "Currency of the cost; NULL: the model has no price."),
        Column(
            "cost",
            pa.decimal128(38, 15),
            "By the price list, exact, without num_unpriced of the responses; NULL: not known.",
        ),
        Column(
            "num_unpriced",
            pa.int64(),
            "Responses of unknown cost: without a price for their model, or without tokens.",
        ),
        _IS_FINAL,
    ),
)
FACT_COSTS: Final = Table(
    name="fact_costs",
    grain="UTC day x user x API key x model x team x organisation",
    description="What the API bills by day, user, API key, model, team and organisation.",
    columns=(
        _DATE,
        *(_USER_KEY, _API_KEY_KEY, _MODEL_KEY),
        *(_USER_ID, _API_KEY_ID),
        *COSTS.columns[-5:],
        Column("cost", pa.decimal128(38, 9), "The same in the currency itself, exact."),
        _IS_FINAL,
    ),
)

_AMOUNT: Final = pa.decimal128(38, 9)
FOCUS_COSTS: Final = Table(
    name="focus_costs",
    grain="UTC day x user x API key x model x team x organisation",
    description=(
        "What the API bills, in the columns of FOCUS 1.2, the FinOps Open Cost and Usage "
        "Specification; those that begin with x_ are beside it."
    ),
    columns=(
        Column("BilledCost", _AMOUNT, "What the API bills, exact; below 0: a credit."),
        Column("BillingAccountId", pa.string(), "The organisation; (no organisation): none named."),
        Column("BillingAccountName", pa.string(), "NULL: the API names none."),
        Column("BillingCurrency", pa.string(), "The currency; NULL: the API does not say it."),
        Column("BillingPeriodEnd", _MOMENT, "End of the month of the charge, exclusive, UTC."),
        Column("BillingPeriodStart", _MOMENT, "Start of the month of the charge, UTC."),
        Column("ChargeCategory", pa.string(), "Usage; Credit where the amount is below 0."),
        Column("ChargeClass", pa.string(), "NULL: no correction of a past billing period."),
        Column("ChargeDescription", pa.string(), "Which model it is for."),
        Column("ChargeFrequency", pa.string(), "Usage-Based."),
        Column("ChargePeriodEnd", _MOMENT, "End of the day, exclusive, UTC."),
        Column("ChargePeriodStart", _MOMENT, "Start of the day, UTC."),
        Column("ContractedCost", _AMOUNT, "BilledCost: the API says no other."),
        Column("EffectiveCost", _AMOUNT, "BilledCost: the API says no other."),
        Column("InvoiceId", pa.string(), "NULL: the API names no invoice."),
        Column("InvoiceIssuerName", pa.string(), "MKA1."),
        Column("ListCost", _AMOUNT, "BilledCost: the API says no other."),
        Column("PricingQuantity", _AMOUNT, "BilledCost: the API bills amounts, not quantities."),
        Column("PricingUnit", pa.string(), "The currency, for the same reason."),
        Column("ProviderName", pa.string(), "MKA1."),
        Column("PublisherName", pa.string(), "MKA1."),
        Column("ServiceCategory", pa.string(), "AI and Machine Learning."),
        Column("ServiceName", pa.string(), "MKA1 API."),
        Column("ServiceSubcategory", pa.string(), "Generative AI."),
        Column("SubAccountId", pa.string(), "The team; NULL: the API names none."),
        Column("SubAccountName", pa.string(), "The same: the API has no names of teams."),
        Column("x_UserId", pa.string(), _USER_ID.description),
        Column("x_UserName", pa.string(), "The name that was given for the user, else the id."),
        Column("x_ApiKeyId", pa.string(), _API_KEY_ID.description),
        Column("x_ApiKeyName", pa.string(), "The name that was given for the key, else the id."),
        Column("x_Model", pa.string(), "The model; NULL: the API names none."),
        Column("x_IsFinal", pa.bool_(), _IS_FINAL.description),
    ),
)


def _dimension(kind: str, word: str) -> Table:
    number = f"Number of the {word}, the same in every export; 0 is none. Less than 10^15."
    name = "The name that was given for it, else its id; no two are the same."
    return Table(
        name=f"dim_{kind}",
        grain=word,
        description=f"Every {word} that has usage in the lake, and a row for none, with key 0.",
        columns=(
            Column(f"{kind}_key", pa.int64(), number),
            Column(f"{kind}_id", pa.string(), f"Id of the {word}; NULL for none."),
            Column(f"{kind}_name", pa.string(), name),
            *_seen("usage"),
        ),
        by_day=False,
    )


def _seen(what: str) -> tuple[Column, ...]:
    return (
        Column("first_seen", _MOMENT, f"Start of its first hour with {what}, UTC."),
        Column("last_seen", _MOMENT, f"End of its last hour with {what}, exclusive, UTC."),
        Column("first_seen_date", pa.date32(), f"UTC day of its first {what}."),
        Column("last_seen_date", pa.date32(), f"UTC day of its last {what}."),
    )


DIM_USER: Final = _dimension("user", "user")
DIM_API_KEY: Final = _dimension("api_key", "API key")
DIM_MODEL: Final = Table(
    name="dim_model",
    grain="model",
    description=(
        "Every model that has responses or is billed in the lake, and a row for none, with key 0."
    ),
    columns=(
        Column(
            "model_key", pa.int64(), "Number of the model, the same in every export; 0 is none."
        ),
        Column("model", pa.string(), "The model, as it was asked for; NULL for none."),
        Column("model_name", pa.string(), "The same, and a name for none; no two are the same."),
        *_seen("responses"),
    ),
    by_day=False,
)
DIM_TEAM: Final = Table(
    name="dim_team",
    grain="team",
    description="Every team that the file of names has users or keys in, and a row for none.",
    columns=(
        Column("team_key", pa.int64(), "Number of the team, the same in every export; 0 is none."),
        Column("team_id", pa.string(), "Id of the team, as the file has it; NULL for none."),
        Column("team_name", pa.string(), "Its name, else its id; no two are the same."),
    ),
    by_day=False,
)
DIM_DATE: Final = Table(
    name="dim_date",
    grain="UTC day",
    description="Every UTC day that was asked for, or from the first to the last, loaded or not.",
    columns=(
        Column("date", pa.date32(), "The day; joins every other table's date."),
        Column("year", pa.int64(), "Calendar year."),
        Column("quarter", pa.int64(), "Quarter, 1 to 4."),
        Column("month", pa.int64(), "Month, 1 to 12."),
        Column("month_name", pa.string(), "January to December."),
        Column("day_of_month", pa.int64(), "1 to 31."),
        Column("iso_year", pa.int64(), "Year that the ISO week belongs to."),
        Column("iso_week", pa.int64(), "ISO week, 1 to 53; it begins on Monday."),
        Column("weekday", pa.int64(), "1 for Monday to 7 for Sunday."),
        Column("weekday_name", pa.string(), "Monday to Sunday."),
        Column("is_weekend", pa.bool_(), "Whether it is Saturday or Sunday."),
        Column("is_loaded", pa.bool_(), "Whether its hours are there; if not, no row is no zero."),
        Column(
            "is_complete",
            pa.bool_(),
            "Whether all of the day is loaded, with totals that are the API's own.",
        ),
        *(
            Column(
                f"{of}_status",
                pa.string(),
                f"How far {table} is settled: final; provisional: it may change or grow; disputed: "
                "its totals are not the API's own; dropped: not kept any more; missing: not read.",
            )
            for of, table in (
                ("usage", "fact_usage"),
                ("tokens", "fact_tokens"),
                ("costs", "fact_costs"),
            )
        ),
    ),
    by_day=False,
)


def _plain(dataset: Dataset) -> Table:
    """A table of the lake as it is exported; `date` says what `day` says there."""
    columns = tuple(
        replace(column, type=_MOMENT) if pa.types.is_timestamp(column.type) else column
        for column in dataset.columns
        if column.name != "day"
    )
    return Table(dataset.name, dataset.grain, dataset.description, (_DATE, *columns))


STAR: Final = (DIM_DATE, DIM_USER, DIM_API_KEY, FACT_USAGE)
"""The star schema of usage, dimensions first: in this order a fact is never there before what it
joins."""
STAR_OF_TOKENS: Final = (DIM_MODEL, FACT_TOKENS, FACT_COSTS)
"""What it has beside where there are responses or bills."""

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        *STAR[:-1],
        DIM_TEAM,
        STAR[-1],
        *STAR_OF_TOKENS,
        FOCUS_COSTS,
        *(_plain(dataset) for dataset in DATASETS.values()),
    )
}
"""All that can be exported, in the order in which it is published."""

DEFAULT: Final = (*(table.name for table in STAR), *(dataset.name for dataset in USAGE.values()))
"""What is exported unless other tables are asked for, STAR_OF_TOKENS where there is any, and
DIM_TEAM where names have teams."""


class UnknownTableError(ValueError):
    """What is asked for is none of what can be exported. One line, with what there is."""


def chosen(names: Collection[str]) -> dict[str, Table]:
    """The tables of these names, in the order of TABLES: where there are none, DEFAULT,
    STAR_OF_TOKENS and DIM_TEAM."""
    if unknown := [name for name in names if name not in TABLES]:
        raise UnknownTableError(f"there is no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    wanted = names or (*DEFAULT, *(table.name for table in (*STAR_OF_TOKENS, DIM_TEAM)))
    return {name: TABLES[name] for name in TABLES if name in wanted}


_NAMES: Final[Mapping[str, Column]] = {
    _USER_ID.name: Column(
        "user_name", pa.string(), "The name that was given for the user, else the id."
    ),
    _API_KEY_ID.name: Column(
        "api_key_name", pa.string(), "The name that was given for the key, else the id."
    ),
    _TEAM_KEY.name: Column("team_name", pa.string(), "The name of the team, else its id."),
}
"""Names that stand beside ids where people read a table, by the columns of these."""


def with_names(table: Table, labels: Labels) -> Table:
    """The same table with a column of names behind each of ids that have labels."""
    columns: list[Column] = []
    for column in table.columns:
        columns.append(column)
        name = _NAMES.get(column.name)
        if name and labels.get(column.name) and name.name not in table.schema.names:
            columns.append(name)
    return replace(table, columns=tuple(columns))


def ids_of(column: str) -> str | None:
    """The column of ids behind which a column of names stands; None for any other column."""
    return next((ids for ids, name in _NAMES.items() if name.name == column), None)


def by_team(table: Table) -> Table:
    """The same table with the team of each row, where it is a fact."""
    if table.name not in {FACT_USAGE.name, FACT_TOKENS.name, FACT_COSTS.name}:
        return table
    return replace(table, columns=(*table.columns[:-1], _TEAM_KEY, table.columns[-1]))
