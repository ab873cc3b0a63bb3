"""The data contract: each dataset's grain, columns and order, as Arrow schemas.

Timestamps are microseconds in UTC, counts are 64-bit integers, ids are strings and NULL where the
API says null. Rows are sorted by the columns in the order shown, NULL first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import pyarrow as pa

from pipeline.timeline import WIDTHS, Width

Measure = Literal["num_conversations_created", "num_items_added", "num_operations"]
MEASURES: Final[tuple[Measure, ...]] = (
    "num_conversations_created",
    "num_items_added",
    "num_operations",
)

_UTC: Final = pa.timestamp("us", tz="UTC")


Class = Literal["not derivable", "match", "late", "undated", "deleted", "unexplained"]
CLASSES: Final[tuple[Class, ...]] = get_args(Class)
"""Of reconciliation, in the order in which they are tried; `sql/reconciliation.sql` says what each
means."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its Arrow type and what it means."""

    name: str
    type: pa.DataType
    description: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of the lake: a file per UTC day, at one grain."""

    name: str
    grain: str
    description: str
    columns: tuple[Column, ...]
    volatile: frozenset[str] = frozenset()
    """Columns that say when, not what: a day that differs in these alone is the same day."""
    partitioned_by: str | None = "start_time"
    """The time whose UTC day is that of the file; None where rows have none that always is."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema that every file of the dataset has, to the letter."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @property
    def field_ids(self) -> dict[str, int]:
        """The id of each column in Parquet files and Iceberg tables: its place, so a new one goes
        last. Where no column is `partitioned_by`, the first id is that of the day itself."""
        first = 2 if self.partitioned_by is None else 1
        return {column.name: place for place, column in enumerate(self.columns, start=first)}


_BUCKET: Final = (
    Column("start_time", _UTC, "Start of the bucket, inclusive, UTC."),
    Column("end_time", _UTC, "End of the bucket, exclusive, UTC."),
    Column("user_id", pa.string(), "External user id (X-On-Behalf-Of); NULL is a real group."),
    Column("api_key_id", pa.string(), "Id of the API key; NULL is a real group."),
    Column("num_conversations_created", pa.int64(), "Conversations created in the bucket."),
    Column("num_items_added", pa.int64(), "Items added to conversations in the bucket."),
    Column("num_operations", pa.int64(), "API operations in the bucket, reads included."),
)

RAW_USAGE: Final = Dataset(
    name="raw_usage",
    grain="bucket x result row as served",
    description="The usage endpoint's 1m answer, row by row as reported.",
    columns=(
        *_BUCKET,
        Column("extra", pa.string(), "JSON of fields the contract does not know, NULL if none."),
        Column("fetched_at", _UTC, "When the API first served this version of the day, UTC."),
    ),
    volatile=frozenset({"fetched_at"}),
)


def _buckets(name: str, width: Width, source: str) -> Dataset:
    return Dataset(
        name=f"{name}_{width}",
        grain=f"{width} bucket x user_id x api_key_id",
        description=f"{name.capitalize()} in {width} buckets by user and API key, from {source}.",
        columns=_BUCKET,
    )


USAGE: Final[dict[Width, Dataset]] = {
    width: _buckets("usage", width, source)
    for width, source in zip(WIDTHS, ("raw_usage", "usage_1m", "usage_1h"), strict=True)
}

CONVERSATIONS: Final = Dataset(
    name="conversations",
    grain="conversation",
    partitioned_by=None,
    description="Conversations as listed, by the day they were created on.",
    columns=(
        Column("id", pa.string(), "Id of the conversation."),
        Column("created_at", _UTC, "When it was created, UTC."),
        Column("deleted_at", _UTC, "When it was deleted, UTC; NULL when it was not, last seen."),
        Column("user_id", pa.string(), "The user it was listed for; NULL: the owner, or several."),
        Column("api_key_id", pa.string(), "The key it was listed under; NULL: under several."),
        Column("metadata", pa.string(), "JSON, as last seen; NULL if none."),
        Column("first_seen_at", _UTC, "When a sync first saw it, UTC."),
        Column("last_seen_at", _UTC, "When a sync last saw it, UTC."),
    ),
)

ITEMS: Final = Dataset(
    name="items",
    grain="item",
    partitioned_by=None,
    description="Items of conversations as first seen, by the day they were added on.",
    columns=(
        Column("id", pa.string(), "Id of the item, unique within its conversation."),
        Column("conversation_id", pa.string(), "The conversation that it is in."),
        Column("response_id", pa.string(), "The response that it belongs to; NULL if none."),
        Column("type", pa.string(), "Its type, as the API says: message, function_call, ..."),
        Column("role", pa.string(), "Who speaks; NULL where the type has no role."),
        Column("added_at", _UTC, "When it was added, UTC; see added_at_source."),
        Column(
            "added_at_source",
            pa.string(),
            "response: its response's created_at. observed: when a sync first saw it.",
        ),
        Column("content_chars", pa.int64(), "Characters of its content; NULL if it has none."),
    ),
)

