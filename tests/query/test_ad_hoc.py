"""Ad-hoc SQL: any query over the tables, in every format, and nothing but queries."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from pipeline.emulator import Event, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.query import ad_hoc
from pipeline.timeline import Window, parse_time
from tests.fixtures_local import published_home

START = parse_time("2024-01-01")
FORMATS: list[ad_hoc.Format] = ["csv", "json", "parquet"]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
ODD = ['"', "a,b", "a\nb", "\\n", "'", "🦆", "ユーザー七", "\u202e", " ", "", "null", "\x01"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one made-up day, and what else a home holds to look for.

    Tests must leave it as it is: see `unchanged`.
    """
    folder = tmp_path_factory.mktemp("it's a [home]")
    (folder / "dagster").mkdir()
    for name in ("secret.txt", ".env", "dagster/storage.db"):
        (folder / name).write_text("planted")
    return published_home(folder, synthetic_world(days=1, users=15), Window(START, START + 86_400))


@pytest.fixture
def unchanged(home: Path) -> Iterator[None]:
    """No file of the home comes, goes or changes while the test runs."""

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}

    before = files()
    yield
    assert files() == before


def export(
    home: Path, query: str, form: ad_hoc.Format = "json", allowed: Sequence[Path] = ()
) -> bytes:
    out = BytesIO()
    ad_hoc.export(home / "usage.duckdb", Lake(home / "lake"), query, form, out, allowed)
    return out.getvalue()


