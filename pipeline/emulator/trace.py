"""A world replayed from a trace of real traffic, with the users and keys that the trace lacks.

Columns of its CSV: `timestamp_ms` (arrival, milliseconds from the start of the trace),
`conversation` (number from 0), `input_tokens`, `output_tokens`.
"""

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline.emulator.events import DEFAULT_KEYS
from pipeline.emulator.phrases import assistant_message, user_message
from pipeline.emulator.prices import CHAT_MODELS
from pipeline.emulator.state import Tokens
from pipeline.emulator.synthetic import START_2024
from pipeline.emulator.world import World

COLUMNS = ("timestamp_ms", "conversation", "input_tokens", "output_tokens")
KEY_SHARES = (0.60, 0.90, 1.0)
"""Cumulative shares of the conversations under each of `DEFAULT_KEYS`."""
MODEL_SHARES = (0.60, 0.90, 1.0)
"""Cumulative shares of the conversations that each of `CHAT_MODELS` answers."""
NO_USER_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the trace."""

    timestamp_ms: int
    conversation: int
    input_tokens: int
    output_tokens: int


def trace_world(
    path: str | Path,
    start: int = START_2024,
    *,
    users: int = 500,
    clock: Callable[[], float] = time.time,
) -> World:
    """The world after the trace at `path`, its first moment at `start` (Unix seconds, UTC).

    A conversation's first request creates it; every request makes one response with a user and an
    assistant item. Users, keys and models follow from a hash of the conversation's number, the same
    on every machine: a few users have much of the traffic, one conversation in twenty has none.
    Raises ValueError that names the file, the line and what was expected when the file is missing
    or malformed.
    """
    world = World(clock=clock)
    names: dict[int, str] = {}
    turns: dict[int, int] = {}
    for request in read_trace(path):
        number = request.conversation
        at = start + request.timestamp_ms / 1_000
        if number not in names:
            names[number] = world.create_conversation(
                at, user_of(number, users), key_of(number), {"trace": str(number)}
            )
        turns[number] = turn = turns.get(number, 0) + 1
        world.add_response(
            names[number],
            at,
            [user_message(f"Request {turn}"), assistant_message(f"Answer {turn}")],
            tokens=Tokens(input=request.input_tokens, output=request.output_tokens),
            model=model_of(number),
            # A model that writes fifty tokens a second.
            finished_at=at + request.output_tokens / 50,
        )
    return world


def read_trace(path: str | Path) -> Iterator[Request]:
    """The trace's requests in file order. Raises ValueError as `trace_world` does."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header: list[str] = next(rows, list[str]())
            if tuple(header) != COLUMNS:
                raise ValueError(
                    f"{path}, line 1: expected the columns {','.join(COLUMNS)}, "
                    f"found {','.join(header) or 'nothing'}"
                )
            for row in rows:
                yield _request(path, rows.line_num, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path}, line 1: expected a readable UTF-8 CSV file with the columns "
            f"{','.join(COLUMNS)}: {error}"
        ) from error


def _request(path: Path, line: int, row: list[str]) -> Request:
    if len(row) != len(COLUMNS) or not all(cell.isascii() and cell.isdigit() for cell in row):
        raise ValueError(
            f"{path}, line {line}: expected {len(COLUMNS)} whole numbers "
            f"({','.join(COLUMNS)}), found {','.join(row) or 'nothing'}"
        )
    return Request(*map(int, row))


def user_of(conversation: int, users: int) -> str | None:
    """The user of a conversation of the trace, or None for one in twenty."""
    if _share(f"no user {conversation}") < NO_USER_SHARE:
        return None
    # The cube of an even share: the first tenth of the users gets near half of the conversations.
    share = _share(f"user {conversation}")
    return f"user_{int(users * share * share * share):04d}"


def key_of(conversation: int) -> str:
    """The API key id of a conversation of the trace."""
    share = _share(f"key {conversation}")
    return next(key for key, up_to in zip(DEFAULT_KEYS, KEY_SHARES, strict=True) if share < up_to)


def model_of(conversation: int) -> str:
    """The model that answers a conversation of the trace."""
    share = _share(f"model {conversation}")
    shares = zip(CHAT_MODELS, MODEL_SHARES, strict=True)
    return next(model for model, up_to in shares if share < up_to)


def _share(text: str) -> float:
    """A stable number in [0, 1) for a text."""
    return int.from_bytes(sha256(text.encode()).digest()[:6], "big") / 2**48