RESPONSES: Final = Dataset(
    name="responses",
    grain="response",
    partitioned_by=None,
    description="Responses as last seen, by the day they were created on.",
    columns=(
        Column("id", pa.string(), "Id of the response."),
        Column("conversation_id", pa.string(), "The conversation it is part of; NULL if none."),
        Column("created_at", _UTC, "When it was created, UTC."),
        Column("status", pa.string(), "Its status, as the API says."),
        Column("model", pa.string(), "The model that was asked for; NULL if unknown."),
        Column("user_id", pa.string(), "The user it was listed for; NULL: the owner, or several."),
        Column("api_key_id", pa.string(), "The key it was listed under; NULL: under several."),
        Column("input_tokens", pa.int64(), "Tokens read; NULL if not reported."),
        Column("cached_tokens", pa.int64(), "Of those, from the cache; NULL if not reported."),
        Column("output_tokens", pa.int64(), "Tokens written; NULL if not reported."),
        Column("reasoning_tokens", pa.int64(), "Of those, reasoning; NULL if not reported."),
        Column("total_tokens", pa.int64(), "Tokens in all; NULL if not reported."),
    ),
)

TOKENS: Final[dict[Width, Dataset]] = {
    width: Dataset(
        name=f"tokens_{width}",
        grain=f"{width} bucket x user_id x api_key_id x model",
        description=f"Responses and their tokens in {width} buckets, from {source}.",
        columns=(
            *_BUCKET[:4],
            Column("model", pa.string(), "The model that was asked for; NULL is a real group."),
            Column("num_responses", pa.int64(), "Responses created in the bucket."),
            Column("num_failed", pa.int64(), "Of those, with status failed or incomplete."),
            Column("input_tokens", pa.int64(), "Tokens read; NULL if no response reports them."),
            Column("cached_tokens", pa.int64(), "Of those, from the cache; NULL if not reported."),
            Column("output_tokens", pa.int64(), "Tokens written; NULL if not reported."),
            Column("reasoning_tokens", pa.int64(), "Of those, reasoning; NULL if not reported."),
            Column("total_tokens", pa.int64(), "Tokens in all; NULL if not reported."),
        ),
    )
    for width, source in zip(WIDTHS, ("responses", "tokens_1m", "tokens_1h"), strict=True)
}

_METER_BUCKET: Final = (
    Column("endpoint", pa.string(), "The usage endpoint: completions, responses, ..."),
    *_BUCKET[:4],
    Column("model", pa.string(), "The model; NULL where the endpoint names none."),
    Column("measure", pa.string(), "The measure's name, as the endpoint says it."),
)

RAW_METERS: Final = Dataset(
    name="raw_meters",
    grain="endpoint x bucket x result row as served x measure",
    description="The other usage endpoints' 1m answers, measure by measure as reported.",
    columns=(
        *_METER_BUCKET,
        Column("value", pa.int64(), "What the endpoint reports."),
        Column("extra", pa.string(), "JSON of all other fields of the row, NULL if none."),
        Column("fetched_at", _UTC, "When the API first served this version of the day, UTC."),
    ),
    volatile=frozenset({"fetched_at"}),
)

METERS: Final[dict[Width, Dataset]] = {
    width: Dataset(
        name=f"meters_{width}",
        grain=f"endpoint x {width} bucket x user_id x api_key_id x model x measure",
        description=f"What the other usage endpoints report, in {width} buckets, from {source}.",
        columns=(*_METER_BUCKET, Column("value", pa.int64(), "The sum over the bucket.")),
    )
    for width, source in zip(WIDTHS, ("raw_meters", "meters_1m", "meters_1h"), strict=True)
}

METER_REVISIONS: Final = Dataset(
    name="meter_revisions",
    grain="endpoint x 1m bucket x user_id x api_key_id x model x measure x time it was seen",
    description="What the API has restated of minutes of meters: append-only.",
    columns=(
        *_METER_BUCKET,
        Column("old_value", pa.int64(), "What the table said; NULL: no row."),
        Column("new_value", pa.int64(), "What it says from then on; NULL: no row."),
        Column("seen_at", _UTC, "When the API was asked for the new value, UTC."),
    ),
)

COSTS: Final = Dataset(
    name="costs_1d",
    grain="UTC day x user_id x api_key_id x model x team_id x org_id",
    description="What the API bills for each UTC day.",
    columns=(
        *_BUCKET[:4],
        Column("model", pa.string(), "The model; NULL: the API names none."),
        Column("team_id", pa.string(), "The team; NULL: the API names none."),
        Column("org_id", pa.string(), "The organisation; NULL: the API names none."),
        Column("currency", pa.string(), "The currency, as the API says it; NULL if it does not."),
        Column("cost_nano", pa.int64(), "Billed, in billionths of the currency."),
    ),
)

