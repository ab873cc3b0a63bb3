"""A home becomes a copy of what stands in the shared lake, for those who only read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from pipeline.lake.claims import Claim
from pipeline.lake.store import Lake
from pipeline.shared_lake.base import note_days

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake


def pull(shared: SharedLake, lake: Lake, days: Iterable[date] | None = None) -> list[date]:
    """Hydrate days (None: all) but those that a run of this home works on; returns which changed.

    What such a run has is what stood when it began, or newer. SharedLakeError as of `hydrate`.
    """
    began = time.time()
    claim = Claim(lake, ())
    with claim.alive():
        free = claim.extend(shared.days() if days is None else days)
        changed = shared.hydrate(lake, free)
    if days is None:
        note_days(lake, shared.place.shown, {}, pulled_at=began)
    return changed
