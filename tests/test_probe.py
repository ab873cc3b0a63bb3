"""The probe: it finds how late and how exactly usage counts, and it never adds an item twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from pipeline.api import (
    AnswerTooBig,
    ApiError,
    Client,
    FateUnknown,
    Limits,
    Refused,
    ShapeError,
    Unauthorized,
    create_items,
)
from pipeline.emulator import EmulatorServer, Event, FaultKind, Faults, ManualClock, World
from pipeline.probe import (
    PAUSE,
    ProbeEvent,
    ProbePlan,
    ProbeResult,
    ProbeStopped,
    plan,
    probe,
)

MARK = "f00dcafe"
NOON = 1_700_000_000.0  # 20 s after a full minute
USER, KEY = "käthe", "key_web"
POSTS = frozenset({"POST"})


@dataclass
class Bench:
    """A server whose clock moves only when the probe waits."""

    server: EmulatorServer
    world: World
    clock: ManualClock
    events: list[ProbeEvent] = field(default_factory=list[ProbeEvent])
    meddle: Callable[[], object] = lambda: None
    """What else happens, each time that the probe has waited."""
    notice: Callable[[ProbeEvent], object] = lambda event: None
    """What else happens at each event."""

    def run(self, asked: ProbePlan, *, patience: float = 900.0, mark: str = MARK) -> ProbeResult:
        async def wait(seconds: float) -> None:
            self.clock.advance(seconds)
            self.meddle()

        def on_event(event: ProbeEvent) -> None:
            self.events.append(event)
            self.notice(event)

        async def work() -> ProbeResult:
            async with Client(
                self.server.base_url,
                SecretStr(self.server.api_key),
                Limits(requests_per_second=10_000.0),
                sleep=wait,
                now=self.clock,
            ) as client:
                return await probe(
                    client,
                    asked,
                    now=self.clock,
                    sleep=wait,
                    on_event=on_event,
                    mark=mark,
                    patience_seconds=patience,
                )

        return asyncio.run(work())

    def marked(self, mark: str = MARK) -> list[str]:
        """The texts of the mark's items in the world, those yet to come too."""
        bodies = [item.body for each in self.world.all_conversations() for item in each.items]
        texts = [body["content"] for body in bodies if isinstance(body["content"], str)]
        return [text for text in texts if text.startswith(f"mka1-usage probe {mark} ")]

    def polled(self) -> list[int]:
        """What usage had counted, poll by poll."""
        return [event.count for event in self.events if event.kind == "polled"]

    def restate(self, *changes: int) -> None:
        """Change the count of the first minute by each of these, one at each wait."""
        left = iter(changes)
        self.meddle = lambda: self.world.restate(NOON, USER, KEY, items_added=next(left, 0))


Make = Callable[..., Bench]


def log_next(world: World, events: Iterator[Event]) -> None:
    for event in events:
        world.log(event)


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def start(faults: Faults | None = None, *, items: int = 3) -> Bench:
            clock = ManualClock(NOON)
            world = World(clock=clock)
            world.create_conversation(NOON - 500, USER, KEY, conversation_id="c/1")
            for _ in range(items):
                said = {"type": "message", "role": "user", "content": f"about {MARK}"}
                world.add_items("c/1", [said], NOON - 400)
            return Bench(stack.enter_context(EmulatorServer(world, faults)), world, clock)

        yield start


def forty(items: int = 40, key: str | None = KEY) -> ProbePlan:
    return plan("c/1", items, on_behalf_of=USER, api_key_id=key)


def expected(items: int) -> list[str]:
    return [f"mka1-usage probe {MARK} {number}/{items}" for number in range(1, items + 1)]


