"""Users and API keys as numbers that a join can go by, and their names.

A number is a hash of the id: the same in every export of every lake, without a list to keep. It has
at most 15 digits, which spreadsheets and browsers, where numbers are doubles, hold exactly. Ids
themselves are no good to join by: NULL joins nothing, and some tools take ids that differ in case
for one. Of two ids with the same hash (once in 2,000 lakes of a million users) the latter, by its
text, gets another number.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Final

import pyarrow as pa

_NUMBERS: Final = 10**15 - 1


def numbered(ids: Iterable[str], numbers: int = _NUMBERS) -> dict[str, int]:
    """A number of its own for each id, from 1 through `numbers`, which must be more than enough."""
    taken: dict[int, str] = {}
    for id_ in sorted(set(ids)):
        for attempt in count():
            digest = hashlib.sha256(f"{attempt}\0{id_}".encode()).digest()
            number = int.from_bytes(digest[:16]) % numbers + 1
            if taken.setdefault(number, id_) == id_:
                break
    return {id_: number for number, id_ in taken.items()}


def named(ids: Iterable[str], names: Mapping[str, str], nobody: str) -> dict[str, str]:
    """A name of its own for each id, and never `nobody`, which is the name of none.

    The name that was given for it, else its id. A name that several would have gets the id beside
    it: two users named Ada are `Ada (u1)` and `Ada (u2)`, a user whose id is Ada is `Ada (id)`.
    """
    found = {id_: names.get(id_, id_) for id_ in sorted(set(ids))}
    times = Counter([nobody, *found.values()])
    taken = {name for name, number in times.items() if number == 1} | {nobody}
    for id_, name in found.items():
        if times[name] > 1:
            whose = f"{name} (id)" if name == id_ else f"{name} ({id_})"
            numbered_names = chain([whose], (f"{whose} {number}" for number in count(2)))
            found[id_] = next(one for one in numbered_names if one not in taken)
            taken.add(found[id_])
    return found


def members(ids: Iterable[str], names: Mapping[str, str], nobody: str) -> pa.Table:
    """A dimension's ids with their numbers and names, and a row for none: number 0, `nobody`.

    Columns: `id`, `number`, `name`. No two rows have the same name.
    """
    numbers = numbered(ids)
    called = named(numbers, names, nobody)
    columns = [
        pa.array([None, *numbers], pa.string()),
        pa.array([0, *numbers.values()], pa.int64()),
        pa.array([nobody, *(called[id_] for id_ in numbers)], pa.string()),
    ]
    return pa.table(columns, ["id", "number", "name"])
