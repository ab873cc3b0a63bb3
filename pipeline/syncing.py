"""Read conversations, items and responses of those who used the API, and land them.

Belongs here: who is asked for, what a failure stops, when rows are landed, and what follows from
them (observed buckets, reconciliation). Does not belong here: reading one listing
(`pipeline.listing`), files and SQL (`pipeline.lake`), Dagster.

Usage is the change feed. Conversations are listed per key and user, so of the days in question
only the pairs of user and key that have usage are visited, and the key owners' own listings; a pair
whose usage is what it was when its listing was last read, and whose responses were final, is not
visited again. A hundred thousand quiet users cost nothing.

A listing counts when it has been read whole. A user that a key may not see is a gap, which is told
of. A key that is refused, a spent quota or an API that is down ends the part of that key only. What
was read is landed in any case, and the error at the end names the parts that are missing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import duckdb

from pipeline.api import (
    ApiError,
    Client,
    InvalidQuery,
    QuotaExhausted,
    Response,
    Unauthorized,
    Unavailable,
)
from pipeline.background import run_async
from pipeline.lake import engine, identity, sync_state
from pipeline.lake.observed import PairTotals, active_pairs, observe_days, pair_totals
from pipeline.lake.reconcile import reconcile_days
from pipeline.lake.records import land
from pipeline.lake.sights import KINDS, Kind, Sights
from pipeline.lake.store import Lake
from pipeline.lake.sync_state import ListingState, TailState
from pipeline.listing import Expected, Found, Known, Listing, at_once, read_listing
from pipeline.people import People
from pipeline.timeline import Window, closed_through, day_of, day_window, spans, trailing_days
from pipeline.words import count

_BATCH: Final = 200_000
"""Rows seen after which they are landed, while further listings are read."""


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """Sent at first and after each listing: how many are read, and what they brought so far."""

    read: int
    listings: int
    conversations: int
    items: int
    responses: int


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of a sync.

    `listings` were read, `unchanged` did not need to be. Rows are sights: what was served, known
    or not. `gaps` are sentences: what could not be seen, and why.
    """

    days: tuple[date, ...]
    listings: int
    unchanged: int
    requests: int
    conversations: int
    items: int
    responses: int
    gaps: tuple[str, ...]


class SyncError(Exception):
    """Parts of a sync failed; `synced` has what was read, landed and observed all the same."""

    def __init__(self, synced: Synced, failures: Mapping[str, Exception]) -> None:
        self.synced = synced
        parts = "\n".join(f"{part}: {error}" for part, error in sorted(failures.items()))
        super().__init__(f"{parts}\nThe other parts were read and are kept.")


