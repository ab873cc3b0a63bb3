"""Teams in exports: a dimension, and a number in each fact that joins it."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from pipeline.export.export import ExportError, export
from pipeline.lake.catalog import prices_of
from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from tests.named import names as names_of
from tests.names.people import SPENT, team


def test_facts_join_the_team_of_their_users_and_keys(home: Path, tmp_path: Path) -> None:
    names, lake = read_names(home / "names.csv"), Lake(home / "lake")
    export(lake, tmp_path, form="duckdb", names=names, prices=prices_of(home / "usage.duckdb"))
    with closing(duckdb.connect(str(tmp_path / "mka1_usage.duckdb"), read_only=True)) as con:
        teams = con.sql("SELECT team_id, team_name FROM dim_team ORDER BY team_key").fetchall()
        by_team = con.sql(
            "SELECT team_id, SUM(num_operations) FROM fact_usage JOIN dim_team USING (team_key) "
            "GROUP BY ALL"
        ).fetchall()
        tokens = con.sql(
            "SELECT team_id, SUM(total_tokens) FROM fact_tokens JOIN dim_team USING (team_key) "
            "GROUP BY ALL"
        ).fetchall()
    assert teams[0] == (None, "(no team)")
    assert {*teams[1:]} == {
        ("research", "Research (research)"),
        ("sales", "sales"),
        ("shop", "Research (shop)"),
    }
    wanted, wanted_tokens = Counter[str | None](), Counter[str | None]()
    for spent in SPENT:
        wanted[team(spent)] += spent.operations
        wanted_tokens[team(spent)] += spent.total
    assert {id_: int(n) for id_, n in by_team} == wanted
    assert {id_: int(n) for id_, n in tokens} == wanted_tokens
    said = (tmp_path / "DATA_DICTIONARY.md").read_text(encoding="utf-8")
    assert "## dim_team" in said
    assert "`team_key`" in said


def test_without_teams_there_is_no_column_and_no_table_of_them(home: Path, tmp_path: Path) -> None:
    exported = export(Lake(home / "lake"), tmp_path, names=names_of({"ada": "Ada"}))
    assert "dim_team" not in exported.rows
    columns = duckdb.read_parquet(str(tmp_path / "fact_usage.parquet")).columns
    assert "team_key" not in columns
    with pytest.raises(ExportError, match="there is no dim_team: nobody is in a team"):
        export(Lake(home / "lake"), tmp_path, ["dim_team"])
