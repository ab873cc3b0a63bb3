"""What users of a made-up world do beside conversations: completions, embeddings, files and more.

It follows from dice of its own, so that conversations are the same with and without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from pipeline.emulator.billing import Charge
from pipeline.emulator.events import MeterEvent
from pipeline.emulator.prices import CHAT_MODELS, EMBEDDING_MODELS
from pipeline.emulator.state import Tokens

DAY = 86_400
_TOOL_CALL = 10_000_000
"""A cent, in billionths of a dollar."""
_STORAGE = 137_000_001
"""A day of it, in the same."""
MODEL_SHARES = (62, 90, 100)
"""How often each of `CHAT_MODELS` is asked, cumulative, in percent."""

_Doing: TypeAlias = tuple[str, str | None, Mapping[str, int]]
"""(usage endpoint, model, measures)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A user at work with a key, at a moment (Unix seconds, UTC)."""

    at: float
    user_id: str | None
    api_key_id: str | None


@dataclass(frozen=True, slots=True)
class SideTraffic:
    """What happens around visits, from `start` to before `end` (Unix seconds, UTC).

    The same seed and visits give the same. `late_share` of the events are first counted up to
    `late_by` seconds after they happened.
    """

    seed: int
    visits: Sequence[Visit]
    start: int
    end: int
    late_share: float
    late_by: float

    def events(self) -> Iterator[MeterEvent]:
        """All of it that usage endpoints count."""
        random = Random(f"{self.seed}:meters")  # noqa: S311  # traffic, not secrets
        for visit in self.visits:
            for endpoint, model, measures in _doings(random):
                at = round(visit.at + 900 * random.random(), 3)
                late = random.random()
                if at < self.end:
                    is_late = late < self.late_share
                    yield MeterEvent(
                        endpoint,
                        at,
                        visit.user_id,
                        visit.api_key_id,
                        model,
                        measures=measures,
                        visible_at=at + self.late_by * late / self.late_share if is_late else None,
                    )

    def charges(self) -> Iterator[Charge]:
        """All of it that is billed and that no usage endpoint counts: calls of tools, storage."""
        random = Random(f"{self.seed}:charges")  # noqa: S311  # traffic, not secrets
        for visit in self.visits:
            if random.random() < 0.1:
                calls = 1 + random.randrange(3)
                yield Charge(visit.at, visit.user_id, visit.api_key_id, calls * _TOOL_CALL)
        for midnight in range(self.start, self.end, DAY):
            yield Charge(midnight, None, None, _STORAGE)


def chat_tokens(random: Random, model: str) -> Tokens:
    """The tokens of a question and its answer; only a model that reasons has some for that."""
    return tokens_of(
        model,
        30 + random.randrange(3_000),
        20 + random.randrange(800),
        random.randrange(50),
        random.randrange(20),
    )


def tokens_of(model: str, read: int, written: int, cached: int, reasoning: int) -> Tokens:
    """Tokens of a turn: `cached` is how much of 60 parts was read before, in blocks of 64 tokens,
    and `reasoning` how much of 25 parts was written for thinking, by a model that does."""
    thinks = model == CHAT_MODELS[-1]
    return Tokens(
        input=read,
        cached=read * cached // 60 // 64 * 64,
        output=written,
        reasoning=written * reasoning // 25 if thinks else 0,
    )


def measures_of(tokens: Tokens) -> Mapping[str, int]:
    """What an endpoint that counts tokens reports of one request."""
    return {
        "num_model_requests": 1,
        "input_tokens": tokens.input,
        "input_cached_tokens": tokens.cached,
        "output_tokens": tokens.output,
        "output_reasoning_tokens": tokens.reasoning,
        "total_tokens": tokens.input + tokens.output,
    }


def _doings(random: Random) -> Iterator[_Doing]:
    """What happens around one visit."""
    for _ in range(int(4 * random.random() * random.random())):
        (model,) = random.choices(CHAT_MODELS, cum_weights=MODEL_SHARES)
        yield "completions", model, measures_of(chat_tokens(random, model))
    drawn = random.random()
    if drawn < 0.30:
        model = EMBEDDING_MODELS[drawn < 0.08]
        yield "embeddings", model, measures_of(Tokens(input=10 + random.randrange(8_000)))
    elif drawn < 0.36:
        yield "files", None, {"num_files": 1, "file_bytes": 1 + random.randrange(4_000_000)}
    elif drawn < 0.39:
        size = 1 + random.randrange(20_000_000)
        yield "vector_stores", None, {"num_vector_stores": 1, "usage_bytes": size}
    elif drawn < 0.55:
        endpoint = "extract" if drawn < 0.47 else "classify"
        read, written = 100 + random.randrange(5_000), 1 + random.randrange(300)
        measures = {"num_requests": 1, "input_tokens": read, "output_tokens": written}
        yield endpoint, CHAT_MODELS[1], measures
