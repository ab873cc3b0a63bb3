"""Who has been forgotten, and what the lake calls them from then on.

<lake>/.forgotten.json    {"lists": [{"key": …, "people": {<keyed hash of an id>: <name>}}],
                          "unfinished": [<keyed hash>]}

No id stands there. HMAC-SHA256 over an id says whether it is that of somebody forgotten: to whoever
has the file and guesses the id, too, which no list can avoid that later loads go by. A name is
random, so it leads nowhere, and each person has one of their own, so that users are still counted
right. Lists of several homes that share a lake stay beside each other, each with its key.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, overload

import pyarrow.compute as pc

from pipeline.lake.files import row_groups
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake, private_folder, replacing
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.pseudonyms import Pseudonyms, UserIds

PREFIX: Final = "forgotten_"
"""How the names begin of those who were forgotten."""
FORGOTTEN: Final = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
"""What the names look like."""

_FILE: Final = ".forgotten.json"
_STRINGS: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD: Final = re.compile(r"[\w@+.-]+")
"""What may be an id, as `pipeline/forget/writings.py` has it: a list of hashes knows whole ones."""
_AROUND: Final = ".,;:!?()[]{}<>\"'"
_REMEMBERED: Final = 1 << 17
"""So many ids are kept in memory, as those of pseudonyms are."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Names by keyed hashes, for each key. `unfinished`: the hashes of those who were begun with,
    and are not known to be out of every file yet."""

    lists: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    unfinished: frozenset[str] = frozenset()
    _known: dict[str, str | None] = field(
        default_factory=dict[str, "str | None"], repr=False, compare=False
    )

    def __bool__(self) -> bool:
        return any(self.lists.values())

    def name_of(self, stored_id: str) -> str | None:
        """What somebody is called, by the id that the lake knew; None for those not forgotten."""
        if stored_id in self._known:
            return self._known[stored_id]
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        found = (people.get(_hash(key, stored_id)) for key, people in self.lists.items() if people)
        name = self._known[stored_id] = next((name for name in found if name is not None), None)
        return name

    def is_named_in(self, said: str) -> bool:
        """Whether a text of JSON is of somebody forgotten: has their id as a string of its own, or
        as a word of one."""
        strings = (json.loads(f'"{text}"', strict=False) for text in _STRINGS.findall(said))
        return any(
            self.name_of(word) is not None for text in strings for word in {text, *_words(text)}
        )

    @property
    def names(self) -> frozenset[str]:
        """The names of all who were forgotten."""
        return frozenset(name for people in self.lists.values() for name in people.values())

    @property
    def public(self) -> str:
        """The lists as text, for others that share the lake."""
        return json.dumps([{"key": key, "people": dict(of)} for key, of in self.lists.items()])


@dataclass(frozen=True, slots=True)
class _LakeIds:
    """User ids as a lake has them: pseudonyms where those are used, and names of the forgotten."""

    forgotten: Forgotten
    pseudonyms: Pseudonyms | None

    @overload
    def of(self, user_id: str) -> str: ...
    @overload
    def of(self, user_id: str | None) -> str | None: ...
    def of(self, user_id: str | None) -> str | None:
        """What the lake calls a user."""
        if user_id is None:
            return None
        stored = self.pseudonyms.of(user_id) if self.pseudonyms else user_id
        return self.forgotten.name_of(stored) or stored

    def hides(self, user_id: str | None, said: str) -> bool:
        """Whether what else is said of a user, which may name people, is left out."""
        if self.pseudonyms is not None:
            return True
        of_forgotten = user_id is not None and self.forgotten.name_of(user_id) is not None
        return of_forgotten or self.forgotten.is_named_in(said)


class LakeIds:
    """Whose name the lake keeps, looked up again whenever somebody was forgotten meanwhile."""

    def __init__(self, lake: Lake, pseudonyms: Pseudonyms | None) -> None:
        self._path = lake.root / _FILE
        self._pseudonyms = pseudonyms
        self._seen: tuple[int, int] | None = None
        self._ids: UserIds | None = pseudonyms

    @property
    def now(self) -> UserIds | None:
        """What users are called; None: as the API calls them. UserIdModeError as `forgotten`."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._pseudonyms
        if self._seen != (seen := (found.st_ino, found.st_mtime_ns)):
            known = _read(self._path)
            self._ids = _LakeIds(known, self._pseudonyms) if known else self._pseudonyms
            self._seen = seen
        return self._ids


