"""Log to usage buckets: the arithmetic of the usage endpoints, in plain Python.

It shares no code with the tables that the product computes: they are compared with these numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pipeline.emulator.endpoints import DIMENSIONS, Endpoint

JsonObject: TypeAlias = dict[str, Any]
Group: TypeAlias = tuple[Any, ...]
"""A value for each dimension of an endpoint, in its order; None is a real group."""
Counts: TypeAlias = list[int]
"""A number for each measure of an endpoint, in its order."""
Filters: TypeAlias = Mapping[str, AbstractSet[Any]]
"""The values that are wanted, by dimension; a dimension that is not named is not filtered by."""

WIDTHS: Mapping[str, int] = {"1m": 60, "1h": 3_600, "1d": 86_400}
"""Seconds in each `bucket_width` that the usage endpoints take."""


class Entry(Protocol):
    """What is counted: an event, or a correction."""

    @property
    def second(self) -> int:
        """The whole second that it is of."""

    @property
    def counts_from(self) -> float:
        """The moment (Unix seconds) from which it counts."""

    @property
    def group(self) -> Group:
        """Whose it is."""

    @property
    def counts(self) -> Sequence[int]:
        """What it adds to the measures."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A restatement: signed changes to one minute's row, from `counts_from` (Unix seconds) on."""

    second: int
    group: Group
    counts: tuple[int, ...]
    counts_from: float


class Ledger:
    """The log of one endpoint, and its sums per bucket. It has no lock of its own.

    Entries that do not count yet wait, until their time has come. A `now` before the last one
    starts over from the log, so that answers depend on the time alone.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.log: list[Entry] = []
        self._settled_at = float("-inf")
        self._start_over()

    def counted(self, now: float, start: int, end: int) -> Iterable[Entry]:
        """What counts at `now`, of the seconds from `start` to before `end`."""
        return (e for e in self.log if start <= e.second < end and e.counts_from <= now)

    def correct(
        self, now: float, minute_start: float, group: Group, changes: Mapping[str, int] | None
    ) -> None:
        """Change the row of a minute and group from `now` on; None takes it away.

        Raises ValueError for a measure that the endpoint does not have, and when a number would
        fall below 0.
        """
        names, minute = self.endpoint.measures, int(minute_start // 60) * 60
        zero = [0] * len(names)
        reported = self.settled(now)[60].get(minute, {}).get(group, zero)
        if changes is None:
            change = tuple(-count for count in reported)
        else:
            _require_known(self.endpoint, changes)
            change = tuple(changes.get(name, 0) for name in names)
        if any(count + more < 0 for count, more in zip(reported, change, strict=True)):
            raise ValueError(
                f"restating {minute} for {group} by {change} would leave less than nothing: "
                f"it reports {tuple(reported)}"
            )
        self.log.append(Correction(minute, group, change, now))

    def buckets(
        self,
        now: float,
        starts: Iterable[int],
        width: int,
        group_by: Sequence[str],
        filters: Filters,
    ) -> list[JsonObject]:
        """The buckets of `width` seconds that start at `starts`, in that order.

        In the shape of endpoint 1, fields in the order of its documented example. `filters` come
        before grouping. A field that is not grouped by is null. Rows whose measures are all 0 are
        left out. Raises ValueError for a dimension that the endpoint does not have.
        """
        known = self.endpoint.dimensions
        if unknown := [name for name in (*group_by, *filters) if name not in known]:
            raise ValueError(f"{self.endpoint.name} knows {', '.join(known)}, not {unknown}")
        sums = self.settled(now)[width]
        wanted = [(DIMENSIONS.index(name), values) for name, values in filters.items()]
        left_out = [place for place, name in enumerate(known) if name not in group_by]
        return [
            {
                "object": "bucket",
                "start_time": start,
                "end_time": start + width,
                "results": [
                    usage_result(self.endpoint, group, counts)
                    for group, counts in _rows(sums[start], left_out, wanted)
                ]
                if start in sums
                else [],
            }
            for start in starts
        ]

    def _start_over(self) -> None:
        self._taken = 0
        self._waiting: list[Entry] = []
        self._next_due = float("inf")
        self._sums: dict[int, dict[int, dict[Group, Counts]]] = {w: {} for w in WIDTHS.values()}

    def settled(self, now: float) -> Mapping[int, Mapping[int, Mapping[Group, Counts]]]:
        """The sums as of `now`, by width, start and group."""
        if now < self._settled_at:
            self._start_over()
        self._settled_at = now
        candidates: Iterable[Entry] = self.log[self._taken :]
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
        return self._sums

    def _add(self, entry: Entry) -> None:
        second, group, more = entry.second, entry.group, entry.counts
        for width, buckets in self._sums.items():
            groups = buckets.setdefault(second // width * width, {})
            counts = groups.get(group)
            if counts is None:
                groups[group] = list(more)
                continue
            for place, count in enumerate(more):
                counts[place] += count


def _require_known(endpoint: Endpoint, measures: Iterable[str]) -> None:
    if unknown := [name for name in measures if name not in endpoint.measures]:
        raise ValueError(
            f"{endpoint.name} counts {', '.join(endpoint.measures)}, not {', '.join(unknown)}"
        )


def window_edges(start_time: int, end_time: int, width: int) -> tuple[int, int]:
    """The window widened to whole buckets: start floored, end raised, both Unix seconds, UTC."""
    return start_time // width * width, -(-end_time // width) * width


def usage_result(endpoint: Endpoint, group: Group, counts: Sequence[int]) -> JsonObject:
    """One result row in the shape of endpoint 1."""
    return dict(zip(endpoint.fields, (endpoint.object, *counts, *group), strict=True))


def _rows(
    groups: Mapping[Group, Counts],
    left_out: Sequence[int],
    wanted: Sequence[tuple[int, AbstractSet[Any]]],
) -> list[tuple[Group, Counts]]:
    """The groups of a bucket, without the dimensions at the places that are `left_out`.

    Of `wanted` values at places alone. They stand by their dimensions in order, null first, by code
    point.
    """
    merged: dict[Group, Counts] = {}
    for group, counts in groups.items():
        if wanted and any(group[place] not in values for place, values in wanted):
            continue
        kept = _without(group, left_out) if left_out else group
        total = merged.get(kept)
        if total is None:
            merged[kept] = counts.copy()
            continue
        for place, count in enumerate(counts):
            total[place] += count
    rows = [row for row in merged.items() if any(row[1])]
    return sorted(rows, key=_by_group) if len(rows) > 1 else rows


def _without(group: Group, places: Sequence[int]) -> Group:
    kept = list(group)
    for place in places:
        kept[place] = None
    return tuple(kept)


def _by_group(row: tuple[Group, Counts]) -> list[tuple[bool, Any]]:
    return [(value is not None, "" if value is None else value) for value in row[0]]
