"""The macros of `usage.duckdb` on Spark: each call becomes a temporary view of its own.

Belongs here: what a call is, and its SELECT with the arguments in it. Spark 4.3 has table functions
of its own (CREATE FUNCTION … RETURNS TABLE), whose parameters are columns of an outer query to it:
of 13 of the 20 macros it can't rewrite what depends on them. In a view they are written out, and
the names in it hide none of the question's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import sqlglot
from sqlglot import exp

from pipeline.lake.macros import MACROS, Macro
from pipeline.lake.schemas import COVERED
from pipeline.spark.dialect import parse, written
from pipeline.timeline import ANY_WIDTHS
from pipeline.zones import zones

BY_NAME: Final = {macro.name: macro for macro in MACROS}


_CHOICES: Final[dict[str, Callable[[], Collection[str]]]] = {
    "width": lambda: ANY_WIDTHS,
    "tz": zones,
    "source": lambda: ("observed", "reported"),
    "table_name": lambda: COVERED,
}
"""What parameters of these names can be: a macro says so itself, but in an error of Spark's own."""


class MacroError(ValueError):
    """A macro is not called as it can be. One line, for the person who wrote the question."""


def without_macros(query: exp.Expr, views: dict[str, str]) -> exp.Expr:
    """The same query with a view in the place of each call of a macro.

    Adds to `views`, by what each view selects, its name; those that others read come first.
    MacroError where a macro is called wrongly, or can't be carried to Spark.
    """
    for table in list(query.find_all(exp.Table)):
        if not isinstance(table.this, exp.Anonymous):
            continue
        macro = BY_NAME.get(table.this.name.lower())
        if macro is None:
            continue
        body = without_macros(_body(macro, table.this.args["expressions"]), views)
        try:
            selected = written(body)
        except sqlglot.errors.SqlglotError as error:
            raise MacroError(f"{macro.name} can't be carried to Spark: {error}") from None
        name = views.setdefault(selected, f"{macro.name}__{len(views) + 1}")
        table.set("this", exp.to_identifier(name))
        if not table.args.get("alias"):
            table.set("alias", exp.TableAlias(this=exp.to_identifier(macro.name)))
    return query


def _body(macro: Macro, given: Sequence[exp.Expr]) -> exp.Expr:
    """A macro's SELECT with the arguments of a call in the place of its parameters."""
    arguments = _arguments(macro, given)
    (body,) = parse(macro.body)
    for column in list(body.find_all(exp.Column)):
        if column.name.lower() in arguments and not column.table:
            column.replace(exp.paren(arguments[column.name.lower()]))
    return body


def _arguments(macro: Macro, given: Sequence[exp.Expr]) -> dict[str, exp.Expr]:
    """What each parameter is in a call: given by place or by name, or its default."""
    names = list(macro.parameters)
    takes = f"{macro.name} takes {', '.join(names) or 'nothing'}"
    found: dict[str, exp.Expr] = {}
    for place, one in enumerate(given):
        named = isinstance(one, exp.PropertyEQ)
        name = one.this.name.lower() if named else "".join(names[place : place + 1])
        if name not in names or name in found:
            raise MacroError(f"{takes}, and not {one.sql(dialect='duckdb')}")
        found[name] = one.expression if named else one
        _check(macro, name, found[name])
    for name, default in macro.parameters.items():
        if name not in found and not default:
            raise MacroError(f"{takes}: {name} has no default, and is not given")
        found.setdefault(name, sqlglot.parse_one(default or "NULL", read="duckdb"))
    return found


def _check(macro: Macro, name: str, value: exp.Expr) -> None:
    if value.find(exp.Column, exp.Query) is not None:
        raise MacroError(f"{macro.name}: {name} has to be a value, not a column or a query")
    if name in _CHOICES and value.is_string:
        choices = _CHOICES[name]()
        if value.name not in choices:
            few = f"none of {', '.join(choices)}" if len(choices) < 20 else "none that is known"
            raise MacroError(f"{macro.name}: {name} is {value.name!r}, which is {few}")
