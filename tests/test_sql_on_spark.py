"""The queries in `sql/` answer on Spark what they answer on DuckDB: carried there, and run.

With `--long` only: Spark takes seconds for each. `test_sql.py` says without it what Spark lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("sqlglot", reason="queries are carried to Spark by the extra `spark`")

from pipeline.emulator import synthetic_world
from pipeline.export.keys import members
from pipeline.lake import engine
from pipeline.lake.buckets import MARGIN, ZONE, edges
from pipeline.names.file import read_names
from pipeline.pricing.prices import read_prices
from pipeline.spark.dialect import to_spark
from pipeline.timeline import DAY, Window, day_window
from pipeline.zones import offsets
from tests.fixtures_local import published_home
from tests.lake.served import Row, write_rows
from tests.named import write_names
from tests.pricing.spent import FIRST as FIRST_SPENT
from tests.pricing.spent import Spent, spend, write_prices
from tests.spark import needs_java, spark

pytestmark = [
    needs_java,
    # What Spark says of pandas, which it is not asked to use here.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support:FutureWarning"),
]

DAYS = 4
FIRST = day_window(date(2024, 3, 8))
WINDOW = Window(FIRST.start, FIRST.start + DAYS * DAY)
"""On the third day New York moves its clocks."""
TABLES = ("raw_usage", "usage_1m", "usage_1h", "usage_1d", "coverage")
NAMES = ("user,user_0000,Ada,research", "user,ada,Ada,research", "team,research,Research,")
ZONED = ("America/New_York", "Asia/Kolkata")

Answer = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def tables(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with the tables of four made-up days, a file each. Tests only add to it.

    Meanwhile the session's time zone is one that moves its clocks: it may have no say.
    """
    if not request.config.getoption("--long"):
        pytest.skip("Spark takes seconds for each query: --long runs them")
    spark().conf.set("spark.sql.session.timeZone", ZONED[0])
    folder = tmp_path_factory.mktemp("spark")
    world = synthetic_world(days=DAYS, users=12, start=WINDOW.start)
    home = published_home(folder, world, WINDOW)
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as con:
        for name in TABLES:
            save(folder, name, con.sql(f"FROM {name}").to_arrow_table())
        save(folder, "usage", con.sql("FROM usage_by('6h')").to_arrow_table())
        save(folder, "buckets", con.sql("FROM buckets_by('6h')").to_arrow_table())
        amounts = "SELECT start_time, user_id, api_key_id, num_operations AS amount FROM usage_1h"
        save(folder, "amounts", con.sql(amounts).to_arrow_table())
    save(folder, "names", read_names(write_names(folder, *NAMES)).table)
    save(folder, "narrower", pq.read_table(folder / "usage_1m.parquet"))
    starts = range(WINDOW.start, WINDOW.end, 6 * 3_600)
    flags = {"page": [0, 1], "by_user": [True, False], "by_key": [False, True]}
    save(folder, "pages", pa.table({**flags, "all_users": [False, True]}))
    save(
        folder,
        "page_buckets",
        pa.table(
            {"page": [0, 1] * len(starts), "bucket_start": [at for at in starts for _ in range(2)]}
        ),
    )
    save(folder, "page_users", pa.table({"page": [0], "user_id": ["user_0000"]}))
    save(folder, "usage_rows", pq.read_table(folder / "usage_1m.parquet"))
    yield folder
    spark().conf.set("spark.sql.session.timeZone", "UTC")


@pytest.fixture
def both(tables: Path) -> Iterator[tuple[Answer, Answer]]:
    """A query's answer from DuckDB, and from Spark, over the same files."""
    with answers(tables) as found:
        yield found


