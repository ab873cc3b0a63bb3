"""Signal handlers: SIGINT (Ctrl-C), SIGTERM (`kill`) and SIGHUP (a closed terminal) end work alike.

Dagster turns SIGINT and SIGTERM into an exception of its own, and leaves SIGHUP to the system,
which ends the process at once: the run would stay STARTED for ever. And two signals in a row are
the rule: a terminal and its shell both send SIGHUP, a service manager sends SIGTERM and SIGHUP.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def interrupts() -> Iterator[Callable[[], int | None]]:
    """SIGTERM and SIGHUP do what SIGINT does at that moment: KeyboardInterrupt, by default.

    Yields a function: the number of the first of these signals that came, None if none did. A
    signal that is ignored stays ignored, as SIGHUP under `nohup`. Outside the main thread, which
    has no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def as_sigint(number: int, frame: FrameType | None) -> None:
        _call(signal.getsignal(signal.SIGINT), number, frame)

    came = bytearray()
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)

        def first() -> int | None:
            with suppress(BlockingIOError):
                came.extend(reader.recv(4096))
            return next((number for number in came if number in SIGNALS), None)

        # Python writes each signal's number there, whoever handles it: Dagster replaces handlers.
        fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            with _handled(as_sigint, SIGNALS[1:]):
                yield first
        finally:
            signal.set_wakeup_fd(fd)


class Interruption:
    """What became of the signals that came in a block of `only_the_first`."""

    def __init__(self) -> None:
        self._came = False
        self._holds = False
        self._held: int | None = None
        self._before = signal.getsignal(signal.SIGINT)

    def hold(self) -> None:
        """From here to the end of the block nothing is interrupted: what comes waits."""
        self._holds = True

    def deliver(self) -> None:
        """Let the signal that waits, if there is one, do what it would have done."""
        if self._held is not None:
            signal.raise_signal(self._held)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of the block."""
        if self._came:
            return
        self._came = True
        if self._holds:
            self._held = number
        else:
            _call(self._before, number, frame)


@contextmanager
def only_the_first() -> Iterator[Interruption]:
    """Of the signals that come in this block, the first does what SIGINT does; others do nothing.

    For a block that has something to finish when it is interrupted.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    with _handled(interruption.handle, SIGNALS):
        yield interruption


def _call(handler: object, number: int, frame: FrameType | None) -> None:
    if not callable(handler):  # ignored, as in the background of a script, or not Python's
        raise KeyboardInterrupt
    handler(number, frame)


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], object], numbers: tuple[int, ...]
) -> Iterator[None]:
    """`handler` is called for these signals, but for those that are ignored."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, current in before.items():
            if current is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, current in before.items():
            if current is not None:
                signal.signal(number, current)
