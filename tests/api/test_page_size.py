"""How many buckets are asked for follows from how large and how slow the answers are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api import PageSize


def learned(bytes_a_bucket: float, seconds_a_bucket: float, answers: int = 12) -> PageSize:
    size = PageSize()
    for _ in range(answers):
        buckets = size.buckets
        size.learn(buckets, int(buckets * bytes_a_bucket), buckets * seconds_a_bucket)
    return size


@pytest.mark.parametrize(
    ("bytes_a_bucket", "seconds_a_bucket", "expected"),
    [
        (100, 0.0001, 1_440),  # a quiet account: as many as the API gives
        (PageSize().target_bytes / 300, 0.0001, 300),  # by size
        (100, 0.1, 100),  # by time
        (10**9, 0.0001, 1),
        (100, 1e6, 1),
    ],
)
def test_answers_settle_near_the_targets(
    bytes_a_bucket: float, seconds_a_bucket: float, expected: int
) -> None:
    assert learned(bytes_a_bucket, seconds_a_bucket).buckets == pytest.approx(expected, abs=1)


def test_one_quiet_answer_does_not_open_the_gates() -> None:
    assert learned(0, 0, answers=1).buckets == 480


def test_an_answer_that_was_too_big_is_quartered_and_regrown_step_by_step() -> None:
    size = PageSize(buckets=1_440)
    size.too_big(1_440)
    sizes = [size.buckets]
    for _ in range(3):
        size.learn(size.buckets, 1, 0.001)
        sizes.append(size.buckets)
    assert sizes == [360, 720, 1_440, 1_440]


def test_an_answer_without_buckets_teaches_nothing() -> None:
    size = PageSize()
    size.learn(0, 10**9, 100)
    assert size == PageSize()


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 1_440), st.integers(0, 10**12), st.floats(0, 10**6))
    )
)
def test_the_size_is_always_one_that_may_be_asked_for(
    answers: list[tuple[bool, int, int, float]],
) -> None:
    size = PageSize()
    for too_big, buckets, bytes_, seconds in answers:
        if too_big:
            size.too_big(buckets)
        else:
            size.learn(buckets, bytes_, seconds)
        assert 1 <= size.buckets <= 1_440
