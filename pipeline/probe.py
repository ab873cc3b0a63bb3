"""How late does usage count, and does it count exactly? Add items, then watch the usage endpoint.

Belongs here: the one thing in this project that writes to the API, and what can be concluded from
it. Does not belong here: arguments, printing, clocks and waiting (all passed in).

A probe adds items that name themselves (`mka1-usage probe <mark> 7/40`) to a conversation, then
asks endpoint 1 for the minutes concerned until all of them are counted and stay counted until
those minutes are over, or until patience runs out. The number to expect is not what was sent but
what is there: the items of this mark in the conversation's tail, read anew after each answer.

**Nothing is posted twice.** Endpoint 4 is not idempotent, and an answer that did not come proves
nothing: a slow server may still do the POST at any later moment, so no look at the conversation,
however late, would make a second POST safe. After a POST of unknown fate the tail is read, and once
more after a pause. All of its items there: on it goes. Some: the probe stops. None: no more is
posted, and what was added until then is measured.

**Whose items are counted.** Usage tells users and keys apart, not conversations. Other traffic of
the same user and key that was counted in these minutes before the probe began is subtracted; what
others add meanwhile cannot be told from the probe's own items, and so more items than expected mean
that nothing can be said (`exact` is None). The rows are picked here rather than by the parameter
`user_ids`, so that nothing depends on which kind of id that parameter means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, TypeAlias

from pipeline.api import (
    AnswerTooBig,
    ApiError,
    Client,
    FateUnknown,
    InvalidQuery,
    Item,
    ItemsQuery,
    PageSize,
    PagingError,
    QuotaExhausted,
    Refused,
    Result,
    Unauthorized,
    Unavailable,
    UsageQuery,
    create_items,
    get_items,
    get_usage,
    walk_usage,
)
from pipeline.timeline import DAY, SECONDS, Window, floor_to
from pipeline.words import count

MAX_ITEMS: Final = 1_000
"""Most items of one probe: it writes into somebody's conversation."""
PER_POST: Final = 20
"""Most items of one POST (docs/api.md, "Adding items")."""
PATIENCE: Final = 900.0
"""Seconds after the last POST for which a probe watches, if it is not told otherwise."""
PAUSE: Final = 30.0
"""Seconds before the second look for the items of a POST whose fate is unknown."""

_SKEW: Final = 10
"""Seconds by which the server's clock may differ from the one passed in."""
_FIRST_WAIT, _GROWTH, _LONGEST_WAIT = 1.0, 1.5, 30.0
_NOT_DONE: Final = (InvalidQuery, QuotaExhausted, Refused, Unauthorized, Unavailable)
"""What `create_items` raises when nothing was added; after any other ApiError it may have been."""
_FOREIGN_PAGES: Final = 200
"""Pages of a tail that may be somebody else's before reading it is given up."""

