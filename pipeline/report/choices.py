"""What a report can be asked for: the days that are loaded, and who and what was used in some.

Belongs here: what a form offers. No number of any measure.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from pipeline.lake import engine
from pipeline.lake.schemas import TOKENS, USAGE
from pipeline.lake.store import Lake
from pipeline.names.file import NOBODY, Names
from pipeline.report.period import Period
from pipeline.report.source import Source

MOST: Final = 200
"""Of a kind, the most active; of teams, the first: more are typed in."""
LONGEST_ID: Final = 1_000
"""Characters of an id that is offered, and led to: longer ones make no address."""
_LAST: Final = 7


@dataclass(frozen=True, slots=True)
class Choices:
    """The first and the last UTC day that is loaded, if any is, and ids, the most active first."""

    first: date | None = None
    last: date | None = None
    users: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])
    models: list[str] = field(default_factory=list[str])
    teams: list[str] = field(default_factory=list[str])
    """Those that somebody is in, whether used or not, by what they are called."""
    names: Names = NOBODY
    damaged: bool = False
    """Whether nothing is loaded since what is there cannot be read."""


def choices(lake: Lake, period: Period | None, names: Names = NOBODY) -> Choices:
    """Users, keys and models of a period; those of the last days, where it is None. And the teams
    of the names."""
    with closing(engine.connect(lake)) as con:
        source = Source(con, lake)
        if not source.days:
            return Choices(damaged=bool(source.snapshot.damage))
        days = source.days[-_LAST:] if period is None else period.window.days
        source.bind("usage_rows", USAGE["1d"], days)
        source.bind("tokens_rows", TOKENS["1d"], days)
        rows = source.rows("choices", at_most=MOST)
    found = [(kind, id_) for kind, id_ in rows if len(id_) <= LONGEST_ID]
    of = {wanted: [id_ for kind, id_ in found if kind == wanted] for wanted in ("user", "key")}
    models = [id_ for kind, id_ in found if kind == "model"]
    called = names.labels("team", names.with_members)
    teams = sorted(names.with_members, key=lambda id_: (called[id_].casefold(), id_))[:MOST]
    first, last = source.days[0], source.days[-1]
    return Choices(first, last, of["user"], of["key"], models, teams, names)
