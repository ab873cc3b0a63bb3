"""What an alert prints can be read, copied, and run."""

from __future__ import annotations

import shlex
from contextlib import closing

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.alerts.alert import Evaluation, Finding, equals, lasting, shown

IDS = st.text(st.characters(codec="utf-8"), max_size=60)


def finding(query: str = "from usage_1d") -> Finding:
    return Finding("spike", "warning", "u", 0, "much", query)


@pytest.mark.slow
@example("it's; drop table usage_1d; --\n")
@example('$(reboot) `reboot` \\ " !! %')
@example("\x1b[31m\u202eöäü\0漢")
@example("")
@given(IDS)
def test_any_id_is_found_by_its_condition_through_a_shell(identifier: str) -> None:
    command = finding(f"select count(*) from t where {equals('id', identifier)}").command
    assert command.isprintable()
    words = shlex.split(command)
    assert words[:2] == ["mka1-usage", "sql"]
    with closing(duckdb.connect(":memory:")) as con:
        con.execute("create table t (id varchar)")
        con.executemany("insert into t values (?)", [[identifier], [identifier + "x"], [None]])
        assert con.sql(words[2]).fetchall() == [(1,)]


def test_null_is_an_id_like_another() -> None:
    with closing(duckdb.connect(":memory:")) as con:
        con.execute("create table t as select unnest(['a', null]) as id")
        query = f"select count(*) from t where {equals('id', None)}"
        assert con.sql(query).fetchall() == [(1,)]


@given(IDS)
def test_an_id_is_shown_on_one_line_that_controls_no_terminal(identifier: str) -> None:
    assert shown(identifier, "user").isprintable()


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (None, "calls without a user"),
        ("u_42", "user u_42"),
        ("käthe", "user käthe"),
        ("a\nb", "user a\\nb"),
        ("x" * 81, f"user {'x' * 80}…"),
    ],
)
def test_an_id_in_a_sentence(identifier: str | None, expected: str) -> None:
    assert shown(identifier, "user") == expected


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("where id = 'a'", "mka1-usage sql \"where id = 'a'\""),
        ("where id = '$a'", "mka1-usage sql 'where id = '\"'\"'$a'\"'\"''"),
    ],
)
def test_a_command_as_one_would_type_it(query: str, command: str) -> None:
    assert finding(query).command == command


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 min"),
        (59, "0 min"),
        (60, "1 min"),
        (7_200, "2 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 day"),
        (86_400 * 2 + 3_600, "2 days 1 h"),
        (86_400 * 1_000, "1,000 days"),
    ],
)
def test_a_length_of_time_in_words(seconds: int, words: str) -> None:
    assert lasting(seconds) == words


def test_what_is_left_out_is_counted_and_what_cannot_be_read_is_an_error() -> None:
    assert Evaluation([finding()], 7).lines == [finding().line, "and 7 more"]
    assert Evaluation([finding()]).severity == "warning"
    assert Evaluation().severity is None
    broken = Evaluation(broken="can't be looked for: x")
    assert (broken.severity, broken.lines) == ("error", ["can't be looked for: x"])
