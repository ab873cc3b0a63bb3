"""How texts write an id: in JSON, addresses, XML, CSV, SQL and shells, and where it ends.

Belongs here: the forms of a word, and what may stand before and behind it. An id stands by itself
where no letter, digit, `_`, `@`, `+`, `.` or `-` joins it to more, escaped or not: `ada` is not in
`ada%40example.com`, which is how an address writes `ada@example.com`.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

_UNQUOTED: Final = ("", "/", "!'()*", "!$&'()*+,;=:@/", "!#$&'()*+,/:;=?@")
"""What different clients leave as it is in an address."""
_QUOTES: Final[tuple[dict[str, str], ...]] = (
    {'"': "&quot;", "'": "&#x27;"},
    {'"': "&#34;", "'": "&#39;"},
    {'"': "&quot;", "'": "&#39;"},
    {'"': "&quot;", "'": "&apos;"},
    {'"': "&quot;"},
    {},
)
"""How XML and HTML write quotation marks."""

_CORE: Final = re.compile("[A-Za-z0-9]{3,}")
"""What no text escapes."""
_ALERTS: Final = 80
_DIGEST: Final = 60
"""So many characters of an id alerts show at most, and digests."""

# Hex digits of the ASCII characters that separate words, and of others: general punctuation,
# Latin-1's signs, and those of CJK.
_SIGN: Final = r"(?:[01][0-9A-Fa-f]|2[0-9ACFacf]|3[A-Fa-f]|5[B-Eb-e]|60|7[B-Fb-f])"
_WIDE_SIGN: Final = r"(?:00[89ABab][0-9A-Fa-f]|20[0-9A-Fa-f]{2}|30[0-3][0-9A-Fa-f])"
_SIGN_BYTES: Final = r"(?:[Cc]2|[Ee]2%80|[Ee]3%80)"
_HEX: Final = "[0-9A-Fa-f]"
_JOINS: Final = "@+.-"
PYTHON_WORD: Final = r"\w"
BYTES_WORD: Final = r"\w\x80-\xff"


def forms_of(words: Iterable[str]) -> tuple[str, ...]:
    """The words as they are, and as texts write them; the longest first."""
    found = {form for word in words for shown in _shown(word) for form in _forms(shown)}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def cores(words: Iterable[str]) -> tuple[str, ...]:
    """For each word what all of its forms have in them, to be looked for first; all forms, where
    one has no such part."""
    found = {max(_CORE.findall(word[: _DIGEST // 2]), key=len, default="") for word in words}
    return forms_of(words) if "" in found else tuple(sorted(found))


def _shown(word: str) -> Iterator[str]:
    """An id as it is, and as alerts and digests show it: on one line, cut where it is long."""
    yield word
    cut = word[:_ALERTS] + ("…" if len(word) > _ALERTS else "")
    yield "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in cut)
    line = "".join(it if it.isprintable() else f"\\u{ord(it):04x}" for it in word)
    yield line
    if len(line) > _DIGEST:
        last = (_DIGEST - 1) // 3
        yield f"{line[: _DIGEST - 1 - last]}…{line[-last:]}"


def _forms(word: str) -> Iterator[str]:
    markup = {escape(word, quotes) for quotes in _QUOTES} | {html.escape(word)}
    markup |= {it.encode("ascii", "xmlcharrefreplace").decode() for it in markup}
    quoted = {word.replace("'", "''"), word.replace('"', '""')}
    quoted |= {it.replace("'", "'\"'\"'") for it in quoted}
    plain = {word, *markup, *quoted}
    yield from plain
    for form in plain:  # as JSON, and as JSON that is a text of JSON
        for once in {*_as_json(form)}:
            yield once
            yield from _as_json(once)
    yield from {repr(word)[1:-1], ascii(word)[1:-1], str(word.encode())[2:-1]}
    for address in {*(quote(word, safe=safe) for safe in _UNQUOTED), quote_plus(word)}:
        yield address
        yield re.sub("%..", lambda found: found[0].lower(), address)
        yield from _as_json(address)


def _as_json(text: str) -> Iterator[str]:
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    escaped = json.dumps(text)[1:-1]
    yield escaped
    yield re.sub(r"\\u....", lambda found: rf"\u{found[0][2:].upper()}", escaped)
    yield re.sub("[&<>']", lambda found: f"\\u{ord(found[0]):04x}", escaped)  # as for a page


def by_itself(forms: Iterable[str], word: str) -> str:
    """A pattern for `re` that finds one of the forms where it stands by itself.

    `word`: the characters of words, as a class has them.
    """
    joins = f"{word}{_JOINS}"
    before = [rf"(?<![{joins}])", r"(?<=\\[nrt])", f"(?<=%{_SIGN})", rf"(?<=\\u00{_SIGN})"]
    before += [rf"(?<=\\u{_WIDE_SIGN})", f"(?<=%[Ee]2%80%[89ABab]{_HEX})"]
    behind = [f"[{word}@+-]", rf"\.[{word}]"]
    behind += [f"%(?!{_SIGN}|{_SIGN_BYTES}){_HEX}{{2}}"]
    behind += [rf"\\+u(?!00{_SIGN}|{_WIDE_SIGN}){_HEX}{{4}}"]
    every = "|".join(map(re.escape, forms))
    return f"(?:{'|'.join(before)})(?:{every})(?!{'|'.join(behind)})"


def in_base64(parts: Iterable[str]) -> frozenset[str]:
    """What stands in any base64 of a text that has one of the parts, wherever it begins there."""
    found: set[str] = set()
    for part in parts:
        content = part.encode()
        for before in range(3):
            whole = b64encode(b"\0" * before + content).decode().rstrip("=")
            inner = whole[before + 1 if before else 0 :]
            inner = inner[:-1] if (before + len(content)) % 3 else inner
            found |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    return frozenset(found)
