"""Who uses what in the tests of names, and what people call them."""

from __future__ import annotations

from tests.pricing.spent import START, Spent

HOUR = 3_600
DAY = 24 * HOUR
LINES = (
    "user,ada,Ada Lovelace,research",
    "user,bob,Ada Lovelace,",
    "user,eve,bob,",
    "user,carl,,sales",
    "user,gone,Somebody who left,research",
    "key,web,Web shop,shop",
    "team,research,Research,",
    "cost_centre,shop,Research,",
)
SPENT = [
    Spent(START + HOUR, "ada", "web", operations=1),
    Spent(START + 2 * HOUR, "bob", "web", operations=2),
    Spent(START + 3 * HOUR, "bob", "batch", operations=4),
    Spent(START + 4 * HOUR, "carl", "batch", operations=8),
    Spent(START + 5 * HOUR, "eve", None, operations=16),
    Spent(START + 6 * HOUR, None, "web", operations=32),
    Spent(START + 7 * HOUR, None, None, operations=64),
    Spent(START + DAY, "ada", "batch", operations=128, model="small"),
    Spent(START + DAY, "bob", "web", operations=256, model="small"),
]


def team(spent: Spent) -> str | None:
    """The team of the user; of one without, that of the key."""
    return {"ada": "research", "carl": "sales"}.get(str(spent.user)) or (
        "shop" if spent.key == "web" else None
    )