@pytest.mark.parametrize("items", [1, 20, 21, 45, 250])
@pytest.mark.parametrize("key", [KEY, None])
def test_where_usage_counts_at_once_the_probe_says_so(
    make: Make, items: int, key: str | None
) -> None:
    bench = make()
    result = bench.run(forty(items, key))
    assert (result.added, result.expected, result.counted) == (items, items, items)
    assert (result.exact, result.first_counted_after, result.all_counted_after) == (True, 0, 0)
    assert (result.started_at, result.finished_at) == (NOON, NOON)
    assert "all" in result.sentence
    assert f"{items} item" in result.sentence
    assert "a lookback of 1 day covers" in result.sentence
    assert bench.marked() == expected(items)
    posts = [status for method, _, status in bench.server.requests if method == "POST"]
    assert posts == [200] * -(-items // 20)
    # It looks once more when the minute is over, and then is done.
    assert (result.polls, result.watched) == (2, 40)


@pytest.mark.parametrize("items", [1, 19, 20, 21, 39, 40, 41, 999, 1_000])
def test_batches_hold_every_number_once_and_at_most_twenty(items: int) -> None:
    batches = forty(items).batches
    assert [number for batch in batches for number in batch] == list(range(1, items + 1))
    assert all(1 <= len(batch) <= 20 for batch in batches)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("c", 0), "items is 0"),
        (("c", -1), "items is -1"),
        (("c", 1_001), "items is 1001"),
        (("c", True), "items is True"),
        (("c", 2.0), "items is 2.0"),
        (("", 1), "conversation id is empty"),
        (("c", 1, ""), "user id is empty"),
        (("c", 1, None, ""), "API key id is empty"),
    ],
)
def test_what_cannot_be_probed_is_refused_before_anything_is_asked(
    arguments: tuple[str, int, *tuple[str | None, ...]], named: str
) -> None:
    conversation, items, *ids = arguments
    user, key = [*ids, None, None][:2]
    with pytest.raises(ValueError, match=named):
        plan(conversation, items, on_behalf_of=user, api_key_id=key)


@pytest.mark.parametrize("mark", ["", "abc", "with space", "a/b/c", "ümlaut", "x" * 65])
def test_a_mark_that_could_be_mistaken_is_refused(make: Make, mark: str) -> None:
    bench = make()
    with pytest.raises(ValueError, match="the mark is"):
        bench.run(forty(), mark=mark)
    assert bench.server.requests == []


@pytest.mark.parametrize("patience", [-1.0, float("inf"), float("nan")])
def test_patience_must_be_a_number_of_seconds(make: Make, patience: float) -> None:
    bench = make()
    with pytest.raises(ValueError, match="patience"):
        bench.run(forty(), patience=patience)
    assert bench.server.requests == []


@pytest.mark.parametrize("delay", [5, 55, 300, 850])
def test_the_lateness_of_usage_is_found_to_within_one_wait(make: Make, delay: int) -> None:
    result = make(Faults(usage_delay=delay)).run(forty())
    assert result.exact is True
    assert result.all_counted_after is not None
    assert result.first_counted_after == result.all_counted_after
    assert delay <= result.all_counted_after <= delay * 1.5 + 1
    assert result.all_counted_after <= delay + 30


def test_usage_that_comes_in_parts_is_waited_for(make: Make) -> None:
    bench = make()
    bench.restate(-30, 0, 0, 10, 0, 20)
    result = bench.run(forty())
    assert bench.polled() == [10, 10, 10, 20, 20, 40, 40]
    assert (result.exact, result.first_counted_after) == (True, 0)
    assert result.all_counted_after == pytest.approx(1 + 1.5 + 2.25 + 3.375 + 5.0625)


def test_the_lookback_is_in_days_and_never_less_than_one() -> None:
    def found(late: float | None) -> ProbeResult:
        return ProbeResult("mark", 2, 2, NOON, NOON, 9e9, 9, 2, late, late, late is not None)

    days = [found(late).lookback_days for late in (0, 86_400, 86_401, 3 * 86_400, None)]
    assert days == [1, 1, 2, 3, None]
    assert "86,401 s" in found(86_401).sentence
    assert "a lookback of 2 days covers" in found(86_401).sentence


def test_when_patience_runs_out_the_sentence_says_how_far_usage_had_come(make: Make) -> None:
    result = make(Faults(usage_delay=100)).run(forty(), patience=60)
    assert (result.counted, result.exact, result.all_counted_after) == (0, False, None)
    assert (result.watched, result.lookback_days) == (60, None)
    assert "After 60 s usage counts 0 of 40 items" in result.sentence


