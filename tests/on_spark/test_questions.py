"""Questions to the shared lake, in the SQL of `usage.duckdb`: what is carried to Spark, and how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sqlglot", reason="questions to Spark need the extra `spark`")

from pipeline.lake.macros import MACROS
from pipeline.spark.connect import SparkError, connected, shown
from pipeline.spark.dialect import to_spark
from pipeline.spark.question import QuestionError, understood
from pipeline.spark.tables import as_read, as_written
from tests.fixtures_local import clean_environment, command

PAGE = Path(__file__).parent.parent.parent / "docs" / "spark.md"


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        ("SELECT to_timestamp(a)", "SELECT TIMESTAMP_SECONDS(a)"),
        ("SELECT epoch_us(a)", "SELECT UNIX_MICROS(a)"),
        ("SELECT make_timestamp(a)", "SELECT TIMESTAMP_MICROS(a)"),
        ("SELECT error('no')", "SELECT RAISE_ERROR('no')"),
        ("SELECT utc_now()", "SELECT NOW()"),
        ("SELECT TIMESTAMP '2024-01-05'", "SELECT CAST('2024-01-05' AS TIMESTAMP)"),
        ("FROM t ORDER BY a", "SELECT * FROM t ORDER BY a NULLS LAST"),
        # A WITH stays where it is: at the top, its name would hide a table.
        (
            "SELECT * FROM (WITH t AS (SELECT 1 AS a) SELECT a FROM t), t",
            "SELECT * FROM (WITH t AS (SELECT 1 AS a) SELECT a FROM t), t",
        ),
    ],
)
def test_what_duckdb_says_otherwise_is_said_as_spark_does(text: str, carried: str) -> None:
    assert to_spark(text) == carried


@pytest.mark.parametrize(
    ("text", "tables", "views"),
    [
        ("from usage_1d limit 5", {"usage_1d"}, 0),
        ("FROM users", {"users"}, 0),
        ("with usage_1h as (from usage_1d) from usage_1h;", {"usage_1d", "usage_1h"}, 0),
        ("from top_users(3)", {"usage_1d", "coverage"}, 1),
        ("from top_users(3) a join top_users(3) b using (place)", {"usage_1d", "coverage"}, 1),
        ("from usage_by('1d', tz := 'Asia/Karachi')", {"usage_1m", "coverage", "time_zones"}, 2),
        (
            "from cost_by(width := '1mo')",
            {"tokens_1m", "meters_1m", "coverage", "prices", "time_zones"},
            5,
        ),
    ],
)
def test_a_question_makes_views_of_what_it_reads_and_of_nothing_else(
    text: str, tables: set[str], views: int
) -> None:
    question = understood(text)
    assert question.tables == tables
    assert len(question.views) == views


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selec 1", "can't be read as SQL"),
        ("", "one query is wanted, 0 were given"),
        ("select 1; select 2", "one query is wanted, 2 were given"),
        ("delete from usage_1d", "DELETE is no query that Spark is asked"),
        ("drop view usage_1d", "DROP is no query"),
        ("with x as (delete from usage_1d returning *) from x", "WITH is no query"),
        ("copy usage_1d to 'x.csv'", "COPY is no query"),
        ("describe usage_1d", "DESCRIBE is no query"),
        (
            "from usage_2d",
            "usage_2d is none of the tables and macros that can be read here: usage_1d?",
        ),
        ("from 'secrets.parquet'", "is none of the tables"),
        ("from read_parquet('x')", "is none of the tables"),
        ("from other.usage_1d", "other.usage_1d is none of the tables"),
        ("select java_method('java.lang.System', 'exit', 1)", "java_method is refused"),
        ("from usage_by()", "width has no default, and is not given"),
        ("from usage_by('2d')", "width is '2d', which is none of 1m, 5m"),
        ("from usage_by('1d', tz := 'Mars')", "tz is 'Mars', which is none that is known"),
        ("from usage_by('1d', zone := 'UTC')", "usage_by takes width, tz, and not zone"),
        ("from top_users(1, 2, 3)", "top_users takes n, days, and not 3"),
        ("select * from usage_1d, top_users(num_operations)", "n has to be a value"),
    ],
)
def test_what_cant_be_asked_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(QuestionError, match=re.escape(said)) as refused:
        understood(text)
    assert "\n" not in str(refused.value)


def carried(name: str, arguments: str) -> bool:
    try:
        understood(f"from {name}({arguments})")
    except QuestionError:
        return False
    return True


@pytest.mark.slow
def test_the_page_names_the_macros_that_spark_lacks_and_no_other() -> None:
    lacking = {
        macro.name
        for macro in MACROS
        if not carried(macro.name, ", ".join("'1d'" for it in macro.parameters.values() if not it))
    }
    (said,) = re.findall(r"^Macros that Spark lacks: (.+)\.$", PAGE.read_text(), re.MULTILINE)
    assert {name.strip("`") for name in said.split(", ")} - {"none"} == lacking


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["from usage_1d", "--remote", "sc://here"], "--remote is for --engine spark"),
        (["from usage_1d", "--engine", "spark"], "or set MKA1_USAGE_SPARK_REMOTE"),
        (["from usage_1d", "--engine", "spark", "--allow", "."], "--allow is for --engine duckdb"),
        (["drop table x", "--engine", "spark", "--remote", "sc://here"], "DROP is no query"),
    ],
)
def test_a_question_that_spark_is_not_asked_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path)})
    ended = command(["sql", *args])
    assert ended.code == 2
    assert said in ended.err
    assert ended.out == b""


@pytest.mark.parametrize(
    "remote",
    ["localhost:15002", "sc://", "sc://host:port", "sc://host:0", "http://host", "sc://a/b"],
)
def test_a_url_that_is_no_server_is_refused_before_anything_is_asked(remote: str) -> None:
    with pytest.raises(SparkError, match="is no Spark Connect server"), connected(remote):
        pass


def test_a_servers_token_is_never_shown() -> None:
    assert shown("sc://host:15002/;token=secret;use_ssl=true") == "sc://host:15002"


def test_spark_reads_a_file_by_its_name_and_not_as_a_pattern() -> None:
    assert as_written("/srv/a b") == "file:///srv/a b"
    assert as_read("/srv/[1]/*.parquet") == r"file:///srv/\[1\]/\*.parquet"
    assert as_read("s3://bucket/day=2024-01-05/x") == "s3a://bucket/day=2024-01-05/x"
