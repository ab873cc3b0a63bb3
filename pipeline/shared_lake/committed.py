"""Work on all days of a home that shares its lake: hydrated before, committed after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.lake.claims import claiming
from pipeline.lake.store import Lake

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake


@contextmanager
def committed(
    shared: SharedLake | None,
    lake: Lake,
    waiting: Callable[[], None],
    before_commit: Callable[[SharedLake], None] = lambda _: None,
) -> Iterator[None]:
    """Let all days of the shared lake be here for the block, and commit what becomes of them.

    Other runs of this home are waited for, once `waiting` was called. Without a shared lake nothing
    is done. SharedLakeError where it can't be used, or another worker has committed one of the days
    meanwhile.
    """
    if shared is None:
        yield
        return
    with claiming(lake, None, waiting):
        shared.hydrate(lake)
        yield
        before_commit(shared)
        shared.commit(lake)
