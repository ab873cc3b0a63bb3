"""Users and API keys as numbers that a join can go by, and their names.

A number is a hash of the id: the same in every export of every lake, without a list to keep. It has
at most 15 digits, which spreadsheets and browsers, where numbers are doubles, hold exactly. Ids
themselves are no good to join by: NULL joins nothing, and some tools take ids that differ in case
for one. Of two ids with the same hash (once in 2,000 lakes of a million users) the latter, by its
text, gets another number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import chain, count
from typing import Final

import polars as pl

_NUMBERS: Final = 10**15 - 1


def numbered(ids: pl.Series, numbers: int = _NUMBERS) -> pl.Series:
    """A number of its own for each of these ids, which are in order and there once each.

    From 1 through `numbers`, which must be more than enough.
    """
    taken: dict[int, None] = {}
    for id_ in ids:
        for attempt in count():
            digest = hashlib.sha256(f"{attempt}\0{id_}".encode()).digest()
            number = int.from_bytes(digest[:16]) % numbers + 1
            if number not in taken:
                taken[number] = None
                break
    return pl.Series([*taken], dtype=pl.Int64)


def named(ids: pl.Series, names: Mapping[str, str], nobody: str) -> pl.Series:
    """A name of its own for each of these ids, which are in order and there once each.

    The name that was given for it, else its id; never `nobody`, which is the name of none. A name
    that several would have gets the id beside it: two users named Ada are `Ada (u1)` and
    `Ada (u2)`, a user whose id is Ada is `Ada (id)`.
    """
    found = ids.replace(names) if names else ids.clone()
    alone = found.is_unique() & (found != nobody)
    taken = {nobody, *(() if alone.all() else found.filter(alone))}
    others = (~alone).arg_true()
    for place in others:
        id_, name = ids[place], found[place]
        whose = f"{name} (id)" if name == id_ else f"{name} ({id_})"
        numbered_names = chain([whose], (f"{whose} {number}" for number in count(2)))
        found[place] = next(one for one in numbered_names if one not in taken)
        taken.add(found[place])
    return found


def members(ids: pl.Series, names: Mapping[str, str], nobody: str) -> pl.DataFrame:
    """A dimension's ids with their numbers and names, and a row for none: number 0, `nobody`.

    Columns: `id`, `number`, `name`. No two rows have the same name.
    """
    ids = ids.drop_nulls().unique().sort()
    rows = {"id": ids, "number": numbered(ids), "name": named(ids, names, nobody)}
    nothing = {"id": [None], "number": [0], "name": [nobody]}
    some = pl.DataFrame(rows)
    return pl.concat([pl.DataFrame(nothing, schema=some.schema), some])
