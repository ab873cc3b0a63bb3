"""The queries in `sql/`: what their headers promise, and that Spark could run them.

Portable means: sqlglot carries the query to Spark, and nothing in what comes out is unknown there:
no function that sqlglot only passed through, none off the list below, and no type that Spark lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

pytest.importorskip("sqlglot", reason="queries are carried to Spark by the extra `spark`")

import sqlglot
from sqlglot import exp

from pipeline.conversations.row_buffer import SEEN
from pipeline.lake import engine
from pipeline.lake.schemas import DATASETS, RAW_METERS, RAW_USAGE, USAGE
from pipeline.spark.dialect import to_spark
from pipeline.usage.meters import SERVED_METERS
from pipeline.usage.page_buffer import SERVINGS

FILES = sorted((Path(__file__).parent.parent / "sql").glob("*.sql"))
QUERIES = [path.stem for path in FILES]

SPARK_FUNCTIONS = {
    "AND",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "DAY",
    "DAYOFYEAR",
    "EXISTS",
    "EXPLODE",
    "FLOOR",
    "GREATEST",
    "IF",
    "LAG",
    "LEAD",
    "LEAST",
    "LOWER",
    "MAX",
    "MIN",
    "MONTH",
    "OR",
    "ROUND",
    "ROW_NUMBER",
    "SEQUENCE",
    "STARTSWITH",
    "SUM",
    "TO_DATE",
    "UNIX_TIMESTAMP",
    "UPPER",
    "YEAR",
}
"""What the queries may call, by Spark's names. Another one is to be looked up before it is added:
does Spark have it, and does it mean the same there?"""

OF_SPARK_ALONE = {"TIMESTAMP_SECONDS"}
"""Those that sqlglot does not know when it reads them: only `to_spark` writes them."""

SPARK_TYPES = {
    *("BIGINT", "INT", "TIMESTAMP", "STRING", "BOOLEAN", "DATE"),
    *("DECIMAL(9, 9)", "DECIMAL(19, 0)", "DECIMAL(28, 9)", "DECIMAL(28, 15)", "DECIMAL(38, 15)"),
    "DECIMAL(38, 9)",
}
"""Decimals of up to 38 digits, as in DuckDB. A product of p1 and p2 digits has p1 + p2 + 1 there, a
sum of columns ten more, both cut to 38 and rounded where that is too few: these are exact."""


def header(name: str) -> list[str]:
    """The comment lines that a query opens with, without their dashes."""
    lines: list[str] = []
    for line in engine.sql(name).splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return lines


def parse(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read="duckdb")


def not_portable(text: str) -> list[str]:
    """What keeps a query from running on Spark; empty where nothing does."""
    try:
        tree = sqlglot.parse_one(to_spark(text), read="spark")
    except sqlglot.errors.SqlglotError as error:
        return [str(error)]
    return [*_functions(tree), *_types(tree), *_files(tree)]


def _functions(tree: exp.Expr) -> Iterator[str]:
    for call in tree.find_all(exp.Func):
        passed_through = isinstance(call, exp.Anonymous)
        name = call.name if passed_through else _spark_name(call)
        if name not in (OF_SPARK_ALONE if passed_through else SPARK_FUNCTIONS):
            yield f"function {name}"


def _spark_name(call: exp.Func) -> str:
    """The name that Spark's parser and printer give a function."""
    return call.sql(dialect="spark").split("(")[0].strip().upper() if _is_call(call) else _key(call)


def _is_call(call: exp.Func) -> bool:
    return not isinstance(call, (exp.And, exp.Or, exp.Case, exp.If, exp.Cast))


def _key(call: exp.Func) -> str:
    return "CAST" if isinstance(call, exp.Cast) else call.key.upper()


def _types(tree: exp.Expr) -> Iterator[str]:
    for kind in tree.find_all(exp.DataType):
        if kind.sql(dialect="spark") not in SPARK_TYPES:
            yield f"type {kind.sql(dialect='spark')}"


def _files(tree: exp.Expr) -> Iterator[str]:
    """Tables that are more than a name: a file, a function, a database."""
    for table in tree.find_all(exp.Table):
        if table.db or not isinstance(table.this, exp.Identifier):
            yield f"table {table.sql()}"


def test_there_are_queries() -> None:
    assert {"rollup", USAGE["1m"].name, RAW_METERS.name} <= set(QUERIES)


@pytest.mark.parametrize("name", QUERIES)
def test_the_header_names_the_query_its_grain_and_its_inputs(name: str) -> None:
    lines = header(name)
    assert lines[0].startswith(f"{name}: ")
    assert lines[0].removeprefix(f"{name}:").strip()
    for part in ("grain: ", "inputs: "):
        assert [line for line in lines if line.startswith(part)], f"no {part}"


@pytest.mark.parametrize("name", QUERIES)
def test_the_header_names_every_table_that_is_read(name: str) -> None:
    tree = parse(engine.sql(name))
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    read = {table.name for table in tree.find_all(exp.Table)} - own
    said = "\n".join(header(name)).split("inputs:")[1]
    assert read
    for table in read:
        assert table in said


