"""A number and its noun agree, in every message."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.messages import be, count, noun

PACKAGE = Path(__file__).parents[1] / "pipeline"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (0, "day", "0 days"),
        (1, "day", "1 day"),
        (2, "day", "2 days"),
        (1_000, "request", "1,000 requests"),
        (1, "new item", "1 new item"),
        (3, "new item", "3 new items"),
        (1, "try", "1 try"),
        (12, "try", "12 tries"),
        (2, "more stretch", "2 more stretches"),
        (2, "class", "2 classes"),
    ],
)
def test_a_count_is_said_with_its_noun(value: int, name: str, said: str) -> None:
    assert count(value, name) == said


def test_averages_have_nouns_and_counts_have_verbs() -> None:
    assert [noun(value, "item") for value in (0.5, 1.0, 1.5)] == ["items", "item", "items"]
    assert [be(value) for value in (0, 1, 2)] == ["are", "is", "are"]


def counted_nouns() -> set[str]:
    """The last word of every noun that some message counts, in the plural."""
    names = [
        call.args[1].value.split()[-1]
        for tree in TREES.values()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"count", "noun"}
        and len(call.args) == 2
        and isinstance(call.args[1], ast.Constant)
        and isinstance(call.args[1].value, str)
    ]
    return {noun(0, name) for name in names}


def counted_by_hand() -> Iterator[tuple[str, str]]:
    """Numbers that stand before such a plural, whatever they are, in an f-string."""
    plurals = counted_nouns()
    for path, tree in TREES.items():
        for text in ast.walk(tree):
            if not isinstance(text, ast.JoinedStr):
                continue
            for number, after in zip(text.values, text.values[1:], strict=False):
                if isinstance(number, ast.FormattedValue) and isinstance(after, ast.Constant):
                    words = str(after.value).removeprefix(" ").split(" ", 2)
                    if (
                        str(after.value).startswith(" ")
                        and {word.strip(".,;:()") for word in words[:2]} & plurals
                    ):
                        yield f"{path.name}:{number.lineno}", ast.unparse(number.value)


def test_no_message_puts_a_number_before_a_plural_by_itself() -> None:
    assert {"days", "requests", "checks", "rows", "files"} <= counted_nouns()
    # Constants and limits are many; a name, a width or a share is no count.
    others = {
        "name",
        "section.finding",
        "len(COLUMNS)",
        "by",
        "kind",
        "config",
        "share(",
        "self._limits.",
        "self.query.",
        "count(",
        "_items(",
    }
    by_hand = [
        (where, what)
        for where, what in counted_by_hand()
        if not what.isupper() and not what.startswith(tuple(others))
    ]
    assert by_hand == []
