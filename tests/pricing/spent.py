"""A small lake in which tokens were spent, as a test tells it, with a price list beside it.

Belongs here: who spent how many tokens when, what was billed, and which days are loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.lake import commit, engine, user_id_mode
from pipeline.lake.catalog import build_catalog
from pipeline.lake.manifest import BILLS, Reading
from pipeline.lake.store import Lake
from pipeline.pricing.prices import read_prices
from pipeline.timeline import DAY, SECONDS, WIDTHS, Window, day_of, day_window
from tests.lake.served import Row, plant_all

FIRST: Final = date(2024, 3, 30)
"""In the night to the day after, the clocks of Europe are moved."""
START: Final = day_window(FIRST).start
HEADER: Final = "model,valid_from,currency,input,cached,output,reasoning"
COUNTS: Final = (
    *("num_responses", "num_failed", "input_tokens", "cached_tokens", "output_tokens"),
    *("reasoning_tokens", "total_tokens"),
)


@dataclass(frozen=True)
class Spent:
    """Tokens of one minute, and the operations of usage beside them; `at` in Unix seconds."""

    at: int
    user: str | None = "ada"
    key: str | None = "web"
    model: str | None = "large"
    input: int | None = 1_000
    output: int | None = 1_000
    cached: int | None = None
    reasoning: int | None = None
    responses: int = 1
    operations: int = 1

    def row(self) -> Row:
        """As a row of tokens_1m."""
        total = None if self.input is None and self.output is None else self.total
        return {
            **{"user_id": self.user, "api_key_id": self.key, "model": self.model},
            **{"num_responses": self.responses, "num_failed": 0, "total_tokens": total},
            **{"input_tokens": self.input, "cached_tokens": self.cached},
            **{"output_tokens": self.output, "reasoning_tokens": self.reasoning},
        }

    @property
    def total(self) -> int:
        """Tokens in all."""
        return (self.input or 0) + (self.output or 0)


def spend(
    home: Path,
    spent: Iterable[Spent],
    *,
    days: int = 3,
    through: int | None = None,
    left_out: Sequence[int] = (),
    tables: Mapping[str, Sequence[Row]] | None = None,
    prices: str | None = None,
    fingerprint: str | None = None,
) -> Lake:
    """A home folder with `days` loaded days from FIRST on, but for those `left_out` by number.

    `tables` are rows of other tables, by the day of their start_time. With `prices`, the lines of a
    price list without its header, there is a `prices.csv`, and the catalog is built with it.
    """
    lake = Lake(home / "lake")
    lake.root.mkdir(parents=True, exist_ok=True)
    user_id_mode.claim(lake, fingerprint)
    rows: dict[str, list[Row]] = {name: [*of] for name, of in (tables or {}).items()}
    for width in WIDTHS:
        rows[f"tokens_{width}"] = _summed(
            SECONDS[width], ((one.at, one.row()) for one in spent), COUNTS
        )
        rows[f"usage_{width}"] = _summed(
            SECONDS[width],
            (
                (
                    one.at,
                    {
                        **{"user_id": one.user, "api_key_id": one.key},
                        "num_operations": one.operations,
                    },
                )
                for one in spent
            ),
            ("num_operations",),
        )
        rows[f"observed_{width}"] = []  # which say how far listings, and so tokens, are known
    for number in range(days):
        whole = day_window(FIRST + timedelta(days=number))
        if number in left_out or (through is not None and through <= whole.start):
            continue
        window = Window(whole.start, min(whole.end, through or whole.end))
        of_day = {
            name: [row for row in of if day_of(int(str(row["start_time"]))) == day_of(whole.start)]
            for name, of in rows.items()
        }
        plant_all(lake, of_day, day_of(whole.start), window, read_at=whole.end + 30.0 * DAY)
        readings = {
            endpoint: Reading(whole.end + 30.0 * DAY, window.end)
            for name, endpoint in (("costs_1d", BILLS), ("meters_1m", "responses"))
            if name in of_day
        }
        if readings:
            with closing(engine.connect()) as con:
                read = commit.Change(readings=readings)
                commit.publish_days(con, lake, {day_of(whole.start): read})
    if prices is not None:
        write_prices(home, prices)
    build_catalog(lake, home / "usage.duckdb", prices=read_prices(home / "prices.csv").table)
    return lake


def write_prices(home: Path, lines: str) -> Path:
    """A price list with these lines."""
    path = home / "prices.csv"
    path.write_text(f"{HEADER}\n{lines}\n", encoding="utf-8")
    return path


def _summed(seconds: int, rows: Iterable[tuple[int, Row]], counts: Sequence[str]) -> list[Row]:
    """Rows by bucket and by what is no count; a sum is NULL where no row has a number."""
    found: dict[tuple[object, ...], Row] = {}
    for at, row in rows:
        start = at // seconds * seconds
        ids = {name: value for name, value in row.items() if name not in counts}
        group = found.setdefault(
            (start, *ids.values()), {"start_time": start, "end_time": start + seconds, **ids}
        )
        for name in counts:
            value, before = row[name], group.get(name)
            if value is not None:
                group[name] = int(str(value)) + int(str(before or 0))
    return sorted(found.values(), key=lambda it: int(str(it["start_time"])))
