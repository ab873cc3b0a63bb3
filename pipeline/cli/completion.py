"""What a shell offers for values that the lake, the settings and the names know: ids.

Nothing is said of what goes wrong: a person who has pressed Tab can do nothing about it, and the
command says it when it is run.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any, Final

from pipeline.settings import SettingsError, load_settings

_DAYS: Final = 31
"""The days whose ids are offered, the last that are loaded: it has to be fast."""
_MOST: Final = 100
_PLAIN: Final = re.compile(r"[\w.@+-]+")
"""Ids that mean themselves in every shell, since what is offered is put in as it is."""


def users(incomplete: str) -> list[str]:
    """The users that begin so, the busiest of late first; none where the lake has pseudonyms, since
    commands take real ids."""
    return _used("usage_1d", "user_id", "num_operations", incomplete)


def used_keys(incomplete: str) -> list[str]:
    """The keys with usage that begin so, the busiest of late first."""
    return _used("usage_1d", "api_key_id", "num_operations", incomplete)


def models(incomplete: str) -> list[str]:
    """The models with responses that begin so, those with the most of late first."""
    return _used("tokens_1d", "model", "num_responses", incomplete)


def _used(table: str, column: str, amount: str, incomplete: str) -> list[str]:
    import duckdb

    from pipeline.lake import engine, user_id_mode
    from pipeline.lake.schemas import DATASETS
    from pipeline.lake.store import Lake

    try:
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        if column == "user_id":
            user_id_mode.check(lake, None)
        files = lake.files(table, lake.days(table)[-_DAYS:])
        if not files:
            return []
        with closing(engine.connect(lake)) as con:
            engine.bind(con, {table: (DATASETS[table], files)})
            of = f"SELECT {column} AS id, {amount} AS amount FROM {table}"
            con.execute(f"CREATE TEMP VIEW used AS {of}")
            params = {"beginning": incomplete, "at_most": _MOST}
            found = con.sql(engine.sql("ids_like"), params=params).fetchall()
    except (SettingsError, user_id_mode.UserIdModeError, OSError, duckdb.Error):
        return []
    return [id_ for (id_,) in found if _PLAIN.fullmatch(id_)]


def teams(incomplete: str) -> list[str]:
    """The teams that somebody is in, by the file of names."""
    from pipeline.lake.store import Lake
    from pipeline.names.file import load_names
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        settings = load_settings()
        ids = load_names(settings, Lake(settings.lake)).with_members
    except (SettingsError, HandWrittenError):
        return []
    return sorted(it for it in ids if it.startswith(incomplete) and _PLAIN.fullmatch(it))


def keys(incomplete: str) -> list[str]:
    """The ids of the keys that are set."""
    try:
        ids = load_settings().keys()
    except SettingsError:
        return []
    return [it for it in ids if it.startswith(incomplete) and _PLAIN.fullmatch(it)]


USERS: Final[dict[str, Any]] = {"autocompletion": users}
USED_KEYS: Final[dict[str, Any]] = {"autocompletion": used_keys}
MODELS: Final[dict[str, Any]] = {"autocompletion": models}
TEAMS: Final[dict[str, Any]] = {"autocompletion": teams}
KEYS: Final[dict[str, Any]] = {"autocompletion": keys}
"""For typer.Option, as `one_of` in `options`."""
