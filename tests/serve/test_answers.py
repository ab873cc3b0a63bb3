"""An answer is made once, and served for exactly as long as it is right."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import msgspec
import pytest

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.query.buckets import Answered, NotLoadedError, PageQuery, answer_on
from pipeline.serve import answers as module
from pipeline.serve import seen as seen_module
from pipeline.serve.answers import Answers, Body, BusyError
from pipeline.timeline import DAY, day_of
from tests.disputed import dispute
from tests.serve.asking import START, ask, client, serving
from tests.serve.raw import connected, page
from tests.truth import load

T = TypeVar("T")
DAY_ONE = PageQuery(START, START + DAY)
LIMIT: Final = 60.0
"""Seconds that a thread of a test may take."""
FIRST_DAY: Final[list[Path]] = []
"""The home that has it."""


def one_user() -> World:
    return World.from_events([Event(START + 60, "u", "k", 1, 2, 3)])


def publish(world: World, home: Path, *days: int) -> Lake:
    """Load days (0: that of START) of the world, as it is now."""
    lake = Lake(home / "lake")
    with EmulatorServer(world) as api:
        load(api, lake, [day_of(START + day * DAY) for day in days])
    return lake


@pytest.fixture(scope="module", autouse=True)
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first day of the user's, of which `begun` makes copies."""
    home = tmp_path_factory.mktemp("first day")
    publish(one_user(), home, 0)
    FIRST_DAY.append(home)
    yield
    FIRST_DAY.clear()


def begun(home: Path) -> Lake:
    """The lake of a home in which one user's first day is loaded."""
    shutil.copytree(FIRST_DAY[0] / "lake", home / "lake", symlinks=True)
    return Lake(home / "lake")


def restate(world: World, by: int) -> None:
    world.restate(START + 60, "u", "k", operations=by)


@dataclass
class Watch:
    """Counts the answers that are made, and holds the one that is told to wait."""

    made: list[PageQuery] = field(default_factory=list[PageQuery])
    held: PageQuery | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, con: Any, lake: Lake, query: PageQuery, **how: Any) -> Answered:
        answered = answer_on(con, lake, query, **how)
        self.made.append(query)
        if query == self.held:
            self.held = None
            self.begun.set()
            assert self.go_on.wait(60)
        return answered


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watching = Watch()
    monkeypatch.setattr(module, "answer_on", watching)
    return watching


def running(lake: Lake, work: Callable[[Answers], Coroutine[Any, Any, T]], **how: Any) -> T:
    """Do `work` with answers of the lake, in an event loop."""

    async def inside() -> T:
        answers = Answers(lake, **how)
        try:
            return await work(answers)
        finally:
            answers.close()

    return asyncio.run(inside())


def operations(body: module.Body) -> int:
    """The sum of a page."""
    buckets = msgspec.json.decode(body.content)["data"]
    return sum(result["num_operations"] for bucket in buckets for result in bucket["results"])


# Right


def test_a_run_that_publishes_a_day_is_seen_by_the_next_request(tmp_path: Path) -> None:
    world = one_user()
    publish(world, tmp_path, 0, 1)
    query = f"start_time={START}&end_time={START + 2 * DAY}&group_by=user_id"
    with serving(tmp_path) as server, client(server.url) as http:
        for change in (0, 5, 0, -1, -7):
            if change:
                restate(world, change)
            publish(world, tmp_path, 0)
            for _ in range(2):
                page = ask(http, query).json()["data"]
                assert page == world.usage(START, START + 2 * DAY, "1d", ["user_id"])


def test_a_lake_that_was_begun_anew_is_another_lake(tmp_path: Path) -> None:
    world = one_user()
    begun(tmp_path)
    query = f"start_time={START}&end_time={START + DAY}"
    with serving(tmp_path) as server, client(server.url) as http:
        assert ask(http, query).json()["data"] == world.usage(START, START + DAY)
        shutil.rmtree(tmp_path / "lake")
        assert ask(http, query).status_code == 400
        restate(world, 5)
        publish(world, tmp_path, 0)  # the first version of its day, as the one before it was
        assert ask(http, query).json()["data"] == world.usage(START, START + DAY)


def test_a_day_that_lay_ahead_becomes_a_gap_once_a_later_one_is_loaded(tmp_path: Path) -> None:
    world = one_user()
    begun(tmp_path)
    query = f"start_time={START}&end_time={START + 2 * DAY}"
    with serving(tmp_path) as server, client(server.url) as http:
        for _ in range(2):
            assert ask(http, query).headers["x-usage-complete-through"] == str(START + DAY)
        publish(world, tmp_path, 3)
        assert "not loaded: 2024-01-02." in ask(http, query).json()["error"]
        publish(world, tmp_path, 1)
        assert ask(http, query).headers["x-usage-complete-through"] == str(START + 2 * DAY)