@pytest.mark.parametrize("name", QUERIES)
def test_the_header_names_every_parameter(name: str) -> None:
    said = " ".join(header(name))
    for node in parse(engine.sql(name)).find_all(exp.Placeholder, exp.Parameter):
        assert node.name
        assert node.name in said


@pytest.mark.parametrize("name", QUERIES)
def test_a_file_is_one_select_that_asks_for_columns_by_name(name: str) -> None:
    (statement,) = sqlglot.parse(engine.sql(name), read="duckdb")
    assert isinstance(statement, exp.Select)
    assert not any(isinstance(star.parent, exp.Select) for star in statement.find_all(exp.Star))


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_runs_on_spark(name: str) -> None:
    assert not_portable(engine.sql(name)) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT epoch_us(x) FROM t",
        "SELECT time_bucket(INTERVAL '1 hour', x) FROM t",
        "SELECT make_timestamptz(x) FROM t",
        "SELECT printf('%d', x) FROM t",
        "SELECT hash(x) FROM t",
        "SELECT date_trunc('hour', x) FROM t",
        "SELECT CAST(sum(x) AS HUGEINT) FROM t",
        "SELECT CAST(x AS UBIGINT) FROM t",
        "SELECT x FROM read_parquet('t.parquet')",
        "SELECT x FROM range(3) AS t(x)",
        "SELECT sum(x) FROM t GROUP BY ALL HAVING quantile_cont(x, 0.5) > 1",
    ],
)
def test_a_query_that_only_duckdb_runs_would_be_found(text: str) -> None:
    assert not_portable(text)


@pytest.mark.parametrize("name", QUERIES)
def test_a_division_is_of_whole_numbers_on_spark_too_unless_it_says_otherwise(name: str) -> None:
    carried = to_spark(engine.sql(name))
    for division in sqlglot.parse_one(carried, read="spark").find_all(exp.Div):
        numbers = [literal.name for literal in division.this.find_all(exp.Literal)]
        assert any(number.startswith(("1e", "1E")) for number in numbers), division.sql()


@pytest.mark.parametrize("name", QUERIES)
def test_the_order_of_nulls_is_the_same_on_spark(name: str) -> None:
    here = _orders(parse(engine.sql(name)))
    there = _orders(sqlglot.parse_one(to_spark(engine.sql(name)), read="spark"))
    assert here == there


def _orders(tree: exp.Expr) -> list[tuple[str, bool, bool]]:
    return [
        (term.this.name, bool(term.args.get("desc")), bool(term.args.get("nulls_first")))
        for term in tree.find_all(exp.Ordered)
    ]


MOMENT = pa.timestamp("us", tz="UTC")
PARAMETERS: dict[str, object] = {
    "seen_at": datetime(2024, 2, 29, tzinfo=UTC),
    "endpoint": "files",
}
"""By name; the others are numbers."""

HOMES = pa.schema([("day_number", pa.int64()), ("stands_on", pa.int64())])
EXTENTS = pa.schema([("day_number", pa.int64()), ("through", pa.int64())])

INPUTS: dict[str, dict[str, pa.Schema]] = {
    "usage_1m": {"raw_usage": RAW_USAGE.schema},
    **{
        f"{name}_{width}": {"narrower": DATASETS[f"{name}_1m"].schema}
        for name in ("usage", "observed")
        for width in ("1h", "1d")
    },
    **{
        name: {
            "seen": SEEN[name],
            "landed": DATASETS[name].schema,
            "disputed": pa.schema([("id", pa.string())]),
            "homes": HOMES,
        }
        for name in ("conversations", "responses")
    },
    "items": {
        **dict.fromkeys(("landed_items", "new_items"), DATASETS["items"].schema),
        "homes": HOMES,
    },
    "item_contents": {
        **dict.fromkeys(("landed_contents", "new_contents"), DATASETS["item_contents"].schema),
        "new_items": DATASETS["items"].schema,
    },
    "observed_1m": {
        "created_conversations": DATASETS["conversations"].schema,
        "conversations": DATASETS["conversations"].schema,
        "items": DATASETS["items"].schema,
        "extents": EXTENTS,
    },
    "tokens_1m": {"responses": DATASETS["responses"].schema, "extents": EXTENTS},
    "tokens_1h": {"narrower": DATASETS["tokens_1m"].schema},
    "tokens_1d": {"narrower": DATASETS["tokens_1h"].schema},
    "raw_meters": {
        "servings": SERVINGS,
        "served_rows": SERVED_METERS,
        "others": DATASETS["raw_meters"].schema,
    },
    "meters_1m": {"raw_meters": DATASETS["raw_meters"].schema},
    "meters_1h": {"narrower": DATASETS["meters_1m"].schema},
    "meters_1d": {"narrower": DATASETS["meters_1h"].schema},
    "meter_revisions": {
        **dict.fromkeys(("before", "after"), DATASETS["meters_1m"].schema),
        "revisions_before": DATASETS["meter_revisions"].schema,
    },
    "costs_1d": {"billed": DATASETS["costs_1d"].schema},
    "reconciliation": {
        **{
            name: DATASETS[name].schema
            for name in ("usage_1d", "observed_1d", "conversations", "items", "responses")
        },
        "visited": pa.schema(
            [("start_time", MOMENT), ("user_id", pa.string()), ("api_key_id", pa.string())]
        ),
        "final_days": pa.schema([("start_time", MOMENT)]),
        "shared": pa.schema([("id", pa.string())]),
        "dropped_responses": pa.schema([("id", pa.string()), ("conversation_id", pa.string())]),
        "lost": pa.schema([("id", pa.string())]),
    },
    "revisions": {
        "before": DATASETS["usage_1m"].schema,
        "after": DATASETS["usage_1m"].schema,
        "revisions_before": DATASETS["revisions"].schema,
    },
}
"""Each dataset's query and the tables that it reads."""


