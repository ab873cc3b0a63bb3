"""What a shell offers for values that the lake and the settings know: users and keys.

Nothing is said of what goes wrong: a person who has pressed Tab can do nothing about it, and the
command says it when it is run.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any, Final

from pipeline.settings import SettingsError, load_settings

_DAYS: Final = 31
"""The days whose users are offered, the last that are loaded: it has to be fast."""
_MOST: Final = 100
_PLAIN: Final = re.compile(r"[\w.@+-]+")
"""Ids that mean themselves in every shell, since what is offered is put in as it is."""


def users(incomplete: str) -> list[str]:
    """The users that begin so, the busiest of late first; none where the lake has pseudonyms, since
    commands take real ids."""
    import duckdb

    from pipeline.lake import engine, user_id_mode
    from pipeline.lake.schemas import USAGE
    from pipeline.lake.store import Lake

    table = USAGE["1d"]
    try:
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        user_id_mode.check(lake, None)
        files = lake.files(table.name, lake.days(table.name)[-_DAYS:])
        if not files:
            return []
        with closing(engine.connect(lake)) as con:
            engine.bind(con, {table.name: (table, files)})
            params = {"beginning": incomplete, "at_most": _MOST}
            found = con.sql(engine.sql("users_like"), params=params).fetchall()
    except (SettingsError, user_id_mode.UserIdModeError, OSError, duckdb.Error):
        return []
    return [user for (user,) in found if _PLAIN.fullmatch(user)]


def keys(incomplete: str) -> list[str]:
    """The ids of the keys that are set."""
    try:
        ids = load_settings().keys()
    except SettingsError:
        return []
    return [it for it in ids if it.startswith(incomplete) and _PLAIN.fullmatch(it)]


USERS: Final[dict[str, Any]] = {"autocompletion": users}
KEYS: Final[dict[str, Any]] = {"autocompletion": keys}
"""For typer.Option, as `one_of` in `options`."""
