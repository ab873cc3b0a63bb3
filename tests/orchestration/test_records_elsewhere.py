"""Wherever Dagster keeps its runs, no record of them names a person who was forgotten."""

from __future__ import annotations

from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from pipeline.forget import person_of
from pipeline.forget.leftovers import keeps_records_elsewhere
from pipeline.orchestration.instance import opened
from pipeline.orchestration.records_elsewhere import records_elsewhere
from tests.bounded import LONG
from tests.fixtures_local import clean_environment, command
from tests.forget.people import WHO, named_in
from tests.servers import postgres

SVG = b64encode(f"<svg><title>{WHO}</title></svg>".encode()).decode()


@dg.asset
def told() -> dg.MaterializeResult[None]:
    """A step that says the id in a log, in metadata, and in a picture."""
    dg.get_dagster_logger().info("most is of %s", WHO)
    chart = dg.MetadataValue.md(f"![x](data:image/svg+xml;base64,{SVG})")
    return dg.MaterializeResult(metadata={"who": WHO, "chart": chart})


def run(instance: dg.DagsterInstance) -> str:
    """Run it, with the id in a tag and as a partition; the run's id."""
    instance.add_dynamic_partitions("people", [WHO])
    done = dg.materialize([told], instance=instance, tags={"who": WHO})
    assert done.success
    return done.run_id


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which is that of the settings."""
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path / "home")})
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    return tmp_path / "home"


def test_what_dagster_yaml_does_not_name_is_below_its_home(tmp_path: Path) -> None:
    assert not keeps_records_elsewhere(tmp_path)
    config = tmp_path / "dagster.yaml"
    config.write_text("telemetry: {enabled: false} # storage:\n", encoding="utf-8")
    assert not keeps_records_elsewhere(tmp_path)
    for said in ("storage: {sqlite: {base_dir: x}}", "run_storage: {}", "telemetry: ["):
        config.write_text(said, encoding="utf-8")
        assert keeps_records_elsewhere(tmp_path)


@pytest.mark.slow
def test_another_folder_of_dagster_is_renamed_and_searched(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    config = home / "dagster" / "dagster.yaml"
    config.write_text(f"storage: {{sqlite: {{base_dir: {folder}}}}}\n", encoding="utf-8")
    with opened(home / "dagster") as instance:
        run(instance)
    assert named_in(folder)
    ended = command(["forget", WHO, "--yes"])
    assert (ended.code, ended.out) == (0, b"")
    assert str(folder) in ended.err
    assert named_in(folder) == []


def test_a_database_that_does_not_answer_leaves_all_as_it_is(home: Path, unused_port: int) -> None:
    pytest.importorskip("dagster_postgres", reason="Postgres needs the extra `postgres`")
    url = f"postgresql+psycopg2://tester@127.0.0.1:{unused_port}/postgres"
    config = home / "dagster" / "dagster.yaml"
    config.write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n", encoding="utf-8")
    ended = command(["forget", WHO, "--yes"])
    assert ended.code == 1
    assert "so nothing was changed: `mka1-usage doctor` says what to do" in ended.err
    assert not (home / "lake" / ".forgotten.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
@pytest.mark.timeout(LONG)
def test_in_postgres_no_row_names_them_and_runs_can_still_be_read(home: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="Postgres needs the extra `postgres`")
    with ExitStack() as servers:
        url = servers.enter_context(postgres()).replace("://", "+psycopg2://")
        config = home / "dagster" / "dagster.yaml"
        config.write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n", encoding="utf-8")
        with opened(home / "dagster") as instance:
            run_id = run(instance)
        with records_elsewhere(home / "dagster") as there:
            assert len(there.databases) == 3
            said = {row for one in there.databases for row in one.naming(person_of(WHO, None))}
        assert {row.partition(",")[0] for row in said} >= {
            *("runs", "run_tags", "event_logs", "asset_keys", "dynamic_partitions")
        }
        ended = command(["forget", WHO, "--yes"])
        assert (ended.code, ended.out) == (0, b"")
        assert "searching Dagster's database 127.0.0.1:" in ended.err
        with opened(home / "dagster") as instance:
            name = instance.get_dynamic_partitions("people")[0]
            assert name.startswith("forgotten_")
            record = instance.get_run_by_id(run_id)
            assert record is not None
            assert record.tags["who"] == name
            found = instance.get_latest_materialization_event(dg.AssetKey("told"))
            assert found is not None
            assert found.asset_materialization is not None
            assert found.asset_materialization.metadata["who"].value == name
            assert any(name in one.user_message for one in instance.all_logs(run_id))
