"""Responses and their tokens by the hour as a test tells them, as tables or in a lake.

Belongs here: which model was asked how often by whom, how often that failed, and which hours were
read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import commit, engine
from pipeline.lake.manifest import Source
from pipeline.lake.schemas import COVERAGE, TOKENS
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, SECONDS, Width, Window, day_of, day_window, floor_to
from tests.alerts.history import FIRST, HOUR, START
from tests.lake.served import write_rows

COUNTS: Final = ("num_responses", "num_failed", "total_tokens")
Group = tuple[int, str | None, str | None, str | None]


@dataclass
class Responses:
    """`days` days from FIRST on, of which the hours in `unknown` (Unix seconds) were not read."""

    days: int = 29
    unknown: set[int] = field(default_factory=set[int])
    counts: dict[Group, tuple[int, int, int | None]] = field(
        default_factory=dict[Group, tuple[int, int, int | None]]
    )

    @property
    def end(self) -> int:
        """The end of the last day."""
        return START + self.days * DAY

    def ask(
        self,
        hour: int,
        responses: int,
        failed: int = 0,
        tokens: int | None = 0,
        *,
        user: str | None = "u",
        model: str | None = "m",
    ) -> None:
        """Responses of the hour that starts at `hour`; all of their tokens are input."""
        self.counts[hour, user, "k", model] = (responses, failed, tokens)

    def daily(
        self, responses: int, failed: int = 0, tokens: int | None = 0, model: str | None = "m"
    ) -> None:
        """The same in every hour from 9 to 17."""
        for hour in range(START, self.end, HOUR):
            if 9 <= (hour - START) // HOUR % 24 < 17:
                self.ask(hour, responses, failed, tokens, model=model)

    @contextmanager
    def tables(self, width: Width = "1h") -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the views `counted`, of that width, and `coverage`."""
        coverage = [
            {
                "dataset": "tokens_1h",
                "start_time": hour * 1_000_000,
                "end_time": (hour + HOUR) * 1_000_000,
                "status": "provisional",
                "complete_through": (hour + HOUR) * 1_000_000,
            }
            for hour in range(START, self.end, HOUR)
            if hour not in self.unknown
        ]
        rows = [
            row | {name: int(str(row[name])) * 1_000_000 for name in ("start_time", "end_time")}
            for row in self.rows(width)
        ]
        with closing(engine.connect(threads=1)) as con:
            con.register("counted", pa.Table.from_pylist(rows, schema=TOKENS[width].schema))
            con.register("coverage", pa.Table.from_pylist(coverage, schema=COVERAGE.schema))
            yield con

    def rows(self, width: Width) -> list[dict[str, object]]:
        """The rows of a table of tokens; times are Unix seconds."""
        sums: dict[Group, list[int | None]] = {}
        for (hour, user, key, model), counts in self.counts.items():
            of_bucket = sums.setdefault((floor_to(hour, width), user, key, model), [None] * 3)
            for place, count in enumerate(counts):
                if count is not None:
                    of_bucket[place] = (of_bucket[place] or 0) + count
        return [
            {
                "start_time": start,
                "end_time": start + SECONDS[width],
                "user_id": user,
                "api_key_id": key,
                "model": model,
                **dict(zip(COUNTS, sums[start, user, key, model], strict=True)),
                "input_tokens": sums[start, user, key, model][2],
            }
            for start, user, key, model in sorted(sums, key=lambda of: (of[0], *map(str, of[1:])))
        ]

    def publish(self, lake: Lake, through: int) -> None:
        """Give the days of a lake their tokens, read up to `through`."""
        tables = {width: self.rows(width) for width in ("1h", "1d")}
        with closing(engine.connect(threads=1)) as con, lake.staging() as folder:
            changes = {}
            for number in range(self.days):
                day = FIRST + timedelta(days=number)
                whole = day_window(day)
                if whole.start >= through:
                    continue
                window = Window(whole.start, min(whole.end, through))
                staged = {
                    f"tokens_{width}": write_rows(
                        f"tokens_{width}",
                        folder / f"{day}" / f"tokens_{width}.parquet",
                        [row for row in rows if day_of(int(str(row["start_time"]))) == day],
                        window,
                    )
                    for width, rows in tables.items()
                }
                # How far a day is known is how far it was observed.
                observed = folder / f"{day}" / "observed_1d.parquet"
                staged["observed_1d"] = write_rows("observed_1d", observed, [], window)
                asked: dict[Source, float] = {"conversations": window.end + 30.0 * DAY}
                changes[day] = commit.Change(staged, read_at=asked, done={"observe"})
            commit.publish_days(con, lake, changes)
