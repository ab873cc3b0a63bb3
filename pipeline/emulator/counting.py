"""Event log to usage buckets: the arithmetic of endpoint 1, in plain Python.

It shares no code with the tables that the product computes: they are compared with these numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.emulator.clock import AsOf
from pipeline.emulator.events import Event

JsonObject: TypeAlias = dict[str, Any]
Group: TypeAlias = tuple[str | None, str | None]
"""(user_id, api_key_id); None is a real group."""
Counts: TypeAlias = list[int]
"""[conversations created, items added, operations]."""

WIDTHS: Mapping[str, int] = {"1m": 60, "1h": 3_600, "1d": 86_400}
"""Seconds in each `bucket_width` that endpoint 1 takes."""
GROUPINGS = ("user_id", "api_key_id")
"""The fields that `group_by` may name and that the event log knows."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A restatement: signed changes to one minute's row, from `counts_from` (Unix seconds) on."""

    second: int
    user_id: str | None
    api_key_id: str | None
    measures: tuple[int, int, int]
    counts_from: float


class UsageLedger(AsOf):
    """The log of events and corrections, and its sums per bucket.

    Entries that do not count yet wait, until their time has come. A `now` before the last one
    starts over from the log, so that answers depend on the time alone.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._log: list[Event | Correction] = []
        self._users: set[str] = set()
        self._settled_at = float("-inf")
        self._start_over()

    def log(self, event: Event) -> None:
        """Count an event, and nothing else: the way to log plain reads."""
        with self._lock:
            self._log.append(event)
            if event.user_id is not None:
                self._users.add(event.user_id)

    def restate(
        self,
        minute_start: float,
        user_id: str | None,
        api_key_id: str | None,
        *,
        conversations_created: int = 0,
        items_added: int = 0,
        operations: int = 0,
        drop: bool = False,
    ) -> None:
        """Change what the usage endpoint reports for one minute, user and key, from now on.

        The three numbers are added to what is reported now, and may be negative; `drop` takes the
        row away instead. Any moment of the minute names it. Hours and days change with it. Raises
        ValueError when a number would fall below 0.
        """
        with self._lock:
            minute, group = int(minute_start // 60) * 60, (user_id, api_key_id)
            reported = self._settled()[60].get(minute, {}).get(group, [0, 0, 0])
            change = (conversations_created, items_added, operations)
            if drop:
                change = (-reported[0], -reported[1], -reported[2])
            if any(count + more < 0 for count, more in zip(reported, change, strict=True)):
                raise ValueError(
                    f"restating {minute} for {group} by {change} would leave less than nothing: "
                    f"it reports {tuple(reported)}"
                )
            self._log.append(Correction(minute, user_id, api_key_id, change, self.clock()))

    def usage(
        self,
        start_time: int,
        end_time: int | None = None,
        bucket_width: str = "1d",
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
    ) -> list[JsonObject]:
        """All buckets of the window, oldest first, in endpoint 1's shape; empty ones too.

        `start_time` is floored to its bucket's edge and `end_time` (now by default) raised to one.
        `user_ids` filters before grouping; None means everyone. Raises ValueError for an unknown
        width or grouping.
        """
        if bucket_width not in WIDTHS:
            raise ValueError(f"bucket_width is one of {', '.join(WIDTHS)}, not {bucket_width!r}")
        width = WIDTHS[bucket_width]
        end_time = int(self.clock() // 1) + 1 if end_time is None else end_time
        start, end = window_edges(start_time, end_time, width)
        return self.usage_buckets(range(start, end, width), width, group_by, user_ids)

    def usage_buckets(
        self,
        starts: Iterable[int],
        width: int,
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
    ) -> list[JsonObject]:
        """The buckets of `width` seconds that start at `starts`, in that order."""
        if unknown := [name for name in group_by if name not in GROUPINGS]:
            raise ValueError(f"group_by knows {', '.join(GROUPINGS)}, not {', '.join(unknown)}")
        users = None if user_ids is None else frozenset(user_ids)
        with self._lock:
            sums = self._settled()[width]
            return [
                usage_bucket(sums.get(start, {}), start, width, group_by, users) for start in starts
            ]

    def occupied(self, start: int, end: int, width: int) -> list[int]:
        """Starts of the buckets in [start, end) that anything was ever counted in, in order."""
        with self._lock:
            return sorted(bucket for bucket in self._settled()[width] if start <= bucket < end)

    def events(self) -> list[Event]:
        """The event log, in the order logged, whether counted yet or not."""
        with self._lock:
            return [entry for entry in self._log if isinstance(entry, Event)]

    def knows_user(self, user_id: str) -> bool:
        """Whether any event carries this user id."""
        return user_id in self._users

    def _start_over(self) -> None:
        self._taken = 0
        self._waiting: list[Event | Correction] = []
        self._next_due = float("inf")
        self._sums: dict[int, dict[int, dict[Group, Counts]]] = {w: {} for w in WIDTHS.values()}

    def _settled(self) -> Mapping[int, Mapping[int, Mapping[Group, Counts]]]:
        """The sums as of now, by width, start and group."""
        now = self.clock()
        if now < self._settled_at:
            self._start_over()
        self._settled_at = now
        candidates: Iterable[Event | Correction] = self._log[self._taken :]
        self._taken = len(self._log)
        if self._next_due <= now:
            candidates = [*self._waiting, *candidates]
            self._waiting, self._next_due = [], float("inf")
        for entry in candidates:
            if (due := entry.counts_from) <= now:
                self._add(entry)
            else:
                self._waiting.append(entry)
                self._next_due = min(self._next_due, due)
        return self._sums

    def _add(self, entry: Event | Correction) -> None:
        second, group, measures = entry.second, (entry.user_id, entry.api_key_id), entry.measures
        for width, buckets in self._sums.items():
            counts = buckets.setdefault(second // width * width, {}).setdefault(group, [0, 0, 0])
            for place, measure in enumerate(measures):
                counts[place] += measure


def window_edges(start_time: int, end_time: int, width: int) -> tuple[int, int]:
    """The window widened to whole buckets: start floored, end raised, both Unix seconds, UTC."""
    return start_time // width * width, -(-end_time // width) * width


def usage_bucket(
    groups: Mapping[Group, Counts],
    start: int,
    width: int,
    group_by: Sequence[str],
    user_ids: AbstractSet[str] | None,
) -> JsonObject:
    """One bucket in the shape of endpoint 1, fields in the order of its documented example.

    `user_ids` filters before grouping. A field that is not grouped by is null. Rows whose measures
    are all 0 are left out; the others stand by user_id, then api_key_id, null first, by code point.
    """
    by_user, by_key = "user_id" in group_by, "api_key_id" in group_by
    merged: dict[Group, Counts] = {}
    for (user, key), counts in groups.items():
        if user_ids is not None and user not in user_ids:
            continue
        group = (user if by_user else None, key if by_key else None)
        total = merged.setdefault(group, [0, 0, 0])
        for position, count in enumerate(counts):
            total[position] += count
    return {
        "object": "bucket",
        "start_time": start,
        "end_time": start + width,
        "results": [
            usage_result(group, counts)
            for group, counts in sorted(merged.items(), key=_by_user_then_key)
            if any(counts)
        ],
    }


def usage_result(group: Group, counts: Sequence[int]) -> JsonObject:
    """One result row in the shape of endpoint 1."""
    return {
        "object": "organization.usage.conversations.result",
        "num_conversations_created": counts[0],
        "num_items_added": counts[1],
        "num_operations": counts[2],
        "user_id": group[0],
        "api_key_id": group[1],
    }


def _by_user_then_key(entry: tuple[Group, Counts]) -> tuple[bool, str, bool, str]:
    user, key = entry[0]
    return user is not None, user or "", key is not None, key or ""
