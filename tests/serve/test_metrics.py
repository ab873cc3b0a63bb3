"""`/metrics` for Prometheus: the lake, the last runs, answer times, and nothing about people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipeline.lake.store import Lake
from pipeline.run_log import RunFigures, RunLog
from pipeline.serve.metrics import Metrics
from tests.alerts.history import START, History
from tests.serve.asking import END, KEYS, client, serving

DEPLOY: Final = Path(__file__).parents[2] / "docs" / "deploy"
PAGE: Final = (DEPLOY.parent / "metrics.md").read_text(encoding="utf-8")
RUN: Final = RunFigures("usage_job", "1", 100.0, 160.5, True, 14, 2, 1)
Samples = Mapping[tuple[str, str], float]
"""Values by name, and by the value of the label that tells samples apart."""


def samples(text: str) -> Samples:
    """The samples of a page."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(home: Path, now: float) -> Samples:
    """The metrics of a home at a moment."""
    content, _ = Metrics(Lake(home / "lake"), home, lambda: now).page("")
    return samples(content.decode())


def test_it_says_how_far_the_lake_is_and_what_is_known_of_its_days(home: Path) -> None:
    found = page(home, END + 7_200.0)
    assert found["mka1_usage_lake_readable", ""] == 1
    assert found["mka1_usage_complete_through_timestamp_seconds", ""] == END
    assert found["mka1_usage_loaded_through_timestamp_seconds", ""] == END
    assert found["mka1_usage_freshness_seconds", ""] == 7_200
    days = {label: value for (name, label), value in found.items() if name.endswith("_partitions")}
    assert set(days) == {"final", "provisional", "stale", "disputed", "missing"}
    assert sum(days.values()) == 4
    assert days["missing"] == 1


def test_where_nothing_is_loaded_nothing_is_said_of_time(tmp_path: Path) -> None:
    found = page(tmp_path, END)
    assert found["mka1_usage_lake_readable", ""] == 1
    assert not [name for name, _ in found if "through" in name or "freshness" in name]
    assert not [name for name, _ in found if "last_run" in name]


def test_a_lake_that_cannot_be_read_has_no_days_rather_than_none(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"no folder")
    found = page(tmp_path, END)
    assert found["mka1_usage_lake_readable", ""] == 0
    assert not [name for name, _ in found if "partitions" in name or "freshness" in name]


def test_a_damaged_file_is_counted(tmp_path: Path) -> None:
    history = History(days=2)
    history.daily(1)
    path = history.publish(tmp_path, catalog=False).files("usage_1d")[0]
    path.chmod(0o600)
    path.write_bytes(b"no Parquet")
    assert page(tmp_path, START)["mka1_usage_damaged_files", ""] == 1


def test_it_says_what_the_last_run_of_each_job_asked_for(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.add(RUN)
    log.add(RunFigures("refresh_job", "2", 200.0, 201.0, False, 3, 0, 0))
    found = page(tmp_path, END)
    assert {
        name.removeprefix("mka1_usage_last_run_"): value
        for (name, job), value in found.items()
        if job == "usage_job"
    } == {
        "start_timestamp_seconds": 100.0,
        "end_timestamp_seconds": 160.5,
        "success": 1,
        "requests": 14,
        "retries": 2,
        "quota_answers": 1,
    }
    assert found["mka1_usage_last_run_success", "refresh_job"] == 0


def test_answer_times_are_by_route_and_status_whatever_is_asked_for(http: httpx.Client) -> None:
    for path in ("/openapi.json", "/secret/user_0000", "/secret/user_0001", "/metrics"):
        http.get(path)
    text = http.get("/metrics").text
    counted = {
        label for name, label in samples(text) if name.endswith("answer_duration_seconds_count")
    }
    assert {"200,openapi", "404,none", "200,metrics"} <= counted
    assert "user_0000" not in text
    assert "secret" not in text


def test_it_is_for_those_who_may_ask_for_usage(home: Path) -> None:
    with serving(home, keys=KEYS[:1]) as server:
        with client(server.url) as stranger:
            refused = stranger.get("/metrics")
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        with client(server.url, KEYS[0]) as prometheus:
            answer = prometheus.get(
                "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
            )
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_without_keys_it_is_for_this_machine(http: httpx.Client) -> None:
    assert http.get("/metrics", headers={"Host": "usage.example"}).status_code == 400
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


# What is shipped for Prometheus and Grafana


@pytest.fixture(scope="module")
def names(home: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all samples that there can be."""
    folder = tmp_path_factory.mktemp("metrics")
    RunLog(folder).add(RUN)
    metrics = Metrics(Lake(home / "lake"), folder)
    metrics.answers.labels("usage", "200").observe(0.1)
    return {name for name, _ in samples(metrics.page("")[0].decode())} | {"up"}


def named(text: str) -> set[str]:
    """The metrics that a text names."""
    return set(re.findall(r"\b(?:mka1_usage|process)_[a-z0-9_]*[a-z0-9]", text))


def test_the_page_names_every_metric_and_no_other(names: set[str]) -> None:
    ours = {re.sub(r"_(count|sum|bucket|created)$", "", it) for it in names if "mka1_" in it}
    ours -= {"mka1_usage_last_run_end_timestamp_seconds"}  # written in short
    assert named(PAGE) == ours


def test_the_rules_are_about_metrics_that_there_are_and_say_what_helps(names: set[str]) -> None:
    content = (DEPLOY / "prometheus-rules.yaml").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(content)["groups"]
    for rule in group["rules"]:
        assert named(rule["expr"]) <= names, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "help"}
        assert rule["labels"]["severity"] in {"error", "warning"}
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])


def test_the_dashboard_is_about_metrics_that_there_are_and_its_panels_lie_side_by_side(
    names: set[str],
) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels: list[dict[str, Any]] = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(expressions) >= 15
    for expression in expressions:
        assert named(expression) <= names
        assert 'job="$job"' in expression
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
        assert one["x"] + one["w"] <= 24
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}