Kind: TypeAlias = Literal["baseline", "added", "fate_unknown", "polled", "poll_failed"]


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to add, where, and under whom usage will count it. Made by `plan`.

    `on_behalf_of` None is the key's own user, reported as null; `api_key_id` None is any key.
    """

    conversation_id: str
    items: int
    on_behalf_of: str | None
    api_key_id: str | None

    @property
    def batches(self) -> list[range]:
        """The numbers of the items, from 1 on, POST by POST."""
        firsts = range(1, self.items + 1, PER_POST)
        return [range(first, min(first + PER_POST, self.items + 1)) for first in firsts]


def plan(
    conversation_id: str,
    items: int,
    *,
    on_behalf_of: str | None = None,
    api_key_id: str | None = None,
) -> ProbePlan:
    """A plan to add `items` items, 1 to 1,000. ValueError for any other number, and for empty ids.

    A user who does nothing else in these minutes makes the answer exact.
    """
    if type(items) is not int or not 1 <= items <= MAX_ITEMS:
        raise ValueError(f"items is {items!r}: a probe adds from 1 to {MAX_ITEMS:,}")
    ids = (("conversation", conversation_id), ("user", on_behalf_of), ("API key", api_key_id))
    for name, value in ids:
        if value == "":
            raise ValueError(f"the {name} id is empty: name one, or leave it out if it may be any")
    return ProbePlan(conversation_id, items, on_behalf_of, api_key_id)


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """One step, for whoever looks on: `count` items of `of`, and what else there is to say.

    `baseline`: so many were counted before the probe began (`of` is 0). `added`: so many are in the
    conversation. `polled`: so many are counted. `fate_unknown`, `poll_failed`: `detail` says why.
    """

    kind: Kind
    count: int
    of: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found. Moments are Unix seconds, UTC, by the clock passed in.

    The two `…_after` are seconds from the sending of the last POST, so never too few, until the
    first question that was answered so: the truth lies between that question and the one before it.
    """

    mark: str
    asked: int
    """How many items the plan was to add."""
    added: int
    """How many items of this mark are in the conversation."""
    started_at: float
    """Before the first POST."""
    finished_at: float
    """When the last POST that was seen to be done was sent."""
    watched: float
    """Seconds from then to the end of the probe."""
    polls: int
    """How often usage was asked, the baseline not included."""
    counted: int
    """How many items usage counted in the end, less those of the baseline."""
    first_counted_after: float | None
    """Until any item was counted. None: never seen, or not to be told for other traffic."""
    all_counted_after: float | None
    """Until all were counted and stayed so. None: as above."""
    exact: bool | None
    """Whether usage counted what was added, no more and no less. None: other traffic hides it."""

    @property
    def expected(self) -> int:
        """How many items usage should count."""
        return self.added

    @property
    def lookback_days(self) -> int | None:
        """The least lookback that would have caught the last item, had its day just ended."""
        late = self.all_counted_after
        return None if late is None else max(1, math.ceil(late / DAY))

    @property
    def sentence(self) -> str:
        """The finding for people."""
        text = self._finding()
        if self.added > self.asked:
            text += (
                f" Each of {_items(self.asked)} was posted once, but {self.added:,} are there: the "
                "API, or something before it, does a POST more than once."
            )
        if self.added < self.asked:
            text += (
                f" Only {_items(self.added)} of {self.asked:,} could be added: it is not known "
                "what became of a POST, and nothing is posted twice."
            )
        return text

    def _finding(self) -> str:
        if self.exact is None:
            return (
                f"Usage counts {_items(self.counted)} in the minutes in which {self.added:,} were "
                "added: either the same user and key did something else as well, or usage counts "
                "too many. Probe again when it is quiet, or for a user who does nothing else."
            )
        late, days = self.all_counted_after, self.lookback_days
        if late is None or days is None:
            return (
                f"After {_seconds(self.watched)} usage counts {self.counted:,} of "
                f"{_items(self.added)}: no lookback shorter than that is enough. Ask for these "
                "minutes again later, or probe with more patience. If nothing was counted at all, "
                "check the user and the API key id that usage is looked for under."
            )
        return (
            f"Usage counted all {_items(self.added)}, exactly, {_seconds(late)} after the last "
            f"POST at most: a lookback of {count(days, 'day')} covers that, "
            "also right after midnight UTC."
        )


class ProbeStopped(ApiError):
    """The probe ended after it had begun to write. `added` items are known to be there."""

    def __init__(self, message: str, added: int) -> None:
        super().__init__(message)
        self.added = added


async def probe(
    client: Client,
    plan: ProbePlan,
    *,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    on_event: Callable[[ProbeEvent], None],
    mark: str,
    patience_seconds: float = PATIENCE,
) -> ProbeResult:
    """Add the items of `plan` and watch usage until it counts them all or patience runs out.

    `mark` tells this probe's items from any other's: never use one twice (`secrets.token_hex()`).
    Whatever goes wrong before the first item is written is raised as it is (Unauthorized, Refused
    404 for a conversation that is not there, …); afterwards it is ProbeStopped, which says what is
    known to be there. ValueError for a mark or a patience that cannot be used.
    """
    if not re.fullmatch(r"[0-9A-Za-z_-]{4,64}", mark):
        raise ValueError(f"the mark is {mark!r}: use 4 to 64 letters, digits, - and _")
    if not 0 <= patience_seconds < math.inf:
        raise ValueError(f"patience is {patience_seconds!r}: it is a number of seconds from 0 on")
    job = _Job(client, plan, mark, now, sleep, on_event)
    job.anchor = await job.newest()
    began = now()
    baseline = await job.counted(_minutes(began - _SKEW, began))
    on_event(ProbeEvent("baseline", baseline, 0))
    started = now()
    writer = _Writer(job, started)
    await writer.write()
    watcher = _Watcher(job, began - _SKEW, started, writer.last_done, now(), baseline, writer.added)
    try:
        return await watcher.watch(patience_seconds)
    except ApiError as error:
        raise ProbeStopped(
            f"{_items(watcher.added)} with the mark {mark} were added to the conversation "
            f"{plan.conversation_id!r}, but what usage makes of them cannot be read: {error}",
            watcher.added,
        ) from error


