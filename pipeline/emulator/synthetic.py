"""A world of made-up traffic that looks like a product's: how much happens when, and by whom.

Everything follows from the seed by +, -, *, / and integer arithmetic on `random.Random`, so that it
is the same on every machine.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from pipeline.emulator.events import DEFAULT_KEYS, Event
from pipeline.emulator.phrases import TOPICS, answer, extra_items, question
from pipeline.emulator.prices import CHAT_MODELS
from pipeline.emulator.side_traffic import (
    MODEL_SHARES,
    SideTraffic,
    Visit,
    chat_tokens,
    tokens_of,
)
from pipeline.emulator.state import Tokens
from pipeline.emulator.world import World

START_2024 = 1_704_067_200
"""2024-01-01T00:00:00Z, a Monday."""
DAY = 86_400

HOUR_WEIGHTS = (
    *(4, 3, 2, 2, 2, 3, 6, 12, 22, 30, 34, 35),
    *(30, 32, 36, 35, 32, 28, 24, 22, 20, 16, 11, 7),
)
"""How busy each hour of a UTC day is, relative to the others."""
WEEKDAY_WEIGHTS = (10, 11, 11, 10, 9, 4, 3)
"""How busy each day of the week is, Monday first."""
ODD_USERS = (
    "käthe.müller@example.org",
    "ユーザー七",
    'o"brien, "pat"',
    "team/ops #2",
    "ada lovelace",
    "100%+plus&more=yes",
    "it's;--\\n",
)
"""User ids that are hard on URLs, headers, SQL, CSV and sorting: ids are opaque strings."""
ODD_CONVERSATIONS = (
    "conv with spaces",
    "conv/with/slashes",
    "conv,ü,漢",
    "conv?q=1&x=2#y",
    "conv%2F'\"",
)


@dataclass(frozen=True, slots=True)
class _Call:
    """One API call to replay: which conversation, and what it does."""

    at: float
    conversation: int
    kind: str


@dataclass(frozen=True, slots=True)
class _Plan:
    user_id: str | None
    api_key_id: str | None
    topic: str
    model: str
    background: bool


def synthetic_world(
    seed: int = 0,
    start: int = START_2024,
    days: int = 7,
    users: int = 50,
    *,
    conversations_per_user_day: float = 9.0,
    keys: Sequence[str] = DEFAULT_KEYS,
    late_share: float = 0.0,
    late_by: float = 6 * 3_600.0,
    clock: Callable[[], float] = time.time,
) -> World:
    """Traffic of `users` users over `days` whole days from `start` (Unix seconds, UTC).

    The same arguments give the same world on any machine and date. Few users make most of the
    traffic; about 6 % of it has no user and 2 % no key; the last of `keys` works in batches, on
    whole minutes before dawn and in the background. A conversation keeps to one of three models.
    Beside conversations there is traffic of every other usage endpoint, and billable work.
    `late_share` of the calls (0 to 1) are first counted up to `late_by` seconds after they
    happened. The defaults give about 26,000 events. Raises ValueError for days or users below 1.
    """
    if days < 1 or users < 1:
        raise ValueError(f"a world needs at least one day and one user, not {days} and {users}")
    random = Random(seed)  # noqa: S311  # traffic, not secrets
    # What came later than conversations has dice of its own, so that they stayed as they were.
    dice = Random(f"{seed}:models")  # noqa: S311  # traffic, not secrets
    total = max(1, round(conversations_per_user_day * users * days))
    plans = _plans(random, dice, total, user_ids(users), keys)
    calls = sorted(_calls(random, plans, start, days, keys), key=lambda call: call.at)
    world = World(keys=keys, clock=clock)
    replay = _Replay(world, random, dice)
    for call in calls:
        late = random.random()
        visible_at = call.at + late_by * late / late_share if late < late_share else None
        replay.play(call, plans[call.conversation], visible_at)
    visits = [
        Visit(call.at, plans[call.conversation].user_id, plans[call.conversation].api_key_id)
        for call in calls
        if call.kind == "create"
    ]
    beside = SideTraffic(seed, visits, start, start + DAY * days, late_share, late_by)
    world.log_meters_later(beside.events)
    world.charge_later(beside.charges)
    return world


def user_ids(count: int) -> list[str]:
    """The ids of a world's users, the busiest first; a few of them are odd on purpose."""
    plain = (f"user_{number:04d}" for number in range(count))
    # Every third id is odd until the odd ones run out, so that small worlds have some too.
    odd = {3 * position + 1: name for position, name in enumerate(ODD_USERS)}
    return [odd.get(position, name) for position, name in enumerate(plain)]


