"""Text that is not Unicode: read without loss, reported, and never merged with other text.

Half of a surrogate pair, and bytes that are not UTF-8, are written with a backslash (docs/api.md,
"Text that is not Unicode"). An odd number of backslashes before `ud83d` or `x{ff}` stands for what
is not Unicode, an even number for text; `as_sent` goes back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from pipeline.api.errors import MalformedBody, ShapeError
from pipeline.messages import be, count

T = TypeVar("T")

Note = Callable[[str, int], None]
"""Called with a field, and how many of its texts are not Unicode."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

# In all of these, `\\` in JSON is one backslash, and any character may stand as an escape.
_BACKSLASH: Final = r"(?:\\\\|\\u005[cC])"
_HEX: Final = r"(?:[0-9a-f]|\\u00(?:3[0-9]|6[1-6]))"
_UPPER_HALF: Final = r"(?:[89a-f]|\\u00(?:3[89]|6[1-6]))"
_LOOKS_LIKE_HALF: Final = rf"(?:u|\\u0075)(?:d|\\u0064){_UPPER_HALF}{_HEX}{_HEX}"
_LOOKS_LIKE_BYTE: Final = rf"(?:x|\\u0078)(?:\{{|\\u007[bB]){_UPPER_HALF}{_HEX}(?:\}}|\\u007[dD])"
_HALF_IN_BYTES: Final = "\udced[\udca0-\udcbf][\udc80-\udcbf]"
_PIECE: Final = re.compile(
    rf"(?P<backslashes>{_BACKSLASH}*+)"
    r"(?:(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    # Bytes that are not UTF-8, as Python's `surrogateescape` has them.
    rf"|(?P<half_in_bytes>{_HALF_IN_BYTES})"
    rf"|(?P<bytes>(?:(?!{_HALF_IN_BYTES})[\udc80-\udcff]){{1,4096}}+)"
    rf"|(?P<alike>{_LOOKS_LIKE_HALF}|{_LOOKS_LIKE_BYTE}))"
    rf"|{_BACKSLASH}++|\\u[0-9a-fA-F]{{4}}|\\.",
    re.DOTALL,
)
_SUSPECT: Final = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
    rb"|\\(?:\\|u005[cC])"
    rb"(?:(?:u|\\u0075)(?:d|\\u0064)|(?:x|\\u0078)(?:\{|\\u007[bB]))",
    re.DOTALL,
)
"""What may have to be written otherwise, in a body with backslashes; it may find too much."""
_TOKEN: Final = re.compile(
    rb'(?:[^"{}]++|"[ !#-\[\]-\x7f]*+")++'
    rb'|("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))([ \t\r\n]*+:)?'
    rb"|[{}]",
    re.DOTALL,
)
"""What stays as it is, up to the next edge of an object; a string that may not; such an edge."""
_MOST_ADDED: Final = 16 * 1024 * 1024
"""Bytes. A byte that is not UTF-8 is written as seven, and memory has a bound."""
_KEY_BEFORE: Final = re.compile(rb'"([^"\\]{1,40})"[ \t\r\n]*+:[ \t\r\n\[]*+\Z')
_LOOK_BACK: Final = 64
_WRITTEN: Final = re.compile(r"(\\+)(ud[89a-f][0-9a-f]{2}|x\{[89a-f][0-9a-f]\})")


