"""Runs of a home that work on the same days take turns; others go on side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lake.claims import Claim, claiming
from pipeline.lake.store import Lake
from tests import bounded

FIRST: Final = date(2024, 1, 1)


def days(numbers: Iterable[int] | None) -> set[date] | None:
    return None if numbers is None else {FIRST + timedelta(days=number) for number in numbers}


@pytest.mark.parametrize(
    ("one", "other", "at_once"),
    [
        ([1, 2], [3, 4], True),
        ([1, 2], [2, 3], False),
        ([1], [1], False),
        (None, [1], False),
        ([1], None, False),
        (None, None, False),
        ([], [1], True),
    ],
)
def test_days_that_another_run_works_on_are_waited_for(
    tmp_path: Path, one: list[int] | None, other: list[int] | None, at_once: bool
) -> None:
    lake = Lake(tmp_path)
    waited, entered = threading.Event(), threading.Event()

    def second() -> None:
        with claiming(lake, days(other), waited.set):
            entered.set()

    thread = threading.Thread(target=second, daemon=True)
    with claiming(lake, days(one), lambda: None):
        thread.start()
        assert (entered if at_once else waited).wait(bounded.LIMIT)
        assert entered.is_set() == at_once
    bounded.join(thread)
    assert entered.is_set()
    assert list((tmp_path / ".claims").iterdir()) == []


def test_a_run_that_died_claims_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with Claim(lake, None).alive():
        pass
    (tmp_path / ".claims" / "0123.json").write_text("null")
    (tmp_path / ".claims" / "0123.lock").touch()
    with claiming(lake, None, lambda: pytest.fail("nobody works on it")):
        pass
    assert list((tmp_path / ".claims").iterdir()) == []


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sets(st.integers(0, 9), max_size=4)), max_size=12
    )
)
def test_no_day_is_ever_claimed_by_two(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, set[int]]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    claims = [Claim(lake, ()) for _ in range(3)]
    with ExitStack() as stack:
        for claim in claims:
            stack.enter_context(claim.alive())
        for who, wanted in steps:
            asked = days(wanted) or set()
            free = asked - {
                day for at, it in enumerate(claims) if at != who for day in it.days or ()
            }
            assert claims[who].extend(asked) == free
        held = [day for claim in claims for day in claim.days or ()]
    assert len(held) == len(set(held))
