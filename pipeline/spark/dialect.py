"""Queries of DuckDB as Spark says them: sqlglot's translation, and what has to be fixed in it.

Belongs here: what a function, a type or a clause becomes. Nothing here needs a session, or pyspark.
"""

from __future__ import annotations

from typing import ClassVar, Final

import sqlglot
from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.generators.spark import SparkGenerator

_RENAMED: Final = {
    "ERROR": "RAISE_ERROR",
    "EPOCH_US": "UNIX_MICROS",
    "MAKE_TIMESTAMPTZ": "TIMESTAMP_MICROS",
    "UTC_NOW": "NOW",
}
"""Functions of DuckDB that sqlglot passes through, and what they are on Spark. UTC_NOW is one of
the catalog's own."""
_WITHOUT_ZONE: Final = {
    *(exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ, exp.DType.TIMESTAMP_S),
    *(exp.DType.TIMESTAMP_MS, exp.DType.TIMESTAMP_NS),
}


class _Spark(Spark):
    """Spark, where a WITH in a subquery stays in it: at the top, its names would hide tables."""

    class Generator(SparkGenerator):
        """What writes it."""

        EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[type[exp.Expr]]] = set()


def parse(text: str) -> list[exp.Expr]:
    """The statements of a text, as DuckDB reads them; sqlglot.ParseError where it can't."""
    return [it for it in sqlglot.parse(text, read="duckdb") if it is not None]


def to_spark(text: str, *, ordered: bool = True) -> str:
    """One query of DuckDB for Spark; sqlglot.errors.SqlglotError where it can't be carried over.

    `ordered`: with the order that it asks for, which costs Spark a shuffle.
    """
    (tree,) = parse(text)
    if not ordered:
        tree.set("order", None)
    return written(tree)


def written(tree: exp.Expr) -> str:
    """A query as `to_spark` gives it."""
    carried: str = tree.transform(_fixed).sql(
        dialect=_Spark, unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False
    )
    return carried


def _fixed(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.UnixToTime) and node.args.get("scale") is None:
        # Without a scale it would go through the text of a local time, by the session's time zone:
        # the two hours that a clock shows alike in autumn would be one.
        node.set("scale", exp.UnixToTime.SECONDS)
    if isinstance(node, exp.DataType) and node.this in _WITHOUT_ZONE:
        # Few functions of Spark take its type without a zone; a session in UTC needs none.
        return exp.DataType(this=exp.DType.TIMESTAMPTZ)
    if isinstance(node, exp.Anonymous) and node.name.upper() in _RENAMED:
        return exp.Anonymous(this=_RENAMED[node.name.upper()], expressions=node.args["expressions"])
    return node
