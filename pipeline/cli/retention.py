"""prune: the command that drops what is not to be kept any longer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from pipeline import messages
from pipeline.cli.exit_codes import MISUSED, exit_codes, fail, interruptible
from pipeline.messages import count
from pipeline.retention import Kind
from pipeline.settings import load_settings
from pipeline.terminal import say
from pipeline.timeline import day_range, in_words, spans

_SETTINGS: Final = "MKA1_USAGE_KEEP_MINUTES_DAYS, _HOURS_DAYS, _ITEMS_DAYS or _CONTENTS_DAYS"


def prune() -> None:
    """Drop minutes, hours, items and contents of days that are older than the settings keep them.

    Hours and days stay, or days alone; `coverage` says what was dropped. Days whose usage is not
    final are left, and items that are not counted. Where the settings keep more than before, it
    says which days to load again.
    """
    with exit_codes():
        settings = load_settings()
        from pipeline.lake.catalog import build_catalog, names_of, prices_of
        from pipeline.lake.retention import dropped_days
        from pipeline.lake.retention import prune as prune_lake
        from pipeline.lake.store import Lake
        from pipeline.shared_lake import open_shared_lake, place_of
        from pipeline.shared_lake.committed import committed

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        if not settings.retention.is_set and not dropped_days(lake):
            fail(f"all is kept for ever: set {_SETTINGS}", MISUSED)
        place = place_of(settings.shared_catalog, settings.shared_warehouse)
        shared = None if place is None else open_shared_lake(place)

        def waiting() -> None:
            say("other runs of this home are at work: waiting until they are done")

        with interruptible("days that are done are done"), committed(shared, lake, waiting):
            pruned = prune_lake(lake, settings.retention, time.time())
        if pruned.days:
            prices, names = prices_of(settings.catalog), names_of(settings.catalog)
            build_catalog(lake, settings.catalog, prices=prices, names=names)
        _say("dropped", pruned.dropped)
        _say("to be kept again", pruned.kept_again)
        for first, last in spans({day for days in pruned.kept_again.values() for day in days}):
            say(f"to have them again: {messages.run(first, last, '--full')}")
        if pruned.not_final:
            say(
                f"{count(len(pruned.not_final), 'day')} kept, since their usage is not final "
                f"({in_words(pruned.not_final)}): `{messages.REFRESH}` makes them final"
            )
        for first, last in spans(pruned.not_counted):
            say(
                f"items of {in_words(day_range(first, last))} kept, since these days are not read, "
                f"counted and compared to their end: `{messages.run(first, last)}` does that"
            )
        if not pruned.days:
            say("nothing was dropped: all that is there is to be kept")


def _say(became: str, days_by_kind: Mapping[Kind, Sequence[date]]) -> None:
    for kind, days in days_by_kind.items():
        say(f"{kind} of {count(len(days), 'day')} {became}: {in_words(days)}")