def rows(home: Path, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(export(home, query))
    return found


def shown(
    home: Path,
    query: str,
    capsys: pytest.CaptureFixture[str],
    width: int = 200,
    allowed: Sequence[Path] = (),
) -> str:
    ad_hoc.show(home / "usage.duckdb", Lake(home / "lake"), query, width, allowed)
    return capsys.readouterr().out


# What can be asked


@pytest.mark.parametrize(
    "query",
    [
        "select 1 as n",
        "select 1 as n;",
        " select 1 as n ; ",
        "select 1 as n -- a comment",
        "select 1 as n; -- a comment; of some length",
        "/* first; */ select 1 as n /* last; */;",
        "from (values (1)) as one(n)",
        "values (1)",
        "with one as (select 1 as n) from one",
        "select 1 as ü;",
        "select length('a;b') - 2 as n;",
        'select 2 - 1 as "n;" -- \'',
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_query_may_end_in_semicolons_and_comments(home: Path, query: str) -> None:
    [row] = rows(home, query)
    assert list(row.values()) == [1]


@pytest.mark.parametrize(
    "query",
    [
        "describe usage_1d",
        "show tables",
        "summarize usage_1h",
        "pivot usage_1d on api_key_id using sum(num_operations) group by user_id",
        "table raw_usage",
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_what_is_a_query_by_another_name_is_one(
    home: Path, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in FORMATS:
        assert export(home, query, form)
    assert shown(home, query, capsys)


# On a terminal of 80 columns


@pytest.mark.parametrize(
    ("query", "stay", "hidden"),
    [
        (
            "select * from usage_1h order by num_operations desc limit 10",
            "start_time user_id api_key_id num_operations",
            "end_time, num_conversations_created, num_items_added, day",
        ),
        (
            "from coverage where dataset = 'usage_1d' limit 3",
            "dataset start_time status complete_through rows",
            "end_time, fetched_at, day",
        ),
    ],
    ids=["the first of the demo", "coverage"],
)
def test_a_narrow_table_has_the_columns_that_matter_and_names_the_others(
    home: Path, query: str, stay: str, hidden: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(home, query, capsys, width=80)
    assert re.findall(r"\w+", text.splitlines()[1]) == stay.split()
    below = re.sub(r" \([^()]* in all rows\)", "", " ".join(text.partition("└")[2].split()))
    assert f"more columns: {hidden}; --format csv shows all" in below
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "more column" not in shown(home, query, capsys)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_narrow_ranking_shows_by_what_it_ranks(
    home: Path, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(home, "from top_users(2, 7)", capsys, width=width)
    assert "num_operations" in text.splitlines()[1] or width == 40
    assert "…" not in text.splitlines()[1]
    assert max(map(cell_len, text.splitlines())) <= width


def test_what_is_the_same_in_all_rows_is_said_where_its_column_is_left_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(home, "select * from usage_1h where user_id = 'user_0000'", capsys, width=70)
    assert "day (2024-01-01 in all rows)" in " ".join(text.split())


def test_a_table_says_that_it_has_more_rows_than_it_counts(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "(>9999 rows, 20 shown)" in shown(home, "from range(20000)", capsys, width=80)
    assert ">9999 rows" not in shown(home, "from range(9999)", capsys, width=80)


@pytest.mark.usefixtures("unchanged")
def test_rows_come_in_the_order_that_was_asked_for(home: Path) -> None:
    found = [row["n"] for row in rows(home, "select range as n from range(300000) order by n desc")]
    assert found == list(reversed(range(300_000)))


@pytest.mark.usefixtures("unchanged")
def test_every_format_says_the_same_of_a_sum_a_time_a_text_and_a_null(home: Path) -> None:
    query = (
        "select sum(num_operations) as total, min(start_time) as first, "
        "max(user_id) as who, null as nothing from usage_1d"
    )
    [expected] = rows(home, "select sum(num_operations)::varchar t, max(user_id) w from usage_1d")
    total, who = int(expected["t"]), expected["w"]
    [as_json] = rows(home, query)
    [as_csv] = csv.DictReader(StringIO(export(home, query, "csv").decode()))
    [as_parquet] = pq.read_table(BytesIO(export(home, query, "parquet"))).to_pylist()
    assert total > 0
    assert [as_json["total"], int(as_csv["total"]), as_parquet["total"]] == [total] * 3
    assert [as_json["who"], as_csv["who"], as_parquet["who"]] == [who] * 3
    assert [as_json["nothing"], as_csv["nothing"], as_parquet["nothing"]] == [None, "", None]
    for text in (as_json["first"], as_csv["first"]):
        assert text == "2024-01-01 00:00:00"
    assert as_parquet["first"] == datetime(2024, 1, 1)  # noqa: DTZ001 (UTC, as the views have it)


@pytest.mark.usefixtures("unchanged")
def test_a_sum_is_exact_in_parquet_too_or_refused(home: Path) -> None:
    most = 2**63 - 1
    table = pq.read_table(BytesIO(export(home, f"select {most}::hugeint as a", "parquet")))
    assert table.to_pylist() == [{"a": most}]
    assert str(table.schema.field("a").type) == "int64"
    with pytest.raises(ad_hoc.QueryError, match="out of range"):
        export(home, f"select {most}::hugeint + 1 as a", "parquet")
    assert rows(home, f"select {most}::hugeint + 1 as a") == [{"a": most + 1}]


@pytest.mark.usefixtures("unchanged")
def test_two_columns_of_one_name_are_both_there(home: Path) -> None:
    for form in FORMATS:
        assert export(home, 'select 1::hugeint as "a""b", 2::hugeint as "a""b"', form)
    assert list(rows(home, "select 1 as a, 2 as a")[0].values()) == [1, 2]


@pytest.mark.usefixtures("unchanged")
def test_a_result_without_rows_is_a_result(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select user_id, num_operations from usage_1d where false"
    assert rows(home, query) == []
    assert export(home, query, "csv").decode() == "user_id,num_operations\n"
    assert pq.read_table(BytesIO(export(home, query, "parquet"))).num_rows == 0
    assert "0 rows" in shown(home, query, capsys)


@pytest.mark.parametrize("width", [20, 80, 140])
@pytest.mark.usefixtures("unchanged")
def test_a_table_is_no_wider_than_the_terminal(
    home: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    query = "select num_operations, api_key_id, repeat('x', 500) as long, * from usage_1m"
    table = shown(home, query, capsys, width)
    if width > 20:  # narrower than one column is no table
        assert max(map(len, table.splitlines())) <= width
    assert table


def test_ids_of_any_text_come_out_as_they_went_in(tmp_path: Path) -> None:
    codes = (code for code in range(1, 0x11_0000, 997) if not 0xD800 <= code < 0xE000)
    ids = sorted({*ODD, *map(chr, range(1, 256)), *(f"user {chr(code)}" for code in codes)})
    world = World.from_events([Event(START, user, "k", 0, 0, 1) for user in ids])
    home = published_home(tmp_path, world, Window(START, START + 60))
    query = "select user_id from usage_1d order by user_id"
    assert [row["user_id"] for row in rows(home, query)] == ids
    text = export(home, query, "csv").decode()
    as_text = [f"'{user}" if user.startswith(FORMULA) else user for user in ids]
    assert [row["user_id"] for row in csv.DictReader(StringIO(text, newline=""))] == as_text
    assert pq.read_table(BytesIO(export(home, query, "parquet"))).to_pydict() == {"user_id": ids}


# Formulas


ATTACKS = [
    *("=1+1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")', "+1+1", "-1+1", "@SUM(1)"),
    *("\t=1+1", "\r=1+1", "=", "-", '="a,b"\n', "\n=1+1", "\nx", "\r\nx"),
    *("＝1+1", "＋1", "－1", "＠SUM(1)", " =1+1", "  \t@x", "\u3000＝1", "\xa0-1", "\u2003+1"),
    *(
        "\u2028=1",
        "\x00=1",
        "\x01 @x",
        "\x7f-1",
        "\x0b=1",
        "\x85=1",
        "\ufeff=1",
        "\u200b=1",
        " \n ＠x",
    ),
]
HARMLESS = ["a=1", "'=1", " a=1", "1-1", "", "x\t=1", "a@b.example"]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose users and keys are called like formulas. Tests only read it."""
    events = [Event(START, user, user or None, 0, 0, 1) for user in [*ATTACKS, *HARMLESS]]
    folder = tmp_path_factory.mktemp("attacked")
    return published_home(folder, World.from_events(events), Window(START, START + 60))


def cells(text: bytes) -> list[list[str]]:
    """The header and the rows of a CSV, as a spreadsheet takes them apart."""
    return list(csv.reader(StringIO(text.decode(), newline="")))


def test_no_cell_of_a_csv_begins_like_a_formula(attacked: Path) -> None:
    query = "select user_id, api_key_id, -num_operations as n, -1.5 as d from usage_1d"
    _, *found = cells(export(attacked, query, "csv"))
    assert {user for user, *_ in found} == {*(f"'{attack}" for attack in ATTACKS), *HARMLESS}
    assert {key for _, key, *_ in found} == {user for user, *_ in found}
    assert {tuple(row[2:]) for row in found} == {("-1", "-1.5")}


def test_no_column_of_a_csv_is_called_like_a_formula(attacked: Path) -> None:
    query = "pivot usage_1d on user_id using sum(num_operations) group by start_time"
    header, row = cells(export(attacked, query, "csv"))
    assert {f"'{attack}" for attack in ATTACKS} <= {*header}
    assert len(header) == 1 + len(ATTACKS) + len(HARMLESS)
    assert not [name for name in header if name.lstrip().startswith(FORMULA)]
    assert {*row[1:]} == {"1"}, "numbers are numbers, whatever their column is called"


@pytest.mark.parametrize(
    "made",
    [
        "'{0}'::enum('{0}')",
        "union_value(it := '{0}')",
        "'{0}'::variant",
        "'{0}'::blob",
        "'{0}' collate nocase",
    ],
)
def test_text_of_any_type_is_inert_in_csv(home: Path, made: str) -> None:
    query = f"select {made.format('=1+1')} as a"
    assert cells(export(home, query, "csv")) == [["a"], ["'=1+1"]]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("-1", "-1"),
        ("-1::hugeint", "-1"),
        ("-1.50::decimal(9, 2)", "-1.50"),
        ("'-inf'::double", "-inf"),
        ("-interval 2 hours", "-02:00:00"),
        ("timestamptz '2024-01-01 00:00:00+00'", "2024-01-01 00:00:00+00"),
        ("['=1']", "['=1']"),
        ("{'=a': '=1'}", "{'=a': '=1'}"),
        ("null", ""),
    ],
)
def test_what_is_no_text_is_in_csv_as_it_is(home: Path, made: str, text: str) -> None:
    assert cells(export(home, f"select 1 as n, {made} as a", "csv")) == [["n", "a"], ["1", text]]


def test_json_and_parquet_have_texts_as_they_are(attacked: Path) -> None:
    query = 'select user_id as "=user" from usage_1d'
    expected = {*ATTACKS, *HARMLESS}
    assert {row["=user"] for row in rows(attacked, query)} == expected
    table = pq.read_table(BytesIO(export(attacked, query, "parquet")))
    assert set(table.column("=user").to_pylist()) == expected


# What can't


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "one query is wanted, 0 were given"),
        (" ; ", "one query is wanted, 0 were given"),
        ("-- only a comment", "one query is wanted, 0 were given"),
        ("select 1; select 2", "one query is wanted, 2 were given"),
        ("selec 1", 'syntax error at or near "selec"'),
        ("from usage_1y", "usage_1y"),
        ("select nothing from usage_1d", "nothing"),
        ("select 'open", "unterminated"),
        ("select 1 /* open", "unterminated"),
        ("select $1", "parameter"),
        ("select \udcff", "UTF-8"),
        ("from usage_1d) to '/tmp/x' --", "syntax error"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_what_is_no_query_is_refused_with_the_reason(
    home: Path, query: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in FORMATS:
        with pytest.raises(ad_hoc.QueryError) as refusal:
            export(home, query, form)
        assert complaint.lower() in str(refusal.value).lower()
    with pytest.raises(ad_hoc.QueryError) as refusal:
        shown(home, query, capsys)
    assert complaint.lower() in str(refusal.value).lower()


@pytest.mark.parametrize(
    "query",
    [
        "create table t (n int)",
        "create temp table t (n int)",
        "drop view usage_1d",
        "delete from usage_1d",
        "insert into usage_1d select * from usage_1d",
        "copy (select 1) to '{lake}/x.csv'",
        "copy (select 1) to '{lake}/usage_1d/day=2024-01-01/usage_1d.parquet'",
        "with x as (copy (select 1) to '{lake}/x.csv') select 1",
        "with x as materialized (copy (select 1) to '{lake}/x.csv') from x",
        "select * from query('with x as (copy (select 1) to ''{lake}/x.csv'') select 1')",
        "explain analyze copy (select 1) to '{lake}/x.csv'",
        "export database '{lake}/x'",
        "attach '{lake}/x.duckdb'",
        "attach '{lake}/x.duckdb' as x (read_only false)",
        "call enable_logging(storage = 'file', storage_path = '{lake}/logs')",
        "from enable_logging(storage = 'file', storage_path = '{lake}/logs')",
        "set enable_external_access = true",
        "reset lock_configuration",
        "set timezone = 'Asia/Tokyo'",
        "install httpfs",
        "load httpfs",
        "pragma enable_profiling",
        "checkpoint",
        "begin",
        "prepare q as select 1",
        "from enable_profiling(save_location = '{lake}/x.json')",
        "from read_duckdb('{lake}/x.duckdb', table_name = 't')",
        "from json_execute_serialized_sql(json_serialize_sql('copy (select 1) to ''{lake}/x'''))",
        "from create_external_resource('x')",
        "vacuum",
        "use memory",
        "attach ':memory:' as x",
        "detach usage",
        "import database '{lake}'",
        "create secret (type s3)",
        "create macro m() as 1",
        "call force_checkpoint()",
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_nothing_can_be_written(
    home: Path, mine: Path, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (home / "lake", mine):  # a folder that may be read is no folder to write to
        text = query.format(lake=str(folder).replace("'", "''"))
        with pytest.raises(ad_hoc.QueryError):
            export(home, text, allowed=[mine])
        with pytest.raises(ad_hoc.QueryError):
            shown(home, text, capsys, allowed=[mine])
    assert sorted(path.name for path in mine.iterdir()) == ["link.csv", "mine.csv", "mine.parquet"]


OUTSIDE = [
    "from read_text('/etc/passwd')",
    "from read_blob('/etc/passwd')",
    "from read_csv('/etc/passwd', sep = ':', header = false)",
    "from read_json('/etc/passwd')",
    "from read_ndjson_objects('/etc/passwd')",
    "from read_parquet('/etc/passwd')",
    "from parquet_metadata('/etc/passwd')",
    "from parquet_kv_metadata('/etc/passwd')",
    "from read_duckdb('/etc/passwd', table_name = 't')",
    "from sniff_csv('/etc/passwd')",
    "from '/etc/hosts.csv'",
    "from glob('/etc/*')",
    "from glob('/**')",
    "from glob('{lake}/../*')",
    "from read_text('/proc/self/environ')",
    "from read_text('/dev/stdin')",
    "from read_text('{lake}/../../../../../../../../etc/passwd')",
    "from read_text('{lake}/../secret.txt')",
    "from read_text('{lake}/usage_1d/../../secret.txt')",
    "from read_text('{lake}/./../secret.txt')",
    "from read_text('{lake}/' || '../secret.txt')",
    "from read_text('{lake}x/../secret.txt')",
    "from read_text('file://{lake}/../secret.txt')",
    "from read_text(['{lake}/x', '{home}/secret.txt'])",
    "from read_text('{home}/secret.txt')",
    "from read_text('{home}/.env')",
    "from read_text('{home}/dagster/storage.db')",
    "from sqlite_scan('{home}/dagster/storage.db', 'runs')",
    "from read_text('{mine}-not/secret.txt')",
    "from read_text('{mine}/../secret.txt')",
    "from '{mine}/link.csv'",
    "from '{mine}/*.csv'",
    "from read_text('{mine}/link.csv')",
    "from read_text('https://127.0.0.1:1/x')",
    "from read_text('s3://bucket/x')",
    "from duckdb_secrets()",
    "from duckdb_extensions()",
    "from sqlite_scan('/etc/passwd', 'x')",
    "select getenv('HOME')",
    "select * from query('select getenv(''HOME'')')",
]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own, with a link in it that points out of it, and a folder beside it whose
    name begins the same."""
    folder, beside = tmp_path / "it's [mine]", tmp_path / "it's [mine]-not"
    for new in (folder, beside):
        new.mkdir()
    for path in (tmp_path / "secret.txt", beside / "secret.txt"):
        path.write_text("planted")
    (folder / "mine.csv").write_text("api_key_id,team\nkey_web,sales\n")
    pq.write_table(pa.table({"team": ["sales"]}), folder / "mine.parquet")
    (folder / "link.csv").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.mark.parametrize("query", OUTSIDE)
@pytest.mark.parametrize("allows", [False, True])
def test_nothing_can_be_read_but_the_lake_and_what_is_allowed(
    home: Path, mine: Path, allows: bool, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"lake": home / "lake", "home": home, "mine": mine}
    text = query.format(**{name: str(it).replace("'", "''") for name, it in folders.items()})
    allowed = [mine] if allows else []
    with pytest.raises(ad_hoc.QueryError) as refused:
        export(home, text, allowed=allowed)
    assert "planted" not in str(refused.value)
    with pytest.raises(ad_hoc.QueryError):
        shown(home, text, capsys, allowed=allowed)


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet"])
def test_files_of_ones_own_are_read_beside_the_lake_where_that_is_allowed(
    home: Path, mine: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    path = str(mine / name).replace("'", "''")
    here = f"{mine.name}/{name}".replace("'", "''")
    for written in (path, here, f"./{here}"):
        query = f"select distinct team from usage_1d, '{written}'"
        with pytest.raises(ad_hoc.QueryError):
            export(home, query)
        for allowed in (mine, Path(mine.name)):
            found = json.loads(export(home, query, allowed=[allowed]))
            assert found == [{"team": "sales"}]


def test_a_lake_behind_a_link_is_the_lake(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "home"
    link.symlink_to(tmp_path / "elsewhere")
    world = World.from_events([Event(START, "u", "k", 0, 0, 1)])
    assert rows(published_home(link, world, Window(START, START + 60)), "from usage_1d")


def test_a_file_that_is_no_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "usage.duckdb").write_text("not a database at all")
    with pytest.raises(ad_hoc.QueryError, match=r"usage\.duckdb"):
        export(tmp_path, "select 1")


@pytest.mark.usefixtures("unchanged")
def test_a_result_that_fails_half_way_is_not_written_in_part(home: Path) -> None:
    out = BytesIO()
    query = "select if(range < 500000, 1, error('half way')) as n from range(1000000)"
    with pytest.raises(ad_hoc.QueryError, match="half way"):
        ad_hoc.export(home / "usage.duckdb", Lake(home / "lake"), query, "csv", out)
    assert out.getvalue() == b""


def test_a_table_shows_what_a_terminal_would_obey(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select chr(27) || '[31m' || chr(155) || chr(127) || chr(8238) || 'x' || chr(8) as a"
    text = shown(home, query, capsys)
    assert {char for char in text if unicodedata.category(char) in {"Cc", "Cf"}} == {"\n"}
    assert "\\u009b\\u007f\\u202ex" in text


def test_a_query_that_outgrows_memory_and_cannot_spill_says_so_in_one_line(home: Path) -> None:
    lake = Lake(home / "lake", memory=20_000_000)
    with pytest.raises(ad_hoc.QueryError) as refused:
        ad_hoc.export(
            home / "usage.duckdb",
            lake,
            "select list(range::varchar) from range(1000000)",
            "json",
            BytesIO(),
        )
    assert re.fullmatch(
        r"too little memory: queries may use \d\S+ MiB \(MKA1_USAGE_MEMORY\), and this takes more; "
        "give it more, or ask for less at once",
        str(refused.value),
    )
