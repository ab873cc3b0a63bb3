"""What is open and what is still to be sent: one file of the home folder, held by one at a time.

It holds what messages say, so it is its owner's alone, and goes where the home folder goes. It is
replaced as a whole: whoever is killed leaves the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock, Timeout

from pipeline.lake.store import private_folder, replacing
from pipeline.notify.changes import Open
from pipeline.notify.message import Message
from pipeline.terminal import short

_FOLDER: Final = "messages"
_FILE: Final = "state.json"


class OutboxError(Exception):
    """The state can't be used. The message says why, and what to do."""


class Waiting(msgspec.Struct, frozen=True):
    """A message, and the channels that have not taken it yet."""

    message: Message
    channels: tuple[str, ...]


class State(msgspec.Struct):
    """What is open, by id; what waits, the oldest first; the weeks whose digest was made."""

    open: dict[str, Open] = {}
    waiting: list[Waiting] = []
    digests: list[str] = []


class Outbox:
    """The state in the home folder."""

    def __init__(self, home: Path) -> None:
        self._folder = home / _FOLDER
        self.path: Final = self._folder / _FILE

    def read(self) -> State:
        """What was saved last; OutboxError where that is no state."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except msgspec.DecodeError as error:
            raise OutboxError(
                f"{short(self.path)} is not what was written ({error}): remove it, and what is "
                "found then is sent as new"
            ) from None

    def save(self, state: State) -> None:
        """Replace what was saved. OSError where the disk fails."""
        content = msgspec.json.format(msgspec.json.encode(state), indent=1)
        with replacing(self.path) as aside:
            aside.write_bytes(content)

    @contextmanager
    def held(self, seconds: float) -> Iterator[State]:
        """The state, for one process alone; OutboxError where another has it for so long."""
        private_folder(self._folder)
        lock = FileLock(self._folder / ".lock", is_singleton=False, thread_local=False)
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            raise OutboxError(
                f"another process has sent messages for {seconds:g} s: what is found now is sent "
                "by the next evaluation"
            ) from None
        try:
            yield self.read()
        finally:
            lock.release()