def test_a_page_that_is_kept_is_right_at_one_look_until_something_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = one_user()
    lake = publish(world, tmp_path, 0, 1, 2)
    links = lake.link(day_of(START)).parent
    looks: list[Path | str] = []
    mark = seen_module.mark

    def noted(path: Path | str) -> seen_module.Mark:
        looks.append(path)
        return mark(path)

    monkeypatch.setattr(seen_module, "mark", noted)

    async def work(answers: Answers) -> list[int]:
        query = PageQuery(START, START + 3 * DAY)
        found = [operations(await answers.page(query))]
        for ago in (2_000, 1_000):
            os.utime(links, (time.time() - ago, time.time() - ago))
            await answers.page(query)
            looks.clear()
            found.append(operations(await answers.page(query)))
            assert looks == [links]
            restate(world, 5)
            await asyncio.to_thread(publish, world, tmp_path, 0)
            found.append(operations(await answers.page(query)))
        return found

    assert running(lake, work) == [3, 3, 8, 8, 13]


def test_a_window_without_an_end_goes_on_as_the_clock_does(tmp_path: Path) -> None:
    lake, clock = begun(tmp_path), ManualClock(START + DAY + 30.5)

    async def work(answers: Answers) -> list[int]:
        lengths = []
        for now in (START + 59, START + 59.9, START + 60, START + 3_600):
            clock.now = now
            body = await answers.page(PageQuery(START, None, "1m"))
            lengths.append(len(msgspec.json.decode(body.content)["data"]))
        return lengths

    assert running(lake, work, clock=clock) == [1, 1, 2, 61]


def test_who_asks_after_a_day_was_published_gets_nothing_that_was_begun_before(
    tmp_path: Path, watch: Watch
) -> None:
    world = one_user()
    lake = begun(tmp_path)
    watch.held = DAY_ONE

    async def work(answers: Answers) -> list[int]:
        early = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.to_thread(watch.begun.wait)
        restate(world, 5)
        await asyncio.to_thread(publish, world, tmp_path, 0)
        late = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.sleep(0)  # it has asked, and found that an answer is under way
        watch.go_on.set()
        return [operations(body) for body in await asyncio.gather(early, late)]

    assert running(lake, work) == [3, 8]


def test_a_page_that_takes_more_memory_than_there_is_is_the_questions_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> Answered:
        raise duckdb.OutOfMemoryException("Out of Memory Error")

    monkeypatch.setattr(module, "answer_on", out_of_memory)
    begun(tmp_path)
    with serving(tmp_path) as server, client(server.url) as http:
        answer = ask(http, f"start_time={START}&end_time={START + DAY}")
    assert answer.status_code == 400
    assert "ask for fewer buckets" in answer.json()["error"]


def test_a_page_that_is_larger_than_clients_can_take_is_refused_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    monkeypatch.setattr(module, "LARGEST", 1_000)
    with serving(tmp_path) as server, client(server.url) as http:
        small = ask(http, f"start_time={START}&end_time={START + DAY}")
        large = ask(http, f"start_time={START}&end_time={START + DAY}&bucket_width=1h")
    assert small.status_code == 200
    assert large.status_code == 400
    assert "ask for fewer buckets, by limit" in large.json()["error"]


# Once


def test_an_answer_is_made_once_for_all_who_ask(tmp_path: Path, watch: Watch) -> None:
    lake = begun(tmp_path)

    async def work(answers: Answers) -> None:
        for _ in range(2):
            bodies = await asyncio.gather(*(answers.page(DAY_ONE) for _ in range(50)))
            assert len({body.etag for body in bodies}) == 1

    running(lake, work)
    assert watch.made == [DAY_ONE]


def test_who_goes_away_takes_no_answer_from_those_who_stay(tmp_path: Path, watch: Watch) -> None:
    lake = begun(tmp_path)
    watch.held = DAY_ONE

    async def work(answers: Answers) -> int:
        first = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.to_thread(watch.begun.wait)
        second = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        watch.go_on.set()
        return operations(await second)

    assert running(lake, work) == 3
    assert watch.made == [DAY_ONE]