ITEM_CONTENTS: Final = Dataset(
    name="item_contents",
    grain="item",
    partitioned_by=None,
    description="What items say, by the day they were added on: empty unless asked for.",
    columns=(
        Column("id", pa.string(), "Id of the item, unique within its conversation."),
        Column("conversation_id", pa.string(), "The conversation that it is in."),
        Column("body", pa.string(), "The whole item, JSON."),
    ),
)

OBSERVED: Final[dict[Width, Dataset]] = {
    width: _buckets("observed", width, source)
    for width, source in zip(
        WIDTHS, ("conversations and items", "observed_1m", "observed_1h"), strict=True
    )
}

RECONCILIATION: Final = Dataset(
    name="reconciliation",
    grain="1d bucket x user_id x api_key_id x measure",
    partitioned_by="day",
    description="What the API reports beside what could be observed, and why they differ.",
    columns=(
        Column("day", _UTC, "Start of the day, UTC."),
        Column("user_id", pa.string(), "External user id; NULL is a real group."),
        Column("api_key_id", pa.string(), "Id of the API key; NULL is a real group."),
        Column("measure", pa.string(), "The measure's name."),
        Column("reported", pa.int64(), "What usage_1d says; NULL if the API does not say."),
        Column("observed", pa.int64(), "What observed_1d says; NULL where it can't be derived."),
        Column("difference", pa.int64(), "reported - observed; NULL if either is."),
        Column("class", pa.string(), "Why they differ, or that they match."),
    ),
)


COVERAGE: Final = Dataset(
    name="coverage",
    grain="dataset x hour",
    description="What is known of each hour: zero is not the same as unknown.",
    columns=(
        Column("dataset", pa.string(), "The table that is spoken of."),
        Column("start_time", _UTC, "Start of the hour, inclusive, UTC."),
        Column("end_time", _UTC, "End of the hour, exclusive, UTC."),
        Column(
            "status",
            pa.string(),
            "final: read after the API's time to restate it. provisional: read sooner, or in part. "
            "disputed: read, but the day's totals are not the API's own. missing: not read. "
            "dropped: read, and not kept any more.",
        ),
        Column(
            "complete_through",
            _UTC,
            "Everything before it is there; NULL if nothing is, or if the hour is disputed.",
        ),
        Column("rows", pa.int64(), "Rows of the table whose time lies in the hour."),
        Column("fetched_at", _UTC, "When the API was last asked for it, UTC; NULL if never."),
    ),
    volatile=frozenset({"fetched_at"}),
)

REVISIONS: Final = Dataset(
    name="revisions",
    grain="1m bucket x user_id x api_key_id x measure x time it was seen",
    description="What the API has restated of minutes that had been loaded: append-only.",
    columns=(
        *_BUCKET[:4],
        Column("measure", pa.string(), "The measure's name."),
        Column("old_value", pa.int64(), "What the table said; NULL: no row, or no number."),
        Column("new_value", pa.int64(), "What it says from then on; NULL: no row, or no number."),
        Column("seen_at", _UTC, "When the API was asked for the new value, UTC."),
    ),
)


def _by_name(*datasets: Dataset) -> dict[str, Dataset]:
    return {dataset.name: dataset for dataset in datasets}


USAGE_DATASETS: Final = _by_name(RAW_USAGE, *USAGE.values())
"""What the usage endpoint reports, as served and in buckets."""

RECORD_DATASETS: Final = _by_name(RESPONSES, CONVERSATIONS, ITEM_CONTENTS, ITEMS)
"""What the other endpoints list, in the order in which it is merged."""

OBSERVED_DATASETS: Final = _by_name(*OBSERVED.values(), *TOKENS.values())
"""What those come to, in buckets."""

METER_DATASETS: Final = _by_name(RAW_METERS, *METERS.values(), METER_REVISIONS)
"""What the other usage endpoints report, as served and in buckets."""

COST_DATASETS: Final = _by_name(COSTS)
"""What the API bills."""

LEDGER_DATASETS: Final = _by_name(COVERAGE, REVISIONS)
"""What is known of the other tables, published with them."""

DATASETS: Final[dict[str, Dataset]] = (
    USAGE_DATASETS
    | LEDGER_DATASETS
    | METER_DATASETS
    | COST_DATASETS
    | RECORD_DATASETS
    | OBSERVED_DATASETS
    | _by_name(RECONCILIATION)
)
"""All datasets of the lake."""

_NOT_COVERED: Final = {
    *(ITEM_CONTENTS.name, RECONCILIATION.name, METER_REVISIONS.name),
    *LEDGER_DATASETS,
}
COVERED: Final = [name for name in DATASETS if name not in _NOT_COVERED]
"""The tables that coverage speaks of: those whose rows have an hour."""
