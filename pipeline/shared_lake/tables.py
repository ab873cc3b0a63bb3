"""Each dataset as an Iceberg table: ids, comments, partitions and order, from the data contract.

A table is partitioned by the UTC day of its time. Records have no time that always is on the day
of their file: their tables have a column `day` before the others, which stands in no file, as the
values of identity partitions need not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final

import pyarrow as pa
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    DateType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)
from sqlalchemy.exc import IntegrityError

from pipeline.lake.schemas import DATASETS, Column, Dataset
from pipeline.shared_lake.catalogs import NAME, SharedCatalog
from pipeline.shared_lake.errors import SharedLakeError

_UTC: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final[dict[pa.DataType, IcebergType]] = {
    _UTC: TimestamptzType(),
    pa.int64(): LongType(),
    pa.string(): StringType(),
}
_KEPT_MS: Final = 86_400_000
DAY: Final = "day"
"""The column of tables of records that says on which day a row is."""

PUBLISHED_DAYS: Final = Dataset(
    name="published_days",
    grain="UTC day",
    description="What stands of each day: its manifest. Each commit replaces the rows of its days.",
    columns=(
        Column("start_time", _UTC, "Start of the day, inclusive, UTC."),
        Column("end_time", _UTC, "End of the day, exclusive, UTC."),
        Column("manifest", pa.string(), "JSON: rows, bytes, SHA-256 and sums of each file."),
    ),
)

TABLES: Final = {PUBLISHED_DAYS.name: PUBLISHED_DAYS, **DATASETS}
"""All tables of a shared lake."""


def load(catalog: SharedCatalog, name: str) -> Table | None:
    """A table as it stands now; None where nothing of it was ever committed."""
    try:
        return catalog.load_table((NAME, name))
    except NoSuchTableError:
        return None


def begin(catalog: SharedCatalog, root: str, properties: Mapping[str, str]) -> None:
    """Make the namespace, and the table that orders all commits, where they are not there."""
    if load(catalog, PUBLISHED_DAYS.name) is not None:
        return
    # By another worker at this moment: a catalog in a database may find out by its key.
    with suppress(NamespaceAlreadyExistsError, IntegrityError):
        catalog.create_namespace((NAME,))
    ensured(catalog, root, PUBLISHED_DAYS.name, properties)


def ensured(
    catalog: SharedCatalog, root: str, name: str, properties: Mapping[str, str] | None = None
) -> Table:
    """A table, made below `root` where it is not there, with further `properties`; after `begin`.

    Columns that the contract has had since it was made are added.
    """
    dataset = TABLES[name]
    table = load(catalog, name)
    if table is None:
        try:
            return catalog.create_table(
                (NAME, name),
                schema=schema_of(dataset),
                location=f"{root}/{name}",
                partition_spec=_partitions(dataset),
                sort_order=_order(dataset),
                properties={**_properties(dataset), **(properties or {})},
            )
        except TableAlreadyExistsError:  # by another worker, at this moment
            return catalog.load_table((NAME, name))
    known = {field.name: field.field_id for field in table.schema().fields}
    for column in dataset.columns:
        if known.get(column.name, dataset.field_ids[column.name]) != dataset.field_ids[column.name]:
            raise SharedLakeError(
                f"{NAME}.{name} has column {column.name} by another id than this mka1-usage: use "
                "the version that made the table, or another shared lake"
            )
    if missing := [it for it in dataset.columns if it.name not in known]:
        with table.update_schema() as change:
            for column in missing:
                change.add_column(column.name, _TYPES[column.type], doc=column.description)
        table = catalog.load_table((NAME, name))
    return table


def other_columns(catalog: SharedCatalog) -> dict[str, tuple[list[str], list[str]]]:
    """By table: the contract's columns that it lacks, and others, or those of another type."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name, dataset in TABLES.items():
        table = load(catalog, name)
        if table is None:
            continue
        wanted = {field.name: field.field_type for field in schema_of(dataset).fields}
        there = {field.name: field.field_type for field in table.schema().fields}
        missing = [name for name in wanted if name not in there]
        others = [name for name, kind in there.items() if wanted.get(name) != kind]
        if missing or others:
            found[f"{NAME}.{name}"] = missing, others
    return found


def schema_of(dataset: Dataset) -> Schema:
    """The columns of a dataset's table: the contract's, with their ids and comments."""
    return Schema(*_fields(dataset))


def _fields(dataset: Dataset) -> Iterator[NestedField]:
    if dataset.partitioned_by is None:
        words = (
            "The UTC day that the row is on; in 1970: none that is loaded, or none that is known."
        )
        yield NestedField(1, DAY, DateType(), required=False, doc=words)
    for column in dataset.columns:
        number = dataset.field_ids[column.name]
        kind = _TYPES[column.type]
        yield NestedField(number, column.name, kind, required=False, doc=column.description)


def _partitions(dataset: Dataset) -> PartitionSpec:
    time = dataset.partitioned_by
    if time is None:
        field = PartitionField(1, PARTITION_FIELD_ID_START, IdentityTransform(), DAY)
    else:
        source = dataset.field_ids[time]
        field = PartitionField(source, PARTITION_FIELD_ID_START, DayTransform(), f"{time}_day")
    return PartitionSpec(field)


def _order(dataset: Dataset) -> SortOrder:
    """The contract's order, as far as the first count: rows that differ there alone are rare."""
    sorted_by = takewhile(lambda column: column.type != pa.int64(), dataset.columns)
    return SortOrder(
        *(
            SortField(
                dataset.field_ids[column.name],
                IdentityTransform(),
                SortDirection.ASC,
                NullOrder.NULLS_FIRST,
            )
            for column in sorted_by
        )
    )


def _properties(dataset: Dataset) -> dict[str, Any]:
    # Files of days that were loaded before files had ids are read by the names of their columns.
    names = [{"field-id": dataset.field_ids[it.name], "names": [it.name]} for it in dataset.columns]
    return {
        "comment": f"{dataset.description} Grain: {dataset.grain}.",
        "format-version": "2",
        "history.expire.max-snapshot-age-ms": str(_KEPT_MS),
        "schema.name-mapping.default": json.dumps(names),
        "write.parquet.compression-codec": "zstd",
    }
