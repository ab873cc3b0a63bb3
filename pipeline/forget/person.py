"""Who is to be forgotten: the id in the tables, and whether a text names them.

An id counts as found where it stands by itself: `ada` is not in `ada2`, `ada@example.com` or
`canada`, but in `user ada`, `"ada"` and `id=ada.`. What base64 holds is a text like others:
Dagster keeps charts so.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pipeline.forget import writings
from pipeline.pseudonyms import Pseudonyms

_PSEUDONYM: Final = re.compile(r"p_[0-9a-f]{32}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")
_FROM_ADDRESS: Final = str.maketrans("-_", "+/")
_AS_ADDRESS: Final = str.maketrans("+/", "-_")
"""Addresses have another base64."""
LEAST_BYTES: Final = 6
"""So many bytes at least have ids that no compressed file holds by chance."""


@dataclass(frozen=True)
class Person:
    """A person: the id that tables have of them, and all `words` that name them, that id too."""

    stored_id: str
    words: tuple[str, ...]

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """The words as they are, and as texts write them; the longest first."""
        return writings.forms_of(self.words)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(writings.by_itself(self.forms, writings.PYTHON_WORD))

    @cached_property
    def _cores(self) -> tuple[str, ...]:
        return writings.cores(self.words)

    @cached_property
    def _bytes(self) -> re.Pattern[bytes]:
        forms = [form.encode().decode("latin-1") for form in self.forms]
        return re.compile(writings.by_itself(forms, writings.BYTES_WORD).encode("latin-1"))

    @property
    def parts(self) -> frozenset[str]:
        """One of these is in every text that names the person, and in others."""
        return self._packed.union(self._cores)

    @cached_property
    def _packed(self) -> frozenset[str]:
        return writings.in_base64(self._cores)

    def is_in(self, text: str) -> bool:
        """Whether a text names the person."""
        if self._may_be_in(text) and self._pattern.search(text):
            return True
        if not self._may_be_packed_in(text):
            return False
        unpacked = (_unpacked(found[0]) for found in _BASE64.finditer(text))
        return any(self.is_in(said) for said in unpacked if said is not None)

    def is_in_bytes(self, content: bytes, begin: int = 0, end: int | None = None) -> bool:
        """Whether bytes name the person, whatever they are, between two places."""
        if not any(core.encode() in content for core in self._cores):
            return False
        end = len(content) if end is None else end
        places = (found.span() for found in self._bytes.finditer(content))
        return any(begin <= first and last <= end for first, last in places)

    @property
    def is_unlikely(self) -> bool:
        """Whether no compressed bytes hold one of the forms by chance."""
        return min(len(form.encode()) for form in self.forms) >= LEAST_BYTES

    def replaced(self, text: str, name: str) -> str:
        """A text that calls the person by another name."""
        if self._may_be_in(text):
            text = self._pattern.sub(name, text)
        if not self._may_be_packed_in(text):
            return text

        def repacked(found: re.Match[str]) -> str:
            packed = found[0]
            said = _unpacked(packed)
            if said is None or (renamed := self.replaced(said, name)) == said:
                return packed
            again = b64encode(renamed.encode()).decode()
            again = again if len(packed) % 4 == 0 else again.rstrip("=")
            return again.translate(_AS_ADDRESS) if {*packed} & {*"-_"} else again

        return _BASE64.sub(repacked, text)

    def _may_be_in(self, text: str) -> bool:
        """Whether to look closer: far faster than a pattern, and no for nearly all texts."""
        return any(core in text for core in self._cores)

    def _may_be_packed_in(self, text: str) -> bool:
        return any(part in text for part in self._packed)


def person_of(user: str, pseudonyms: Pseudonyms | None, others: Iterable[str] = ()) -> Person:
    """Who is meant by `user`, which is a pseudonym or a real id where there are pseudonyms.

    `others` are more words that name them. ValueError where a word is empty, or no text.
    """
    stored = user if pseudonyms is None or is_pseudonym(user) else pseudonyms.of(user)
    words = tuple(dict.fromkeys([stored, user, *others]))
    if not all(word.strip() for word in words):
        raise ValueError("the id of a person is not empty: give the one that the tables have")
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise ValueError("the id of a person is text in UTF-8: this is none") from None
    return Person(stored, words)


def is_pseudonym(user: str) -> bool:
    """Whether an id looks like a pseudonym."""
    return _PSEUDONYM.fullmatch(user) is not None


def _unpacked(packed: str) -> str | None:
    """What base64 holds, where that is text."""
    whole = packed.rstrip("=").translate(_FROM_ADDRESS)
    try:
        return b64decode(whole + "=" * (-len(whole) % 4)).decode()
    except ValueError:  # of base64 and of UTF-8
        return None
