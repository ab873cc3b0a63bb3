"""The published client reads from the server what it reads from the API itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from meetkai_mka1 import SDK

from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.timeline import DAY, SECONDS, WIDTHS
from tests.serve.asking import END, KEYS, START, USERS, serving

GROUPS: Final[Sequence[list[str]]] = ([], ["user_id"], ["api_key_id"], ["user_id", "api_key_id"])
MOST_PAGES: Final = 4
QUERIES: Final = 90


@dataclass(frozen=True)
class Both:
    """The published client, at the API's stand-in and at the server."""

    api: SDK
    ours: SDK


@pytest.fixture(scope="module")
def both(traffic: World, home: Path) -> Iterator[Both]:
    with (
        EmulatorServer(traffic) as api,
        serving(home, keys=KEYS) as ours,
        SDK(bearer_auth=api.api_key, server_url=api.base_url) as at_the_api,
        SDK(bearer_auth=KEYS[1], server_url=ours.url) as at_ours,
    ):
        yield Both(at_the_api, at_ours)


def walk(sdk: SDK, query: dict[str, Any]) -> list[dict[str, Any]]:
    """The pages from the first to the last; of a cursor only whether there is one."""
    pages: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor is not None or not pages:
        page = sdk.llm.usage.conversations(**query, page=cursor)
        cursor = page.next_page
        pages.append({**page.model_dump(), "next_page": cursor is not None})
        assert len(pages) <= 10 * MOST_PAGES
    return pages


def queries(count: int) -> list[dict[str, Any]]:
    """Made-up queries inside the days that are loaded, on bucket edges and off them."""
    random = Random(2024)
    made: list[dict[str, Any]] = []
    for number in range(count):
        width = WIDTHS[number % len(WIDTHS)]
        start = random.randrange(START, END)
        start -= start % SECONDS[width] if random.random() < 0.5 else 0
        most = random.choice([5, 50, 400]) * SECONDS[width]
        end = random.randint(start + 1, min(END, start + most))
        buckets = -(-end // SECONDS[width]) - start // SECONDS[width]
        least = -(-buckets // MOST_PAGES)
        made.append(
            {
                "start_time": start,
                "end_time": end,
                "bucket_width": width,
                "limit": random.choice([None, 1_440, *(random.randint(least, buckets),) * 2]),
                "group_by": random.choice(GROUPS),
                "user_ids": random.sample(USERS, random.choice([0, 0, 1, 2, len(USERS)])),
            }
        )
    return made


def test_it_reads_the_same_pages_as_from_the_api(both: Both) -> None:
    asked = queries(QUERIES)
    pages = 0
    for query in asked:
        ours = walk(both.ours, query)
        assert ours == walk(both.api, query), query
        pages += len(ours)
    # So many that paging, usage and grouping have been met.
    assert pages > 1.2 * QUERIES
    assert {(q["bucket_width"], len(q["group_by"])) for q in asked} == {*product(WIDTHS, (0, 1, 2))}


@pytest.mark.parametrize(
    ("width", "limit", "start"),
    [("1d", 2, START), ("1h", 24, START + 5), ("1h", None, START), ("1m", 999, END - DAY)],
)
def test_without_an_end_it_reads_through_now_at_both(
    traffic: World, home: Path, width: str, limit: int | None, start: int
) -> None:
    clock = ManualClock(END - DAY / 2 + 7.5)
    query = {"start_time": start, "bucket_width": width, "limit": limit}
    with (
        EmulatorServer(World.from_events(traffic.events(), clock=clock)) as api,
        serving(home, clock=clock) as ours,
        SDK(bearer_auth=api.api_key, server_url=api.base_url) as at_the_api,
        SDK(bearer_auth="any", server_url=ours.url) as at_ours,
    ):
        read = [spans(walk(sdk, query)) for sdk in (at_the_api, at_ours)]
    assert read[0] == read[1]
    assert read[1][-1][-1][0] <= clock.now < read[1][-1][-1][1]


def spans(pages: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    return [[(it["start_time"], it["end_time"]) for it in page["data"]] for page in pages]
