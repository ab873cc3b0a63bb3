"""What the conversations benchmark runs, each in a process of its own: ``python -m`` this.

A job says where the server is (``url``, ``key``) and where to put what is landed (``folder``).
Facts: the landed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Final

from tests.benchmarks.conversation_server import KEY
from tests.benchmarks.measure import Contender, Facts, Job, Prepared, contend

RATE: Final = 500.0
"""Requests a second of the contender that has a rate limit."""


def _syncing(concurrency: int, rate: float) -> Contender:
    def prepare(job: Job) -> Prepared:
        import pyarrow.parquet as pq
        from pydantic import SecretStr

        from pipeline.api import Client, Limits
        from pipeline.conversations.sync import sync_days
        from pipeline.lake.store import Lake
        from pipeline.usage.load import load_days

        limits = Limits(concurrency=concurrency, requests_per_second=rate)
        lake, days = Lake(Path(job["folder"])), [date(2024, 1, 1)]
        requests = 0

        def connect() -> Client:
            return Client(job["url"], SecretStr(job["key"]), limits)

        load_days(connect, lake, days)

        def run() -> None:
            nonlocal requests
            requests = sync_days({KEY: connect}, lake, days).requests

        def facts() -> Facts:
            return {
                "requests": requests,
                **{
                    name: sum(pq.read_metadata(path).num_rows for path in lake.files(name))
                    for name in ("conversations", "items", "responses")
                },
            }

        return Prepared(run, facts)

    return prepare


SEQUENTIAL: Final = "one after another"
OURS: Final = "mka1-usage"
LIMITED: Final = "mka1-usage, rate limit"

CONTENDERS: Final[Mapping[str, Callable[[Job], Prepared]]] = {
    SEQUENTIAL: _syncing(1, 1_000_000),
    OURS: _syncing(24, 1_000_000),
    LIMITED: _syncing(24, RATE),
}

if __name__ == "__main__":
    contend(CONTENDERS)
