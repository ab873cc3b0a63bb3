"""Syncs against the emulator, in words of the tests: what was landed, and what there was.

Belongs here: running a sync and reading both sides into plain Python. Nothing here computes a
bucket or a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import pyarrow.parquet as pq
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.conversations.pseudonym_resolver import PseudonymResolver
from pipeline.conversations.sync import Synced, sync_days
from pipeline.emulator import EmulatorServer
from pipeline.lake import engine
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.query.reconciliation import worst
from tests.truth import load

FAST = Limits(concurrency=8, requests_per_second=10_000, longest_wait=0.001)

Rows = list[dict[str, Any]]

_WHEN_SEEN = {"first_seen_at", "last_seen_at"}


def rows_of(lake: Lake, names: Iterable[str]) -> dict[str, Rows]:
    """All rows of datasets, without when they were seen, in an order of their own."""
    return {
        name: sorted(
            (
                {column: value for column, value in row.items() if column not in _WHEN_SEEN}
                for path in lake.files(name)
                for row in pq.ParquetFile(path).read().to_pylist()
            ),
            key=repr,
        )
        for name in names
    }


@dataclass
class Reader:
    """One server, one lake; loads usage and syncs at the server's own clock."""

    server: EmulatorServer
    lake: Lake
    days: Sequence[date]
    limits: Limits = FAST
    pseudonyms: Pseudonyms | None = None

    def load(self) -> None:
        """Load usage of the days."""
        load(self.server, self.lake, self.days, pseudonyms=self.pseudonyms)

    def sync(self, *, full: bool = False, keep_content: bool = False) -> Synced:
        """Read what is new, and reconcile the days."""
        return sync_days(
            self.connect(),
            self.lake,
            self.days,
            full=full,
            keep_content=keep_content,
            resolver=self.resolver,
            now=self.server.world.clock,
        )

    @property
    def resolver(self) -> PseudonymResolver | None:
        """Who is behind the pseudonyms, where there are any."""
        if self.pseudonyms is None:
            return None
        return PseudonymResolver(self.pseudonyms, next(iter(self.connect().values())))

    def connect(self) -> dict[str, Callable[[], Client]]:
        """What makes a client, for each of the server's keys."""
        return {
            key_id: partial(
                Client,
                self.server.base_url,
                SecretStr(secret),
                self.limits,
                now=self.server.world.clock,
            )
            for key_id, secret in self.server.api_keys.items()
        }

    def rows(self, dataset: str) -> Rows:
        """All landed rows of a dataset."""
        return [row for path in self.lake.files(dataset) for row in pq.read_table(path).to_pylist()]

    def differences(self) -> dict[tuple[str, str | None, str | None, str], tuple[str, int]]:
        """By day, user, key and measure: class and difference of what neither matches nor is out
        of reach."""
        with closing(engine.connect()) as con:
            rows = worst(con, Snapshot(self.lake), self.days, 10_000).to_pylist()
        return {
            (f"{row['day']:%Y-%m-%d}", row["user_id"], row["api_key_id"], row["measure"]): (
                row["class"],
                row["difference"],
            )
            for row in rows
        }

    def classes(self) -> set[str]:
        """The classes that there are."""
        return {row["class"] for row in self.rows("reconciliation")}

    def asked(self, since: int = 0) -> list[str]:
        """Kinds of requests since a number of them: `conversations`, `items`, `responses`."""
        paths = (target.partition("?")[0] for _, target, _ in self.server.requests[since:])
        return [path.rsplit("/", 1)[1] for path in paths]