@contextmanager
def answers(folder: Path) -> Iterator[tuple[Answer, Answer]]:
    """The same over the tables of any folder."""
    with closing(engine.connect()) as con:

        def here(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
            for path in folder.glob("*.parquet"):
                con.execute(f"CREATE OR REPLACE TEMP VIEW {path.stem} AS FROM '{path}'")
            return [plain(row) for row in con.execute(engine.sql(name), parameters).fetchall()]

        def there(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
            for path in folder.glob("*.parquet"):
                spark().read.parquet(str(path)).createOrReplaceTempView(path.stem)
            return [
                plain(row) for row in spark().sql(to_spark(engine.sql(name)), parameters).collect()
            ]

        yield here, there


def save(folder: Path, name: str, table: pa.Table) -> None:
    """Times are UTC and say so, as in the files of the lake."""
    fields = [
        field.with_type(pa.timestamp("us", tz="UTC"))
        if pa.types.is_timestamp(field.type)
        else field
        for field in table.schema
    ]
    pq.write_table(table.cast(pa.schema(fields)), folder / f"{name}.parquet")


def plain(row: Any) -> tuple[Any, ...]:
    """Times as Unix seconds, whatever time zone they are told in."""
    return tuple(
        it.replace(tzinfo=it.tzinfo or UTC).timestamp() if isinstance(it, datetime) else it
        for it in row
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("usage_1m", {}),
        ("rollup", {"seconds": 3_600}),
        ("rollup", {"seconds": 86_400}),
        ("active_users", {}),
        ("period_over_period", {}),
        ("growth_by_user", {}),
        ("share", {"by": "user_id"}),
        ("share", {"by": "api_key_id"}),
        ("top", {"by": "user_id", "n": 5, "days": 2}),
        (
            "spikes",
            {
                **{"table_name": "usage_1h"},
                **{"first_start": WINDOW.end - DAY, "last_start": WINDOW.end},
                **{"days": 3, "least_days": 1, "times": 1, "at_least": 1},
            },
        ),
        ("members", {"by": "user_id"}),
        ("members", {"by": "api_key_id"}),
        ("team_of_usage", {}),
        ("member_names", {"kind": "user"}),
        ("member_names", {"kind": "key"}),
        ("team_names", {}),
        ("usage_page", {"by_user": True, "by_key": False}),
        ("usage_pages", {}),
    ],
)
def test_a_query_has_the_same_answer_on_spark(
    both: tuple[Answer, Answer], name: str, parameters: dict[str, Any]
) -> None:
    here, there = both
    expected = here(name, parameters)
    assert expected
    assert there(name, parameters) == expected


COSTS = (
    *(("model_days", "model_days"), ("price_of", "price_of"), ("cost_by", "computed_costs")),
    *(("metered_tokens", ""), ("costs_compared", "")),
    *(("amounts_by", "amounts"), ("budgets_used", "")),
)
"""Queries about money, and the table that others read of what each gives."""
SCOPES = ["all", "user", "user", "team"]


def amount_row(one: Spent) -> dict[str, object]:
    """A row of tokens as budgets count it."""
    moment = datetime.fromtimestamp(one.at, UTC)
    who = {"user_id": one.user, "api_key_id": one.key}
    amount = Decimal(one.total).quantize(Decimal("1e-15"), context=Context(prec=38))
    return {"start_time": moment, **who, "amount": amount, "num_unknown": 0}


@pytest.mark.parametrize("digits", [9, 17])
def test_costs_are_the_same_to_the_last_digit_on_spark(
    both: tuple[Answer, Answer], tables: Path, digits: int
) -> None:
    here, there = both
    many = int("9" * digits)
    start = WINDOW.start
    spent = [
        Spent(start + 60 * n, user, model=model, input=many - n, cached=7, output=many, reasoning=n)
        for n in range(20)
        for user, model in (("ada", "large"), ("bob", "a_b"), (None, None), ("bob", "axb"))
    ]
    rows: dict[str, list[Row]] = {
        "tokens_1m": [{"start_time": it.at, "end_time": it.at + 60, **it.row()} for it in spent],
        "meters_1m": [
            {"endpoint": "responses", "start_time": start, "measure": name, "value": many}
            for name in ("input_tokens", "output_tokens", "input_cached_tokens")
        ],
        "costs_1d": [
            {"start_time": start, "end_time": start + DAY, "user_id": "ada", "api_key_id": "web"}
            | {"model": "large", "currency": "USD", "cost_nano": many}
        ],
    }
    names = {"tokens_1m": "tokens_rows", "meters_1m": "meters", "costs_1d": "billed_costs"}
    for name, of in rows.items():
        write_rows(name, tables / f"{names[name]}.parquet", of)
    lines = "large,2024-01-01,usd,0.000000001,,999999999.999999999,7\na_*,2024-01-01,eur,1,2,3,4"
    save(tables, "prices", read_prices(write_prices(tables, lines)).table)
    save(tables, "edges", edges([Window(start, start + DAY)]))
    save(tables, "compared_days", edges([Window(start, start + DAY)]).select(["start_time"]))
    save(tables, "amount_rows", pa.Table.from_pylist([amount_row(it) for it in spent]))
    asked = edges([Window(start, start + DAY)] * 4)
    ids = ["", "ada", "bob", "research"]
    for name, values in {"number": [1, 2, 3, 4], "scope": SCOPES, "id": ids}.items():
        asked = asked.append_column(name, pa.array(values))
    save(tables, "asked", asked)
    for name, saved_as in COSTS:
        answer = here(name, {})
        assert answer
        assert there(name, {}) == answer
        if saved_as:
            with closing(engine.connect()) as con:
                for path in tables.glob("*.parquet"):
                    con.execute(f"CREATE OR REPLACE TEMP VIEW {path.stem} AS FROM '{path}'")
                save(tables, saved_as, con.sql(engine.sql(name)).to_arrow_table())


def test_tokens_are_the_same_on_spark(tables: Path, tmp_path: Path) -> None:
    start = day_window(FIRST_SPENT).start
    spent = [
        Spent(start + 60 * n, user, model=model, input=n * n, cached=7, output=n)
        for n in range(20, 4_000, 300)
        for user, model in (("ada", "large"), ("bob", "small"), (None, None))
    ]
    ids = {"user_id": "ada", "api_key_id": "web", "model": "large", "currency": "usd"}
    bills: list[Row] = [
        {"start_time": start, "end_time": start + DAY, "cost_nano": nano, **ids, "team_id": team}
        for team, nano in (("blue", 12_300_000_007), ("red", -1))
    ]
    home = tables.parent / "spent"
    spend(home, spent, tables={"costs_1d": bills}, prices="large,2024-01-01,usd,2.123456789,1,7,")
    queries = {
        **{name: f"FROM {name}" for name in ("usage_1h", "tokens_1h", "tokens_1d", "costs_1d")},
        **{"coverage": "FROM coverage", "tokens": "FROM tokens_by('1d')"},
        "costs": "FROM cost_by('1h')",
        "counted": "SELECT * REPLACE (CASE WHEN day = DATE '2024-04-01' THEN num_responses ELSE 0 "
        "END AS num_failed) FROM tokens_1h",
    }
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as con:
        for name, query in queries.items():
            save(tmp_path, name, con.sql(query).to_arrow_table())
    for name, of in (("users", ["ada", "bob"]), ("api_keys", ["web"]), ("models", ["large"])):
        save(tmp_path, name, members(pl.Series(of), {}, "none").to_arrow())
    save(tmp_path, "members", members(pl.Series(["large", "small"]), {}, "none").to_arrow())
    asked: dict[str, dict[str, Any]] = {
        **{"top_tokens": {"n": 2, "days": 2}, "failures_by_model": {}},
        **{
            "fact_tokens": {},
            "fact_costs": {},
            "focus_costs": {},
            "export_ids": {"by": "model"},
            "dim_member": {"by": "model"},
        },
        "alert_costs": {"currency": "usd"},
        "alert_failures": {
            **{"judged_start": start + 60 * 3_600, "days": 3, "least_days": 1, "times": 3},
            **{"least_percent": 20, "least_failed": 1},
        },
    }
    with answers(tmp_path) as (here, there):
        for name, parameters in asked.items():
            answer = here(name, parameters)
            assert answer, name
            assert sorted(there(name, parameters), key=repr) == sorted(answer, key=repr), name


@pytest.mark.parametrize("tz", ZONED)
def test_buckets_of_any_width_and_zone_are_the_same_on_spark(
    both: tuple[Answer, Answer], tables: Path, tz: str
) -> None:
    here, there = both
    known = offsets(tz, Window(WINDOW.start - MARGIN, WINDOW.end + MARGIN))
    rows = [(it.start, it.end, it.seconds, it.before) for it in known]
    save(
        tables,
        "zone",
        pa.Table.from_pylist(
            [dict(zip(ZONE.names, row, strict=True)) for row in rows], schema=ZONE
        ),
    )
    save(tables, "span", edges([WINDOW]))
    for width in ("1h", "6h", "1w"):
        buckets = here("bucket_edges", {"width": width})
        assert there("bucket_edges", {"width": width}) == buckets
        save(tables, "edges", edges([Window(int(start), int(end)) for start, end in buckets]))
        assert there("usage_by", {}) == here("usage_by", {})
        assert there("peaks_by_key", {}) == here("peaks_by_key", {})
        of_usage = {"table_name": "usage_1m"}
        assert there("buckets", of_usage) == here("buckets", of_usage)
