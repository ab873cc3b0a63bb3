"""The platform of the bench of large days: its widths and groups are sums of its minutes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.benchmarks.million_server import Platform
from tests.benchmarks.server import WINDOW_START

Row = tuple[str | None, str | None]


@pytest.fixture(scope="module")
def platform() -> Platform:
    return Platform(600)


def rows(platform: Platform, start: int, seconds: int, width: str, *groups: str) -> Counter[Row]:
    """Operations by user and key, of all pages."""
    end = start + seconds
    query = f"start_time={start}&end_time={end}&bucket_width={width}&limit=7"
    query += "".join(f"&group_by={group}" for group in groups)
    found: Counter[Row] = Counter()
    cursor: str | None = ""
    while cursor is not None:
        page: dict[str, Any] = json.loads(platform.page(query + (cursor and f"&page={cursor}")))
        for bucket in page["data"]:
            for one in bucket["results"]:
                found[one["user_id"], one["api_key_id"]] += one["num_operations"]
        assert page["has_more"] == (page["next_page"] is not None)
        cursor = page["next_page"]
    return found


def test_every_width_and_group_is_the_sum_of_the_minutes(platform: Platform) -> None:
    by_both = rows(platform, WINDOW_START, 86_400, "1m", "user_id", "api_key_id")
    assert len(by_both) > 500
    for width in ("1h", "1d"):
        assert rows(platform, WINDOW_START, 86_400, width, "user_id", "api_key_id") == by_both
        by_user = rows(platform, WINDOW_START, 86_400, width, "user_id")
        assert sum(by_user.values()) == sum(by_both.values())
        by_key = rows(platform, WINDOW_START, 86_400, width, "api_key_id")
        assert by_key == sum(
            (Counter({(None, key): n}) for (_, key), n in by_both.items()), Counter()
        )
        assert rows(platform, WINDOW_START, 86_400, width) == {(None, None): sum(by_both.values())}


def test_a_later_hour_is_made_of_its_own_minutes(platform: Platform) -> None:
    at = WINDOW_START + 86_400 + 3_600
    groups = ("user_id", "api_key_id")
    assert rows(platform, at, 3_600, "1h", *groups) == rows(platform, at, 3_600, "1m", *groups)


def test_a_day_has_the_rows_that_it_says(platform: Platform) -> None:
    query = f"start_time={WINDOW_START}&end_time={WINDOW_START + 86_400}&limit=1440"
    page = json.loads(
        platform.page(f"{query}&bucket_width=1m&group_by=user_id&group_by=api_key_id")
    )
    assert sum(len(one["results"]) for one in page["data"]) == platform.rows_a_day