def forgotten(lake: Lake) -> Forgotten:
    """Who was forgotten in a lake.

    UserIdModeError where that can't be read: whoever goes on without it brings them back.
    """
    return _read(lake.root / _FILE)


def begin(lake: Lake, stored_id: str) -> str:
    """Note that somebody is to be forgotten, by the id that the lake knows; returns their name.

    Once it is noted every load writes the name. Whoever is noted already keeps their name.
    """
    with lake.lock("forgotten"):
        known = forgotten(lake)
        name = known.name_of(stored_id)
        lists = {key: dict(people) for key, people in known.lists.items()}
        if name is None:
            key = next(iter(lists), secrets.token_hex(32))
            name = PREFIX + secrets.token_hex(8)
            lists.setdefault(key, {})[_hash(key, stored_id)] = name
        mine = {digest for key in lists if (digest := _hash(key, stored_id)) in lists[key]}
        _write(lake, Forgotten(lists, known.unfinished | mine))
        return name


def finish(lake: Lake, stored_id: str) -> None:
    """Note that somebody is out of every file that was found."""
    with lake.lock("forgotten"):
        known = forgotten(lake)
        mine = {_hash(key, stored_id) for key in known.lists}
        if known.unfinished & mine:
            _write(lake, Forgotten(known.lists, known.unfinished - mine))


def learn(lake: Lake, public: str) -> bool:
    """Take over who was forgotten elsewhere; returns whether somebody is new.

    ValueError where `public` is not what `Forgotten.public` says.
    """
    try:
        theirs = _lists(json.loads(public))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    with lake.lock("forgotten"):
        known = forgotten(lake)
        lists = {key: dict(people) for key, people in known.lists.items()}
        for key, people in theirs.items():
            lists[key] = {**lists.get(key, {}), **people}
        if lists == {key: dict(people) for key, people in known.lists.items()}:
            return False
        _write(lake, Forgotten(lists, known.unfinished))
        return True


def names_forgotten(known: Forgotten, version: Path) -> bool:
    """Whether a version of a day has rows of somebody who was forgotten, by their id."""
    if not known:
        return False
    for path in version.glob("*.parquet"):
        if "user_id" not in DATASETS[path.stem].schema.names:
            continue
        for batch in row_groups(path, ["user_id"]):
            ids = pc.unique(batch.column("user_id")).drop_null().to_pylist()
            if any(known.name_of(one) is not None for one in ids):
                return True
    return False


def _words(text: str) -> set[str]:
    runs = {word.rstrip(".") for word in _WORD.findall(text)}
    return runs.union(word.strip(_AROUND) for word in text.split())


def _read(path: Path) -> Forgotten:
    try:
        facts = json.loads(path.read_bytes())
        return Forgotten(_lists(facts["lists"]), frozenset(facts["unfinished"]))
    except FileNotFoundError:
        return Forgotten()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserIdModeError(
            f"{path} does not say who was forgotten, so a load could bring them back: put back the "
            "file that was there"
        ) from None


def _lists(facts: Any) -> dict[str, dict[str, str]]:
    return {
        str(one["key"]): {str(digest): str(name) for digest, name in one["people"].items()}
        for one in facts
    }


def _write(lake: Lake, known: Forgotten) -> None:
    private_folder(lake.root)
    facts = {
        "lists": [{"key": key, "people": dict(people)} for key, people in known.lists.items()],
        "unfinished": sorted(known.unfinished),
    }
    with replacing(lake.root / _FILE) as aside:
        aside.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _hash(key: str, stored_id: str) -> str:
    # Half of a character, which JSON can escape and no UTF-8 holds, is no id, and is asked about.
    content = stored_id.encode("utf-8", "surrogatepass")
    return hmac.digest(bytes.fromhex(key), content, "sha256").hex()