def read(body: bytes, decode: Callable[[bytes], T], rows_at: int, note: Note) -> T:
    """What `decode` makes of a JSON body, its text written as Unicode.

    `rows_at` is how many objects deep the fields of a row stand: `note` gets fields, and nothing
    that is deeper. A byte order mark is left out. Raises what `decode` does, MalformedBody
    only where the body is broken otherwise; and ShapeError for megabytes that are not Unicode.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if b"\\" not in body or not _SUSPECT.search(body):
        try:
            return decode(body)
        except MalformedBody:
            pass  # not raised again from here: it may carry along what people wrote
    written, found = _rewritten(body, rows_at)
    value = decode(written)
    for field, number in found.items():
        note(field, number)
    return value


def as_sent(text: str) -> str:
    """The text as the API knows it; what is not Unicode is in it as lone surrogates."""
    return text if "\\" not in text else _WRITTEN.sub(_sent, text)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it: half of a surrogate pair is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_sendable(text: str) -> bool:
    """Whether a text that the API gave can be sent back to it."""
    return is_unicode(as_sent(text))


class OddText:
    """How many texts were not Unicode, by endpoint and field. Clients may share one."""

    def __init__(self) -> None:
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, endpoint: str, field: str, number: int) -> None:
        """Note so many texts of a field."""
        self._found[endpoint, field] += number

    def sentences(self) -> list[str]:
        """A sentence for each field, without anything that the texts say; then nothing is left."""
        found, self._found = self._found, Counter()
        return [
            f"{endpoint}: {count(number, 'text')} in {field} {be(number)} not Unicode "
            r"(half a surrogate pair, or bytes that are not UTF-8), written with \ud83d or \x{ff} "
            "in the place of each"
            for (endpoint, field), number in sorted(found.items())
        ]


def unnoted(field: str, number: int) -> None:
    """A note that keeps nothing."""


def _rewritten(body: bytes, rows_at: int) -> tuple[bytes, Mapping[str, int]]:
    """The body with all its strings as Unicode, and in which fields some were not."""
    written = bytearray()
    found: Counter[str] = Counter()
    done = depth = 0
    of_row = ""
    for token in _TOKEN.finditer(body):
        text: bytes | None = token[1]
        if text is not None:
            string, odd = _string(text)
            if odd and token[2] is not None:
                found["the name of a field"] += 1
            elif odd:
                found[of_row if depth > rows_at else _key_before(body, token.start())] += 1
            if string != text:
                written += body[done : token.start()]
                written += string
                done = token.end(1)
            if len(written) - done > _MOST_ADDED:
                raise ShapeError("JSON with more text that is not Unicode than is taken in")
        elif token[0] == b"{":
            if depth == rows_at:
                of_row = _key_before(body, token.start(), of_row)
            depth += 1
        elif token[0] == b"}":
            depth -= 1
    return (bytes(written + body[done:]) if done else body), found


def _key_before(body: bytes, place: int, otherwise: str = "a list") -> str:
    """The name of the field whose value, or list of values, begins at that place."""
    key = _KEY_BEFORE.search(body, max(0, place - _LOOK_BACK), place)
    if key is None:
        return otherwise
    name = key[1].decode("ascii", "replace")
    return "".join(char if char.isprintable() else "?" for char in name)


def _string(text: bytes) -> tuple[bytes, bool]:
    """A JSON string as Unicode, and whether it was not."""
    string = text.decode("utf-8", "surrogateescape")
    written = bytearray()
    done, odd = 0, False
    for piece in _PIECE.finditer(string):
        kind = piece.lastgroup
        if kind in {None, "pair"}:
            continue
        odd = odd or kind != "alike"
        written += string[done : piece.start()].encode("utf-8", "surrogateescape")
        written += b"\\\\" * (2 * len(re.findall(_BACKSLASH, piece["backslashes"])))
        written += _code(str(kind), piece[str(kind)])
        done = piece.end()
        if len(written) - len(text) > _MOST_ADDED:
            break  # the caller refuses it
    return bytes(written + string[done:].encode("utf-8", "surrogateescape")), odd


def _code(kind: str, piece: str) -> bytes:
    """How JSON has what is written for a piece of the body; `alike` is honest text."""
    raw = piece.encode("utf-8", "surrogateescape")
    match kind:
        case "half":
            return b"\\" + raw.lower()
        case "half_in_bytes":
            return b"\\\\u%04x" % ord(raw.decode("utf-8", "surrogatepass"))
        case "bytes":
            return b"\\\\x{%b}" % raw.hex("|").encode().replace(b"|", b"}\\\\x{")
        case _:
            return raw


def _sent(written: re.Match[str]) -> str:
    backslashes, code = len(written[1]), written[2]
    if backslashes % 2 == 0:
        return backslashes // 2 * "\\" + code
    number = int(code[1:], 16) if code[0] == "u" else 0xDC00 + int(code[2:-1], 16)
    return backslashes // 2 * "\\" + chr(number)