def _minutes(first: float, last: float) -> Window:
    """The whole minutes from the one that holds `first` through the one that holds `last`."""
    start, end = floor_to(math.floor(first), "1m"), floor_to(math.floor(last), "1m")
    return Window(start, end + SECONDS["1m"])


@dataclass(slots=True)
class _Job:
    """What one probe asks of the API, and what it is given to do so."""

    client: Client
    plan: ProbePlan
    mark: str
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    on_event: Callable[[ProbeEvent], None]
    anchor: str | None = None
    """The last item before the probe, None in an empty conversation: the far end of the tail."""

    @property
    def _backwards(self) -> ItemsQuery:
        return ItemsQuery(
            self.plan.conversation_id, order="desc", on_behalf_of=self.plan.on_behalf_of
        )

    async def newest(self) -> str | None:
        """The conversation's last item, None when it is empty."""
        page = (await get_items(self.client, replace(self._backwards, limit=1))).value
        return page.items[0].id if page.items else None

    async def numbers(self) -> list[int]:
        """The numbers of this mark's items, newest first. PagingError when the tail has no end."""
        found: dict[str, int] = {}
        query = self._backwards
        for _ in range(self.plan.items + _FOREIGN_PAGES):
            page = (await get_items(self.client, query, keep_bodies=True)).value
            for item in page.items:
                if item.id == self.anchor:
                    return list(found.values())
                if (number := self._number(item)) is not None:
                    found[item.id] = number
            if page.has_more is False or (page.has_more is None and not page.items):
                return list(found.values())
            if not page.items:
                break
            query = replace(query, after=page.items[-1].id)
        raise PagingError(
            f"reading back the items of the conversation {self.plan.conversation_id!r}, the API "
            "promises more without end, or others add to it without end: probe another one."
        )

    def _number(self, item: Item) -> int | None:
        """The number that an item of this mark bears; None for any other item."""
        if item.body is None or self.mark not in item.body:
            return None
        named = re.fullmatch(
            rf"mka1-usage probe {self.mark} ([0-9]+)/{self.plan.items}", _text(item.body)
        )
        return int(named[1]) if named else None

    async def post(self, batch: range) -> None:
        """Post the items of these numbers. Raises what `create_items` raises."""
        items = [
            {
                "type": "message",
                "role": "user",
                "content": f"mka1-usage probe {self.mark} {number}/{self.plan.items}",
            }
            for number in batch
        ]
        await create_items(
            self.client, self.plan.conversation_id, items, on_behalf_of=self.plan.on_behalf_of
        )

    async def counted(self, window: Window) -> int:
        """How many items usage counts for the plan's user and key in those whole minutes."""
        query = UsageQuery(window.start, window.end, "1m", group_by=("user_id", "api_key_id"))
        minutes: dict[int, int] = {}  # a bucket that is served twice counts as served last
        async for page in walk_usage(partial(get_usage, self.client), query, PageSize()):
            for bucket in page.buckets:
                minutes[bucket.start_time] = sum(
                    row.num_items_added or 0 for row in bucket.results if self._concerns(row)
                )
        return sum(minutes.values())

    def _concerns(self, row: Result) -> bool:
        plan = self.plan
        return row.user_id == plan.on_behalf_of and plan.api_key_id in {None, row.api_key_id}


def _text(body: str) -> str:
    """What a message says; its content is a string or a list of parts."""
    content = json.loads(body).get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)).strip()


