"""What may be done to a body on its way: one change at a time, drawn by dice.

Belongs here: changes to JSON of any endpoint and to the bytes of a body.

JSON is taken apart into objects that may hold a key twice (`Pairs`), arrays and tokens, which stand
as they are written: so a change may leave what no JSON library would write.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any, Final

DEEP: Final = 100_000


class Pairs(list[tuple[str, Any]]):
    """An object: its keys and values in order, a key perhaps twice."""


class Token(str):
    """A value as it stands in JSON."""


@dataclass(frozen=True, slots=True)
class Body:
    """What goes over the wire instead of a body."""

    wire: bytes
    encoding: str | None = None

    def plain(self) -> bytes | None:
        """The body that it holds; None where it can't be unpacked to its end."""
        if self.encoding is None:
            return self.wire
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            body = unpack.decompress(self.wire) + unpack.flush()
            return body if unpack.eof else None  # without its end, its checksum was not looked at
        except zlib.error:
            return None


def taken_apart(body: bytes) -> Any:
    """A JSON body as Pairs, lists and tokens."""
    return json.loads(
        body,
        object_pairs_hook=Pairs,
        parse_int=Token,
        parse_float=Token,
        parse_constant=Token,
    )


def put_together(value: Any) -> str:
    """JSON, or what was made of it; halves of surrogate pairs stay what they are."""
    if isinstance(value, Pairs):
        pairs = (f"{json.dumps(name)}:{put_together(one)}" for name, one in value)
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(put_together, value))}]"
    return str(value) if isinstance(value, Token) else json.dumps(value, ensure_ascii=False)


NUMBERS: Final = tuple(
    map(
        Token,
        (
            *("0", "-0", "1", "-1", "3", "4", "5.0", "5e0", "0.5", "1E2", "-0.0", "1e-400"),
            *(str(2**31), str(2**53 + 1), str(2**63 - 1), str(2**63), str(-(2**63)), str(2**64)),
            *("1e400", "-1e400", "9" * 400, "1" * 4_000, "7" * 10_000, "-" + "7" * 10_000),
            *("NaN", "Infinity", "-Infinity", "05", "+5", ".5", "5.", "0x5", "1_000", "1e"),
        ),
    )
)
TEXTS: Final = (
    *("", " ", "5", "null", "true", "u", "ü", "ü", "日本", "😀", "\u202eabc", "a\x00b"),
    *("a\nb", '"', "\\", "'; DROP TABLE usage_1m; --", "x" * 10_000, "\ufeff", "\uffff", "NaN"),
)
ODD: Final = tuple(
    map(
        Token,
        (
            *(
                "null",
                "true",
                "false",
                "[]",
                "{}",
                "[null]",
                '{"":null}',
                '[[["x"]]]',
                "nul",
                "",
                " ",
            ),
            *('"\\ud800"', '"\\udfff\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x41"', '"open'),
            *(
                '"a\x00b"',
                '"a\nb"',
                '"tab\tbed"',
                "\x00",
                "/* */ 1",
                "1 // one",
                "'single'",
                "[1,]",
            ),
            *("[" * 50 + "]" * 50, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP),
            *('{"a":1,"a":2}', "undefined", "True", "None"),
        ),
    )
)
SHIFTS: Final = (1, -1, 30, 60, -60, 120, -120, 3_600, -3_600, 86_400, -86_400, 10**6, 10**12)


def anything(random: Random) -> Any:
    """A value of any type, mostly one that does not belong where it goes."""
    return random.choice(random.choice((NUMBERS, TEXTS, ODD)))


def places(value: Any) -> Iterator[tuple[Any, int]]:
    """Each value inside, as what it is in and its place there."""
    if isinstance(value, list):
        for place in range(len(value)):
            yield value, place
            one = value[place]
            yield from places(one[1] if isinstance(value, Pairs) else one)


def put(container: Any, place: int, value: Any) -> None:
    """Replace a value, under the key that it has in an object."""
    container[place] = (container[place][0], value) if isinstance(container, Pairs) else value


def got(container: Any, place: int) -> Any:
    """The value there."""
    return container[place][1] if isinstance(container, Pairs) else container[place]


def under(value: Any, name: str) -> Iterator[tuple[Any, int]]:
    """The places of a key, anywhere inside."""
    for container, place in places(value):
        if isinstance(container, Pairs) and container[place][0] == name:
            yield container, place


def _any_of(random: Random, tree: Any, kind: type[Any]) -> Any:
    """An object or array inside, the whole among them; the outermost as likely as all others.

    None that is empty, where there are any.
    """
    found = [tree, *(got(*place) for place in places(tree))]
    found = [one for one in found if type(one) is kind]
    full = [one for one in found if one] or found or [kind()]
    return random.choice((full[0], random.choice(full)))