@pytest.mark.parametrize("lost", [1, 39])
def test_a_count_that_is_too_low_is_not_exact(make: Make, lost: int) -> None:
    bench = make()
    bench.restate(-lost)
    result = bench.run(forty(), patience=120)
    assert (result.counted, result.added, result.exact) == (40 - lost, 40, False)
    assert f"{40 - lost} of 40 items" in result.sentence


def test_a_count_that_falls_before_the_minute_is_over_is_not_believed(make: Make) -> None:
    bench = make()
    bench.restate(0, -5, 0, 5)
    result = bench.run(forty())
    assert bench.polled() == [40, 35, 35, 40, 40]
    assert result.exact is True
    assert (result.first_counted_after, result.all_counted_after) == (0, 42.5)


def test_traffic_that_was_there_before_is_subtracted(make: Make) -> None:
    bench = make()
    bench.world.add_items("c/1", [{"type": "message", "role": "user", "content": "x"}] * 7, NOON)
    result = bench.run(forty())
    assert bench.events[0] == ProbeEvent("baseline", 7, 0)
    assert (result.counted, result.exact) == (40, True)


@pytest.mark.parametrize(
    ("user", "key", "counted"),
    [("somebody", KEY, 40), (None, KEY, 40), (USER, "key_mobile", 40), (USER, KEY, 43)],
)
def test_only_the_same_user_and_key_can_hide_the_answer(
    make: Make, user: str | None, key: str, counted: int
) -> None:
    bench = make()
    other = iter([Event(NOON + 3, user, key, items_added=3)])
    bench.clock.now += 5  # so that the other's traffic is in the probe's minute
    bench.meddle = lambda: log_next(bench.world, other)
    result = bench.run(forty())
    assert result.counted == counted
    assert result.exact is (True if counted == 40 else None)
    if counted != 40:
        assert (result.first_counted_after, result.all_counted_after) == (None, None)
        assert "43 items in the minutes in which 40 were added" in result.sentence
        assert result.polls == 1, "waiting for more would tell no more"


def test_what_the_user_does_in_later_minutes_hides_nothing(make: Make) -> None:
    bench = make(Faults(usage_delay=300))
    bench.world.log(Event(NOON + 200, USER, KEY, items_added=3))
    result = bench.run(forty())
    assert (result.counted, result.exact) == (40, True)


def test_a_minute_that_is_served_twice_is_counted_as_served_last(make: Make) -> None:
    bench = make(Faults(duplicate_bucket=True, restate_between=True, clamp_limit=1))
    bench.clock.now += 36  # so that the probe concerns two minutes
    result = bench.run(forty(20))
    assert (result.counted, result.exact) == (20, True)


def test_without_a_key_the_users_rows_under_any_key_are_taken(make: Make) -> None:
    bench = make()
    other = iter([Event(NOON, USER, "key_mobile", items_added=3)])
    bench.meddle = lambda: log_next(bench.world, other)
    result = bench.run(forty(key=None))
    assert (result.counted, result.exact) == (43, None)


def test_without_a_user_the_keys_own_conversation_is_probed(make: Make) -> None:
    bench = make()
    bench.world.create_conversation(NOON - 500, None, KEY, conversation_id="own")
    result = bench.run(plan("own", 25))
    assert (result.added, result.counted, result.exact) == (25, 25, True)


@pytest.mark.parametrize("ahead", [-4, 0, 4])
@pytest.mark.parametrize("second", [18.0, 58.0, 59.5, 60.0, 61.0])
def test_items_are_found_in_whichever_minute_the_servers_clock_puts_them(
    make: Make, second: float, ahead: float
) -> None:
    bench = make(Faults(usage_delay=1))
    bench.clock.now += second - 20
    bench.world.clock = lambda: bench.clock.now + ahead
    result = bench.run(forty(100))
    assert (result.added, result.counted, result.exact) == (100, 100, True)


