"""What a shell offers for values that the lake, the settings and the names know: users, keys,
models, teams, tables.

Nothing is said of what goes wrong: a person who has pressed Tab can do nothing about it, and the
command says it when it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Final

from pipeline.settings import Settings, SettingsError, load_settings

Offered = list[tuple[str, str]]
"""Values, and what shells that show a word beside each show: a name, or nothing."""

_DAYS: Final = 31
"""The days whose ids are offered, the last that are loaded: it has to be fast."""
_MOST: Final = 100
_PLAIN: Final = re.compile(r"[\w.@+-]+")
"""Ids that mean themselves in every shell, since what is offered is put in as it is."""
_USERS: Final = ("usage_1d", "user_id", "num_operations")
_LARGEST_NAMES: Final = 4_000_000
"""Bytes of a file of names that is read while somebody waits: 100,000 lines take half a second."""
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
        user_id_mode.check(Lake(settings.lake), None)
    except (SettingsError, user_id_mode.UserIdModeError, OSError):
        return []
    if settings.pseudonyms is not None:
        return []
    return _named(_used(settings, _USERS, incomplete), _names(settings).get("user", {}), incomplete)


def stored_users(incomplete: str) -> Offered:
    """The same for what takes ids as the lake has them: with pseudonyms, those, without names."""
    try:
        settings = load_settings()
    except SettingsError:
        return []
    return users(incomplete) or _named(_used(settings, _USERS, incomplete), {}, incomplete)


def keys(incomplete: str) -> Offered:
    """The ids of the keys that are set, as `users`: by their names too."""
    try:
        settings = load_settings()
    except SettingsError:
        return []
    ids = settings.keys()
    named = {id_: name for id_, name in _names(settings).get("key", {}).items() if id_ in ids}
    return _named([it for it in ids if it.startswith(incomplete)], named, incomplete)


def used_keys(incomplete: str) -> Offered:
    """The keys with usage, as `users`."""
    return _used_by("key", "usage_1d", "api_key_id", "num_operations", incomplete)


def models(incomplete: str) -> Offered:
    """The models with responses that begin so, those with the most of late first."""
    return _used_by("model", "tokens_1d", "model", "num_responses", incomplete)


def teams(incomplete: str) -> Offered:
    """The teams that somebody is in, by the file of names: by their ids, and their own names."""
    from pipeline.lake.store import Lake
    from pipeline.names.file import load_names
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        settings = load_settings()
        if not _are_soon_read(settings):
            return []
        names = load_names(settings, Lake(settings.lake))
    except (SettingsError, HandWrittenError):
        return []
    ids = sorted(names.with_members)
    named = {id_: name for id_, name in names.teams.items() if id_ in names.with_members}
    return _named([it for it in ids if it.startswith(incomplete)], named, incomplete)


def tables(incomplete: str) -> list[str]:
    """The tables that can be exported."""
    from pipeline.export.tables import TABLES

    return [name for name in TABLES if name.startswith(incomplete)]


def _used_by(kind: str, table: str, column: str, amount: str, incomplete: str) -> Offered:
    try:
        settings = load_settings()
    except SettingsError:
        return []
    found = _used(settings, (table, column, amount), incomplete)
    return _named(found, _names(settings).get(kind, {}), incomplete)


def _used(settings: Settings, what: tuple[str, str, str], incomplete: str) -> list[str]:
    """The ids of the lake that begin so, as it has them, those with most of late first.

    `what`: the table, the column of the ids, and the one of the amounts.
    """
    import duckdb

    from pipeline.lake import engine
    from pipeline.lake.schemas import DATASETS
    from pipeline.lake.store import Lake

    table, column, amount = what
    lake = Lake(settings.lake, memory=settings.memory)
    try:
        files = lake.files(table, lake.days(table)[-_DAYS:])
        if not files:
            return []
        with closing(engine.connect(lake)) as con:
            engine.bind(con, {table: (DATASETS[table], files)})
            of = f"SELECT {column} AS id, {amount} AS amount FROM {table}"
            con.execute(f"CREATE TEMP VIEW used AS {of}")
            params = {"beginning": incomplete, "at_most": _MOST}
            found = con.sql(engine.sql("ids_like"), params=params).fetchall()
    except (OSError, duckdb.Error):
        return []
    return [id_ for (id_,) in found]


def _names(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """Names by kind and real id; none where the file is wrong, or large."""
    if not _are_soon_read(settings):
        return {}
    from pipeline.names.file import read_names
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        found = read_names(settings.names)
    except (HandWrittenError, OSError):
        return {}
    return {"user": found.users, "key": found.keys}


def _are_soon_read(settings: Settings) -> bool:
    """Whether there are names, and so few that nobody waits for them."""
    try:
        return settings.names.stat().st_size <= _LARGEST_NAMES
    except OSError:
        return False


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
USED_KEYS: Final[dict[str, Any]] = {"autocompletion": used_keys}
MODELS: Final[dict[str, Any]] = {"autocompletion": models}
TEAMS: Final[dict[str, Any]] = {"autocompletion": teams}
KEYS: Final[dict[str, Any]] = {"autocompletion": keys}
EXPORTED: Final[dict[str, Any]] = {"autocompletion": tables}
"""For typer.Option and typer.Argument, as `one_of` in `options`."""
