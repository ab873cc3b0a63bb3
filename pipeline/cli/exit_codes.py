"""How a command ends: errors as one line and an exit code, signals as 128 + their number."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from pipeline.interrupts import interrupts
from pipeline.settings import SettingsError
from pipeline.terminal import in_words, say

FAILED: Final = 1

MISUSED: Final = 2

INTERRUPTED: Final = 128 + signal.SIGINT


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one line and an exit code; a reader that has gone away ends it quietly."""
    try:
        yield
        sys.stdout.flush()
    except SettingsError as error:
        fail(str(error), MISUSED)
    except BrokenPipeError:
        # `| head` has what it wanted. Without this, Python would complain again at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(in_words(error), FAILED)
    except Exception as error:
        from pipeline.lake.shortage import shortage  # an error is no place to save time

        words = shortage(error)
        if words is None:
            raise
        fail(words, FAILED)


@contextmanager
def interruptible(consequence: str) -> Iterator[Callable[[], int | None]]:
    """Say what follows when a signal ends the work, and end with 128 + its number.

    Yields a function: the number of the signal that came, None if none did.
    """
    with interrupts() as came:
        try:
            yield came
        except KeyboardInterrupt:
            say(f"interrupted: {consequence}")
            raise typer.Exit(128 + (came() or signal.SIGINT)) from None


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong and end with that exit code."""
    say(f"error: {message}")
    raise typer.Exit(code)


def tolerant(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, for messages: a terminal or pipe that is closed ends no run.

    What can't be written is lost.
    """
    return _Tolerant(
        stream.buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Tolerant(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno in {errno.EIO, errno.EPIPE}:  # for good: nobody reads there any more
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
