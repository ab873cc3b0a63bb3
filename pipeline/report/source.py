"""The lake as a report reads it: files of each day in one version, and what is known of each hour.

Belongs here: the snapshot, a connection, and coverage in words. No number of any measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Final, Literal, NamedTuple

import duckdb

from pipeline.lake import engine
from pipeline.lake.completeness import DISPUTED
from pipeline.lake.schemas import COVERAGE, RECONCILIATION, TOKENS, USAGE, USAGE_DATASETS, Dataset
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.names.file import NOBODY, Names
from pipeline.timeline import SECONDS, Window

Knowledge = Literal["final", "provisional", "in part", "disputed", "dropped", "missing"]

NOTHING: Final = {"dropped", "missing"}
"""What is known of a day of which nothing is counted."""
WHOLE: Final = {"final", "provisional"}
"""What is known of a day that is loaded to its end."""


class Only(NamedTuple):
    """What a report is of, where that is not all: a user, a key, a model, a team, by the lake's
    ids."""

    user: str | None = None
    key: str | None = None
    model: str | None = None
    team: str | None = None

    def rows(self, dataset: Dataset, rows: str) -> str:
        """Those of the `rows` of a dataset (a query) that are of it, as a query that may read
        `names`. A table without such a column has all its rows."""
        asked = {"user_id": self.user, "api_key_id": self.key, "model": self.model}
        columns = {column.name for column in dataset.columns}
        tests = [
            f"{column} = {_literal(value)}"
            for column, value in asked.items()
            if value is not None and column in columns
        ]
        if tests:
            rows = f"FROM ({rows}) WHERE {' AND '.join(tests)}"
        if self.team is not None and {"user_id", "api_key_id"} <= columns:
            team = f"SELECT {_literal(self.team)} AS team_id"
            of_team = engine.sql("report_team_rows")
            # A CTE that is kept whole would be read before the tests of what is asked of it.
            rows = f"WITH every_row AS NOT MATERIALIZED ({rows}), asked AS ({team}) {of_team}"
        return rows


EVERYTHING: Final = Only()


class Source:
    """Files of usage and tokens, each day's in one version, and a connection to read them with."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        names: Names = NOBODY,
        *,
        only: Only = EVERYTHING,
    ) -> None:
        self.con = con
        self.names = names
        self.only = only
        con.register("names", names.table)
        tokens = [dataset.name for dataset in TOKENS.values()]
        self.snapshot = Snapshot(
            lake, names=(*USAGE_DATASETS, COVERAGE.name, RECONCILIATION.name, *tokens)
        )
        self.days = [
            day
            for day in self.snapshot.days(USAGE["1d"].name)
            if not any(self.snapshot.is_damaged(name, day) for name in USAGE_DATASETS)
        ]
        """The days that are loaded: none of which a table of usage is damaged."""

    def bind(
        self,
        name: str,
        dataset: Dataset,
        days: Iterable[date],
        window: Window | None = None,
        *,
        of_all: bool = False,
    ) -> None:
        """Make a view of a dataset's rows of those days that are loaded, or of a window of them.

        They are those of what the report is `only` of, or `of_all`.
        """
        files = self.snapshot.files(dataset.name, set(days).intersection(self.days))
        rows = engine.scan(dataset, files)
        if window is not None:
            rows = f"FROM ({rows}) WHERE {engine.within(window.start, window.end)}"
        if not of_all:
            rows = self.only.rows(dataset, rows)
        self.con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {rows}')

    def number_of_rows(self, dataset: Dataset, days: Iterable[date]) -> int:
        """How many rows a dataset has of those days that are loaded."""
        found = (self.snapshot.loaded(dataset.name, day) for day in set(days) & {*self.days})
        return sum(file.rows for file in found if file is not None)

    def rows(self, query: str, **params: object) -> list[tuple[Any, ...]]:
        """The rows of `sql/report_<query>.sql`."""
        return self.con.sql(engine.sql(f"report_{query}"), params=params).fetchall()

    def known(self, days: Iterable[date], dataset: Dataset = USAGE["1h"]) -> Known:
        """What coverage says of a dataset in the hours of these days."""
        self.snapshot.bind_coverage(self.con, set(days).intersection(self.days))
        found = self.rows("coverage", dataset=dataset.name)
        disputed = {start for start, status, _ in found if status == DISPUTED}
        dropped = {start for start, status, _ in found if status == "dropped"}
        through = {start: through for start, _, through in found if through is not None}
        return Known(
            through | {start: start + SECONDS["1h"] for start in disputed},
            {start for start, status, _ in found if status == "final"},
            disputed,
            dropped,
        )


class Known(NamedTuple):
    """What is known of UTC hours: through when each is loaded, and which are final, disputed or not
    kept any more."""

    through: dict[int, int]
    final: set[int]
    disputed: set[int]
    dropped: set[int]

    def loaded(self, span: Window) -> int:
        """Seconds of `span` that are loaded."""
        return sum(
            max(0, min(self.through.get(hour, hour), span.end) - max(hour, span.start))
            for hour in _hours_of(span)
        )

    def knowledge(self, *spans: Window) -> Knowledge:
        """What is known of a local day, or of several hours together."""
        loaded = sum(map(self.loaded, spans))
        hours = {hour for span in spans for hour in _hours_of(span)}
        if not loaded:
            return "dropped" if hours & self.dropped else "missing"
        if hours & self.disputed:
            return "disputed"
        if loaded < sum(span.end - span.start for span in spans):
            return "in part"
        return "final" if hours <= self.final else "provisional"


def _literal(text: str) -> str:
    """A SQL string literal, also of what holds the character that ends a statement."""
    return " || chr(0) || ".join(map(engine.literal, text.split("\0")))


def _hours_of(span: Window) -> range:
    whole = span.widened("1h")
    return range(whole.start, whole.end, SECONDS["1h"])