@pytest.mark.parametrize(("second", "watched"), [(20, 40), (49, 11), (50, 70), (59, 61)])
def test_it_looks_again_when_every_minute_that_may_hold_an_item_is_over(
    make: Make, second: int, watched: int
) -> None:
    bench = make()
    bench.clock.now += second - 20
    assert bench.run(forty()).watched == watched


LOST_ANSWERS: list[dict[FaultKind, float]] = [
    {"reset": 1.0},
    {"truncated": 1.0},
    {"timed_out": 1.0},
]


@pytest.mark.parametrize("rates", LOST_ANSWERS)
def test_lost_answers_cost_nothing_where_the_items_are_there(
    make: Make, rates: dict[FaultKind, float]
) -> None:
    bench = make(Faults(rates=rates, only=POSTS, max_consecutive=1_000))
    result = bench.run(forty(60))
    assert (result.added, result.counted, result.exact) == (60, 60, True)
    assert result.finished_at == NOON
    assert bench.marked() == expected(60)
    kinds = Counter(event.kind for event in bench.events)
    assert (kinds["fate_unknown"], kinds["added"]) == (3, 3)


def test_a_slow_server_is_given_a_second_look(make: Make) -> None:
    faults = Faults(rates={"timed_out": 1.0}, timed_out_by=PAUSE - 1, only=POSTS)
    bench = make(faults)
    result = bench.run(forty())
    assert (result.added, result.exact, result.finished_at) == (40, True, NOON + PAUSE)
    # Counted by then, but not seen before the second look: the lateness is never told too small.
    assert result.all_counted_after == PAUSE
    assert len(bench.marked()) == 40


@pytest.mark.parametrize("asked", [40, 60])
@pytest.mark.parametrize(("late", "added"), [(60, 40), (95, 40), (125, 40), (5_000, 20)])
def test_items_that_come_after_the_second_look_are_expected_from_then_on(
    make: Make, asked: int, late: float, added: int
) -> None:
    bench = make(Faults(usage_delay=100))

    def hold_up(event: ProbeEvent) -> None:
        if event.kind == "added":
            bench.server.faults = Faults(
                rates={"timed_out": 1.0}, timed_out_by=late, usage_delay=100, only=POSTS
            )

    bench.notice = hold_up
    result = bench.run(forty(asked))
    assert (result.asked, result.added, result.counted) == (asked, added, added)
    assert result.exact is True
    told = f"Only {added} items of {asked} could be added" in result.sentence
    assert told is (added < asked)
    assert len(bench.marked()) == len(set(bench.marked())) == 40


@pytest.mark.parametrize("rate", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["server_error", "not_json", "refused", "reset", "timed_out"])
def test_nothing_is_ever_added_twice(make: Make, kind: FaultKind, rate: float) -> None:
    for seed in range(4):
        mark = f"mark-{seed}"
        bench = make(
            Faults(
                seed=seed, rates={kind: rate}, timed_out_by=70, only=POSTS, max_consecutive=1_000
            )
        )
        known: int | None = None
        with suppress(ProbeStopped):
            result = bench.run(forty(100), mark=mark)
            known = result.added
            assert 20 <= known <= 100
            assert (result.counted, result.exact) == (known, True)
        texts = bench.marked(mark)
        assert len(texts) == len(set(texts))
        assert known in {None, len(texts)} or kind == "timed_out"


def test_a_first_post_that_leaves_nothing_behind_stops_the_probe(make: Make) -> None:
    bench = make(Faults(rates={"server_error": 1.0}, only=POSTS, max_consecutive=1_000))
    with pytest.raises(ProbeStopped, match=r"0 of them are there .* 0 items with the mark") as stop:
        bench.run(forty())
    assert stop.value.added == 0
    assert "Nothing was posted twice" in str(stop.value)
    assert [method for method, _, _ in bench.server.requests].count("POST") == 1


