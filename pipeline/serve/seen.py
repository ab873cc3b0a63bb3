"""What was seen of the lake while an answer was made, which is right while that is still so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final, TypeAlias

from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake

_SETTLED: Final = 60 * 10**9
"""Nanoseconds after which a change of a folder is sure to be seen by the time of its last one: file
systems count time in steps, in which more may happen."""

Mark: TypeAlias = tuple[int, int] | None


@dataclass(slots=True)
class Seen:
    """What an answer was made from, as far as a look at links can tell."""

    links: Mark
    """Of the folder of links to versions, in which every publication renames one."""
    days: int
    """Stands for the days of which anything is there."""
    versions: dict[str, Mark] = field(default_factory=dict[str, Mark])

    @classmethod
    def of(cls, lake: Lake) -> Seen:
        """What is seen before anything is read."""
        return cls(mark(_links(lake)), hash(tuple(lake.all_days())))

    @classmethod
    def whole(cls, lake: Lake) -> Seen:
        """All days, before anything is read."""
        seen = cls.of(lake)
        links = [str(lake.link(day)) for day in lake.all_days()]
        return replace(seen, versions={link: mark(link) for link in links})

    def read(self, lake: Lake, snapshot: Snapshot) -> Seen:
        """What was seen once all was read from a snapshot."""
        marks = {str(lake.link(day)): mark(path) for day, path in snapshot.versions.items()}
        return replace(self, versions=marks)

    def still(self, lake: Lake) -> bool:
        """Whether it is so now. As long as nothing is published, that is one look."""
        links = mark(_links(lake))
        if links == self.links and links is not None and links[1] < time.time_ns() - _SETTLED:
            return True
        if hash(tuple(lake.all_days())) != self.days:
            return False
        if any(mark(path) != seen for path, seen in self.versions.items()):
            return False
        self.links = links
        return True


def mark(path: Path | str) -> Mark:
    """What differs between two versions of a day, also where a lake was begun anew.

    None where nothing can be seen: whoever reads it says why.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - each request looks at each of its days
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _links(lake: Lake) -> Path:
    return lake.link(date.min).parent
