"""pull, push, expire: the commands about a shared lake; and how old a pulled copy is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Final

from pipeline.cli.damage import left_out, nothing_loaded
from pipeline.cli.exit_codes import FAILED, exit_codes, fail
from pipeline.cli.naming import named
from pipeline.cli.options import OptionalTime, days_of, not_empty, with_periods
from pipeline.cli.pricing import price_list
from pipeline.messages import count
from pipeline.settings import Settings, SettingsError, load_settings
from pipeline.terminal import say, short
from pipeline.timeline import in_words, iso

if TYPE_CHECKING:  # each command imports what it needs
    from pipeline.lake.store import Lake
    from pipeline.shared_lake import Copy
    from pipeline.shared_lake.shared import SharedLake

_AT_ONCE: Final = 31
"""Days that are pushed in one commit."""
_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60))


@with_periods
def pull(start: OptionalTime = None, end: OptionalTime = None) -> None:
    """Make this home a copy of the shared lake, for serve, report, export, sql and buckets.

    Only days that have changed are copied: of all, or of the UTC days of [start, end). Days that a
    run of this home works on stay as that run has them.
    """
    not_empty(start, end)
    from pipeline.lake.catalog import build_catalog
    from pipeline.lake.snapshot import left_out as words
    from pipeline.lake.store import Lake
    from pipeline.shared_lake import pulling

    with exit_codes(), failing():
        settings = load_settings()
        shared = opened(settings)
        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        days = _within(shared.days(), start, end)
        changed = pulling.pull(shared, lake, None if start is None and end is None else days)
        build_catalog(
            lake,
            settings.catalog,
            on_damage=lambda damage: left_out(words(damage)),
            prices=price_list(settings).table,
            names=named(settings, lake).table,
        )
        say(
            f"{count(len(changed), 'day')} of {len(days):,} changed: {in_words(changed)}; "
            f"{short(settings.lake)} has them as they stand in {shared.place.shown}"
        )


@with_periods
def push(start: OptionalTime = None, end: OptionalTime = None) -> None:
    """Commit days of this home that the shared lake does not have: how a team begins with one.

    Of all days, or of the UTC days of [start, end). Days that it has stay as they are there.
    """
    not_empty(start, end)
    from pipeline.lake.claims import claiming
    from pipeline.lake.store import Lake
    from pipeline.shared_lake import DaysMovedError

    with exit_codes(), failing():
        settings = load_settings()
        shared = opened(settings)
        lake = Lake(settings.lake, memory=settings.memory)
        here = _within(lake.all_days(), start, end)
        if not here:
            nothing_loaded(settings.lake)
        there = set(shared.days())
        missing = [day for day in here if day not in there]

        def waiting() -> None:
            say("a run of this home works on some of these days: waiting until it is done")

        with claiming(lake, missing, waiting):
            for first in range(0, len(missing), _AT_ONCE):
                days = missing[first : first + _AT_ONCE]
                try:
                    shared.commit(lake, days)
                except DaysMovedError as error:
                    fail(
                        f"{in_words(error.days)}: another worker has committed them meanwhile: "
                        "run the same again",
                        FAILED,
                    )
                say(f"{in_words(days)}: committed ({first + len(days):,} of {len(missing):,})")
        kept = len(here) - len(missing)
        say(
            f"{count(len(missing), 'day')} committed to {shared.place.shown}; "
            f"{count(kept, 'day')} of this home {'was' if kept == 1 else 'were'} there already"
        )


def expire() -> None:
    """Remove what no reader of the shared lake needs: what was replaced more than a day ago.

    Old snapshots of its tables, and files that nothing refers to. Run it daily; Dagster's schedule
    daily_expire does.
    """
    with exit_codes(), failing():
        shared = opened(load_settings())
        removed = shared.expire(time.time())
        say(
            f"{count(removed.snapshots, 'snapshot')} and {count(removed.files, 'file')} "
            f"({removed.bytes / 1e6:,.1f} MB) removed from {shared.place.shown}"
        )


def opened(settings: Settings) -> SharedLake:
    """The shared lake; SettingsError where none is set, SharedLakeError where it can't be used."""
    from pipeline.shared_lake import open_shared_lake, place_of

    place = place_of(settings.shared_catalog, settings.shared_warehouse)
    if place is None:
        raise SettingsError(
            "MKA1_USAGE_CATALOG is not set: set it and MKA1_USAGE_WAREHOUSE to the shared lake's "
            "catalog and files"
        )
    return open_shared_lake(place)


@contextmanager
def failing() -> Iterator[None]:
    """What is wrong with the shared lake is one line and an exit code."""
    from pipeline.shared_lake import SharedLakeError

    try:
        yield
    except SharedLakeError as error:
        fail(str(error), FAILED)


def say_age(settings: Settings, lake: Lake) -> Copy | None:
    """Say how old the copy is that a command answers from; returns it, None where it is none."""
    from pipeline.shared_lake import copied

    copy = copied(lake)
    if copy is not None:
        say(
            f"note: a copy of {copy.catalog}, pulled {_ago(time.time() - copy.at)} "
            f"({iso(int(copy.at))}): `mka1-usage pull` brings it up to date"
        )
    elif settings.shared_catalog is not None and not lake.all_days():
        say("note: nothing is here yet: `mka1-usage pull` copies what the shared lake has")
    return copy


def _ago(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{count(int(seconds // length), unit)} ago"
    return "less than a minute ago"


def _within(days: Iterable[date], start: int | None, end: int | None) -> list[date]:
    first, last = days_of(start, end)
    return [
        day for day in days if (first is None or first <= day) and (last is None or day <= last)
    ]
