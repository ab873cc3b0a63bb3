"""What a home knows of the shared lake: which of its days it has, and since when.

<lake>/.shared.json    {"catalog": …, "pulled_at": …, "days": {"2024-01-01": {"published": the name
                       of what stood then, "version": the local version that it became}}}

A day whose local version is another one has changed here since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from pipeline.lake.store import Lake, replacing

_FILE: Final = ".shared.json"


@dataclass(frozen=True, slots=True)
class DayBase:
    """What a local version of a day was made of: the name of what stood in the shared lake."""

    published: str
    version: str


@dataclass(frozen=True, slots=True)
class Base:
    """`catalog`: the URL without its password; `pulled_at`: when all was hydrated last, in Unix
    seconds, None where it never was."""

    catalog: str
    pulled_at: float | None = None
    days: Mapping[date, DayBase] = field(default_factory=dict[date, DayBase])


@dataclass(frozen=True, slots=True)
class Copy:
    """A home that was pulled: when (Unix seconds), and from where."""

    at: float
    catalog: str


def copied(lake: Lake) -> Copy | None:
    """When a home was pulled from a shared lake; None for one that never was."""
    base = read_base(lake)
    return None if base is None or base.pulled_at is None else Copy(base.pulled_at, base.catalog)


def read_base(lake: Lake) -> Base | None:
    """What the home knows; None where there is nothing, or it can't be read."""
    try:
        facts = json.loads((lake.root / _FILE).read_bytes())
        days = {date.fromisoformat(day): DayBase(**of) for day, of in facts["days"].items()}
        return Base(str(facts["catalog"]), facts["pulled_at"], days)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def note_days(
    lake: Lake,
    catalog: str,
    days: Mapping[date, DayBase],
    *,
    gone: Iterable[date] = (),
    pulled_at: float | None = None,
) -> None:
    """Write down what became of days; what is known of others stays.

    A home that knew another catalog knows nothing of this one. OSError where the disk fails.
    """
    with lake.lock("shared"):
        before = read_base(lake)
        if before is None or before.catalog != catalog:
            before = Base(catalog)
        kept = {day: of for day, of in before.days.items() if day not in {*gone}}
        known = replace(
            before,
            pulled_at=before.pulled_at if pulled_at is None else pulled_at,
            days={**kept, **days},
        )
        facts = {
            "catalog": known.catalog,
            "pulled_at": known.pulled_at,
            "days": {
                day.isoformat(): {"published": of.published, "version": of.version}
                for day, of in sorted(known.days.items())
            },
        }
        with replacing(lake.root / _FILE) as aside:
            aside.write_text(json.dumps(facts, indent=1), encoding="utf-8")
