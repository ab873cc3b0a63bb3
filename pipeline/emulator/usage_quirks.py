"""What may be odd about a usage page, each by its switch in `Faults`.

Belongs here: changes to buckets and rows after they have been counted.
"""

from collections.abc import Mapping
from typing import Protocol

from pipeline.emulator.counting import JsonObject, usage_result
from pipeline.emulator.faults import Faults, PageQuirk


class _Place(Protocol):
    @property
    def last_served(self) -> int | None: ...
    @property
    def rested(self) -> bool: ...


def comes_after_empty_page(place: _Place, quirk: PageQuirk | None) -> bool:
    """Whether an empty page is due at this place of a walk, before the page that was asked for."""
    return quirk == "empty_pages" and place.last_served is not None and not place.rested


def not_yet_right(bucket: JsonObject) -> JsonObject:
    """A bucket as served before it is restated: every number one too high, and a row too many."""
    rows = [
        {name: value + 1 if name.startswith("num_") else value for name, value in row.items()}
        for row in bucket["results"]
    ]
    return {**bucket, "results": [*rows, usage_result(("user_taken_back", None), (1, 1, 1))]}


def dressed(bucket: JsonObject, faults: Faults, fields: Mapping[str, str]) -> JsonObject:
    """A bucket whose rows have further `fields`, and what the switches add to them."""
    extra = {**fields, **faults.extra_fields}
    if not extra and not faults.split_rows:
        return bucket
    rows = [{**row, **extra} for row in bucket["results"]]
    if faults.split_rows:
        rows = [half for row in rows for half in _halves(row)]
    return {**bucket, "results": rows}


def _halves(row: JsonObject) -> list[JsonObject]:
    """One row as two that add up to it; the first may be all zeros."""
    half = {name: value // 2 for name, value in row.items() if name.startswith("num_")}
    rest = {name: row[name] - value for name, value in half.items()}
    return [{**row, **half, "tier": "flex"}, {**row, **rest, "tier": "default"}]
