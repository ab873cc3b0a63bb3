"""A number and what it counts, in English: `1 day`, `2 days`.

Belongs here: how a count is said.
"""

from __future__ import annotations


def noun(value: float, name: str) -> str:
    """`name` as it follows that number: as it is after 1, else in the plural."""
    if value == 1:
        return name
    if name.endswith("y") and name[-2:-1] not in set("aeiou"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def count(value: int, name: str) -> str:
    """`0 days`, `1 day`, `2,000 days`."""
    return f"{value:,} {noun(value, name)}"


def be(value: int) -> str:
    """The verb that follows that number."""
    return "is" if value == 1 else "are"
