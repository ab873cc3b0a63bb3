"""DATA_DICTIONARY.md: what an export holds, in words, from what its tables say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import pyarrow as pa

from pipeline.export.rows import Lacking
from pipeline.export.tables import Table

NAME: Final = "DATA_DICTIONARY.md"

_TYPES: Final = {
    pa.timestamp("us"): "timestamp",
    pa.date32(): "date",
    pa.int64(): "64-bit integer",
    pa.string(): "text",
    pa.bool_(): "true or false",
}

_ABOUT: Final = """\
# Data dictionary

Usage from {first} through {last}, written by `mka1-usage export`. {lacking}

Days, hours and timestamps are UTC; timestamps have no zone. Counts are NULL only where no number is
known. `user_id` and `api_key_id` are NULL for calls without a user or without an API key;
`user_key` and `api_key_key` are 0 there and never NULL: join by these. All tables of an export are
of one moment: `fact_usage`, `usage_1m`, `usage_1h` and `usage_1d` have the same sums.
"""


def dictionary(
    tables: Mapping[str, Table], places: Mapping[str, str], days: Sequence[date], lacking: Lacking
) -> str:
    """The page in Markdown. `places`: where each table is; `days`: every day of the export."""
    words = {"not loaded": "none"} | lacking.words
    said = " ".join(f"{name[0].upper()}{name[1:]}: {of}." for name, of in words.items())
    parts = [_ABOUT.format(first=days[0], last=days[-1], lacking=said)]
    for name, table in tables.items():
        parts += [
            f"## {name}\n\n{table.description}\n",
            f"One row per {table.grain}; in `{places[name]}`.\n",
            "| column | type | meaning |\n| --- | --- | --- |",
        ]
        for column in table.columns:
            meaning = column.description.replace("|", "\\|")
            parts.append(f"| `{column.name}` | {_TYPES[column.type]} | {meaning} |")
        parts.append("")
    return "\n".join(parts)
