"""Rows of a database server call the person by another name; a server is searched as files are."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from pipeline.forget import person_of
from pipeline.forget.database import Database
from tests.forget.people import WHO

PERSON = person_of(WHO, None)
CHART = f"<svg><text>{WHO}</text></svg>"
TABLE = sa.Table(
    "events",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("body", sa.Text),
    sa.Column("packed", sa.LargeBinary),
    sa.Column("number", sa.Integer),
)
OTHER = sa.Table("never_made", TABLE.metadata, sa.Column("id", sa.Integer, primary_key=True))
ROWS = [
    {"body": f"user {WHO}: 5", "number": 1},
    {"body": '{"a": "bob"}', "number": 2},
    {"body": f"![c](data:image/svg+xml;base64,{b64encode(CHART.encode()).decode()})", "number": 3},
    {"packed": zlib.compress(f'{{"user": "{WHO}"}}'.encode()), "number": 4},
    *({"body": f"event {number}", "number": number} for number in range(5, 500)),
    {"body": f"{WHO}!", "number": 500},
]


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    ).execution_options(isolation_level="AUTOCOMMIT")
    TABLE.create(engine)
    with engine.connect() as con:
        for row in ROWS:
            con.execute(TABLE.insert().values(row))
    yield engine
    engine.dispose()


def bodies(engine: sa.Engine) -> dict[int, tuple[str | None, bytes | None]]:
    """What the rows say, by their number."""
    with engine.connect() as con:
        return {row.id: (row.body, row.packed) for row in con.execute(TABLE.select())}


def test_every_row_that_names_them_is_renamed_and_no_other(engine: sa.Engine) -> None:
    before = bodies(engine)
    database = Database("a server", engine.connect, [TABLE, OTHER])
    assert [*database.naming(PERSON)] == [f"events, id {it}" for it in (1, 3, 4, 500)]
    assert database.rename(PERSON, "forgotten_1") == 4
    assert [*database.naming(PERSON)] == []
    after = bodies(engine)
    assert {it for it in before if before[it] != after[it]} == {1, 3, 4, 500}
    assert after[1] == ("user forgotten_1: 5", None)
    chart = b64encode(CHART.replace(WHO, "forgotten_1").encode()).decode()
    assert after[3] == (f"![c](data:image/svg+xml;base64,{chart})", None)
    assert zlib.decompress(after[4][1] or b"") == b'{"user": "forgotten_1"}'
    assert database.rename(PERSON, "forgotten_1") == 0


def test_what_somebody_else_writes_meanwhile_is_kept_and_renamed(engine: sa.Engine) -> None:
    wrote: list[str] = []

    @contextmanager
    def connect() -> Iterator[sa.Connection]:
        """A run changes the row after it was read, and before it is renamed."""

        @sa.event.listens_for(engine, "before_cursor_execute")
        def meanwhile(con: sa.Connection, cursor: object, sql: str, *_: object) -> None:
            if sql.startswith("UPDATE") and not wrote:
                wrote.append(sql)
                con.exec_driver_sql("UPDATE events SET body = body || ', then 6' WHERE id = 1")

        with engine.connect() as con:
            yield con

    database = Database("a server", connect, [TABLE])
    assert database.rename(PERSON, "forgotten_1") == 4
    assert wrote
    assert bodies(engine)[1][0] == "user forgotten_1: 5, then 6"


def test_a_database_that_is_gone_is_an_error(tmp_path: Path) -> None:
    gone = sa.create_engine(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")
    with pytest.raises(sa.exc.SQLAlchemyError):
        Database("a server", gone.connect, [TABLE]).rename(PERSON, "forgotten_1")
