"""The dashboard in docs/deploy/superset is imported by Superset, and shows what was exported.

Superset is in an environment of its own, as docs/bi.md says, and found by the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
import yaml

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.export.export import DATABASE, export
from pipeline.lake.catalog import prices_of
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_of, parse_time
from tests.bounded import LONG, finished
from tests.documented import blocks
from tests.lake.served import Row
from tests.pricing.spent import START, Spent, spend
from tests.synced import Reader

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "deploy" / "superset"
PAGE: Final = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
SECTION: Final = PAGE.partition("\n## Superset\n")[2].partition("\n## ")[0]
CONFIG: Final = """\
SECRET_KEY = "not-a-secret-{secret}"
SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"
CONTENT_SECURITY_POLICY_WARNING = False
"""
HOUR: Final = 3_600
SPENT: Final = [
    Spent(START + 9 * HOUR, "ada", model="large", input=500, output=20, operations=3),
    Spent(START + 30 * HOUR, "eve", key=None, model="large", operations=2),
    Spent(START + 31 * HOUR, None, model="unpriced", input=None, output=None),
    Spent(START + 50 * HOUR, "ada", model="small", operations=7),
]
"""Three days, with every kind of nobody: no user, no key, no price."""


def bill(day: int, cost_nano: int, currency: str, **ids: str) -> Row:
    """A row of costs_1d."""
    row: Row = dict.fromkeys(("user_id", "api_key_id", "model", "team_id", "org_id"))
    start = START + day * DAY
    times = {"start_time": start, "end_time": start + DAY}
    return {**row, **times, "currency": currency, "cost_nano": cost_nano, **ids}


BILLS: Final = [
    bill(0, 12_300_000, "usd", user_id="ada", api_key_id="web", model="large"),
    bill(1, 5_000_000_000, "eur", user_id="only billed"),
]


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def read_all(kind: str) -> list[Any]:
    """The files of a kind, in order."""
    return [
        read(str(path.relative_to(FOLDER))) for path in sorted(FOLDER.glob(f"{kind}/**/*.yaml"))
    ]


DATASETS: Final = {one["table_name"]: one for one in read_all("datasets")}
CHARTS: Final = {one["slice_name"]: one for one in read_all("charts")}
SOURCES: Final = {
    **{"usage": "fact_usage", "tokens": "fact_tokens", "costs": "fact_costs"},
    "days": "dim_date",
}
"""What each dataset has all rows of."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The databases of a lake with tokens and bills (whole), and of one with usage alone (bare)."""
    homes = tmp_path_factory.mktemp("homes")
    price_list = "large,2024-01-01,usd,1,1,1,1\nsmall,2024-01-01,eur,2,2,2,2"
    whole = spend(homes / "whole", SPENT, tables={"costs_1d": BILLS}, prices=price_list)
    bare = Lake(homes / "bare" / "lake")
    with EmulatorServer(synthetic_world(days=1, users=9)) as server:
        Reader(server, bare, [day_of(parse_time("2024-01-01"))]).load()
    prices = prices_of(homes / "whole" / "usage.duckdb")
    for lake in (whole, bare):
        export(lake, lake.root.parent / "bi", form="duckdb", prices=prices)
    return {name: homes / name / "bi" / DATABASE for name in ("whole", "bare")}


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An export, with a view of each dataset of the dashboard."""
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        for name, dataset in DATASETS.items():
            con.execute(f"CREATE TEMP VIEW dataset_{name} AS {dataset['sql']}")
        yield con


def shown_by(chart: Any, con: duckdb.DuckDBPyConnection) -> float | None:
    """What `superset_charts` says of a chart, by its dataset's query alone."""
    params = chart["params"]
    [dataset] = [one for one in DATASETS.values() if one["uuid"] == chart["dataset_uuid"]]
    metrics = {one["metric_name"]: one["expression"] for one in dataset["metrics"]}
    source = f"dataset_{dataset['table_name']}"
    first = [*params.get("metrics", []), params.get("metric")][0]
    if first is None:
        return con.sql(f"FROM {source}").shape[0]
    by = ", ".join(grouping(params))
    query = f"SELECT {metrics[first]} AS it FROM {source} {f'GROUP BY {by}' if by else ''}"
    [(found,)] = con.sql(f"SELECT sum(it) FROM ({query})").fetchall()
    return None if found is None else round(float(found), 6)


def grouping(params: Mapping[str, Any]) -> list[str]:
    """The columns that a chart shows or groups by."""
    by = [params.get("x_axis"), params.get("groupby"), params.get("all_columns")]
    return [name for one in by if one for name in ([one] if isinstance(one, str) else one)]