def test_a_slow_answer_keeps_no_other_waiting(tmp_path: Path, watch: Watch) -> None:
    lake = begun(tmp_path)
    watch.held = DAY_ONE

    async def work(answers: Answers) -> None:
        slow = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.to_thread(watch.begun.wait)
        for limit in range(1, 20):
            await answers.page(PageQuery(START, START + DAY, "1h", limit))
        assert not slow.done()
        watch.go_on.set()
        await slow

    running(lake, work)


def test_an_error_is_told_to_all_and_not_kept(tmp_path: Path) -> None:
    world = one_user()
    lake = publish(world, tmp_path, 1)

    async def work(answers: Answers) -> int:
        asked = (answers.page(DAY_ONE) for _ in range(3))
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [NotLoadedError] * 3
        await asyncio.to_thread(publish, world, tmp_path, 0)
        return operations(await answers.page(DAY_ONE))

    assert running(lake, work) == 3


MANY = list(range(1, 25))


@pytest.mark.parametrize(
    ("kept_bytes", "made"),
    [
        (1 << 20, MANY),  # all are kept
        (32_000, MANY * 2),  # not all are: whoever comes next is the one that went last
        (9_000, MANY * 2),  # none is: each takes more than an eighth
    ],
)
def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    tmp_path: Path, watch: Watch, kept_bytes: int, made: list[int]
) -> None:
    lake = begun(tmp_path)

    async def work(answers: Answers) -> None:
        for limit in MANY * 2:
            await answers.page(PageQuery(START, START + DAY, "1h", limit))
            assert answers.kept_bytes <= kept_bytes
        assert (answers.kept_bytes > kept_bytes / 2) == (kept_bytes == 32_000)

    running(lake, work, kept_bytes=kept_bytes)
    assert [query.limit for query in watch.made] == made


@pytest.mark.slow  # every allocation is traced
def test_what_is_kept_takes_as_much_memory_as_is_said(tmp_path: Path) -> None:
    """Questions of 32 kB, whose answers are small."""
    lake = begun(tmp_path)

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def work(answers: Answers) -> tuple[int, int]:
        for number in range(20):
            await answers.page(long_question(number))
        before, counted = taken(), answers.kept_bytes
        for number in range(20, 80):
            await answers.page(long_question(number))
        return taken() - before, answers.kept_bytes - counted

    tracemalloc.start()
    try:
        grown, said = running(lake, work)
    finally:
        tracemalloc.stop()
    assert said > 60_000
    assert grown < said + 1_000_000  # the questions alone would be 8 MB


def long_question(number: int) -> PageQuery:
    """As much as a query string holds."""
    users = tuple(f"{number:03}{user:03}" for user in range(2_000))
    return PageQuery(START, START + DAY, user_ids=users)


def test_what_is_asked_for_again_and_again_stays(tmp_path: Path, watch: Watch) -> None:
    lake = begun(tmp_path)

    async def work(answers: Answers) -> None:
        for limit in MANY:
            for asked in (1, limit):
                await answers.page(PageQuery(START, START + DAY, "1h", asked))

    running(lake, work, kept_bytes=32_000)
    assert [query.limit for query in watch.made] == MANY


# For those who wait


