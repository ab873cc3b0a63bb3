"""Who is to be forgotten: the id in the tables, and how texts may write it.

An id counts as found where it stands by itself: `ada` is not in `ada2`, `ada@example.com` or
`canada`, but in `user ada`, `"ada"` and `id=ada.`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, quote_plus

from pipeline.pseudonyms import Pseudonyms

_PSEUDONYM: Final = re.compile(r"p_[0-9a-f]{32}")
_ESCAPED: Final = re.compile(r"\\+[nrt\"'/]|\\\\")
LEAST_BYTES: Final = 6
"""So many bytes at least have ids that no compressed file holds by chance."""


@dataclass(frozen=True)
class Person:
    """A person: the id that tables have of them, and all `words` that name them, that id too."""

    stored_id: str
    words: tuple[str, ...]

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """The words as they are, and as JSON and URLs write them; the longest first."""
        found = {
            form
            for word in self.words
            for form in (
                word,
                json.dumps(word)[1:-1],
                json.dumps(word, ensure_ascii=False)[1:-1],
                quote(word),
                quote(word, safe=""),
                quote_plus(word),
            )
        }
        return tuple(sorted(found, key=lambda form: (-len(form), form)))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = "|".join(map(re.escape, self.forms))
        return re.compile(rf"(?<![\w@+.-])(?:{forms})(?![\w@+-]|\.\w)")

    @cached_property
    def _bytes(self) -> re.Pattern[bytes]:
        forms = b"|".join(re.escape(form.encode()) for form in self.forms)
        before, after = rb"(?<![\w@+.\x80-\xff-])", rb"(?![\w@+\x80-\xff-]|\.\w)"
        return re.compile(before + b"(?:" + forms + b")" + after)

    @cached_property
    def portable_pattern(self) -> str:
        """The same as a regular expression that DuckDB takes."""
        forms = "|".join(re.escape(form) for form in self.forms)
        word = r"\p{L}\p{N}_"
        return rf"(^|[^{word}@+.-])({forms})($|\.$|\.[^{word}]|[^{word}@+.-])"

    def is_in(self, text: str) -> bool:
        """Whether a text names the person."""
        if not any(form in text for form in self.forms):  # nearly all texts
            return False
        return self._pattern.search(_ESCAPED.sub(" ", text)) is not None

    def is_in_bytes(self, content: bytes) -> bool:
        """Whether bytes name the person, whatever they are."""
        return self._bytes.search(content) is not None

    @property
    def is_unlikely(self) -> bool:
        """Whether no compressed bytes hold one of the forms by chance."""
        return min(len(form.encode()) for form in self.forms) >= LEAST_BYTES

    def replaced(self, text: str, name: str) -> str:
        """A text that calls the person by another name."""
        if not any(form in text for form in self.forms):
            return text
        parts = re.split(rf"({_ESCAPED.pattern})", text)  # `\nada` names ada, not nada
        return "".join(
            part if place % 2 else self._pattern.sub(name, part) for place, part in enumerate(parts)
        )


def person_of(user: str, pseudonyms: Pseudonyms | None, others: Iterable[str] = ()) -> Person:
    """Who is meant by `user`, which is a pseudonym or a real id where there are pseudonyms.

    `others` are more words that name them. ValueError where a word is empty.
    """
    is_pseudonym = pseudonyms is not None and _PSEUDONYM.fullmatch(user) is not None
    stored = pseudonyms.of(user) if pseudonyms is not None and not is_pseudonym else user
    words = tuple(dict.fromkeys([stored, user, *others]))
    if not all(word.strip() for word in words):
        raise ValueError("the id of a person is not empty: give the one that the tables have")
    return Person(stored, words)
