"""Days whose totals differ from the API's own, as a load publishes them."""

from __future__ import annotations

from contextlib import closing
from datetime import date

from pipeline.lake import engine
from pipeline.lake.commit import publish
from pipeline.lake.store import Lake


def dispute(lake: Lake, day: date) -> None:
    """Publish a day once more, as disputed."""
    with closing(engine.connect(threads=1)) as con:
        publish(con, lake, day, {}, disputed=True)