def sync_days(
    connect: Mapping[str, Callable[[], Client]],
    lake: Lake,
    days: Sequence[date],
    *,
    lookback_days: int,
    full: bool = False,
    keep_content: bool = False,
    people: People | None = None,
    on_progress: Callable[[SyncProgress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> Synced:
    """Read what is new of those with usage on `days`, land it, observe and reconcile the days.

    `connect` makes a client per key id. A day of the last `lookback_days` before today may still
    be restated: a difference on it is late, not wrong. `full` reads every listing and the end of
    every conversation again, as the first sync does. Raises FileNotFoundError where usage of a day
    is not loaded, and SyncError when a part failed.

    With `people` the lake knows pseudonyms, and so does all that is told; the real ids go into
    requests alone. Raises IdentityError where the lake holds other ids, and ApiError where it can't
    be asked who they are.
    """
    days = sorted(set(days))
    for day in days:
        if lake.loaded("usage_1d", day) is None:
            raise FileNotFoundError(
                f"usage of {day} is not loaded, and it says who is to be asked for: load it first, "
                f"with `mka1-usage run --start {day} --end {day + timedelta(days=1)}`"
            )
    identity.claim(lake, people.pseudonyms.fingerprint if people else None)
    real_ids = people.real_ids(days) if people else None
    today = day_of(closed_through(now()) - 1)
    final_before, _ = trailing_days(today, lookback_days)
    # What was read last time is only right for one sync at a time.
    with lake.lock("sync"), lake.staging() as folder, closing(engine.connect(folder)) as con:
        sync = _Sync(con, lake, days, folder, full, keep_content, real_ids, final_before, now)
        sync.on_progress = on_progress or (lambda _: None)
        run_async(sync.run(connect))
        synced = sync.conclude()
    if sync.failures:
        raise SyncError(synced, sync.failures)
    return synced


class _Sync:
    """One sync: keys side by side, listings some at once, landing in a thread of its own."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        days: Sequence[date],
        folder: Path,
        full: bool,
        keep_content: bool,
        real_ids: Mapping[str, str] | None,
        final_before: date,
        now: Callable[[], float],
    ) -> None:
        self.on_progress: Callable[[SyncProgress], None]
        self.failures: dict[str, Exception] = {}
        self._con = con
        self._lake = lake
        self._days = days
        self._folder = folder
        self._full = full
        self._keep_content = keep_content
        self._real_ids = real_ids
        self._final_before = final_before
        self._now = now
        self._began = now()
        # Metadata may name people: beside pseudonyms they stay NULL.
        self._of_conversations = ("id", "created_at", "deleted_at") + (
            ("metadata",) if real_ids is None else ()
        )
        covered = [lake.loaded("usage_1d", day) for day in days]
        self._through = max(loaded.window.end for loaded in covered if loaded is not None)
        self._state = sync_state.load(lake)
        self._totals = pair_totals(con, lake)
        self._gaps: list[str] = []
        self._read: list[Listing] = []
        self._unchanged: list[Listing] = []
        self._listings = 0
        self._requests = 0
        self._rows: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._sights = self._next_sights()
        self._to_observe = set(days)
        self._landings: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1)

    async def run(self, connect: Mapping[str, Callable[[], Client]]) -> None:
        """Read all listings that there are to read, key by key side by side, and land them."""
        listings = self._to_visit(connect)
        self._listings = sum(map(len, listings.values()))
        self.on_progress(SyncProgress(read=0, listings=self._listings, **self._rows))
        with self._thread:
            keys = [
                self._read_key(key_id, connect[key_id], todo) for key_id, todo in listings.items()
            ]
            try:
                await asyncio.gather(*keys)
            finally:
                self._land()
                await asyncio.gather(*self._landings)

    def conclude(self) -> Synced:
        """Observe and reconcile the days, and keep how far was read."""
        self._observe()
        visited = [*self._read, *self._unchanged]
        reconcile_days(
            self._con,
            self._lake,
            self._days,
            visited=[(listing.api_key_id, listing.user_id) for listing in visited],
            lost=self._state.unreadable(),
            final_before=self._final_before,
        )
        self._remember_totals()
        sync_state.save(self._lake, self._state)
        return Synced(
            days=tuple(self._days),
            listings=len(self._read),
            unchanged=len(self._unchanged),
            requests=self._requests,
            gaps=tuple(sorted(self._gaps)),
            **self._rows,
        )

    def _observe(self) -> None:
        """Observe the days asked for, and those observed before of which more is known now.

        As far as usage of each day goes: what came after it can't be held against it.
        """
        observed = set(self._lake.days("observed_1d"))
        through: dict[int, list[date]] = {}
        for day in self._to_observe:
            if day in observed or day in self._days:
                usage = self._lake.loaded("usage_1d", day)
                end = self._through if usage is None or usage.complete(day) else usage.window.end
                through.setdefault(end, []).append(day)
        # Since then an answer may have told that the clock is ahead.
        read_at = min(self._began, self._now())
        for end, days in through.items():
            observe_days(self._con, self._lake, days, end, read_at)

    def _to_visit(self, keys: Mapping[str, object]) -> dict[str, list[Listing]]:
        """The listings to read, by key: the owners' own, and those with usage since last time."""
        wanted: dict[str, list[Listing]] = {key: [] for key in keys}
        without_secret: dict[str | None, int] = {}
        for key, user in self._active(keys):
            if key is None or key not in wanted:
                without_secret[key] = without_secret.get(key, 0) + 1
                continue
            listing = Listing(key, user, self._real_id(user))
            if self._is_unchanged(listing):
                self._unchanged.append(listing)
            elif user is not None and listing.on_behalf_of is None:
                self._gaps.append(
                    f"{listing} can't be asked for: the API's own 1d usage of these days does not "
                    "name who that is"
                )
            else:
                wanted[key].append(listing)
        for key, pairs in without_secret.items():
            whose = "usage without a key" if key is None else f"usage of key {key}"
            why = "" if key is None else ": it has no secret in MKA1_API_KEYS"
            self._gaps.append(
                f"{whose} ({count(pairs, 'pair')} of user and key) can't be looked into{why}"
            )
        return wanted

    def _real_id(self, user: str | None) -> str | None:
        """What the API calls a user of the lake; None where that is not known, or for no user."""
        if user is None or self._real_ids is None:
            return user
        return self._real_ids.get(user)

    def _active(self, keys: Iterable[str]) -> list[tuple[str | None, str | None]]:
        """Each (key, user) with usage on the days, and the keys' owners, who come first."""
        pairs: dict[tuple[str | None, str | None], None] = dict.fromkeys(
            (key, None) for key in keys
        )
        for first, last in spans(self._days):
            window = Window(day_window(first).start, day_window(last).end)
            table = active_pairs(self._con, self._lake, window)
            keys, users = (table.column(name).to_pylist() for name in ("api_key_id", "user_id"))
            pairs.update(dict.fromkeys(zip(keys, users, strict=True)))
        return list(pairs)

    def _is_unchanged(self, listing: Listing) -> bool:
        before = self._state.listing(listing.api_key_id, listing.user_id)
        if before is None or self._full or not before.settled:
            return False
        now = self._of(listing)
        return (before.conversations, before.items, before.operations) == now[:3]

    def _of(self, listing: Listing) -> PairTotals:
        return self._totals.get((listing.api_key_id, listing.user_id), PairTotals())

    async def _read_key(
        self, key_id: str, connect: Callable[[], Client], listings: Sequence[Listing]
    ) -> None:
        if not listings:
            return
        async with connect() as client:
            try:
                await at_once(partial(self._read_one, client), listings, client.limits.concurrency)
            except (Unauthorized, QuotaExhausted, Unavailable) as error:
                self.failures[f"key {key_id}"] = error
            finally:
                self._requests += client.requests

    async def _read_one(self, client: Client, listing: Listing) -> None:
        """Read a listing and keep what it brought. Raises only what ends the part of its key."""
        try:
            found = await read_listing(
                client,
                listing,
                self._known(listing),
                self._expected(listing),
                self._tail,
                keep_bodies=self._keep_content,
                given_up=self._is_old,
            )
        except (QuotaExhausted, Unavailable):
            raise
        except Unauthorized as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            self._gaps.append(f"{listing}: {error}")
        except InvalidQuery as error:
            self._gaps.append(f"{listing} can't be asked for: {error}")
        except ApiError as error:
            self.failures[str(listing)] = error
        else:
            self._keep(listing, found)
            if sum(map(self._sights.rows, KINDS)) >= _BATCH:
                self._land()

    def _known(self, listing: Listing) -> Known:
        before = self._state.listing(listing.api_key_id, listing.user_id)
        if before is None or self._full:
            return Known()
        return Known(before.order, before.response_cursor)

    def _expected(self, listing: Listing) -> Expected:
        """What usage has counted since the last reading and was not observed then already."""
        before = self._state.listing(listing.api_key_id, listing.user_id)
        if before is None or self._full:
            return Expected()
        now = self._of(listing)
        return Expected(
            max(0, now.conversations - now.seen_conversations - before.missing_conversations),
            max(0, now.items - now.seen_items - before.missing_items),
        )

    def _tail(self, conversation_id: str) -> TailState:
        return self._state.tail(conversation_id) or TailState(conversation_id)

    def _is_old(self, response: Response) -> bool:
        return response.created_at < day_window(self._final_before).start

    def _keep(self, listing: Listing, found: Found) -> None:
        """Take in what a listing brought, and how far it was read."""
        key, user, now = listing.api_key_id, listing.user_id, self._now()
        self._sights.add(
            "conversations",
            {
                **_columns(found.conversations, self._of_conversations),
                **_constant(len(found.conversations), user_id=user, api_key_id=key, seen_at=now),
            },
        )
        responses = list(found.responses.values())
        self._sights.add(
            "responses",
            {
                **_columns(responses, _RESPONSE),
                **_constant(len(responses), user_id=user, api_key_id=key, seen_at=now),
            },
        )
        items = list(found.items.values())
        self._sights.add(
            "items",
            {
                **_columns(items, ("id", "response_id", "type", "role", "content_chars", "body")),
                "conversation_id": [name for name, _ in found.items],
                **_constant(len(items), seen_at=now),
            },
        )
        for tail in found.tails.values():
            self._state.put_tail(tail)
        before = self._state.listing(key, user)
        if before is not None and found.complete:
            for name in set(before.order) - set(found.order):
                self._state.put_tail(self._tail(name)._replace(unreadable=True))
        self._state.put_listing(
            ListingState(
                key,
                user,
                tuple(found.order),
                found.response_cursor,
                settled=found.settled,
                synced_at=now,
                full_at=now if found.complete else before.full_at if before else 0.0,
            )
        )
        self._gaps += (f"{listing}: {gap}" for gap in found.gaps)
        self._read.append(listing)
        self._rows["conversations"] += len(found.conversations)
        self._rows["items"] += len(items)
        self._rows["responses"] += len(responses)
        self.on_progress(SyncProgress(read=len(self._read), listings=self._listings, **self._rows))

    def _land(self) -> None:
        """Begin to land what was seen so far; further sights are kept apart."""
        sights, self._sights = self._sights, self._next_sights()
        self._landings.append(asyncio.ensure_future(self._landed(sights)))

    async def _landed(self, sights: Sights) -> None:
        loop = asyncio.get_running_loop()
        landed = await loop.run_in_executor(self._thread, land, self._con, self._lake, sights)
        self._to_observe.update(landed.to_observe)

    def _next_sights(self) -> Sights:
        return Sights(Path(tempfile.mkdtemp(dir=self._folder)))

    def _remember_totals(self) -> None:
        """Note what usage says of the listings that were read, and how much of it was not seen."""
        totals = pair_totals(self._con, self._lake)
        for listing in self._read:
            key, user = listing.api_key_id, listing.user_id
            state, now = self._state.listing(key, user), totals.get((key, user), PairTotals())
            if state is not None:
                self._state.put_listing(
                    state._replace(
                        conversations=now.conversations,
                        items=now.items,
                        operations=now.operations,
                        missing_conversations=max(0, now.conversations - now.seen_conversations),
                        missing_items=max(0, now.items - now.seen_items),
                    )
                )


_RESPONSE: Final = (
    *("id", "conversation_id", "created_at", "status", "model"),
    *("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens"),
)


def _columns(rows: Sequence[object], names: Sequence[str]) -> dict[str, list[object]]:
    return {name: [getattr(row, name) for row in rows] for name in names}


def _constant(rows: int, **values: object) -> dict[str, list[object]]:
    return {name: [value] * rows for name, value in values.items()}
