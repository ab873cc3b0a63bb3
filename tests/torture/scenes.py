"""What the scenes of destruction share: small days, loads in processes of their own, the truth.

Belongs here: worlds, workers, and what a lake must be like after whatever befell it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.timeline import WIDTHS, day_window
from tests.bounded import LONG, copied
from tests.torture.worker import work
from tests.truth import digests, published, reported

FIRST: Final = date(2024, 1, 1)


def days(number: int) -> list[date]:
    """So many days from the first on."""
    return [FIRST + timedelta(days=count) for count in range(number)]


def world(number: int, seed: int = 0, per_day: int = 60) -> World:
    """So many days of events, all over since long: loaded at the same time, they are the same."""
    random = Random(seed)
    keys = ("key_a", "key_b")
    events = [
        Event(
            day_window(day).start + random.randrange(86_400),
            random.choice([None, "ada", "bob", "käthe"]),
            random.choice([None, *keys]),
            random.randrange(3),
            random.randrange(5),
            random.randrange(1, 9),
        )
        for day in days(number)
        for _ in range(per_day)
    ]
    clock = ManualClock(day_window(days(number)[-1]).end + 30.0 * 86_400)
    return World.from_events(events, keys=keys, clock=clock)


def exact(lake: Lake, of: World, asked: Sequence[date]) -> bool:
    """Whether the tables are, to the row, what the emulator's own log says of these days."""
    return all(
        published(lake, width, asked) == reported(of, width, asked) for width in WIDTHS
    ) and lake.days("usage_1d") == sorted(asked)


def catalog_of(lake: Lake) -> Path:
    """Where workers build the catalog."""
    return lake.root.parent / "usage.duckdb"


def require_whole(lake: Lake, expected: dict[str, str]) -> None:
    """The lake has these files, all as published, and nothing of unfinished work."""
    assert digests(lake.root) == expected
    require_cleared_up(lake)


def require_cleared_up(lake: Lake) -> None:
    """All files are as published, and nothing is there of unfinished work."""
    problems = verify(lake, catalog_of(lake)).problems
    assert not problems, f"{problems}"
    leftovers = [
        path for folder in (".staging", ".partial") for path in (lake.root / folder).glob("*")
    ]
    leftovers += list((lake.root / ".versions").glob("*/.*"))
    assert leftovers == []


class Worker:
    """A process that loads and syncs days when it is told to.

    A task with a `last_step` is one that it is killed at; with None, its `steps` are counted.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._stack = ExitStack()
        _, self._tasks = self._stack.enter_context(copied(work, seconds=LONG))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def begin(self, server: EmulatorServer, root: Path, asked: Sequence[date], **more: Any) -> None:
        """Let it load these days; what came of it is its `answer`."""
        task = {
            "base_url": server.base_url,
            "key": server.api_key,
            "root": str(root),
            "days": [day.isoformat() for day in asked],
            "now": server.world.clock(),
            **more,
        }
        self._tasks.send(task)

    def answer(self) -> str:
        """`done`, or the error; `killed` where it ended at its last step."""
        try:
            said, self.steps = self._tasks.recv()
        except (EOFError, ConnectionResetError):
            return "killed"
        return str(said)

    def load(self, server: EmulatorServer, root: Path, asked: Sequence[date], **more: Any) -> str:
        """Load these days and say what came of it."""
        self.begin(server, root, asked, **more)
        return self.answer()

    def begin_sync(
        self,
        server: EmulatorServer,
        root: Path,
        asked: Sequence[date],
        keys: Sequence[str],
        *,
        full: bool = False,
        **more: Any,
    ) -> None:
        """Let it read the conversations of those with usage on these days, with these keys."""
        secrets = {key: server.api_keys[key] for key in keys}
        self.begin(server, root, asked, keys=secrets, full=full, **more)

    def sync(
        self,
        server: EmulatorServer,
        root: Path,
        asked: Sequence[date],
        keys: Sequence[str],
        **more: Any,
    ) -> str:
        """Read them and say what came of it."""
        self.begin_sync(server, root, asked, keys, **more)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL: it has no chance to clear up."""
        self._stack.close()


@contextmanager
def workers(number: int) -> Iterator[list[Worker]]:
    """Some processes; they end with the block."""
    pool = [Worker() for _ in range(number)]
    try:
        yield pool
    finally:
        for worker in pool:
            worker.kill()
