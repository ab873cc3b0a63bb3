"""One read-only question to the tables of the shared lake, answered by Spark.

Belongs here: what may be asked, in which order views are made for it, and what its answer is like.
A question is written as for `usage.duckdb`, in DuckDB's SQL.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import sqlglot
from sqlglot import exp

from pipeline.spark.connect import complaints, connected
from pipeline.spark.dialect import parse, written
from pipeline.spark.macros import BY_NAME, MacroError, without_macros
from pipeline.spark.tables import NAMES, Files, inputs_of, make_views

_REFUSED: Final = {"java_method", "reflect", "try_reflect"}
"""Functions of Spark that run what they are told to in the server."""
_CHANGES: Final = (exp.DML, exp.DDL, exp.Command)


class QuestionError(ValueError):
    """The question is not one that can be asked; one line for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, for Spark: the views of macros, by name in the order to make them, the query
    itself, and the tables that all of it reads."""

    views: dict[str, str]
    query: str
    tables: frozenset[str]

    @property
    def read(self) -> frozenset[str]:
        """Those tables, and what they are made of themselves."""
        return inputs_of(self.tables)


def understood(text: str) -> Question:
    """A question in DuckDB's SQL. QuestionError where it is none, or can't be carried to Spark."""
    try:
        statements = parse(text)
    except sqlglot.errors.SqlglotError as error:
        raise QuestionError(f"it can't be read as SQL: {_place(error)}") from None
    if len(statements) != 1:
        raise QuestionError(f"one query is wanted, {len(statements)} were given")
    (tree,) = statements
    _check(tree, text)
    views: dict[str, str] = {}
    try:
        query = written(without_macros(tree, views))
    except MacroError as error:
        raise QuestionError(str(error)) from None
    except sqlglot.errors.SqlglotError as error:
        raise QuestionError(f"it can't be carried to Spark: {error}") from None
    by_name = {name: selected for selected, name in views.items()}
    read = {name for one in (*views, query) for name in _tables(sqlglot.parse_one(one, "spark"))}
    return Question(by_name, query, frozenset(read & NAMES))


def ask(
    remote: str,
    question: Question,
    files: Files,
    written: Mapping[str, Callable[[], pa.Table]],
) -> pa.Table:
    """The answer's rows; times are UTC, without a zone. SparkError where Spark refuses.

    `written`: what people write by hand, by the name of its table, read where it is asked for.
    """
    with connected(remote) as session, complaints(remote):
        tables = {name: table() for name, table in written.items() if name in question.read}
        make_views(session, files, question.tables, tables)
        for name, selected in question.views.items():
            session.sql(selected).createOrReplaceTempView(name)
        return _plain(session.sql(question.query).toArrow())


def _check(tree: exp.Expr, text: str) -> None:
    """QuestionError where a statement is more than a question to the tables."""
    if not isinstance(tree, exp.Query) or tree.find(*_CHANGES):
        raise QuestionError(
            f"{text.split(maxsplit=1)[0].upper()} is no query that Spark is asked: the tables can "
            "be read with SELECT, FROM or WITH, not changed"
        )
    for call in tree.find_all(exp.Func):
        name = call.name if isinstance(call, exp.Anonymous) else call.sql_name()
        if name.lower() in _REFUSED:
            raise QuestionError(f"{name} is refused: it runs what it is told to in the server")
    own = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        known = NAMES | own if isinstance(table.this, exp.Identifier) else BY_NAME.keys()
        name = table.this.name
        if name.lower() not in known or table.db:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            raise QuestionError(
                f"{'.'.join(part.name for part in table.parts)} is none of the tables and macros "
                "that can be read here" + (f": {near[0]}?" if near else ": docs/spark.md has all")
            )


def _tables(tree: exp.Expr) -> Iterator[str]:
    return (table.name.lower() for table in tree.find_all(exp.Table))


def _place(error: sqlglot.errors.SqlglotError) -> str:
    """What the parser says, without the colours in which it quotes the query."""
    if isinstance(error, sqlglot.ParseError) and error.errors:
        first = error.errors[0]
        return f"{first['description']} at line {first['line']}, column {first['col']}"
    return " ".join(str(error).split())


def _plain(rows: pa.Table) -> pa.Table:
    """Rows whose times are UTC without a zone, as in `usage.duckdb`, and whose columns all have
    names of their own, as DuckDB gives them."""
    seen = Counter[str]()
    names: list[str] = []
    for name in rows.column_names:
        names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    fields = [
        field.with_type(pa.timestamp("us")) if pa.types.is_timestamp(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields)).rename_columns(names)
