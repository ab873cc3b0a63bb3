"""What a shell offers for values that the lake, the settings and the names know: users, keys,
tables.

Nothing is said of what goes wrong: a person who has pressed Tab can do nothing about it, and the
command says it when it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from pipeline.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:  # most completions need none of it
    from pipeline.lake.store import Lake

Offered = list[tuple[str, str]]
"""Values, and what shells that show a word beside each show: a name, or nothing."""

_DAYS: Final = 31
"""The days whose users are offered, the last that are loaded: it has to be fast."""
_MOST: Final = 100
_PLAIN: Final = re.compile(r"[\w.@+-]+")
"""Ids that mean themselves in every shell, since what is offered is put in as it is."""
_NOT_SHOWN: Final = re.compile(r"[^\w.,&@+/-]+")
"""What is left out of names that are shown: shells would run some of it, or take it for markup."""


class _InPlace(str):
    """An id that takes the place of the name that was typed: typer offers what begins as that."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        """True: it was found by its name."""
        return True


def users(incomplete: str) -> Offered:
    """The users whose id begins so, the busiest of late first; where there is none, the one user
    whose name begins so, or a word of it. None where the lake has, or is to have, pseudonyms: there
    commands take real ids, and a name would undo a pseudonym."""
    from pipeline.lake import user_id_mode
    from pipeline.lake.store import Lake

    try:
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        user_id_mode.check(lake, None)
    except (SettingsError, user_id_mode.UserIdModeError, OSError):
        return []
    if settings.pseudonyms is not None:
        return []
    return _named(_busiest(lake, incomplete), _names(settings).get("user", {}), incomplete)


def stored_users(incomplete: str) -> Offered:
    """The same for what takes ids as the lake has them: with pseudonyms, those, without names."""
    from pipeline.lake.store import Lake

    try:
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
    except (SettingsError, OSError):
        return []
    return users(incomplete) or _named(_busiest(lake, incomplete), {}, incomplete)


def keys(incomplete: str) -> Offered:
    """The ids of the keys that are set, as `users`: by their names too."""
    try:
        settings = load_settings()
    except SettingsError:
        return []
    ids = settings.keys()
    named = {id_: name for id_, name in _names(settings).get("key", {}).items() if id_ in ids}
    return _named([it for it in ids if it.startswith(incomplete)], named, incomplete)


def tables(incomplete: str) -> list[str]:
    """The tables that can be exported."""
    from pipeline.export.tables import TABLES

    return [name for name in TABLES if name.startswith(incomplete)]


def _busiest(lake: Lake, incomplete: str) -> list[str]:
    """The users of the lake whose id begins so, as it has them, the busiest first."""
    import duckdb

    from pipeline.lake import engine
    from pipeline.lake.schemas import USAGE

    table = USAGE["1d"]
    try:
        files = lake.files(table.name, lake.days(table.name)[-_DAYS:])
        if not files:
            return []
        with closing(engine.connect(lake)) as con:
            engine.bind(con, {table.name: (table, files)})
            params = {"beginning": incomplete, "at_most": _MOST}
            found = con.sql(engine.sql("users_like"), params=params).fetchall()
    except (OSError, duckdb.Error):
        return []
    return [user for (user,) in found]


def _names(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """Names by kind and real id; none where the file is wrong."""
    if not settings.names.is_file():
        return {}
    from pipeline.names.file import read_names
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        found = read_names(settings.names)
    except (HandWrittenError, OSError):
        return {}
    return {"user": found.users, "key": found.keys}


def _named(ids: Iterable[str], names: Mapping[str, str], incomplete: str) -> Offered:
    """These ids with their names; where there is none, the one that is named so. Of several a shell
    would put in what their ids have in common, in place of what was typed."""
    found = [id_ for id_ in ids if _PLAIN.fullmatch(id_)]
    if not found and incomplete:
        alike = [id_ for id_, name in names.items() if _begins(name, incomplete)]
        if len(alike) == 1:
            found = [_InPlace(id_) for id_ in alike if _PLAIN.fullmatch(id_)]
    return [(id_, _NOT_SHOWN.sub(" ", names.get(id_, "")).strip()) for id_ in found]


def _begins(name: str, incomplete: str) -> bool:
    """Whether a name, or a word of it, begins so; capitals do not matter."""
    beginning = incomplete.casefold()
    return any(word.startswith(beginning) for word in (name.casefold(), *name.casefold().split()))


USERS: Final[dict[str, Any]] = {"autocompletion": users}
STORED_USERS: Final[dict[str, Any]] = {"autocompletion": stored_users}
KEYS: Final[dict[str, Any]] = {"autocompletion": keys}
EXPORTED: Final[dict[str, Any]] = {"autocompletion": tables}
"""For typer.Option and typer.Argument, as `one_of` in `options`."""
