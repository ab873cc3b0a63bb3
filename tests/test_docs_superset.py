"""The dashboard in docs/deploy/superset is imported by Superset, and shows what was exported.

Superset is in an environment of its own, as docs/bi.md says, and found by the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
import yaml

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.export.export import DATABASE, export
from pipeline.lake.store import Lake
from pipeline.timeline import day_of, day_range, parse_time
from tests.bounded import LONG, finished
from tests.documented import blocks
from tests.synced import Reader

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "deploy" / "superset"
PAGE: Final = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
SECTION: Final = PAGE.partition("\n## Superset\n")[2].partition("\n## ")[0]
DAYS: Final = list(day_range(day_of(parse_time("2024-01-01")), day_of(parse_time("2024-01-02"))))
CONFIG: Final = """\
SECRET_KEY = "not-a-secret-{secret}"
SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"
CONTENT_SECURITY_POLICY_WARNING = False
"""


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("home") / "lake")
    with EmulatorServer(synthetic_world(days=2, users=9)) as server:
        reader = Reader(server, lake, DAYS)
        reader.load()
    return lake


@pytest.fixture(scope="module")
def exported(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bi")
    export(lake, folder, form="duckdb")
    return folder / DATABASE


def test_the_dataset_has_the_columns_of_its_query_and_loses_no_call(exported: Path) -> None:
    dataset = read("datasets/mka1_usage/usage.yaml")
    with closing(duckdb.connect(str(exported), read_only=True)) as con:
        rows = con.sql(dataset["sql"])
        assert [column["column_name"] for column in dataset["columns"]] == rows.columns
        con.register("usage", rows.to_arrow_table())
        for metric in dataset["metrics"]:
            assert con.sql(f"SELECT {metric['expression']} FROM usage").fetchall()[0][0] > 0
        both = "SELECT sum(num_operations) FROM "
        assert con.sql(f"{both} usage").fetchall() == con.sql(f"{both} fact_usage").fetchall()


def test_charts_ask_for_what_the_dataset_has_and_the_dashboard_shows_each() -> None:
    dataset = read("datasets/mka1_usage/usage.yaml")
    columns = {column["column_name"] for column in dataset["columns"]}
    metrics = {metric["metric_name"] for metric in dataset["metrics"]}
    charts = [read(f"charts/{path.name}") for path in (FOLDER / "charts").glob("*.yaml")]
    for chart in charts:
        params: Mapping[str, Any] = chart["params"]
        by = {params["granularity_sqla"], *params.get("groupby", [])}
        assert by | {*params.get("groupbyRows", []), *params.get("groupbyColumns", [])} <= columns
        assert {params.get("metric"), *params.get("metrics", [])} - {None} <= metrics
        assert chart["dataset_uuid"] == dataset["uuid"]
    position = read("dashboards/mka1_usage.yaml")["position"]
    shown = [one["meta"]["uuid"] for name, one in position.items() if name.startswith("CHART-")]
    assert sorted(shown) == sorted(chart["uuid"] for chart in charts)


def test_the_page_and_the_file_say_the_same_uri_which_reads_no_other_file() -> None:
    uri = read("databases/mka1_usage.yaml")["sqlalchemy_uri"]
    assert uri in SECTION
    assert uri.endswith("?access_mode=read_only&enable_external_access=false")


@pytest.mark.timeout(1_800)
def test_superset_imports_the_dashboard_and_shows_what_was_exported(
    exported: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("Superset takes a minute to begin: --long starts it")
    found = shutil.which("superset")
    if found is None:
        pytest.skip("there is no `superset` here: docs/bi.md says how to install it")
    config = tmp_path / "superset_config.py"
    config.write_text(CONFIG.format(secret=uuid.uuid4().hex, database=tmp_path / "superset.db"))
    environment = {
        **{name: it for name, it in os.environ.items() if not name.startswith("MKA1")},
        "PATH": f"{Path(found).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SUPERSET_CONFIG_PATH": str(config),
        "FLASK_APP": "superset",
    }

    def run(*command: str) -> str:
        return finished(command, cwd=tmp_path, env=environment, seconds=LONG).stdout

    run(found, "db", "upgrade")
    who = ("--firstname", "a", "--lastname", "b", "--email", "a@example.org", "--password", "c")
    run(found, "fab", "create-admin", "--username", "admin", *who)
    run(found, "init")
    shutil.copytree(FOLDER, tmp_path / "docs" / "deploy" / "superset")
    [lines] = [block for block in blocks(SECTION, "console") if "import-dashboards" in block]
    commands = [line.removeprefix("$ ") for line in lines.splitlines()]
    for command in commands:
        run("bash", "-euc", command.replace("/srv/bi", str(exported.parent)))
    python = next(it for it in Path(found).parent.glob("python3*") if re.search(r"\d$", it.name))
    said = run(str(python), str(ROOT / "tests" / "superset_charts.py"))
    shown = json.loads(said.splitlines()[-1])
    with closing(duckdb.connect(str(exported), read_only=True)) as con:
        [(operations,)] = con.sql("SELECT sum(num_operations) FROM fact_usage").fetchall()
        [(users,)] = con.sql("SELECT count(*) FROM dim_user WHERE user_key > 0").fetchall()
    assert shown == {
        "dashboards": [["MKA1 usage", 5]],
        "charts": {
            "Active users": users,
            "Operations": operations,
            "Operations by day and API key": operations,
            "Operations by weekday and hour (UTC)": operations,
            "Who uses most": operations,
        },
        "reads_files": [False],
    }
