"""Async work for callers that are not: its result, its errors, and what an interrupt does."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType

import pytest

from pipeline.async_runner import run_async


class InterruptedByCaller(BaseException):
    """What a framework's own signal handler may raise."""


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError(number)
    return 2 * number


def test_the_result_of_the_work_comes_back() -> None:
    assert run_async(doubled(21)) == 42


def test_an_error_of_the_work_comes_back_as_it_was() -> None:
    with pytest.raises(ValueError, match="-1"):
        run_async(doubled(-1))


def test_work_may_be_run_from_inside_an_event_loop_as_in_a_notebook() -> None:
    async def cell() -> int:
        return run_async(doubled(4))

    assert asyncio.run(cell()) == 8


def test_an_interrupt_reaches_the_caller_and_cancels_the_work() -> None:
    cancelled: list[bool] = []

    def handler(_signal: int, _frame: FrameType | None) -> None:
        raise InterruptedByCaller

    async def endless() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(InterruptedByCaller):
            run_async(endless())
    finally:
        signal.signal(signal.SIGINT, before)
    assert cancelled == [True]
