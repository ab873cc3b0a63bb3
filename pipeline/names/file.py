"""`names.csv`: what people call users, API keys, teams and cost centres, and who is in which team.

    kind,id,name,team
    user,user_0000,Ada Lovelace,research
    key,key_web,Web shop,shop
    team,research,Research,

Usage is of the team of its user; where that has none, of the team of its key. Ids without a name
show as they are. A name is a label: what is counted, is counted by ids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Final, Literal, Protocol, cast, get_args

import msgspec
import pyarrow as pa
from msgspec import structs

from pipeline.lake.catalog import NAMES
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import claimed
from pipeline.pricing import hand_written
from pipeline.pricing.hand_written import HandWrittenError, Row
from pipeline.pseudonyms import Pseudonyms

Kind = Literal["user", "key", "team", "cost_centre"]

_KINDS: Final = frozenset(get_args(Kind))
_COLUMNS: Final = ("kind", "id", "name")
_OPTIONAL: Final = ("team",)
_FORMER: Final = {"api_key": "key"}
"""Kinds as files of before call them."""
_GROUPS: Final = ("team", "cost_centre")
_BESIDE: Final = re.compile(r" \(")
"""What stands between a name and the id beside it."""
"""Kinds that the column `team` may name: one may not have the id of another."""


class Files(hand_written.Files, Protocol):
    """Where the files that people write are, and what user ids in them are written as."""

    @property
    def names(self) -> Path: ...
    @property
    def set_names(self) -> Path | None: ...


class Named(msgspec.Struct, frozen=True, gc=False):
    """One line. `name` and `team` (an id) are empty where there is none; not both are."""

    line: int
    kind: Kind
    id: str
    name: str
    team: str


@dataclass(frozen=True)
class Names:
    """The lines of the file; none where there is no file."""

    rows: Sequence[Named] = ()
    withheld: int = 0
    """So many names of users are left out, since beside a pseudonym they would undo it."""
    unread: int = 0
    """So many lines of users are left out, since the key of the lake's pseudonyms is not set."""
    nameless: Sequence[Named] = ()
    """Lines of users that have a name alone, which is left out: they are in the file still."""

    @cached_property
    def users(self) -> dict[str, str]:
        """Names by user id."""
        return self._names("user")

    @cached_property
    def keys(self) -> dict[str, str]:
        """Names by API key id."""
        return self._names("key")

    @cached_property
    def teams(self) -> dict[str, str]:
        """Names by the id of a team or cost centre."""
        return self._names(*_GROUPS)

    @property
    def has_teams(self) -> bool:
        """Whether any user or key is in a team."""
        return bool(self.with_members)

    @cached_property
    def with_members(self) -> frozenset[str]:
        """The ids of the teams that a user or a key is in."""
        return frozenset(row.team for row in self.rows if row.team)

    @cached_property
    def table(self) -> pa.Table:
        """The names as the catalog has them (`NAMES`), in order."""
        rows = sorted(self.rows, key=attrgetter("kind", "id"))
        columns = (
            [it.kind for it in rows],
            [it.id for it in rows],
            [it.name or None for it in rows],
            [it.team or None for it in rows],
        )
        return pa.table(dict(zip(NAMES.names, columns, strict=True)), schema=NAMES)

    def of(self, kind: str) -> dict[str, str]:
        """Names by id of a user, a key or a team; of other kinds there are none."""
        by_kind = {"user": "users", "key": "keys", "team": "teams"}
        return getattr(self, by_kind[kind]) if kind in by_kind else {}

    def called(self, kind: str, id_: str | None) -> str | None:
        """The name of a user, a key or a team; None where it has none."""
        return None if id_ is None else self.of(kind).get(id_)

    def labels(self, kind: str, ids: Iterable[str]) -> dict[str, str]:
        """What to show for each of these ids: its name, else the id; no two are the same.

        Where an id of a name, or another one of `ids`, would show the same, each has its id beside:
        `Ada (u1)`, `Ada (u2)`.
        """
        names = self.of(kind)
        shown = {id_: names.get(id_, id_) for id_ in ids}
        texts = {*shown.values()}
        number = Counter(name for name in names.values() if name in texts)
        number.update(id_ for id_ in shown if id_ not in names)
        return {
            id_: it if number[it] == 1 and not _ends_with_id(it, names) else f"{it} ({id_})"
            for id_, it in shown.items()
        }

    def under(self, pseudonyms: Pseudonyms | None) -> Names:
        """The same for a lake with pseudonyms: users by those, without the names that would undo
        them. None: the key is not known, so nothing is said of users."""
        rows: list[Named] = []
        nameless: list[Named] = []
        for row in self.rows:
            if row.kind != "user":
                rows.append(row)
            elif pseudonyms is not None:
                hidden = structs.replace(row, id=pseudonyms.of(row.id), name="")
                (rows if row.team else nameless).append(hidden)
        users = [row for row in self.rows if row.kind == "user"]
        unread = len(users) if pseudonyms is None else 0
        return Names(rows, sum(bool(row.name) for row in users), unread, nameless)

    def _names(self, *kinds: str) -> dict[str, str]:
        return {row.id: row.name for row in self.rows if row.kind in kinds and row.name}


