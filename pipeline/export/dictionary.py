"""DATA_DICTIONARY.md: what an export holds, in words, from what its tables say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import pyarrow as pa

from pipeline.export.rows import Lacking
from pipeline.export.tables import FACT_TOKENS, Table
from pipeline.timeline import in_words

NAME: Final = "DATA_DICTIONARY.md"

TYPES: Final = {
    pa.timestamp("us"): "timestamp",
    pa.date32(): "date",
    pa.int64(): "64-bit integer",
    pa.string(): "text",
    pa.bool_(): "true or false",
    pa.decimal128(38, 15): "decimal, 15 digits after the point",
    pa.decimal128(38, 9): "decimal, 9 digits after the point",
}
"""What a column's type is called."""

_ABOUT: Final = """\
# Data dictionary

Usage from {first} through {last}, written by `mka1-usage export`. {lacking}

Days, hours and timestamps are UTC; timestamps have no zone. Counts are NULL only where no number is
known. `user_id` and `api_key_id` are NULL for calls without a user or without an API key;
`user_key` and `api_key_key` are 0 there and never NULL: join by these. All tables of an export are
of one moment: `fact_usage`, `usage_1m`, `usage_1h` and `usage_1d` have the same sums.
"""

_ABOUT_TOKENS: Final = """\
Tokens are those of responses that a sync could list: of API keys that it was not given there are
none. Responses not read: {unread}. A sum of tokens is NULL where no response reports them. Money is
exact and never rounded. What it cost where a model has no price is not known: `cost` is NULL, and
`num_unpriced` counts the responses. Add up one `currency` at a time.
"""


def dictionary(
    tables: Mapping[str, Table],
    places: Mapping[str, str],
    days: Sequence[date],
    lacking: Lacking,
    unread: Sequence[date],
) -> str:
    """The page in Markdown. `places`: where each table is; `days`: every day of the export, of
    which responses were not read on `unread`."""
    words = {"not loaded": "none"} | lacking.words
    said = " ".join(f"{name[0].upper()}{name[1:]}: {of}." for name, of in words.items())
    parts = [_ABOUT.format(first=days[0], last=days[-1], lacking=said)]
    if FACT_TOKENS.name in tables:
        parts.append(_ABOUT_TOKENS.format(unread=in_words(unread)))
    for name, table in tables.items():
        parts += [
            f"## {name}\n\n{table.description}\n",
            f"One row per {table.grain}; in `{places[name]}`.\n",
            "| column | type | meaning |\n| --- | --- | --- |",
        ]
        for column in table.columns:
            meaning = column.description.replace("|", "\\|")
            parts.append(f"| `{column.name}` | {TYPES[column.type]} | {meaning} |")
        parts.append("")
    return "\n".join(parts)
