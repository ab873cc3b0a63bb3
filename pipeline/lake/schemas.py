"""The data contract: each dataset's grain, columns and order, as Arrow schemas.

Belongs here: what a published file must look like. Does not belong here: how a file is written
(`pipeline.lake.store`) or computed (`sql/`).

Timestamps are microseconds in UTC, counts are 64-bit integers, ids are strings and NULL where the
API says null. Rows are sorted by the columns in the order shown, NULL first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from pipeline.timeline import WIDTHS, Width

Measure = Literal["num_conversations_created", "num_items_added", "num_operations"]
MEASURES: Final[tuple[Measure, ...]] = (
    "num_conversations_created",
    "num_items_added",
    "num_operations",
)

_UTC: Final = pa.timestamp("us", tz="UTC")


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

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema that every file of the dataset has, to the letter."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])


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


def _usage(width: Width, source: str) -> Dataset:
    return Dataset(
        name=f"usage_{width}",
        grain=f"{width} bucket x user_id x api_key_id",
        description=f"Usage in {width} buckets by user and API key, from {source}.",
        columns=_BUCKET,
    )


USAGE: Final[dict[Width, Dataset]] = {
    width: _usage(width, source)
    for width, source in zip(WIDTHS, ("raw_usage", "usage_1m", "usage_1h"), strict=True)
}

DATASETS: Final[dict[str, Dataset]] = {
    dataset.name: dataset for dataset in (RAW_USAGE, *USAGE.values())
}
