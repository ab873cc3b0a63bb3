"""Tables of a database server, in which Dagster can keep its runs: renamed and searched.

Belongs here: what holds for any server that SQLAlchemy speaks to. Which tables there are, the
caller knows. Rows are taken by their number, some at a time, so that nobody waits for a transaction
of ours; a row that somebody else changes meanwhile is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import LargeBinary, String

from pipeline.forget.person import Person
from pipeline.forget.values import renamed, texts_of

_AT_ONCE: Final = 200
"""Rows that are in memory: an event with a chart has some 10 kB."""
_TIMES: Final = 20
"""How often a row is looked at again that somebody else changes all the time."""


@dataclass(frozen=True, slots=True)
class Database:
    """Tables of one server, each with a column `id` of numbers.

    `shown`: the server and the database, without a password. Methods raise SQLAlchemyError.
    """

    shown: str
    connect: Callable[[], AbstractContextManager[sa.Connection]]
    tables: Sequence[sa.Table]

    def rename(self, person: Person, name: str) -> int:
        """Let every row speak of the person by another name; how many did not."""
        changed = 0
        with self.connect() as con:
            for table in self._there(con):
                number = 0
                for row in _rows(con, table):
                    number += _rename_row(con, table, row, person, name)
                if number and con.dialect.name == "postgresql":
                    con.execute(sa.text(f"VACUUM {_quoted(con, table)}"))  # removes the old rows
                changed += number
        return changed

    def naming(self, person: Person) -> Iterator[str]:
        """The rows that name the person, each by its table and number."""
        with self.connect() as con:
            for table in self._there(con):
                for row in _rows(con, table):
                    values = (value for column, value in row.items() if column != "id")
                    if any(person.is_in(text) for value in values for text in texts_of(value)):
                        yield f"{table.name}, id {row['id']}"

    def _there(self, con: sa.Connection) -> list[sa.Table]:
        there = {*sa.inspect(con).get_table_names()}
        return [table for table in self.tables if table.name in there]


def _texts(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if isinstance(column.type, String | LargeBinary)]


def _rows(con: sa.Connection, table: sa.Table) -> Iterator[sa.RowMapping]:
    """What the texts of each row are, in the order of the rows' numbers."""
    columns = _texts(table)
    asked = sa.select(table.c.id, *columns).order_by(table.c.id).limit(_AT_ONCE)
    last = None
    while True:
        rest = asked if last is None else asked.where(table.c.id > last)
        rows = con.execute(rest).mappings().all()
        yield from rows
        if not rows:
            return
        last = rows[-1]["id"]


def _rename_row(
    con: sa.Connection, table: sa.Table, row: sa.RowMapping, person: Person, name: str
) -> bool:
    found: sa.RowMapping | None = row
    for _ in range(_TIMES):
        changes = {
            column.name: new
            for column in _texts(table)
            if found is not None and (new := renamed(found[column.name], person, name)) is not None
        }
        if found is None or not changes:
            return False
        same = [table.c[column] == found[column] for column in changes]
        this = table.c.id == row["id"]
        if con.execute(table.update().where(this, *same).values(changes)).rowcount:
            return True
        found = con.execute(sa.select(*_texts(table)).where(this)).mappings().first()
    return False  # the search names it


def _quoted(con: sa.Connection, table: sa.Table) -> str:
    return con.dialect.identifier_preparer.format_table(table)
