"""A shared lake: its days redone and committed, and what they were before is gone at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.lake.claims import claiming
from pipeline.lake.store import Lake

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake


@contextmanager
def hydrated(shared: SharedLake | None, lake: Lake, waiting: Callable[[], None]) -> Iterator[None]:
    """Let all days of the shared lake be here for the block, and commit what becomes of them.

    Other runs of this home are waited for. Without a shared lake nothing is done. SharedLakeError
    where it can't be used.
    """
    if shared is None:
        yield
        return
    with claiming(lake, None, waiting):
        shared.hydrate(lake)
        yield
        shared.tell_forgotten(lake)
        shared.commit(lake)
        shared.expire_replaced()
