"""Read conversations, items and responses of those who used the API, and merge them into the lake.

Belongs here: whose listings are read, what a failure stops, when rows are merged, and what follows
from them. docs/design.md, "Conversations and reconciliation", has the rules.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import duckdb

from pipeline import messages
from pipeline.apart import EARLIEST, is_apart
from pipeline.api import (
    ApiError,
    Client,
    Conversation,
    InvalidQuery,
    Item,
    QuotaExhausted,
    Response,
    Unauthorized,
    Unavailable,
)
from pipeline.async_runner import run_async
from pipeline.conversations import cursors, visit_log
from pipeline.conversations.cursors import ListingState, Pair, TailState
from pipeline.conversations.derive import derive
from pipeline.conversations.fetch import Expected, Found, Listing, at_once, read_listing
from pipeline.conversations.merge import Merged, merge_rows, place_rows
from pipeline.conversations.observe import active_pairs, conversations_of
from pipeline.conversations.pseudonym_resolver import PseudonymResolver
from pipeline.conversations.reconcile import open_days
from pipeline.conversations.repair import take_out_damage
from pipeline.conversations.row_buffer import KINDS, Kind, RowBuffer
from pipeline.lake import engine, user_id_mode
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.damage import is_sound
from pipeline.lake.files import covered
from pipeline.lake.forgotten import Forgotten, forgotten
from pipeline.lake.manifest import days_that_owe, manifest_of
from pipeline.lake.schemas import USAGE
from pipeline.lake.snapshot import Damage
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.timeline import (
    CLOCKS_DIFFER,
    DAY,
    Window,
    day_range,
    day_window,
    in_words,
    spans,
)

WAITED_DAYS: Final = 30
"""How long after its creation a response that is not final is asked for again."""

_SHOWN_LATE: Final = 900.0
"""Seconds after its creation by which a response is listed, wherever it then stands."""
_NAMED: Final = 3
_CONVERSATION: Final = ("id", "created_at", "deleted_at")
_BATCH: Final = 200_000
"""Rows after which they are merged, while further listings are read."""


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

    `listings` were read, `unchanged` did not need to be. Rows are what was delivered, known
    or not. `gaps` are sentences: what could not be seen, and why. So are `warnings`: what of the
    lake or of the records is not as it should be.
    """

    days: tuple[date, ...]
    listings: int
    unchanged: int
    requests: int
    conversations: int
    items: int
    responses: int
    gaps: tuple[str, ...]
    warnings: tuple[str, ...]


class SyncError(Exception):
    """Parts of a sync failed; `synced` has what was read, merged and observed all the same."""

    def __init__(self, synced: Synced, failures: Mapping[str, Exception]) -> None:
        self.synced = synced
        parts = "\n".join(f"{part}: {error}" for part, error in sorted(failures.items()))
        super().__init__(f"{parts}\nThe other parts were read and are kept.")