def query_of(dataset: str) -> str:
    """Hours and days are rolled up from narrower buckets."""
    family, _, width = dataset.rpartition("_")
    if width not in {"1h", "1d"} or family == "costs":
        return dataset
    return f"{family}_rollup" if family in {"tokens", "meters"} else "rollup"


def test_every_dataset_has_a_query_but_coverage_and_what_is_as_served() -> None:
    assert set(INPUTS) == set(DATASETS) - {"coverage", "raw_usage"}
    assert {query_of(name) for name in INPUTS} <= set(QUERIES)


def test_no_query_differs_from_another_in_a_name_only() -> None:
    """Names aside, and numbers: what is left is the shape of the query."""

    def shape(name: str) -> str:
        tree = parse(engine.sql(name)).transform(
            lambda node: exp.to_identifier("x") if isinstance(node, exp.Identifier) else node
        )
        for literal in tree.find_all(exp.Literal):
            literal.replace(exp.Literal.number(0))
        return tree.sql(dialect="duckdb", comments=False)

    by_shape: dict[str, list[str]] = {}
    for name in QUERIES:
        by_shape.setdefault(shape(name), []).append(name)
    assert [names for names in by_shape.values() if len(names) > 1] == []


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Apia"])
@pytest.mark.parametrize("name", INPUTS)
def test_results_have_the_contracts_types_to_the_letter(name: str, zone: str) -> None:
    text = engine.sql(query_of(name))
    tree = parse(text)
    params = {
        node.name: PARAMETERS.get(node.name, 1)
        for node in tree.find_all(exp.Placeholder, exp.Parameter)
    }
    with closing(engine.connect()) as con:
        for source, given in INPUTS[name].items():
            con.register(source, given.empty_table())
        con.execute(f"SET TimeZone = '{zone}'")
        result = con.sql(text, params=params or None)
        kinds, columns = [str(kind) for kind in result.types], result.columns
    expected = {"timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE", "int64": "BIGINT"}
    schema = DATASETS[name].schema
    if columns[-1] == "day_number":  # whose file a row is in
        columns, kinds = columns[:-1], kinds[:-1]
    assert columns == schema.names
    assert kinds == [expected.get(str(field.type), "VARCHAR") for field in schema]


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"])
def test_no_session_time_zone_has_a_say_in_a_bucket(zone: str) -> None:
    midnight = 1_709_164_800
    minutes = range(midnight - 86_400, midnight + 86_400, 60)
    for seconds in (3_600, 86_400):
        with closing(duckdb.connect(":memory:")) as con:
            con.execute(f"SET TimeZone = '{zone}'")
            con.register("narrower", _one_a_minute(minutes))
            rows = con.sql(
                "SELECT CAST(epoch(start_time) AS BIGINT), CAST(epoch(end_time) AS BIGINT), "
                f"num_operations FROM ({engine.sql('rollup')})",
                params={"seconds": seconds},
            ).fetchall()
        assert rows == [
            (start, start + seconds, seconds // 60)
            for start in range(minutes.start, minutes.stop, seconds)
        ]


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"])
def test_no_session_time_zone_has_a_say_in_what_is_observed(zone: str) -> None:
    midnight = 1_709_164_800
    rows = [{"id": "c", "created_at": midnight * 1_000_000 + 59_999_999}]
    created = pa.Table.from_pylist(rows, schema=DATASETS["conversations"].schema)
    with closing(duckdb.connect(":memory:")) as con:
        con.execute(f"SET TimeZone = '{zone}'")
        con.register("created_conversations", created)
        con.register("conversations", created)
        con.register("items", DATASETS["items"].schema.empty_table())
        query = f"SELECT CAST(epoch(start_time) AS BIGINT) FROM ({engine.sql('observed_1m')})"
        for through, expected in ((midnight + 60, [(midnight,)]), (midnight + 59, [])):
            day = {"day_number": [midnight // 86_400], "through": [through]}
            con.register("extents", pa.table(day))
            assert con.sql(query).fetchall() == expected


def _one_a_minute(starts: range) -> pa.Table:
    schema = DATASETS["usage_1m"].schema
    rows = [
        {"start_time": start * 1_000_000, "end_time": (start + 60) * 1_000_000, "num_operations": 1}
        for start in starts
    ]
    return pa.Table.from_pylist(rows, schema=schema)