def _plans(
    random: Random, dice: Random, total: int, users: Sequence[str], keys: Sequence[str]
) -> list[_Plan]:
    heavy_tail = list(accumulate(1 / (rank + 2) for rank in range(len(users))))
    key_shares = list(accumulate(1 / (rank + 1) for rank in range(len(keys))))
    chosen_users = random.choices(users, cum_weights=heavy_tail, k=total)
    chosen_keys = random.choices(keys, cum_weights=key_shares, k=total)
    chosen_models = dice.choices(CHAT_MODELS, cum_weights=MODEL_SHARES, k=total)
    return [
        _Plan(
            user_id=None if random.random() < 0.06 else user,
            api_key_id=None if random.random() < 0.02 else key,
            topic=random.choice(TOPICS),
            model=model,
            background=key == keys[-1],
        )
        for user, key, model in zip(chosen_users, chosen_keys, chosen_models, strict=True)
    ]


def _calls(
    random: Random, plans: Sequence[_Plan], start: int, days: int, keys: Sequence[str]
) -> list[_Call]:
    """All calls of all conversations that fall in the window, in no order."""
    first_weekday = (start // DAY + 3) % 7  # 1970-01-01 was a Thursday
    day_weights = list(accumulate(WEEKDAY_WEIGHTS[(first_weekday + d) % 7] for d in range(days)))
    hour_weights = list(accumulate(HOUR_WEIGHTS))
    chosen_days = random.choices(range(days), cum_weights=day_weights, k=len(plans))
    chosen_hours = random.choices(range(24), cum_weights=hour_weights, k=len(plans))
    calls: list[_Call] = []
    for number, plan in enumerate(plans):
        midnight = start + DAY * chosen_days[number]
        at = midnight + 3_600 * chosen_hours[number] + 3_600 * random.random()
        if plan.api_key_id == keys[-1] and random.random() < 0.7:
            # Batch jobs start on the minute, before dawn: times exactly on a bucket's edge.
            at = midnight + 60 * random.randrange(60, 300)
        calls.append(_Call(round(at, 3), number, "create"))
        for kind in _script(random):
            at += 2 + 90 * random.random() * random.random()
            calls.append(_Call(round(at, 3), number, kind))
    end = start + DAY * days
    return [call for call in calls if call.at < end]


def _script(random: Random) -> list[str]:
    """The calls of a conversation after it is created."""
    script: list[str] = ["items"] if random.random() < 0.15 else []
    turns = 1 + int(8 * random.random() * random.random() * random.random() * 1.2)
    turns += int(3 * random.random())
    for _ in range(turns):
        script.append("response")
        script.extend(["read"] * int(4 * random.random()))
    if random.random() < 0.1:
        script.append("lone response")
    if random.random() < 0.03:
        script.append("delete")
    return script


@dataclass(frozen=True, slots=True)
class _Replay:
    """Plays calls on a world; `names` are the ids of the conversations made so far."""

    world: World
    random: Random
    dice: Random
    names: dict[int, str] = field(default_factory=dict[int, str])

    def play(self, call: _Call, plan: _Plan, visible_at: float | None) -> None:
        """Do one call at its time."""
        if call.kind == "create":
            self._create(call, plan, visible_at)
            return
        name = self.names[call.conversation]
        match call.kind:
            case "items":
                said = [question(self.random, plan.topic)]
                self.world.add_items(name, said, call.at, visible_at=visible_at)
            case "response":
                self._respond(call, plan, visible_at)
            case "lone response":
                self.world.add_response(
                    None,
                    call.at,
                    tokens=chat_tokens(self.dice, plan.model),
                    model=plan.model,
                    background=plan.background,
                    owner=(plan.api_key_id, plan.user_id),
                    visible_at=visible_at,
                )
            case "delete":
                self.world.delete_conversation(name, call.at)
            case _:
                read = Event(call.at, plan.user_id, plan.api_key_id, 0, 0, 1, visible_at)
                self.world.log(read)

    def _create(self, call: _Call, plan: _Plan, visible_at: float | None) -> None:
        metadata = {"topic": plan.topic, "channel": plan.api_key_id or "console"}
        made = len(self.names)
        self.names[call.conversation] = self.world.create_conversation(
            call.at,
            plan.user_id,
            plan.api_key_id,
            metadata if self.random.random() < 0.8 else None,
            conversation_id=ODD_CONVERSATIONS[made] if made < len(ODD_CONVERSATIONS) else None,
            visible_at=visible_at,
        )

    def _respond(self, call: _Call, plan: _Plan, visible_at: float | None) -> None:
        random = self.random
        status = random.choices(
            ("completed", "incomplete", "failed", "cancelled"), cum_weights=(96, 98, 99, 100)
        )[0]
        items = [question(random, plan.topic)]
        if status == "completed":
            items += [*extra_items(random, plan.topic), answer(random, plan.topic)]
        read, cached = 50 + random.randrange(4_000), random.randrange(50)
        written, reasoning = 20 + random.randrange(900), random.randrange(20)
        tokens = tokens_of(plan.model, read, written, cached, reasoning)
        self.world.add_response(
            self.names[call.conversation],
            call.at,
            items,
            tokens=Tokens(tokens.input, tokens.cached) if status == "failed" else tokens,
            status=status,
            finished_at=round(call.at + 1 + 8 * random.random(), 3),
            model=plan.model,
            background=plan.background,
            metadata={"topic": plan.topic},
            visible_at=visible_at,
        )
