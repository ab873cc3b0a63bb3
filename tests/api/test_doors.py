"""One function for each question: no caller puts a client into a fetch function itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pipeline

ROOT = Path(pipeline.__file__).parent
FETCH = {"get_usage", "get_meters", "get_conversations", "get_responses", "get_items"}


def made_partial(tree: ast.AST) -> list[str]:
    return [
        node.args[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "partial"
        and node.args
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id in FETCH
    ]


def test_a_partial_of_a_fetch_function_is_found() -> None:
    assert made_partial(ast.parse("walk(partial(get_usage, client), query)")) == ["get_usage"]


def test_no_caller_of_the_api_makes_a_partial_of_a_fetch_function() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in ROOT.rglob("*.py")
        if (names := made_partial(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert {name for name in found if "probe" not in name} == {"api/walks.py"}