def _place(random: Random, tree: Any) -> tuple[Any, int]:
    """Any place, those near the root as likely as the many far from it."""
    by_depth: dict[str, list[tuple[Any, int]]] = {}
    for container, place in places(tree):
        name = container[place][0] if isinstance(container, Pairs) else "[]"
        by_depth.setdefault(name, []).append((container, place))
    return random.choice(by_depth[random.choice(sorted(by_depth))])


def drop_key(random: Random, tree: Any) -> None:
    """One key less."""
    pairs = _any_of(random, tree, Pairs)
    if pairs:
        del pairs[random.randrange(len(pairs))]


def repeat_key(random: Random, tree: Any) -> None:
    """A key twice, with the same value or another, before the true one or behind it."""
    container, place = _place(random, tree)
    if isinstance(container, Pairs):
        name, value = container[place]
        other = random.choice((value, anything(random)))
        container.insert(random.choice((0, place, place + 1, len(container))), (name, other))


def reorder_keys(random: Random, tree: Any) -> None:
    """An object's keys in another order."""
    random.shuffle(_any_of(random, tree, Pairs))


def rename_key(random: Random, tree: Any) -> None:
    """A key under another name."""
    pairs = _any_of(random, tree, Pairs)
    if pairs:
        place = random.randrange(len(pairs))
        name, value = pairs[place]
        pairs[place] = (random.choice((name.upper(), name + " ", "", "x" + name, "ü")), value)


def add_key(random: Random, tree: Any) -> None:
    """A key that the contract does not know."""
    name = random.choice(("tier", "org_id", "", "ü", "a\x00b", "user_Id", "results ", "x" * 1_000))
    pairs = _any_of(random, tree, Pairs)
    pairs.insert(random.randint(0, len(pairs)), (name, anything(random)))


def replace_value(random: Random, tree: Any) -> None:
    """Any value by any other."""
    put(*_place(random, tree), anything(random))


def replace_number(random: Random, tree: Any) -> None:
    """A number by another."""
    found = [place for place in places(tree) if isinstance(got(*place), Token)]
    if found:
        put(*random.choice(found), random.choice(NUMBERS))


def miscount(random: Random, tree: Any) -> None:
    """A whole number that is a little off, as no client could notice."""
    found = [place for place in places(tree) if re.fullmatch(r"\d+", str(got(*place)))]
    if found:
        place = random.choice(found)
        put(*place, Token(int(got(*place)) + random.choice((1, 2, 10, -1))))


def retell_id(random: Random, tree: Any) -> None:
    """A text by another, or by one that stands elsewhere."""
    found = [place for place in places(tree) if type(got(*place)) is str]
    if found:
        elsewhere = got(*random.choice(found))
        put(*random.choice(found), random.choice((*TEXTS, elsewhere)))


def shorten(random: Random, tree: Any) -> None:
    """An array that lacks some of what it held."""
    array = _any_of(random, tree, list)
    for _ in range(random.randint(1, max(1, len(array)))):
        if array:
            del array[random.randrange(len(array))]


def repeat(random: Random, tree: Any) -> None:
    """An array that holds something twice, at times not quite the same."""
    array = _any_of(random, tree, list)
    if array:
        again = deepcopy(random.choice(array))
        if random.random() < 0.5:
            random.choice((miscount, shorten, drop_key))(random, again)
        array.insert(random.randint(0, len(array)), again)


def reorder(random: Random, tree: Any) -> None:
    """An array in another order."""
    array = _any_of(random, tree, list)
    random.choice((random.shuffle, list.reverse))(array)


def nothing_in_it(random: Random, tree: Any) -> None:
    """Null in an array, or an object or array that is empty."""
    array = _any_of(random, tree, list)
    array.insert(random.randint(0, len(array)), Token(random.choice(("null", "{}", "[]"))))


def shift(random: Random, tree: Any) -> None:
    """Times that lie elsewhere: of one bucket, or an edge of it alone."""
    found = [
        pairs
        for pairs in (got(*place) for place in places(tree))
        if isinstance(pairs, Pairs) and {"start_time", "end_time"} <= {name for name, _ in pairs}
    ]
    if found:
        bucket, by = random.choice(found), random.choice(SHIFTS)
        edges = random.choice((("start_time", "end_time"), ("start_time",), ("end_time",)))
        for name in edges:
            for container, place in under(bucket, name):
                if re.fullmatch(r"-?\d{1,20}", str(got(container, place))):
                    put(container, place, Token(int(got(container, place)) + by))


def promise(random: Random, tree: Any) -> None:
    """`has_more` and `next_page` that say something else."""
    for container, place in under(tree, "has_more"):
        put(container, place, random.choice((True, False)))
    cursors = (None, "", "0", "p+/=& ", "ü", "x" * 3_000)
    for container, place in under(tree, "next_page"):
        if random.random() < 0.7:
            put(container, place, random.choice(cursors))


CHANGES: Final[Mapping[str, Callable[[Random, Any], None]]] = {
    change.__name__: change
    for change in (
        *(drop_key, repeat_key, reorder_keys, rename_key, add_key, replace_value, replace_number),
        *(miscount, retell_id, shorten, repeat, reorder, nothing_in_it, shift, promise),
    )
}
"""What may be done to JSON of any endpoint."""