@pytest.mark.parametrize("lake", ["whole", "bare"])
@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_the_columns_of_its_query_and_all_rows_of_its_table(
    name: str, lake: str, exports: Mapping[str, Path]
) -> None:
    dataset = DATASETS[name]
    with opened(exports[lake]) as con:
        rows = con.sql(f"FROM dataset_{name}")
        assert [column["column_name"] for column in dataset["columns"]] == rows.columns
        assert rows.shape[0] == con.sql(f"FROM {SOURCES[name]}").shape[0]
        for metric in dataset["metrics"]:
            con.sql(f"SELECT {metric['expression']} FROM dataset_{name}").fetchall()


def test_the_datasets_have_the_sums_of_what_was_spent(exports: Mapping[str, Path]) -> None:
    with opened(exports["whole"]) as con:
        shown = {name: shown_by(chart, con) for name, chart in CHARTS.items()}
    assert shown["Operations"] == 3 + 2 + 1 + 7
    assert shown["Active users"] == 2, "calls without a user are of nobody"
    assert shown["Tokens"] == shown["Tokens over time, by model"] == 520 + 2_000 + 2_000
    assert shown["Billed by user"] == shown["Billed over time, by currency"] == 5.0123
    assert shown["Days, newest first"] == shown["How many days are final"] == 3


def test_where_nothing_is_loaded_a_number_is_none_and_not_zero(exports: Mapping[str, Path]) -> None:
    with opened(exports["bare"]) as con:
        shown = {
            name: shown_by(chart, con)
            for name, chart in CHARTS.items()
            if chart["dataset_uuid"] in {DATASETS["tokens"]["uuid"], DATASETS["costs"]["uuid"]}
        }
        statuses = con.sql("SELECT DISTINCT usage_status, costs_status FROM dataset_days")
        assert statuses.fetchall() == [("final", "missing")]
    assert len(shown) == 11
    assert {*shown.values()} == {None}


def test_charts_ask_for_what_their_dataset_has_and_the_dashboard_shows_each() -> None:
    for chart in CHARTS.values():
        params: Mapping[str, Any] = chart["params"]
        [dataset] = [one for one in DATASETS.values() if one["uuid"] == chart["dataset_uuid"]]
        columns = {column["column_name"] for column in dataset["columns"]}
        metrics = {metric["metric_name"] for metric in dataset["metrics"]}
        assert {params["granularity_sqla"], *grouping(params)} <= columns
        asked = {params.get("metric"), params.get("timeseries_limit_metric")}
        assert {*asked, *params.get("metrics", [])} - {None} <= metrics
        assert params["viz_type"] == chart["viz_type"]
    dashboard = read("dashboards/mka1_usage.yaml")
    shown = {
        one["meta"]["uuid"]: one["meta"]["sliceName"]
        for name, one in dashboard["position"].items()
        if name.startswith("CHART-")
    }
    assert shown == {chart["uuid"]: name for name, chart in CHARTS.items()}
    filters = dashboard["metadata"]["native_filter_configuration"]
    targets = [target for one in filters for target in one["targets"] if "column" in target]
    assert len(targets) == 4
    for target in targets:
        [dataset] = [one for one in DATASETS.values() if one["uuid"] == target["datasetUuid"]]
        assert target["column"]["name"] in {one["column_name"] for one in dataset["columns"]}


def test_the_page_and_the_file_say_the_same_uri_which_reads_no_other_file() -> None:
    uri = read("databases/mka1_usage.yaml")["sqlalchemy_uri"]
    assert uri in SECTION
    assert uri.endswith("?access_mode=read_only&enable_external_access=false")


@pytest.mark.timeout(1_800)
def test_superset_imports_the_dashboard_and_shows_what_was_exported(
    exports: Mapping[str, Path], tmp_path: Path, request: pytest.FixtureRequest
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
    folder = tmp_path / "bi"
    folder.mkdir()
    [lines] = [block for block in blocks(SECTION, "console") if "import-dashboards" in block]
    commands = [line.removeprefix("$ ") for line in lines.splitlines()]
    for command in commands:
        run("bash", "-euc", command.replace("/srv/bi", str(folder)))
    python = next(it for it in Path(found).parent.glob("python3*") if re.search(r"\d$", it.name))
    for path in exports.values():  # as an export replaces the one before
        shutil.copy(path, folder / "new")
        (folder / "new").rename(folder / DATABASE)
        said = run(str(python), str(ROOT / "tests" / "superset_charts.py"))
        with opened(path) as con:
            assert json.loads(said.splitlines()[-1]) == {
                "dashboards": [["MKA1 usage", len(CHARTS)]],
                "charts": {name: shown_by(chart, con) for name, chart in CHARTS.items()},
                "reads_files": [False],
            }
