"""Event log to usage buckets: the arithmetic of endpoint 1, in plain Python.

Belongs here: bucket edges, the running sums, and the order and shape of result rows. Nothing here
may share code with the tables that the product computes: these numbers are what those are compared
with.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

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


class UsageLedger:
    """The log of events and corrections, and its sums per bucket as of some moment.

    Entries that do not count yet wait; `settle(now)` takes in those that have come due. A `now`
    before the last one starts over from the log, so that answers depend on the time alone.
    """

    def __init__(self) -> None:
        self.log: list[Event | Correction] = []
        self._taken = 0
        self._waiting: list[Event | Correction] = []
        self._next_due = float("inf")
        self._settled_at = float("-inf")
        self._sums: dict[int, dict[int, dict[Group, Counts]]] = {w: {} for w in WIDTHS.values()}

    def settle(self, now: float) -> None:
        """Make the sums those of `now` (Unix seconds)."""
        if now < self._settled_at:
            self._taken, self._waiting, self._next_due = 0, [], float("inf")
            self._sums = {width: {} for width in self._sums}
        self._settled_at = now
        candidates: Iterable[Event | Correction] = self.log[self._taken :]
        self._taken = len(self.log)
        if self._next_due <= now:
            candidates = [*self._waiting, *candidates]
            self._waiting, self._next_due = [], float("inf")
        for entry in candidates:
            if (due := entry.counts_from) <= now:
                self._add(entry)
            else:
                self._waiting.append(entry)
                self._next_due = min(self._next_due, due)

    def _add(self, entry: Event | Correction) -> None:
        second, (created, added, operations) = entry.second, entry.measures
        group = (entry.user_id, entry.api_key_id)
        for width, buckets in self._sums.items():
            groups = buckets.setdefault(second // width * width, {})
            counts = groups.get(group)
            if counts is None:
                groups[group] = [created, added, operations]
            else:
                counts[0] += created
                counts[1] += added
                counts[2] += operations

    def restate(self, minute: int, group: Group, change: Sequence[int] | None, now: float) -> None:
        """Change one minute's row by three signed numbers, or take it away (None), from `now` on.

        Raises ValueError when a number would fall below 0.
        """
        self.settle(now)
        created, added, operations = self._sums[60].get(minute, {}).get(group, (0, 0, 0))
        change = (-created, -added, -operations) if change is None else change
        if min(created + change[0], added + change[1], operations + change[2]) < 0:
            raise ValueError(
                f"restating {minute} for {group} by {tuple(change)} would leave less than nothing: "
                f"it reports {(created, added, operations)}"
            )
        measures = (change[0], change[1], change[2])
        self.log.append(Correction(minute, group[0], group[1], measures, now))

    def buckets(
        self,
        starts: Iterable[int],
        width: int,
        group_by: Sequence[str],
        user_ids: AbstractSet[str] | None,
    ) -> list[JsonObject]:
        """The settled buckets of `width` seconds that start at `starts`, in endpoint 1's shape.

        Raises ValueError for an unknown grouping.
        """
        if unknown := [name for name in group_by if name not in GROUPINGS]:
            raise ValueError(f"group_by knows {', '.join(GROUPINGS)}, not {', '.join(unknown)}")
        sums = self._sums[width]
        nothing: Mapping[Group, Counts] = {}
        return [
            usage_bucket(sums.get(start, nothing), start, width, group_by, user_ids)
            for start in starts
        ]

    def starts(self, width: int, start: int, end: int) -> list[int]:
        """Starts of the buckets in [start, end) that hold entries, oldest first."""
        return sorted(bucket for bucket in self._sums[width] if start <= bucket < end)


def width_of(bucket_width: str) -> int:
    """Seconds in a `bucket_width`. Raises ValueError for an unknown one."""
    if bucket_width not in WIDTHS:
        raise ValueError(f"bucket_width is one of {', '.join(WIDTHS)}, not {bucket_width!r}")
    return WIDTHS[bucket_width]


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