NOBODY: Final = Names()


class NamesOfNow:
    """The names as their file has them at each call, which is read again when it has changed.

    For any number of threads: a file of a million lines is read once.
    """

    def __init__(self, files: Files, lake: Lake) -> None:
        self._files = files
        self._lake = lake
        self._lock = Lock()
        self._seen = ""
        self._names = NOBODY

    @property
    def version(self) -> str:
        """What tells the names from those of another moment; nothing is read for it."""
        try:
            found = self._files.names.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            mark = (0, 0, 0)
        return repr((mark, claimed(self._lake)))

    def __call__(self) -> Names:
        """The names. HandWrittenError."""
        with self._lock:
            if (version := self.version) != self._seen:
                self._names = load_names(self._files, self._lake)
                self._seen = version
            return self._names


def read_names(path: Path, *, needed: bool = False) -> Names:
    """The names in a file; none where there is no file, unless it is `needed`.

    Ids are real ones. Raises HandWrittenError, one line that names file, line and column, and
    quotes no id of a user.
    """
    found: dict[tuple[str, str], Named] = {}
    for row in hand_written.rows(path, _COLUMNS, _OPTIONAL, must_exist=needed, quoted=False):
        named = _named(row)
        space = "team" if named.kind in _GROUPS else named.kind
        before = found.setdefault((space, named.id), named)
        if before is not named:
            raise HandWrittenError(
                f"{row.place('id')}: this {_word(named.kind)} stands in line {before.line} already"
                + (f" as a {_word(before.kind)}" if before.kind != named.kind else "")
            )
    return Names(tuple(found.values()))


def load_names(files: Files, lake: Lake, path: Path | None = None) -> Names:
    """The names that the settings name, or those in `path`, by the ids that the lake holds.

    HandWrittenError.
    """
    if path is not None:
        names = read_names(path, needed=True)
    else:
        names = read_names(files.names, needed=files.set_names is not None)
    held = claimed(lake)
    if files.pseudonyms is not None or (held is not None and held[0] is not None):
        return names.under(files.pseudonyms)
    return names


def _named(row: Row) -> Named:
    kind = _FORMER.get(row.cells["kind"], row.cells["kind"])
    if kind not in _KINDS:  # not quoted: in a line without a kind, it is an id
        raise HandWrittenError(f"{row.place('kind')}: write user, key, team or cost_centre")
    name = row.cells["name"] and row.label("name")
    team = row.cells["team"] and row.text("team")
    if kind in _GROUPS and team:
        raise HandWrittenError(
            f"{row.place('team')}: leave it empty: a {_word(kind)} is in no other team"
        )
    if not name and not team:
        needed = "the name is empty" if kind in _GROUPS else "neither name nor team is given"
        raise HandWrittenError(f"{row.place('name')}: {needed}")
    return Named(row.number, cast("Kind", kind), row.text("id"), name, team)


def _ends_with_id(text: str, names: Mapping[str, str]) -> bool:
    """Whether a text is what another id can show, which has its id beside: `Ada (u1)`."""
    if not text.endswith(")"):
        return False
    ids = ((text[: it.start()], text[it.end() : -1]) for it in _BESIDE.finditer(text))
    return any(names.get(id_, id_) == name for name, id_ in ids)


def _word(kind: str) -> str:
    return kind.replace("_", " ")
