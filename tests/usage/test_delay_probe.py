"""The probe: it finds how late and how exactly usage counts, and it never adds an item twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from pipeline.api import ApiError, Client, Limits, Refused, Unauthorized
from pipeline.emulator import EmulatorServer, Event, FaultKind, Faults, ManualClock, World
from pipeline.usage.delay_probe import Probe, ProbePlan, ProbeResult, ProbeStopped

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
    steps: list[str] = field(default_factory=list[str])
    meddle: Callable[[], object] = lambda: None
    """What else happens, each time that the probe has waited."""
    notice: Callable[[str], object] = lambda step: None
    """What else happens at each step."""

    def run(self, asked: ProbePlan, *, patience: float = 900.0) -> ProbeResult:
        async def wait(seconds: float) -> None:
            self.clock.advance(seconds)
            self.meddle()

        def say(step: str) -> None:
            self.steps.append(step)
            self.notice(step)

        async def work() -> ProbeResult:
            async with Client(
                self.server.base_url,
                SecretStr(self.server.api_key),
                Limits(requests_per_second=10_000.0),
                sleep=wait,
                now=self.clock,
            ) as client:
                return await Probe(client, asked, self.clock, wait, say).run(patience)

        return asyncio.run(work())

    def marked(self, mark: str = MARK) -> list[str]:
        """The texts of the mark's items in the world, those yet to come too."""
        bodies = [item.body for each in self.world.all_conversations() for item in each.items]
        texts = [body["content"] for body in bodies if isinstance(body["content"], str)]
        return [text for text in texts if text.startswith(f"mka1-usage probe {mark} ")]

    def polled(self) -> list[int]:
        """What usage had counted, poll by poll."""
        found = (re.fullmatch(r"usage counts ([0-9]+) of [0-9]+", step) for step in self.steps)
        return [int(match[1]) for match in found if match]

    def failed(self) -> int:
        """How often usage could not be read."""
        return sum(step.startswith("usage could not be read, trying again") for step in self.steps)

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


def forty(items: int = 40, key: str | None = KEY, mark: str = MARK) -> ProbePlan:
    return ProbePlan("c/1", items, USER, key, mark)


def is_added(step: str) -> bool:
    return step.startswith("added to the conversation")


def expected(items: int) -> list[str]:
    return [f"mka1-usage probe {MARK} {number}/{items}" for number in range(1, items + 1)]


