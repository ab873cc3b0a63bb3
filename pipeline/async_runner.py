"""Run one coroutine to its end from synchronous code, in a thread of its own.

Whoever calls may handle Ctrl-C by raising from a signal handler, as Dagster does. Inside a running
event loop such an exception may end anywhere; the main thread, which only waits, passes it on. A
caller that has an event loop already, such as a notebook, is served as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LOOK_UP_EVERY: Final = 0.2
"""Seconds. A wait without an end is not woken where the signal reaches another thread."""


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or its exception. When the wait is interrupted, `work` is cancelled."""
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    ended = threading.Event()

    async def begin() -> T:
        task = asyncio.ensure_future(work)
        running.set_result((asyncio.get_running_loop(), task))
        try:
            return await task
        finally:
            ended.set()

    with ThreadPoolExecutor(1, thread_name_prefix="event-loop") as thread:
        try:
            outcome = thread.submit(asyncio.run, begin())
            while wait([outcome], timeout=_LOOK_UP_EVERY).not_done:
                pass
            return outcome.result()
        except BaseException:
            # A closed loop (RuntimeError) means that the exception is the work's own.
            with suppress(RuntimeError, TimeoutError):
                loop, task = running.result(timeout=10)
                loop.call_soon_threadsafe(task.cancel)
                ended.wait()  # the executor forgets a thread that was interrupted in its start
            raise