@dataclass
class Slow:
    """Answers to pages of hours never end by themselves; the others are those of the lake."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Event = field(default_factory=threading.Event)
    """Their queries wait for it."""

    def __call__(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, query: PageQuery, **how: Any
    ) -> Answered:
        if query.bucket_width != "1h":
            return answer_on(con, lake, query, **how)
        self.begun.release()
        try:
            self.go_on.wait(LIMIT)
            con.execute("SELECT SUM(a.range * b.range) FROM range(9999999) a, range(9999999) b")
        finally:
            self.ended.release()
        raise AssertionError


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slowing = Slow()
    slowing.go_on.set()
    monkeypatch.setattr(module, "answer_on", slowing)
    return slowing


def slow_page(number: int) -> PageQuery:
    return PageQuery(START, START + DAY, "1h", number + 1)


def test_what_nobody_waits_for_any_more_is_not_made(tmp_path: Path, slow: Slow) -> None:
    lake = begun(tmp_path)

    async def work(answers: Answers) -> int:
        async def begin(numbers: range) -> list[asyncio.Task[Body]]:
            tasks = [asyncio.create_task(answers.page(slow_page(number))) for number in numbers]
            await asyncio.sleep(0)  # the loop runs each task up to its wait
            return tasks

        running_now = await begin(range(module.THREADS))
        for _ in running_now:
            await asyncio.to_thread(slow.begun.acquire)
        for asked in (await begin(range(module.THREADS, module.THREADS + 36)), running_now):
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return operations(await answers.page(DAY_ONE))

    assert running(lake, work) == 3
    assert all(slow.ended.acquire(timeout=LIMIT) for _ in range(module.THREADS))
    assert not slow.begun.acquire(blocking=False)


def test_a_query_that_begins_after_its_server_has_ended_is_interrupted(
    tmp_path: Path, slow: Slow
) -> None:
    slow.go_on.clear()

    async def give_up(answers: Answers) -> None:
        asked = asyncio.create_task(answers.page(slow_page(0)))
        await asyncio.to_thread(slow.begun.acquire)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    running(begun(tmp_path), give_up)
    slow.go_on.set()
    assert slow.ended.acquire(timeout=LIMIT)


def test_who_asks_again_for_what_was_given_up_gets_it(tmp_path: Path, watch: Watch) -> None:
    lake = begun(tmp_path)
    watch.held = DAY_ONE

    async def work(answers: Answers) -> int:
        first = asyncio.create_task(answers.page(DAY_ONE))
        await asyncio.to_thread(watch.begun.wait)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        again = operations(await answers.page(DAY_ONE))
        watch.go_on.set()
        return again

    assert running(lake, work) == 3
    assert watch.made == [DAY_ONE, DAY_ONE]


def test_clients_that_hang_up_keep_nobody_waiting(tmp_path: Path, slow: Slow) -> None:
    begun(tmp_path)
    with serving(tmp_path) as server:
        with ExitStack() as stack:
            for number in range(40):
                connection = stack.enter_context(closing(connected(server)))
                connection.sendall(page(number + 1) * (number % 3 + 1))
            assert slow.begun.acquire(timeout=60)
        with client(server.url) as http:
            assert ask(http, f"start_time={START}&end_time={START + DAY}").status_code == 200


def test_beyond_the_queue_no_page_is_made(
    tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = begun(tmp_path)
    monkeypatch.setattr(module, "QUEUE", 3)

    async def work(answers: Answers) -> int:
        assert operations(await answers.page(DAY_ONE)) == 3
        asked = [asyncio.create_task(answers.page(slow_page(number))) for number in range(20)]
        await asyncio.to_thread(slow.begun.acquire)
        refused = sum(task.done() and isinstance(task.exception(), BusyError) for task in asked)
        assert operations(await answers.page(DAY_ONE)) == 3  # it is kept
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        return refused

    assert running(lake, work) == 20 - module.THREADS - 3


def test_who_is_refused_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    window = f"start_time={START}&end_time={START + DAY}"
    with serving(tmp_path) as server, client(server.url) as http:
        assert ask(http, window).status_code == 200
        monkeypatch.setattr(module, "QUEUE", -module.THREADS)
        answer = ask(http, f"{window}&limit=2")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "try again" in answer.json()["error"]
        assert ask(http, window).status_code == 200


def test_requests_that_wait_take_no_more_memory_than_there_is_for_them(
    tmp_path: Path, slow: Slow
) -> None:
    lake = begun(tmp_path)

    async def work(answers: Answers) -> int:
        questions = [replace(long_question(number), bucket_width="1h") for number in range(40)]
        asked = [asyncio.create_task(answers.page(question)) for question in questions]
        await asyncio.to_thread(slow.begun.acquire)
        refused = sum(task.done() and isinstance(task.exception(), BusyError) for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert operations(await answers.page(DAY_ONE)) == 3
        return refused

    assert 20 < running(lake, work, waiting_bytes=2_000_000) < 40


def test_a_page_that_takes_too_long_is_given_up(
    tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    monkeypatch.setattr("pipeline.serve.app.LONGEST_WAIT", 0.2)
    with serving(tmp_path) as server, client(server.url) as http:
        answer = ask(http, f"start_time={START}&end_time={START + DAY}&bucket_width=1h")
    assert answer.status_code == 503
    assert slow.ended.acquire(timeout=60)


def test_a_disputed_day_is_not_complete_until_a_run_has_loaded_it_again(tmp_path: Path) -> None:
    world = one_user()
    lake = begun(tmp_path)
    found: list[int] = []

    async def asked() -> None:
        answers = Answers(lake)
        try:
            for change in (
                lambda: None,
                lambda: dispute(lake, day_of(START)),
                lambda: publish(world, tmp_path, 0),
            ):
                change()
                # A version never changes by itself: only in this test.
                (lake.version(day_of(START)) or lake.root).touch()
                found.append((await answers.page(DAY_ONE)).complete_through)
        finally:
            answers.close()

    asyncio.run(asked())
    assert found[:2] == [START + DAY, START]
