"""A day of usage, the same on every call, cut into pages in any order."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.lake.served import (
    Bucket,
    Page,
    Result,
)


def traffic(rows_a_minute: int, null_users: float = 0.3) -> list[Bucket]:
    """Every minute of the day, each with so many rows and with two that differ in `extra` alone."""
    draw = random.Random(7)
    return [
        Bucket(
            minute,
            tuple(
                Result(
                    None if draw.random() < null_users else f"user {draw.randrange(50_000)}",
                    draw.choice([None, f"key {draw.randrange(5)}"]),
                    (draw.randrange(3), draw.choice([None, 1]), draw.randrange(2**40)),
                )
                for _ in range(rows_a_minute)
            )
            + tuple(Result("tied", extra=extra) for extra in ('{"a":1}', '{"b":1}')),
        )
        for minute in range(1_440)
    ]


def in_pages(served: list[Bucket], size: int, seed: int | None = None) -> list[Page]:
    """The buckets in pages of so many; with a seed, pages, buckets and rows are in any order."""
    cut = [served[first : first + size] for first in range(0, len(served), size)]
    if seed is not None:
        draw = random.Random(seed)
        draw.shuffle(cut)
        cut = [[_shuffled(bucket, draw) for bucket in draw.sample(page, len(page))] for page in cut]
    return list(cut)


def _shuffled(bucket: Bucket, draw: random.Random) -> Bucket:
    return replace(bucket, results=tuple(draw.sample(bucket.results, len(bucket.results))))