def sync_days(
    connect: Mapping[str, Callable[[], Client]],
    lake: Lake,
    days: Sequence[date],
    *,
    full: bool = False,
    keep_content: bool = False,
    resolver: PseudonymResolver | None = None,
    on_progress: Callable[[SyncProgress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> Synced:
    """Read what is new of those with usage on `days`, merge it, observe and reconcile the days.

    `connect` makes a client per key id. `full` reads every listing and every conversation from the
    beginning, as the first sync does; so is read who had usage on a day whose records were damaged.
    Raises FileNotFoundError where usage of a day is not loaded, and SyncError when a part failed.

    With a `resolver` the lake knows pseudonyms, and so does all that is reported; the real ids go
    into requests alone. Raises UserIdModeError where the lake holds other ids, and ApiError where
    the API can't be asked who they are.
    """
    days = sorted(set(days))
    for day in days:
        if not all(is_sound(lake.file(name, day)) for name in _needed(lake, day)):
            raise FileNotFoundError(
                f"usage of {day} is not loaded, or damaged, and it says who is to be asked for: "
                f"load it first, with `{messages.run(day, day)}`"
            )
    user_id_mode.claim(lake, resolver.pseudonyms.fingerprint if resolver else None)
    real_ids = resolver.real_ids(days) if resolver else None
    # What was read last time is only right for one sync at a time.
    with lake.lock("sync"), lake.staging() as folder, closing(engine.connect(lake)) as con:
        damaged = _take_out_damage(con, lake, days)
        plan = _Plan(con, lake, days, full, real_ids, forgotten(lake))
        # Metadata may name people: beside pseudonyms they stay NULL.
        columns = (*_CONVERSATION, "metadata") if real_ids is None else _CONVERSATION
        sync = _Sync(con, lake, plan, days, folder, keep_content, columns, now)
        sync.on_progress = on_progress or (lambda _: None)
        sync.report_damage(damaged)
        sync.take(place_rows(con, lake, now() + CLOCKS_DIFFER, _loaded(lake)))
        run_async(sync.run(connect))
        synced = sync.finalize()
    if sync.failures:
        raise SyncError(synced, sync.failures)
    return synced


def _loaded(lake: Lake) -> list[date]:
    """The days whose records stand by themselves."""
    return lake.days(USAGE["1d"].name)


def _needed(lake: Lake, day: date) -> list[str]:
    """The tables of a day that say who is to be asked for."""
    dropped = manifest_of(lake.version(day)).dropped
    return [name for name in ("usage_1m", "usage_1d") if name not in dropped]


def _take_out_damage(
    con: duckdb.DuckDBPyConnection, lake: Lake, days: Collection[date]
) -> list[Damage]:
    """Take out what can't be read, and of the days asked for what is not what was published."""
    with lake.lock("records"):
        others = set(lake.all_days()).difference(days)
        return [
            *take_out_damage(con, lake, days, thorough=True),
            *take_out_damage(con, lake, others),
        ]


class _Plan:
    """Whose listings are read, from where on, and what usage says there must be."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        days: Sequence[date],
        full: bool,
        real_ids: Mapping[str, str] | None,
        gone: Forgotten,
    ) -> None:
        self._con = con
        self._lake = lake
        self._days = days
        self._full = full
        self._real_ids = real_ids
        self.gone = gone
        self._gone = gone.names
        self.hidden = conversations_of(con, lake, gone.names)
        self.state = cursors.load(lake)
        cursors.forget_unfounded(con, lake, self.state)
        # Who reads a listing has seen what usage said before: not what is loaded meanwhile.
        self.usage = visit_log.usage_files(lake)
        self._growth = visit_log.growth(con, lake, self.usage)
        lost = days_that_owe(lake, "read")
        self.damaged_days = sorted({*days}.intersection(lost))
        everybody = full and {*days}.issuperset(_loaded(lake))
        self.reread = [*self.damaged_days, *(filter(is_apart, lost) if everybody else ())]
        """The days of which nothing is lost any more once all is read."""
        self._to_reread = set(self._active(self.damaged_days))
        self.unchanged = 0
        self.gaps: list[str] = []

    def to_visit(self, keys: Mapping[str, object]) -> dict[str, list[Listing]]:
        """The listings to read, by key: the owners' own, those with usage since last time, and
        those that wait for a response."""
        wanted: dict[str, list[Listing]] = {key: [] for key in keys}
        without_secret: dict[str | None, int] = {}
        waiting = [_pair(state) for state in self.state.listings.values() if state.waiting]
        owners: list[Pair] = [(key, None) for key in keys]
        for key, user in dict.fromkeys([*owners, *self._active(self._days), *waiting]):
            if user in self._gone:  # who was forgotten is not asked for
                continue
            if key is None or key not in wanted:
                without_secret[key] = without_secret.get(key, 0) + 1
                continue
            listing = Listing(key, user, self._real_id(user))
            if self._is_unchanged(listing):
                self.unchanged += 1
            elif user is not None and listing.on_behalf_of is None:
                self.gaps.append(
                    f"{listing} can't be asked for: the API's own 1d usage of these days does not "
                    "name who that is"
                )
            else:
                wanted[key].append(listing)
        for key, pairs in without_secret.items():
            whose = "usage without a key" if key is None else f"usage of key {key}"
            why = "" if key is None else ": it has no secret in MKA1_API_KEYS"
            self.gaps.append(
                f"{whose} ({count(pairs, 'pair')} of user and key) can't be looked into{why}"
            )
        return wanted

    def _real_id(self, user: str | None) -> str | None:
        """What the API calls a user of the lake; None where that is not known, or for no user."""
        if user is None or self._real_ids is None:
            return user
        return self._real_ids.get(user)

    def _active(self, days: Collection[date]) -> list[Pair]:
        """Each (key, user) with usage on the days."""
        pairs: dict[Pair, None] = {}
        for first, last in spans(days):
            window = Window(day_window(first).start, day_window(last).end)
            table = active_pairs(self._con, self._lake, window)
            keys, users = (table.column(name).to_pylist() for name in ("api_key_id", "user_id"))
            pairs.update(dict.fromkeys(zip(keys, users, strict=True)))
        return list(pairs)

    def _is_unchanged(self, listing: Listing) -> bool:
        before = self._before(listing)
        return before is not None and not before.waiting and _pair(listing) not in self._growth

    def _before(self, listing: Listing) -> ListingState | None:
        """What the last reading left behind; nothing, where all is to be read again."""
        if self.reads_all(listing):
            return None
        return self.state.listings.get(_pair(listing))

    def reads_all(self, listing: Listing) -> bool:
        """Whether a listing is read from the beginning, whatever is known of it."""
        # An owner's listing may show what any of its users did.
        again = bool(self.damaged_days) and listing.user_id is None
        return self._full or again or _pair(listing) in self._to_reread

    def known(self, listing: Listing) -> ListingState:
        """What the last reading of a listing left behind."""
        return self._before(listing) or ListingState(listing.api_key_id, listing.user_id)

    def expected(self, listing: Listing) -> Expected:
        """What usage has counted since the last reading and was not observed then already."""
        if self._before(listing) is None:
            return Expected()
        return Expected(*self._growth.get(_pair(listing), ()))

    def tail(self, reads_all: bool, conversation_id: str) -> TailState:
        """How far a conversation's items are known; nothing, where all is to be read again."""
        known = None if reads_all else self.state.tails.get(conversation_id)
        return known or TailState(conversation_id)


class _Sync:
    """One sync: keys side by side, listings some at once, merging in a thread of its own."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        plan: _Plan,
        days: Sequence[date],
        folder: Path,
        keep_content: bool,
        of_conversations: Sequence[str],
        now: Callable[[], float],
    ) -> None:
        self.on_progress: Callable[[SyncProgress], None]
        self.failures: dict[str, Exception] = {}
        self._con = con
        self._lake = lake
        self._plan = plan
        self._state = plan.state
        self._days = days
        self._folder = folder
        self._keep_content = keep_content
        self._now = now
        self._began = now()
        self._of_conversations = of_conversations
        self._through = {day: covered(plan.usage[day]).window.end for day in days}
        self._lost_before = set(plan.state.unreadable())
        self._gaps = plan.gaps
        self._warnings: list[str] = []
        self._read: list[Listing] = []
        self._listings = 0
        self._requests = 0
        self._rows: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._impossible: dict[Kind, set[str]] = {kind: set() for kind in KINDS}
        self._news = False
        self._buffer = RowBuffer(Path(tempfile.mkdtemp(dir=folder)))
        self._merges: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1)

    def report_damage(self, damaged: Iterable[Damage]) -> None:
        """Say which files could not be read, and what becomes of them."""
        self._warnings += (f"taken out of the lake, since it is damaged: {it}" for it in damaged)

    async def run(self, connect: Mapping[str, Callable[[], Client]]) -> None:
        """Read all listings that there are to read, key by key side by side, and merge them."""
        listings = self._plan.to_visit(connect)
        self._listings = sum(map(len, listings.values()))
        self.on_progress(SyncProgress(read=0, listings=self._listings, **self._rows))
        with self._thread:
            keys = [
                self._read_key(key_id, connect[key_id], todo) for key_id, todo in listings.items()
            ]
            try:
                await asyncio.gather(*keys)
            finally:
                self._begin_merge()
                await asyncio.gather(*self._merges)

    def finalize(self) -> Synced:
        """Keep how far was read, then observe and reconcile the days."""
        visits = visit_log.visits(self._con, self._lake, self._plan.usage, map(_pair, self._read))
        if self._news or visits or set(self._state.unreadable()) != self._lost_before:
            self._owe([*self._days, *visits, *open_days(self._con, self._lake)])
        # Visits last: until they are there, the listings count as changed.
        cursors.save(self._lake, self._state)
        for day, table in visits.items():
            cursors.save_visits(self._lake, day, table)
        if not self.failures:  # who had usage on damaged days has been read from the beginning
            done = {day: Change(done={"read"}) for day in self._plan.reread}
            publish_days(self._con, self._lake, done)
        # Since it began an answer may have shown that the clock is ahead.
        derive(self._con, self._lake, self._through, min(self._began, self._now()))
        self._warnings += _lost(self._lake)
        self._warnings += _of_no_day(self._impossible)
        return Synced(
            days=tuple(self._days),
            listings=len(self._read),
            unchanged=self._plan.unchanged,
            requests=self._requests,
            gaps=tuple(sorted(self._gaps)),
            warnings=tuple(self._warnings),
            **self._rows,
        )

    def _owe(self, days: Iterable[date]) -> None:
        """Note that what these days were reconciled with is no longer all there is."""
        reconciled = [day for day in set(days) if self._lake.file("reconciliation", day)]
        publish_days(self._con, self._lake, {day: Change(owes={"reconcile"}) for day in reconciled})

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
                self._plan.known(listing),
                self._plan.expected(listing),
                partial(self._plan.tail, self._plan.reads_all(listing)),
                keep_bodies=self._keep_content,
                given_up=self._is_given_up,
                settled_before=self._began - _SHOWN_LATE,
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
            if sum(map(self._buffer.rows, KINDS)) >= _BATCH:
                self._begin_merge()

    def _is_given_up(self, response: Response) -> bool:
        age = self._began - response.created_at
        return not -DAY <= age <= WAITED_DAYS * DAY

    def _keep(self, listing: Listing, found: Found) -> None:
        """Take in what a listing brought, and how far it was read."""
        rows: dict[Kind, tuple[Sequence[object], Sequence[str]]] = {
            "conversations": (found.conversations, self._of_conversations),
            "responses": (list(found.responses.values()), Response.__struct_fields__),
            "items": (list(found.items.values()), Item.__struct_fields__),
        }
        seen_at = self._now()
        whose = {"user_id": listing.user_id, "api_key_id": listing.api_key_id}
        for kind, (seen, names) in rows.items():
            of_all = {"seen_at": seen_at, **({} if kind == "items" else whose)}
            columns = {name: [getattr(row, name) for row in seen] for name in names}
            columns |= {name: [value] * len(seen) for name, value in of_all.items()}
            if kind == "items":
                columns["conversation_id"] = [name for name, _ in found.items]
            if self._plan.gone:
                _hide(columns, self._plan.hidden, self._plan.gone)
            self._buffer.add(kind, columns)
            self._rows[kind] += len(seen)
        until = seen_at + CLOCKS_DIFFER
        self._impossible["conversations"] |= _impossible(found.conversations, until)
        self._impossible["responses"] |= _impossible(found.responses.values(), until)
        self._put_state(listing, found)
        self._gaps += (f"{listing}: {gap}" for gap in found.gaps)
        if found.abandoned:
            self._warnings.append(
                f"{listing}: {count(len(found.abandoned), 'response')} not final {WAITED_DAYS} "
                f"days after creation, no longer waited for: {', '.join(found.abandoned[:_NAMED])}"
                f"{', ...' if len(found.abandoned) > _NAMED else ''}"
            )
        self._read.append(listing)
        self.on_progress(SyncProgress(read=len(self._read), listings=self._listings, **self._rows))

    def _put_state(self, listing: Listing, found: Found) -> None:
        for tail in found.tails.values():
            self._state.put_tail(tail)
        before = self._state.listings.get(_pair(listing))
        if before is not None and found.complete:
            for name in set(before.order) - set(found.order):
                self._state.put_tail(self._plan.tail(False, name)._replace(unreadable=True))
        self._state.put_listing(
            ListingState(
                listing.api_key_id,
                listing.user_id,
                tuple(found.order),
                found.response_cursor,
                tuple(found.waiting),
                found.has_unlisted,
            )
        )

    def _begin_merge(self) -> None:
        """Begin to merge the rows so far; further ones are kept apart."""
        buffer, self._buffer = self._buffer, RowBuffer(Path(tempfile.mkdtemp(dir=self._folder)))
        self._merges.append(asyncio.ensure_future(self._merge(buffer)))

    async def _merge(self, buffer: RowBuffer) -> None:
        loop = asyncio.get_running_loop()
        until = self._now() + CLOCKS_DIFFER
        work = partial(merge_rows, self._con, self._lake, buffer, until, _loaded(self._lake))
        self.take(await loop.run_in_executor(self._thread, work))

    def take(self, merged: Merged) -> None:
        """Note what a merge has changed, and what it could not read."""
        self._news = self._news or any(merged.days.values()) or bool(merged.to_observe)
        self.report_damage(merged.damaged)


def _hide(columns: dict[str, list[Any]], hidden: Collection[str], gone: Forgotten) -> None:
    """Leave out what is said of and in conversations of those who were forgotten, which the key's
    own listing may show still, and what names them."""
    whose = columns.get("conversation_id", columns["id"])
    for name in ("metadata", "body"):
        if name in columns:
            columns[name] = [
                None if said is None or one in hidden or gone.is_named_in(said) else said
                for one, said in zip(whose, columns[name], strict=True)
            ]


def _impossible(records: Iterable[Conversation | Response], until: float) -> set[str]:
    """The ids of what says that it was created before there was an API, or from `until` on."""
    earliest = day_window(EARLIEST).start
    return {it.id for it in records if not earliest <= it.created_at < until}


def _lost(lake: Lake) -> Iterator[str]:
    days = set(days_that_owe(lake, "read"))
    if places := set(filter(is_apart, days)):
        yield (
            f"records of {in_words(places)} have to be read again: `{messages.FULL}` over all days "
            "that are loaded does that"
        )
    for first, last in spans(days - places):
        yield (
            f"records of {in_words(day_range(first, last))} have to be read again: "
            f"`{messages.run(first, last, '--full')}` does that"
        )


def _of_no_day(impossible: Mapping[Kind, Collection[str]]) -> Iterator[str]:
    for kind, ids in impossible.items():
        if ids:
            yield (
                f"{count(len(ids), kind.removesuffix('s'))} said to be created before "
                f"{EARLIEST:%Y} or in the future: kept, but counted on no day"
            )


def _pair(listing: Listing | ListingState) -> Pair:
    return listing.api_key_id, listing.user_id