def test_faults_of_every_kind_leave_it_exact_or_make_it_say_what_is_known(make: Make) -> None:
    rates: dict[FaultKind, float] = {"reset": 0.1, "truncated": 0.1, "rate_limited": 0.2}
    bench = make(Faults(rates=rates))
    result = bench.run(forty(200))
    assert (result.added, result.counted, result.exact) == (200, 200, True)
    assert len(bench.marked()) == len(set(bench.marked())) == 200


def marked_items(numbers: range, items: int) -> list[dict[str, str]]:
    return [
        {
            "type": "message",
            "role": "user",
            "content": f"mka1-usage probe {MARK} {number}/{items}",
        }
        for number in numbers
    ]


def test_what_something_before_the_api_repeats_is_told(make: Make) -> None:
    bench = make()
    again = marked_items(range(1, 21), 20)
    bench.notice = lambda event: event.kind == "added" and bench.world.add_items("c/1", again)
    result = bench.run(forty(20))
    assert (result.added, result.counted, result.exact) == (40, 40, True)
    assert "20 items was posted once, but 40 are there" in result.sentence


@pytest.mark.parametrize("error", [ShapeError("odd"), AnswerTooBig("big"), FateUnknown("lost")])
def test_an_answer_that_cannot_be_read_says_nothing_about_the_post(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: ApiError
) -> None:
    async def create_and_fail(*arguments: object, **options: object) -> None:
        await create_items(*arguments, **options)  # type: ignore[arg-type]  # passed on
        raise error

    monkeypatch.setattr("pipeline.probe.create_items", create_and_fail)
    result = make().run(forty())
    assert (result.added, result.counted, result.exact) == (40, 40, True)


def test_a_post_that_was_done_in_part_stops_the_probe(make: Make) -> None:
    bench = make(Faults(rates={"server_error": 1.0}, only=POSTS))
    part = marked_items(range(1, 6), 40)
    bench.notice = lambda event: event.kind == "fate_unknown" and bench.world.add_items("c/1", part)
    with pytest.raises(ProbeStopped, match=r"5 of them are there .* 5 items with the mark") as stop:
        bench.run(forty())
    assert stop.value.added == 5
    assert [method for method, _, _ in bench.server.requests].count("POST") == 1


def test_a_later_post_that_was_done_in_part_stops_the_probe_as_well(make: Make) -> None:
    bench = make()
    part = marked_items(range(21, 26), 40)

    def go_wrong(event: ProbeEvent) -> None:
        if event.kind == "baseline":
            return
        bench.server.faults = Faults(rates={"server_error": 1.0}, only=POSTS)
        if event.kind == "fate_unknown":
            bench.world.add_items("c/1", part)

    bench.notice = go_wrong
    with pytest.raises(
        ProbeStopped, match=r"5 of them are there .* 25 items with the mark"
    ) as stop:
        bench.run(forty())
    assert stop.value.added == 25


def test_a_post_whose_fate_cannot_be_looked_up_stops_the_probe(make: Make) -> None:
    bench = make(Faults(rates={"server_error": 1.0}, only=POSTS))
    forbidden = Faults(forbidden=frozenset({USER}))

    def forbid(event: ProbeEvent) -> None:
        if event.kind == "fate_unknown":
            bench.server.faults = forbidden

    bench.notice = forbid
    with pytest.raises(ProbeStopped, match=r"unknown .* cannot be read: .*403") as stopped:
        bench.run(forty())
    assert stopped.value.added == 0


def test_a_post_that_is_refused_later_on_stops_the_probe_and_says_what_is_there(
    make: Make,
) -> None:
    bench = make()

    def forbid(event: ProbeEvent) -> None:
        if event.kind == "added":
            bench.server.faults = Faults(forbidden=frozenset({USER}))

    bench.notice = forbid
    with pytest.raises(ProbeStopped, match=r"20 items with the mark f00dcafe are known") as stopped:
        bench.run(forty())
    assert stopped.value.added == 20