@pytest.mark.parametrize("items", [1, 20, 21, 45, 250])
@pytest.mark.parametrize("key", [KEY, None])
def test_where_usage_counts_at_once_the_probe_says_so(
    make: Make, items: int, key: str | None
) -> None:
    bench = make()
    result = bench.run(forty(items, key))
    assert (result.items, result.counted) == (items, items)
    assert (result.exact, result.all_counted_after) == (True, 0)
    assert "all" in result.sentence
    assert f"{items} item" in result.sentence
    assert "a lookback of 1 day covers" in result.sentence
    assert bench.marked() == expected(items)
    posts = [status for method, _, status in bench.server.requests if method == "POST"]
    assert posts == [200] * -(-items // 20)
    # It looks once more when the minute is over, and then is done.
    assert (bench.polled(), result.watched) == ([items, items], 40)


@pytest.mark.parametrize("items", [1, 19, 20, 21, 39, 40, 41, 999, 1_000])
def test_batches_hold_every_number_once_and_at_most_twenty(items: int) -> None:
    posts = forty(items).posts
    assert [text for texts in posts for text in texts] == expected(items)
    assert all(1 <= len(texts) <= 20 for texts in posts)


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
    with pytest.raises(ValueError, match=named):
        ProbePlan(*arguments)


def test_no_two_probes_have_the_same_mark() -> None:
    assert len({ProbePlan("c", 1).mark for _ in range(20)}) == 20


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
    assert delay <= result.all_counted_after <= delay * 1.5 + 1
    assert result.all_counted_after <= delay + 30


def test_usage_that_comes_in_parts_is_waited_for(make: Make) -> None:
    bench = make()
    bench.restate(-30, 0, 0, 10, 0, 20)
    result = bench.run(forty())
    assert bench.polled() == [10, 10, 10, 20, 20, 40, 40]
    assert result.exact is True
    assert result.all_counted_after == pytest.approx(1 + 1.5 + 2.25 + 3.375 + 5.0625)


def test_the_lookback_is_in_days_and_never_less_than_one() -> None:
    def sentence(late: float) -> str:
        return ProbeResult(2, 2, 9e9, late).sentence

    for late, days in ((0, "1 day"), (86_400, "1 day"), (86_401, "2 days"), (259_200, "3 days")):
        assert f"a lookback of {days} covers" in sentence(late)
    assert "86,401 s" in sentence(86_401)


def test_when_patience_runs_out_the_sentence_says_how_far_usage_had_come(make: Make) -> None:
    result = make(Faults(usage_delay=100)).run(forty(), patience=60)
    assert (result.counted, result.exact, result.all_counted_after) == (0, False, None)
    assert result.watched == 60
    assert "After 60 s usage counts 0 of 40 items" in result.sentence


@pytest.mark.parametrize("lost", [1, 39])
def test_a_count_that_is_too_low_is_not_exact(make: Make, lost: int) -> None:
    bench = make()
    bench.restate(-lost)
    result = bench.run(forty(), patience=120)
    assert (result.counted, result.exact) == (40 - lost, False)
    assert f"{40 - lost} of 40 items" in result.sentence


def test_a_count_that_falls_before_the_minute_is_over_is_not_believed(make: Make) -> None:
    bench = make()
    bench.restate(0, -5, 0, 5)
    result = bench.run(forty())
    assert bench.polled() == [40, 35, 35, 40, 40]
    assert result.exact is True
    assert result.all_counted_after == 42.5


def test_traffic_that_was_there_before_is_subtracted(make: Make) -> None:
    bench = make()
    bench.world.add_items("c/1", [{"type": "message", "role": "user", "content": "x"}] * 7, NOON)
    result = bench.run(forty())
    assert bench.steps[0] == "usage counts 7 items in this minute before the probe"
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
        assert result.all_counted_after is None
        assert "43 items in the minutes in which 40 were added" in result.sentence
        assert len(bench.polled()) == 1, "waiting for more would tell no more"


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
    result = bench.run(ProbePlan("own", 25))
    assert (result.counted, result.exact) == (25, True)


@pytest.mark.parametrize("ahead", [-4, 0, 4])
@pytest.mark.parametrize("second", [18.0, 58.0, 59.5, 60.0, 61.0])
def test_items_are_found_in_whichever_minute_the_servers_clock_puts_them(
    make: Make, second: float, ahead: float
) -> None:
    bench = make(Faults(usage_delay=1))
    bench.clock.now += second - 20
    bench.world.clock = lambda: bench.clock.now + ahead
    result = bench.run(forty(100))
    assert (result.counted, result.exact) == (100, True)


@pytest.mark.parametrize(("second", "watched"), [(20, 40), (49, 11), (50, 70), (59, 61)])
def test_it_looks_again_when_every_minute_that_may_hold_an_item_is_over(
    make: Make, second: int, watched: int
) -> None:
    bench = make()
    bench.clock.now += second - 20
    assert bench.run(forty()).watched == watched


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
        known = 100
        try:
            result = bench.run(forty(100, mark=mark))
            assert (result.counted, result.exact) == (100, True)
        except ProbeStopped as stopped:
            known = stopped.added
        texts = bench.marked(mark)
        assert len(texts) == len(set(texts))
        assert len(texts) in ({known, known + 20} if known < 100 else {100})


@pytest.mark.parametrize("kind", ["server_error", "reset", "truncated", "timed_out", "not_json"])
def test_a_first_post_of_unknown_fate_stops_the_probe(make: Make, kind: FaultKind) -> None:
    bench = make(Faults(rates={kind: 1.0}, only=POSTS, max_consecutive=1_000))
    with pytest.raises(
        ProbeStopped, match=r"fate of a POST of 20 .* 0 items with the mark"
    ) as stop:
        bench.run(forty())
    assert stop.value.added == 0
    assert "Nothing was posted twice" in str(stop.value)
    assert [method for method, _, _ in bench.server.requests].count("POST") == 1


def test_a_later_post_of_unknown_fate_stops_the_probe_and_says_what_is_there(make: Make) -> None:
    bench = make()

    def go_wrong(step: str) -> None:
        if is_added(step):
            bench.server.faults = Faults(rates={"server_error": 1.0}, only=POSTS)

    bench.notice = go_wrong
    with pytest.raises(ProbeStopped, match=r"fate of a POST .* 20 items with the mark") as stop:
        bench.run(forty())
    assert stop.value.added == 20
    assert bench.marked() == expected(40)[:20]


def test_what_is_known_not_to_be_done_is_tried_again_and_leaves_it_exact(make: Make) -> None:
    rates: dict[FaultKind, float] = {"rate_limited": 0.3}
    bench = make(Faults(rates=rates))
    result = bench.run(forty(200))
    assert (result.counted, result.exact) == (200, True)
    assert bench.marked() == expected(200)


def test_a_post_that_is_refused_later_on_stops_the_probe_and_says_what_is_there(
    make: Make,
) -> None:
    bench = make()

    def forbid(step: str) -> None:
        if is_added(step):
            bench.server.faults = Faults(forbidden=frozenset({USER}))

    bench.notice = forbid
    with pytest.raises(ProbeStopped, match=r"20 items with the mark f00dcafe are known") as stopped:
        bench.run(forty())
    assert stopped.value.added == 20


@pytest.mark.parametrize(
    ("asked", "faults", "error"),
    [
        (ProbePlan("nowhere", 5, USER), Faults(), Refused),
        (ProbePlan("c/1", 5, "stranger"), Faults(), Refused),
        (ProbePlan("c/1", 5, USER), Faults(forbidden=frozenset({USER})), Unauthorized),
        (ProbePlan("c/1", 5, USER), Faults(quota=1), ApiError),
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

    def fail_for_a_while(step: str) -> None:
        if is_added(step) or bench.failed():
            bench.server.faults = OUTAGE if bench.failed() < 3 else Faults()

    bench.notice = fail_for_a_while
    result = bench.run(forty(20))
    assert bench.failed() == 3
    assert (result.counted, result.exact) == (20, True)


def test_usage_that_can_no_longer_be_read_is_not_called_wrong(make: Make) -> None:
    bench = make()

    def fail(step: str) -> None:
        if is_added(step):
            bench.server.faults = OUTAGE

    bench.notice = fail
    with pytest.raises(ProbeStopped, match=r"cannot be read: .* 20 items with the mark") as stopped:
        bench.run(forty(20), patience=300)
    assert stopped.value.added == 20
    assert 1 < bench.failed() < 12


def test_an_empty_conversation_can_be_probed(make: Make) -> None:
    result = make(items=0).run(forty())
    assert (result.counted, result.exact) == (40, True)
