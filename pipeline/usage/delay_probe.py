"""How late does usage count, and does it count exactly? Add items, then watch the usage endpoint.

Belongs here: the one thing in this project that writes to the API. It adds marked items
(`mka1-usage probe <mark> 7/40`) to a conversation, then asks endpoint 1 for the minutes concerned
until all of them are counted, and stay counted until those minutes are over. A POST that is not
answered ends the probe, since nothing may be posted twice.

Usage tells users and keys apart, not conversations. What the same user and key had in these minutes
before the probe began is subtracted. What they do meanwhile can't be told from the probe's items,
so where more items are counted than were added, nothing can be said (`exact` is None).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pipeline.api import (
    AnswerTooBig,
    ApiError,
    Client,
    InvalidQuery,
    ItemsQuery,
    QuotaExhausted,
    Refused,
    Unauthorized,
    Unavailable,
    UsageQuery,
    create_items,
    get_items,
    usage_pages,
)
from pipeline.messages import count
from pipeline.timeline import DAY, SECONDS, Window, floor_to

MAX_ITEMS: Final = 1_000
"""Most items of one probe: it writes into somebody's conversation."""
PER_POST: Final = 20
"""Most items of one POST (docs/api.md, "Adding items")."""

_SKEW: Final = 10
"""Seconds by which the server's clock may differ from the one passed in."""
_NOT_DONE: Final = (InvalidQuery, QuotaExhausted, Refused, Unauthorized, Unavailable)
"""What `create_items` raises when nothing was added; after any other ApiError it may have been."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to add, where, and under whom usage will count it. ValueError where that can't be.

    `on_behalf_of` None is the key's own user, reported as null; `api_key_id` None is any key. The
    `mark` tells these items from those of any other probe.
    """

    conversation_id: str
    items: int
    on_behalf_of: str | None = None
    api_key_id: str | None = None
    mark: str = field(default_factory=lambda: secrets.token_hex(6))

    def __post_init__(self) -> None:
        if type(self.items) is not int or not 1 <= self.items <= MAX_ITEMS:
            raise ValueError(f"items is {self.items!r}: a probe adds from 1 to {MAX_ITEMS:,}")
        ids = {"conversation": self.conversation_id, "user": self.on_behalf_of}
        for name, value in {**ids, "API key": self.api_key_id}.items():
            if value == "":
                raise ValueError(f"the {name} id is empty: name one, or leave it out")

    @property
    def posts(self) -> list[list[str]]:
        """What the items say, POST by POST."""
        said = [f"mka1-usage probe {self.mark} {n + 1}/{self.items}" for n in range(self.items)]
        return [said[first : first + PER_POST] for first in range(0, self.items, PER_POST)]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: `counted` of `items`, after `watched` seconds.

    `all_counted_after` is seconds from the sending of the last POST, so never too few, to the first
    question that was answered with all items from then on: the truth lies between that question and
    the one before it. None where they never were, or other traffic hides it.
    """

    items: int
    counted: int
    watched: float
    all_counted_after: float | None

    @property
    def exact(self) -> bool | None:
        """Whether usage counted what was added. None: it counted more, maybe other traffic."""
        return None if self.counted > self.items else self.all_counted_after is not None

    @property
    def sentence(self) -> str:
        """The finding for people, with the least lookback that would have caught the last item."""
        if self.exact is None:
            return (
                f"Usage counts {count(self.counted, 'item')} in the minutes in which "
                f"{self.items:,} were added: either the same user and key did something else as "
                "well, or usage counts too many. Probe again when it is quiet, or for a user who "
                "does nothing else."
            )
        late = self.all_counted_after
        if late is None:
            return (
                f"After {_seconds(self.watched)} usage counts {self.counted:,} of "
                f"{count(self.items, 'item')}: no lookback shorter than that is enough. Ask for "
                "these minutes again later, or probe with more patience. If nothing was counted at "
                "all, check the user and the API key id that usage is looked for under."
            )
        return (
            f"Usage counted all {count(self.items, 'item')}, exactly, {_seconds(late)} after the "
            f"last POST at most: a lookback of {count(max(1, math.ceil(late / DAY)), 'day')} "
            "covers that, also right after midnight UTC."
        )


class ProbeStopped(ApiError):
    """The probe ended after it had begun to write. `added` items are known to be there."""

    def __init__(self, plan: ProbePlan, added: int, why: str) -> None:
        super().__init__(
            f"the probe stopped: {why}. {count(added, 'item')} with the mark {plan.mark} are known "
            f"to be in the conversation {plan.conversation_id!r}. Nothing was posted twice; to try "
            "again, begin a new probe."
        )
        self.added = added


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe with `client`'s key. `now` and `sleep` are the clock, `say` takes each step."""

    client: Client
    plan: ProbePlan
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    say: Callable[[str], None]

    async def run(self, patience: float) -> ProbeResult:
        """Add the items, then watch usage for `patience` seconds, or until it counts them all.

        Whatever goes wrong before the first item is written is raised as it is (Unauthorized,
        Refused 404 for a conversation that is not there, …); afterwards it is ProbeStopped.
        ValueError for a patience that is no number of seconds.
        """
        if not 0 <= patience < math.inf:
            raise ValueError(f"patience is {patience!r}: it is a number of seconds from 0 on")
        # Read first: what can't be read is not written to.
        plan = self.plan
        one = ItemsQuery(plan.conversation_id, limit=1, on_behalf_of=plan.on_behalf_of)
        await get_items(self.client, one)
        since = self.now() - _SKEW
        baseline = await self._counted(since, self.now())
        self.say(f"usage counts {count(baseline, 'item')} in this minute before the probe")
        sent = await self._write()
        try:
            return await self._watch(since, sent, baseline, patience)
        except ApiError as error:
            why = f"usage cannot be read: {error}"
            raise ProbeStopped(plan, plan.items, why) from error

    async def _write(self) -> float:
        """Post each item once; when the last POST was sent."""
        plan, added, sent = self.plan, 0, self.now()
        for texts in plan.posts:
            items = [{"type": "message", "role": "user", "content": text} for text in texts]
            sent = self.now()
            try:
                await create_items(
                    self.client, plan.conversation_id, items, on_behalf_of=plan.on_behalf_of
                )
            except _NOT_DONE as error:
                if not added:
                    raise
                raise ProbeStopped(plan, added, f"the next POST was not done: {error}") from error
            except ApiError as error:
                why = f"the fate of a POST of {count(len(items), 'item')} is unknown ({error})"
                raise ProbeStopped(plan, added, why) from error
            added += len(items)
            self.say(f"added to the conversation: {added:,} of {count(plan.items, 'item')}")
        return sent

    async def _watch(
        self, since: float, sent: float, baseline: int, patience: float
    ) -> ProbeResult:
        """Ask until all are counted, also when every minute that may hold one is over."""
        items, until = self.plan.items, self.now() + _SKEW
        late: float | None = None
        wait, pause, settling = 0.0, 1.0, False
        while True:
            await self.sleep(wait)
            full = False
            try:
                counted = await self._counted(since, min(until, self.now())) - baseline
            except (Unavailable, QuotaExhausted, AnswerTooBig) as error:
                self.say(f"usage could not be read, trying again: {error}")
                if self.now() - sent >= patience:
                    raise
            else:
                self.say(f"usage counts {counted:,} of {items:,}")
                watched = self.now() - sent
                full = counted == items
                late = None if not full else watched if late is None else late
                if (full and settling) or counted > items or (watched >= patience and not full):
                    return ProbeResult(items, counted, watched, late)
            now, settling = self.now(), full
            if settling:
                wait = _minute(max(now, until)) + SECONDS["1m"] - now
            else:
                wait, pause = min(pause, sent + patience - now), min(1.5 * pause, 30.0)

    async def _counted(self, first: float, last: float) -> int:
        """How many items usage counts for the user and key, in the minutes of these moments."""
        plan, window = self.plan, Window(_minute(first), _minute(last) + SECONDS["1m"])
        query = UsageQuery(window.start, window.end, "1m", group_by=("user_id", "api_key_id"))
        minutes: dict[int, int] = {}  # a bucket that is served twice counts as served last
        async for page in usage_pages(self.client, query):
            for bucket in page.buckets:
                minutes[bucket.start_time] = sum(
                    row.num_items_added or 0
                    for row in bucket.results
                    if row.user_id == plan.on_behalf_of
                    and plan.api_key_id in {None, row.api_key_id}
                )
        return sum(minutes.values())


def _minute(moment: float) -> int:
    return floor_to(math.floor(moment), "1m")


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
