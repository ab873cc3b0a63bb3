"""Where a file of a day stands in the warehouse: by its table, its day and its hash."""

from __future__ import annotations

from datetime import date


def location_of(root: str, dataset: str, day: date, sha256: str) -> str:
    """`root` is the folder of all tables' files. Equal files of a day have the same place."""
    return f"{root}/{dataset}/data/day={day.isoformat()}/{sha256}.parquet"