@dataclass(slots=True)
class _Writer:
    """Posts each item at most once."""

    job: _Job
    last_done: float
    """When the last POST that was seen to be done was sent."""
    added: int = 0

    async def write(self) -> None:
        """Post batch by batch, up to the first that is not seen to be done."""
        items = self.job.plan.items
        for batch in self.job.plan.batches:
            sent = self.job.now()
            try:
                done = await self._post(batch)
            except _NOT_DONE as error:
                if not self.added:
                    raise  # known not to be done, as was nothing before it
                raise self._stopped(f"the next POST was not done: {error}") from error
            if not done:
                return
            self.added, self.last_done = self.added + len(batch), sent
            self.job.on_event(ProbeEvent("added", self.added, items))

    async def _post(self, batch: range) -> bool:
        """Post a batch, once; whether it is seen to be done."""
        try:
            await self.job.post(batch)
        except ApiError as doubt:
            if isinstance(doubt, _NOT_DONE) and not isinstance(doubt, FateUnknown):
                raise
            self.job.on_event(
                ProbeEvent("fate_unknown", self.added, self.job.plan.items, str(doubt))
            )
            return await self._was_done(batch, doubt)
        return True

    async def _was_done(self, batch: range, doubt: ApiError) -> bool:
        """Whether the whole batch is there. ProbeStopped for a part of it, or no item at all."""
        seen = await self._seen(batch, doubt)
        if seen < len(batch):
            await self.job.sleep(PAUSE)  # a slow server may still be at it
            seen = await self._seen(batch, doubt)
        if seen == len(batch):
            return True
        if seen or not self.added:
            raise self._stopped(
                f"the fate of a POST of {_items(len(batch))} is unknown ({doubt}); {seen:,} of "
                f"them are there after {PAUSE:g} s, and the others may yet come",
                seen,
            ) from doubt
        return False

    async def _seen(self, batch: range, doubt: ApiError) -> int:
        try:
            return len(set(batch).intersection(await self.job.numbers()))
        except ApiError as error:
            raise self._stopped(
                f"the fate of a POST of {_items(len(batch))} is unknown ({doubt}), and the "
                f"conversation cannot be read: {error}"
            ) from error

    def _stopped(self, why: str, more: int = 0) -> ProbeStopped:
        added = self.added + more
        return ProbeStopped(
            f"the probe stopped: {why}. {_items(added)} with the mark {self.job.mark} are known "
            f"to be in the conversation {self.job.plan.conversation_id!r}. Nothing was posted "
            "twice; to try again, begin a new probe.",
            added,
        )


@dataclass(slots=True)
class _Watcher:
    """Asks usage until it agrees with the conversation, or patience runs out."""

    job: _Job
    since: float
    """The earliest that an item may have been added by the server's clock."""
    started: float
    finished: float
    until: float
    """The latest that an item may have been added, by the clock passed in."""
    baseline: int
    added: int
    counted: int = 0
    polls: int = 0
    first: float | None = None
    all: float | None = None
    failure: ApiError | None = None
    """Why the last poll failed; None when it did not."""

    async def watch(self, patience: float) -> ProbeResult:
        """The finding. Raises ApiError when the last word of usage could not be read."""
        settled = False
        for wait in _waits(patience):
            await self.job.sleep(wait)
            settled = await self._poll() and await self._settle()
            if settled or self.counted > self.added or self._watched() >= patience:
                break
        if self.failure is not None:
            raise self.failure
        told = self.counted <= self.added
        return ProbeResult(
            mark=self.job.mark,
            asked=self.job.plan.items,
            added=self.added,
            started_at=self.started,
            finished_at=self.finished,
            watched=self._watched(),
            polls=self.polls,
            counted=self.counted,
            first_counted_after=self.first if told else None,
            all_counted_after=self.all,
            exact=settled if told else None,
        )

    async def _poll(self) -> bool:
        """Ask usage, then the conversation; whether all that is there is counted, and no more."""
        self.polls += 1
        missing = self.added < self.job.plan.items
        last = min(self.until + _SKEW, self.job.now())
        try:
            counted = await self.job.counted(_minutes(self.since, last)) - self.baseline
            added = len(await self.job.numbers())
        except (Unavailable, QuotaExhausted, AnswerTooBig) as error:
            self.failure = error
            self.job.on_event(ProbeEvent("poll_failed", self.counted, self.added, str(error)))
            return False
        if not added:
            raise PagingError("they can no longer be found in it")
        if missing:
            self.until = self.job.now()  # what was missing may have come just now
        self.failure, self.counted, self.added = None, counted, added
        after = self._watched()
        if self.first is None and counted > 0:
            self.first = after
        if counted != added:
            self.all = None
        elif self.all is None:
            self.all = after
        self.job.on_event(ProbeEvent("polled", counted, added))
        return counted == added

    async def _settle(self) -> bool:
        """Poll again when the minute, and the last one that may hold an item, are over."""
        now = self.job.now()
        latest = max(now, self.until + _SKEW)
        await self.job.sleep(_minutes(latest, latest).end - now)
        return await self._poll()

    def _watched(self) -> float:
        return self.job.now() - self.finished


def _waits(patience: float) -> Iterator[float]:
    """Seconds to wait before each poll: none, then ever more, `patience` in all."""
    yield 0.0
    waited, wait = 0.0, _FIRST_WAIT
    while waited < patience:
        wait = min(wait, patience - waited)
        yield wait
        waited += wait
        wait = min(wait * _GROWTH, _LONGEST_WAIT)


def _items(number: int) -> str:
    return count(number, "item")


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