@pytest.mark.parametrize(
    ("asked", "faults", "error"),
    [
        (plan("nowhere", 5, on_behalf_of=USER), Faults(), Refused),
        (plan("c/1", 5, on_behalf_of="stranger"), Faults(), Refused),
        (plan("c/1", 5, on_behalf_of=USER), Faults(forbidden=frozenset({USER})), Unauthorized),
        (plan("c/1", 5, on_behalf_of=USER), Faults(quota=1), ApiError),
    ],
)
def test_what_fails_before_the_first_item_is_raised_as_it_is(
    make: Make, asked: ProbePlan, faults: Faults, error: type[ApiError]
) -> None:
    bench = make(faults)
    with pytest.raises(error) as raised:
        bench.run(asked)
    assert not isinstance(raised.value, ProbeStopped)
    assert bench.marked() == []


def test_a_first_post_that_is_refused_is_raised_as_it_is(make: Make) -> None:
    bench = make()
    bench.world.delete_conversation("c/1", NOON - 1)  # still readable, but closed
    with pytest.raises(Refused) as raised:
        bench.run(forty())
    assert raised.value.status == 404
    assert bench.marked() == []


OUTAGE = Faults(rates={"server_error": 1.0}, max_consecutive=1_000)


def test_a_poll_that_fails_is_made_up_for_by_the_next(make: Make) -> None:
    bench = make()

    def fail_for_a_while(event: ProbeEvent) -> None:
        if event.kind in {"added", "poll_failed"}:
            failures = Counter(event.kind for event in bench.events)["poll_failed"]
            bench.server.faults = OUTAGE if failures < 3 else Faults()

    bench.notice = fail_for_a_while
    result = bench.run(forty(20))
    assert Counter(event.kind for event in bench.events)["poll_failed"] == 3
    assert (result.counted, result.exact) == (20, True)


def test_usage_that_can_no_longer_be_read_is_not_called_wrong(make: Make) -> None:
    bench = make()

    def fail(event: ProbeEvent) -> None:
        if event.kind == "added":
            bench.server.faults = OUTAGE

    bench.notice = fail
    with pytest.raises(ProbeStopped, match=r"20 items .* were added .* cannot be read") as stopped:
        bench.run(forty(20), patience=300)
    assert stopped.value.added == 20
    assert 1 < Counter(event.kind for event in bench.events)["poll_failed"] < 12


def test_items_that_vanish_are_not_called_uncounted(make: Make) -> None:
    bench = make()
    conversation = bench.world.conversation("c/1")
    assert conversation is not None

    def empty(event: ProbeEvent) -> None:
        if event.kind == "added":
            conversation.items.clear()

    bench.notice = empty
    with pytest.raises(ProbeStopped, match="no longer be found"):
        bench.run(forty(20))


def test_only_the_tail_of_a_long_conversation_is_read(make: Make) -> None:
    bench = make(items=500)
    result = bench.run(forty(20))
    reads = [path for method, path, _ in bench.server.requests if "items?" in path]
    assert len(reads) == 1 + result.polls


def test_an_empty_conversation_can_be_probed(make: Make) -> None:
    result = make(items=0).run(forty())
    assert (result.added, result.exact) == (40, True)


def test_others_may_add_to_the_conversation_meanwhile(make: Make) -> None:
    bench = make(Faults(clamp_limit=7))
    said = {"type": "message", "role": "user", "content": f"quoting mka1-usage probe {MARK} 1/20"}
    parts = {"type": "reasoning", "summary": [], "content": [{"type": "x", "note": MARK}, "odd"]}

    def talk(event: ProbeEvent) -> None:
        if event.kind == "added":
            bench.world.add_items("c/1", [said, parts, said] * 5, visible_at=NOON + 1e6)

    bench.notice = talk
    result = bench.run(forty(20))
    assert (result.added, result.counted, result.exact) == (20, 20, True)


def test_items_that_are_answered_in_parts_are_found_too(make: Make) -> None:
    bench = make(Faults(rates={"server_error": 1.0}, only=POSTS))
    texts = [each["content"] for each in marked_items(range(1, 6), 5)]
    served = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        for text in texts
    ]
    bench.notice = lambda event: (
        event.kind == "fate_unknown" and bench.world.add_items("c/1", served)
    )
    result = bench.run(forty(5))
    assert (result.added, result.counted, result.exact) == (5, 5, True)
