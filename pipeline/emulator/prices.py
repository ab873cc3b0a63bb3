"""What the emulator charges for tokens: a list of its own, in whole billionths of a dollar.

`prices.csv` beside it says the same in the format of a price list, dollars per million tokens, as
an example; a test compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CURRENCY = "usd"
CHAT_MODELS = (
    "meetkai:functionary-pt",
    "meetkai:functionary-mini",
    "meetkai:functionary-reasoning",
)
"""What answers, the one that is asked most first. The last one thinks before it answers."""
EMBEDDING_MODELS = ("meetkai:embed-small", "meetkai:embed-large")

_2023 = 1_672_531_200
_4_JANUARY_2024 = 1_704_326_400


@dataclass(frozen=True, slots=True)
class Price:
    """What a token of a model costs from `valid_from` (Unix seconds, a UTC midnight) on."""

    model: str
    valid_from: int
    input: int
    cached: int
    output: int
    reasoning: int

    def of(
        self, input_tokens: int, cached_tokens: int, output_tokens: int, reasoning_tokens: int
    ) -> int:
        """The cost of so many; cached ones are part of the input, reasoning ones of the output."""
        return (
            (input_tokens - cached_tokens) * self.input
            + cached_tokens * self.cached
            + (output_tokens - reasoning_tokens) * self.output
            + reasoning_tokens * self.reasoning
        )


PRICES: Sequence[Price] = (
    Price("meetkai:functionary-pt", _2023, 600, 300, 1_800, 1_800),
    Price("meetkai:functionary-pt", _4_JANUARY_2024, 500, 250, 1_500, 1_500),
    Price("meetkai:functionary-mini", _2023, 100, 25, 400, 400),
    Price("meetkai:functionary-reasoning", _2023, 2_000, 500, 8_000, 6_000),
    Price("meetkai:embed-small", _2023, 20, 20, 0, 0),
    Price("meetkai:embed-large", _2023, 130, 130, 0, 0),
)


def price_of(model: str | None, second: int) -> Price | None:
    """The price of a model in a second; None: it has none, and costs nothing."""
    valid = [price for price in PRICES if price.model == model and price.valid_from <= second]
    return max(valid, key=lambda price: price.valid_from, default=None)
