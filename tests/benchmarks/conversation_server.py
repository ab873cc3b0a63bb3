"""What the conversations benchmark reads: the emulator, with a month of talk, in its own process.

100 users have 100 conversations each, of one response with ten items. Every answer takes some
milliseconds more than it needs, as an answer over a network does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator
from typing import Final

from pipeline.emulator import START_2024, EmulatorServer, Faults, World
from tests.benchmarks.measure import REPOSITORY

CONVERSATIONS: Final = 10_000
ITEMS: Final = 100_000
LATENCY: Final = 0.005
"""Seconds that every answer waits."""
KEY: Final = "key_web"
_USERS: Final = 100


def talk() -> World:
    """The same world on every call, all of it on one day."""
    world = World()
    turn = [{"type": "message", "role": "user", "content": "question " * 20}]
    turn += [{"type": "message", "role": "assistant", "content": "answer " * 50}]
    for number in range(CONVERSATIONS):
        at = START_2024 + 8 * number
        name = world.create_conversation(at, f"user_{number % _USERS:03}", KEY)
        world.add_response(name, at + 1, turn * (ITEMS // CONVERSATIONS // 2))
    return world


@contextlib.contextmanager
def serving() -> Generator[dict[str, str]]:
    """Run the server in its own process until the block ends; yields its `url` and `key`."""
    command = [sys.executable, "-m", "tests.benchmarks.conversation_server"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                raise RuntimeError(f"the server ended with exit code {process.wait()}")
            yield json.loads(ready)
        finally:
            process.terminate()


def main() -> None:
    """Say on standard output where and with which key is served, and serve until terminated."""
    server = EmulatorServer(talk(), Faults(latency=LATENCY))

    def ready(url: str) -> None:
        print(json.dumps({"url": url, "key": server.api_keys[KEY]}), flush=True)

    server.run(ready)


if __name__ == "__main__":
    main()