def cut(random: Random, body: bytes) -> bytes:
    """The beginning alone."""
    return body[: random.randrange(len(body))]


def cut_out(random: Random, body: bytes) -> bytes:
    """Without a piece in the middle."""
    start, end = sorted(random.randrange(len(body) + 1) for _ in range(2))
    return body[:start] + body[end:]


def flip(random: Random, body: bytes) -> bytes:
    """A few bytes that are others."""
    changed = bytearray(body)
    for _ in range(random.choice((1, 1, 1, 2, 20))):
        changed[random.randrange(len(changed))] = random.choice((random.randrange(256), 0x39, 0x22))
    return bytes(changed)


STRAYS: Final = (
    *(
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xc0\x80",
        b"\x1f",
        b"\x7f",
    ),
    *(
        b"\xef\xbb\xbf",
        b" ",
        b"\n",
        b"\x0b",
        b"\xc2\xa0",
        b",",
        b'"',
        b"\\",
        b"}",
        b"]",
        b"0",
        b"-",
    ),
)


def stray_bytes(random: Random, body: bytes) -> bytes:
    """Bytes that do not belong there: at the ends, or anywhere."""
    at = random.choice((0, len(body), random.randrange(len(body)), random.randrange(len(body))))
    return body[:at] + random.choice(STRAYS) + body[at:]


def stray_in_text(random: Random, body: bytes) -> bytes:
    """Bytes that do not belong there, right behind a quotation mark."""
    at = random.choice([match.end() for match in re.finditer(b'"', body)] or [0])
    return body[:at] + random.choice(STRAYS) + body[at:]


def another_code(random: Random, body: bytes) -> bytes:
    """Another encoding of the same text."""
    codes = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp500")
    return body.decode("utf-8", "replace").encode(random.choice(codes), "replace")


def another_body(random: Random, body: bytes) -> bytes:
    """Something that has nothing to do with it."""
    return random.choice(
        (
            *(
                b"",
                b" ",
                b"\n",
                b"null",
                b"{}",
                b"[]",
                b'""',
                b"0",
                b"<!doctype html>",
                b"\x00" * 99,
            ),
            *(b'{"error": "Rate limit exceeded"}', b'{"data": [], "has_more": false}'),
            *(b'{"data": [], "has_more": true, "next_page": "x"}', b"[" * DEEP, b'{"data":' * DEEP),
            *(random.randbytes(200), body + body, body + b"\n" + body, b"[" + body + b"]"),
        )
    )


def huge(random: Random, body: bytes) -> bytes:
    """Blown up to two megabytes, by nothing or by something."""
    padding = random.choice((b" ", b"\n", b'"x":"%s",' % (b"y" * 2_000), b"1234567890"))
    at = random.choice((0, 1, len(body)))
    return body[:at] + padding * (2_000_000 // len(padding)) + body[at:]


WRITTEN: Final[Mapping[str, Callable[[Random, bytes], bytes]]] = {
    change.__name__: change
    for change in (
        *(cut, cut_out, flip, stray_bytes, stray_in_text, another_code, another_body, huge),
    )
}
"""What may be done to bytes."""


def packed(random: Random, body: bytes) -> bytes:
    """Well packed."""
    return gzip.compress(body, mtime=0)


def packed_and_cut(random: Random, body: bytes) -> bytes:
    """Packed, and the beginning alone."""
    return cut(random, gzip.compress(body, mtime=0))


def packed_and_flipped(random: Random, body: bytes) -> bytes:
    """Packed, and a byte that is another."""
    return flip(random, gzip.compress(body, mtime=0))


def bomb(random: Random, body: bytes) -> bytes:
    """A few kilobytes that unpack to megabytes."""
    return gzip.compress(body[:-1] + b" " * 3_000_000 + body[-1:], mtime=0)


def not_packed(random: Random, body: bytes) -> bytes:
    """Said to be packed, and is not."""
    return body


PACKED: Final[Mapping[str, Callable[[Random, bytes], bytes]]] = {
    change.__name__: change
    for change in (packed, packed_and_cut, packed_and_flipped, bomb, not_packed)
}
"""What may be done to a body that is said to be gzip."""

ALL: Final = (*CHANGES, *WRITTEN, *PACKED)


def tampered(name: str, random: Random, body: bytes) -> Body:
    """A body with the named change; JSON is at times changed twice."""
    if name in PACKED:
        return Body(PACKED[name](random, body), "gzip")
    if name in WRITTEN:
        return Body(WRITTEN[name](random, body))
    try:
        tree = taken_apart(body)
    except (ValueError, RecursionError):
        return Body(body)
    for change in (name, *random.choices(list(CHANGES), k=random.choice((0, 0, 0, 0, 1)))):
        if any(places(tree)):
            CHANGES[change](random, tree)
    return Body(put_together(tree).encode("utf-8", "surrogatepass"))
