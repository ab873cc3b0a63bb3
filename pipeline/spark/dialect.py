"""Queries of DuckDB as Spark says them: sqlglot's translation, and what has to be mended in it.

Belongs here: what a function or a literal becomes. Nothing here needs a session, or pyspark.
"""

from __future__ import annotations

from typing import Final

import sqlglot
from sqlglot import exp

_RENAMED: Final = {
    "ERROR": "RAISE_ERROR",
    "EPOCH_US": "UNIX_MICROS",
    "MAKE_TIMESTAMPTZ": "TIMESTAMP_MICROS",
    "UTC_NOW": "NOW",
}
"""Functions of DuckDB that sqlglot passes through, and what they are on Spark. UTC_NOW is one of
the catalog's own."""


def parse(text: str) -> list[exp.Expr]:
    """The statements of a text, as DuckDB reads them; sqlglot.ParseError where it can't."""
    return [it for it in sqlglot.parse(text, read="duckdb") if it is not None]


def to_spark(text: str) -> str:
    """One query of DuckDB for Spark; sqlglot.errors.SqlglotError where it can't be carried over."""
    (tree,) = parse(text)
    return written(tree)


def written(tree: exp.Expr) -> str:
    """A query as `to_spark` gives it."""
    return tree.transform(_mended).sql(
        dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False
    )


def _mended(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.UnixToTime) and node.args.get("scale") is None:
        # Without a scale it would go through the text of a local time, by the session's time zone:
        # the two hours that a clock shows alike in autumn would be one.
        node.set("scale", exp.UnixToTime.SECONDS)
    if isinstance(node, exp.Anonymous) and node.name.upper() in _RENAMED:
        return exp.Anonymous(this=_RENAMED[node.name.upper()], expressions=node.args["expressions"])
    return node
