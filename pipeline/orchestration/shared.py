"""Steps that publish, where there is a shared lake: hydrate, do what is done without one, commit.

Belongs here: what becomes of days that another worker has committed meanwhile, and of what was
published before a failure. Without a shared lake a step is done once, and nothing is added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Final, TypeAlias

import dagster as dg

from pipeline.lake.claims import Claim, claiming
from pipeline.messages import count
from pipeline.orchestration.resources import Services
from pipeline.shared_lake import DaysMovedError, SharedLakeError
from pipeline.shared_lake.base import read_base
from pipeline.shared_lake.pulling import pull
from pipeline.timeline import in_words

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

TRIES: Final = 8
"""How often days are done where other workers commit them at the same time."""

Work: TypeAlias = Callable[[list[date]], None]
"""What a step does with days; it gets none where it may work on any, and finds its days itself."""


@contextmanager
def committing(
    services: Services, days: Sequence[date] | None, *, heals: bool = False
) -> Iterator[Callable[[Work], None]]:
    """Yields what does the work of a step over its days (None: all), and commits it.

    A step `heals` that needs nothing of what stands: files that are damaged in the shared lake are
    missing here then, and all files of its days are put there.

    What it has published before a failure or an interrupt is committed at the end of the block.
    Other runs of this home that work on one of these days are waited for. Failure, in one line,
    where the shared lake can't be used, or other workers were faster each time.
    """
    with failing():
        shared = services.shared
    if shared is None:
        yield lambda work: work(list(days or ()))
        return

    def waiting() -> None:
        services.note("another run of this home works on these days: waiting until it is done")

    with claiming(services.lake, days, waiting) as claim:
        step = _Step(services, shared, claim, days, heals)
        try:
            yield step.do
        finally:
            step.keep()


class _Step:
    """The work of a step on days of the shared lake."""

    def __init__(
        self,
        services: Services,
        shared: SharedLake,
        claim: Claim,
        days: Sequence[date] | None,
        heals: bool,
    ) -> None:
        self._services = services
        self._shared = shared
        self._claim = claim
        self._days = None if days is None else list(days)
        self._heals = heals
        self._lake = services.lake
        self._versions = self._now()

    def do(self, work: Work) -> None:
        """Hydrate, work, commit; again with the days that others have committed meanwhile."""
        pending, moved = self._days, list[date]()
        for attempt in range(TRIES):
            if attempt:
                self._services.note(
                    f"{in_words(moved)}: committed by another worker meanwhile; hydrated, and done "
                    f"again ({attempt} of {TRIES - 1})"
                )
            self._hydrate(pending)
            if pending is None or pending:
                work(pending or [])
            moved = self._commit()
            if not moved:
                return
            self._hydrate(moved)
            pending = None if self._days is None else [day for day in moved if day in self._days]
        raise dg.Failure(
            f"{in_words(moved)}: committed by another worker each of {TRIES} times that they were "
            "done here: run the same again when fewer workers load these days"
        )

    def keep(self) -> None:
        """Commit what was published and is not committed; where that fails, say so."""
        try:
            while moved := self._commit():
                self._services.warn(
                    f"{in_words(moved)}: not committed, since another worker has committed them "
                    "meanwhile"
                )
                self._hydrate(moved)
        except dg.Failure as error:
            self._services.warn(f"what was published here is not committed: {error.description}")

    def _hydrate(self, days: Collection[date] | None) -> None:
        with failing():
            if days is None or days:
                self._shared.hydrate(self._lake, days, damaged=self._heals)
        now = self._now()
        self._versions |= now if days is None else {it: now[it] for it in days if it in now}

    def _commit(self) -> list[date]:
        """Commit the days of the step, and what it has changed beside them; returns those that
        have moved, and then none is committed."""
        changed = {day for day, name in self._now().items() if self._versions.get(day) != name}
        known = read_base(self._lake)
        asked = set(known.days if known else ()) if self._days is None else set(self._days)
        with failing():
            try:
                mine = self._claim.extend(changed | asked)
                days = self._shared.commit(self._lake, mine, put_all=self._heals)
            except DaysMovedError as error:
                return error.days
        if days:
            self._services.note(f"{count(len(days), 'day')} committed: {in_words(days)}")
        return []

    def _now(self) -> dict[date, str]:
        return {day: version.name for day, version in self._lake.versions_at_once().items()}


@contextmanager
def failing() -> Iterator[None]:
    """What is wrong with the shared lake fails the step, in one line."""
    try:
        yield
    except SharedLakeError as error:
        raise dg.Failure(str(error)) from error


def pulled(services: Services, days: Collection[date] | None = None) -> None:
    """Let what stands in the shared lake, if there is one, be what is read here (None: all days).

    Failure, in one line, where that can't be had.
    """
    with failing():
        if services.shared is not None:
            pull(services.shared, services.lake, days)
