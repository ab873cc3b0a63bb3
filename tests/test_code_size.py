"""No function over 50 lines and no class over 200 in the product's code.

A function's lines are those of its body: without its parameters, which of a command are its
options, without its docstring, and without functions that stand in it and count on their own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pipeline

ROOT = Path(pipeline.__file__).parent
FUNCTION, CLASS = 50, 200

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def too_long(text: str) -> list[str]:
    """The names of what is too long."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Definition) and _is_too_long(node)
    ]


def _is_too_long(node: Definition) -> bool:
    if isinstance(node, ast.ClassDef):
        return _lines(node) > CLASS
    return _lines(node) - sum(map(_span, _functions_in(node))) > FUNCTION


def _lines(node: Definition) -> int:
    """From the first statement behind the docstring to the last."""
    body = node.body[ast.get_docstring(node) is not None :]
    return _end(body[-1]) - _start(body[0]) + 1 if body else 0


def _span(node: ast.stmt) -> int:
    return _end(node) - _start(node) + 1


def _start(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def _end(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def _functions_in(node: ast.AST) -> Iterator[ast.stmt]:
    """The outermost functions inside another one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
        else:
            yield from _functions_in(child)


def planted(lines: int, head: str = "def long():", indent: str = "    ") -> str:
    return "\n".join([head, *[f"{indent}x = 1"] * lines])


def test_what_is_too_long_is_found() -> None:
    assert too_long(planted(FUNCTION)) == []
    assert too_long(planted(FUNCTION + 1)) == ["long"]
    assert too_long(planted(FUNCTION + 1, "async def long():")) == ["long"]
    assert too_long(planted(CLASS, "class Long:")) == []
    assert too_long(planted(CLASS + 1, "class Long:")) == ["Long"]
    inner = planted(FUNCTION + 1, "    def inner():", "        ")
    assert too_long(f"def outer():\n{inner}") == ["inner"]
    assert too_long(f"@decorated\n{planted(FUNCTION)}") == []
    documented = planted(FUNCTION + 2).replace("x = 1", '"""Says\n    what it\n    does."""', 1)
    assert too_long(documented) == ["long"]


def test_no_function_and_no_class_is_too_long() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted(ROOT.rglob("*.py"))
        if (names := too_long(path.read_text(encoding="utf-8")))
    }
    assert found == {}
