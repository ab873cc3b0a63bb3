"""A platform of any number of users, for the bench of large days; a process of its own.

Its minutes repeat every two hours: the same 120 sets of users, a sixtieth of all in each, so that a
day is made once and any day can be asked for. A user has one key, and the same measures in every
minute in which it does anything, so any width and any grouping is a sum that NumPy makes exactly.
It behaves well: no faults, no limits, no gaps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from typing import Final
from urllib.parse import parse_qs

import numpy as np
import numpy.typing as npt

from tests.benchmarks.server import WIDTHS, WINDOW_START, serve

MINUTES: Final = 120
KEYS: Final = 20
_SEED: Final = 15
_RESULT: Final = (
    b'{"object":"organization.usage.conversations.result","num_conversations_created":%d,'
    b'"num_items_added":%d,"num_operations":%d,"user_id":%b,"api_key_id":%b}'
)
Counts = npt.NDArray[np.int64]


class Platform:
    """What the users of a platform do, and the pages that tell it."""

    def __init__(self, users: int) -> None:
        self.users = users
        draw = np.random.default_rng(_SEED)
        self._active = [
            np.sort(draw.permutation(users)[: max(1, users // 60)]) for _ in range(MINUTES)
        ]
        number = np.arange(users, dtype=np.int64)
        self._key = number % KEYS
        self._measures = (number % 2, number % 13, number % 50 + 1)
        self.of_minute = cache(self._of_minute)

    @property
    def rows_a_day(self) -> int:
        """Rows of 1m by user and key."""
        return sum(map(len, self._active)) * 1_440 // MINUTES

    def page(self, query: str) -> bytes:
        """Answer a query string as the usage endpoint does."""
        asked = parse_qs(query)
        width = WIDTHS[asked.get("bucket_width", ["1d"])[0]]
        groups = frozenset(asked.get("group_by", []))
        start, end = int(asked.get("page", asked["start_time"])[0]), int(asked["end_time"][0])
        until = min(end, start + int(asked["limit"][0]) * width)
        buckets = b",".join(
            b'{"object":"bucket","start_time":%d,"end_time":%d,"results":[%b]}'
            % (at, at + width, self._results(at, width, groups))
            for at in range(start, until, width)
        )
        more = b'true,"next_page":"%d"' % until if until < end else b'false,"next_page":null'
        return b'{"object":"page","data":[%b],"has_more":%b}' % (buckets, more)

    def _results(self, start: int, width: int, groups: frozenset[str]) -> bytes:
        first = (start - WINDOW_START) // 60 % MINUTES
        if width == 60 and len(groups) == 2:  # what every load asks for
            return self.of_minute(first)
        times = np.zeros(self.users, np.int64)
        for minute in range(first, first + width // 60):
            times[self._active[minute % MINUTES]] += 1
        return b",".join(self._rows(times, groups))

    def _of_minute(self, minute: int) -> bytes:
        times = np.zeros(self.users, np.int64)
        times[self._active[minute]] = 1
        return b",".join(self._rows(times, frozenset({"user_id", "api_key_id"})))

    def _rows(self, times: Counts, groups: frozenset[str]) -> Iterator[bytes]:
        """The results of a bucket in which each user was active so many minutes."""
        who = np.flatnonzero(times)
        sums = [measure[who] * times[who] for measure in self._measures]
        if "user_id" in groups:
            keyed = "api_key_id" in groups
            for user, *counts in zip(who.tolist(), *(one.tolist() for one in sums), strict=True):
                key = b'"key_%02d"' % (user % KEYS) if keyed else b"null"
                yield _RESULT % (*counts, b'"user_%09d"' % user, key)
            return
        number = self._key[who] if "api_key_id" in groups else np.zeros(len(who), np.int64)
        added = [np.zeros(KEYS, np.int64) for _ in sums]
        for total, one in zip(added, sums, strict=True):
            np.add.at(total, number, one)
        for key in np.unique(number).tolist():
            name = b'"key_%02d"' % key if "api_key_id" in groups else b"null"
            yield _RESULT % (*(int(total[key]) for total in added), b"null", name)


def main() -> None:
    """Make the platform, say on standard output where it is, and serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    platform = Platform(parser.parse_args().users)
    for minute in range(MINUTES):  # made before it is asked for, or its time would be measured
        platform.of_minute(minute)
    serve(platform.page, rows=platform.rows_a_day, operations=0)


if __name__ == "__main__":
    main()
