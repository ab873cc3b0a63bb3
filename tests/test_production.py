"""`docs/operations.md` keeps its word, and the files that it shows fit each other and the package.

The commands from its section "Services" on are run here, in their order. Those that need root or a
container engine (```console) can't be: what they name is held against the files. No Postgres is
needed.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, Final

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef
from dagster_postgres.storage import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.settings import Settings, load_settings
from pipeline.timeline import day_of, day_range, parse_time
from tests import bounded
from tests.documented import blocks, pasted
from tests.truth import load

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "docs" / "deploy"
SYSTEMD: Final = DEPLOY / "systemd"
PAGE: Final = (
    (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("\n## Services\n")[2]
)
BIN: Final = Path(sys.executable).parent
DAYS: Final = list(day_range(day_of(parse_time("2024-01-01")), day_of(parse_time("2024-01-07"))))
INSTALLED: Final = "/opt/mka1-usage/bin/"
SOCKET: Final = "/run/mka1-usage/code.sock"


def lines(language: str) -> list[str]:
    """The lines of all fenced blocks of a language, in order."""
    return [line for block in blocks(PAGE, language) for line in block.splitlines()]


COMMANDS: Final = lines("bash")
BY_ROOT: Final = [line.removeprefix("# ") for line in lines("console") if line.startswith("# ")]
BY_ENGINE: Final = [line.removeprefix("$ ") for line in lines("console") if line.startswith("$ ")]


@dataclass(frozen=True, slots=True)
class Done:
    """A folder in which every command of the page has been run, and what each printed."""

    folder: Path
    said: Mapping[str, str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("production")
    shutil.copy(ROOT / "workspace.yaml", folder)
    (folder / "data" / "dagster").mkdir(parents=True)
    lake = Lake(folder / "data" / "lake")
    with EmulatorServer(synthetic_world(users=10)) as server:
        load(server, lake, DAYS)
        build_catalog(lake, folder / "data" / "usage.duckdb")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MKA1")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "DAGSTER_HOME": str(folder / "data" / "dagster"),
            "MKA1_BASE_URL": server.base_url,
            "MKA1_API_KEY": server.api_key,
            "MKA1_USAGE_REQUESTS_PER_SECOND": "10000",
        }
        said: dict[str, str] = {}
        for command in COMMANDS:
            ended = pasted(command, folder, environment)
            said[command] = ended.stdout + ended.stderr
            assert ended.returncode == 0, (command, said[command])
    return Done(folder, said)


@pytest.mark.slow  # every command of the page, each in a process
def test_the_schedules_that_are_named_are_on(done: Done) -> None:
    started = [line.split()[-1] for line in COMMANDS if " schedule start " in line]
    with dg.DagsterInstance.from_config(str(done.folder / "data" / "dagster")) as instance:
        on = {state.name for state in instance.all_instigator_state() if state.is_running}
    assert on == set(started)
    assert len(on) == 2


@pytest.mark.slow
def test_what_is_restored_is_what_was_backed_up(done: Done) -> None:
    def content(home: Path) -> dict[str, bytes]:
        files = (home / "lake").rglob("*.parquet")
        return {str(path.relative_to(home)): path.read_bytes() for path in files}

    before, after = content(done.folder / "data"), content(done.folder / "restored")
    assert before.keys() <= after.keys()
    restated = re.compile(r"2024-01-07|usage_1d|coverage|\.versions")  # the day that was run again
    for name, read in before.items():
        if not restated.search(name):
            assert after[name] == read
    verified = next(
        said for line, said in done.said.items() if line.startswith("MKA1") and "verify" in line
    )
    assert "all are as they were published" in verified
    links = list((done.folder / "restored" / "lake" / "days").iterdir())
    assert len(links) == 7
    assert all(link.is_symlink() for link in links)


# dagster.yaml and workspace.yaml


def environment_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


ENVIRONMENT: Final = environment_of((DEPLOY / "mka1-usage.env").read_text(encoding="utf-8"))


def test_the_database_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value or "hush/hush")
    storage = InstanceRef.from_dir(str(DEPLOY)).storage_data
    assert storage is not None
    assert storage.class_name == DagsterPostgresStorage.__name__
    config = process_config(DagsterPostgresStorage.config_type(), storage.config_dict)
    assert config.success
    engine = sqlalchemy.create_engine(pg_url_from_config(config.value or {}))
    assert engine.dialect.driver == "psycopg2"
    url = engine.url
    assert (url.host, url.port, url.database) == ("127.0.0.1", 5432, "dagster")
    assert (url.username, url.password) == ("dagster", "hush/hush")


def test_every_variable_that_a_file_asks_for_is_in_the_environment_file() -> None:
    asked = re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))
    assert sorted(asked) == sorted(name for name in ENVIRONMENT if name.startswith("DAGSTER_"))
    for path in DEPLOY.glob("compose*.yaml"):
        asked = re.findall(r"\$\{(\w+)", path.read_text(encoding="utf-8"))
        assert set(asked) <= set(ENVIRONMENT), path
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    named = {*ENVIRONMENT, *compose("shared")["services"]["code"]["environment"], *POD["env"]}
    assert {name for name in named if name.startswith("MKA1_")} <= settings
    assert not any(value for name, value in ENVIRONMENT.items() if "KEY" in name)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that dagster.yaml makes, with SQLite in place of Postgres."""
    config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))
    del config["storage"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_runs_take_turns_and_dead_ones_are_found_and_started_again(
    instance: dg.DagsterInstance,
) -> None:
    limits = instance.get_concurrency_config()
    assert limits.pool_config.default_pool_limit == 1
    assert limits.pool_config.pool_granularity is not None
    assert limits.pool_config.pool_granularity.value == "run"
    assert limits.run_queue_config is not None
    assert limits.run_queue_config.max_concurrent_runs == 4
    assert instance.run_monitoring_enabled
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert not instance.run_retries_retry_on_asset_or_op_failure
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


def test_the_location_has_the_name_that_it_has_in_development() -> None:
    def names(path: Path) -> list[str]:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))["load_from"]
        return [each["location_name"] for one in loaded for each in one.values()]

    assert names(DEPLOY / "workspace.yaml") == names(ROOT / "workspace.yaml")


# systemd


class AsWritten(configparser.ConfigParser):
    """Names keep their capitals."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(path: Path) -> configparser.ConfigParser:
    parser = AsWritten(strict=False, interpolation=None)
    parser.read(path, encoding="utf-8")
    return parser


UNITS: Final = {path.stem: unit(path) for path in sorted(SYSTEMD.glob("*.service"))}
COMMON: Final = (SYSTEMD / "mka1-usage-.service.d" / "common.conf").read_text(encoding="utf-8")
CODE: Final = UNITS["mka1-usage-code"]["Service"]["ExecStart"]


def of_yaml(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return loaded


def compose(kind: str = "") -> dict[str, Any]:
    return of_yaml(f"compose.{kind}.yaml" if kind else "compose.yaml")


CHART: Final = of_yaml("kubernetes.yaml")
"""What the chart is given: its own schema is no part of any package, so it was checked by hand."""
[POD] = CHART["dagster-user-deployments"]["deployments"]
"""The code server, and the pod of each run, which gets the same."""


def started() -> dict[str, list[str]]:
    """Every command that a file starts, without the folder that it stands in."""
    found = {
        name: shlex.split(unit["Service"]["ExecStart"].removeprefix(INSTALLED))
        for name, unit in UNITS.items()
    }
    services = compose()["services"]
    found |= {name: of["command"] for name, of in services.items() if "command" in of}
    found["kubernetes"] = ["dagster", "api", "grpc", *POD["dagsterApiGrpcArgs"]]
    found |= {
        f"health of {name}": of["healthcheck"]["test"][1:]
        for name, of in services.items()
        if name != "postgres" and "healthcheck" in of
    }
    for kind in ("CMD", "HEALTHCHECK"):
        command = re.findall(rf"^{kind}[^\[]*(\[.*\])$", CONTAINERFILE, re.MULTILINE | re.DOTALL)
        found[kind] = json.loads(command[-1].splitlines()[0])
    return found


CONTAINERFILE: Final = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")


def called(command: list[str]) -> tuple[tuple[str, ...], set[str]]:
    """The program with its subcommands, and the options that it is given."""
    words = [word.partition("=")[0] for word in command]
    options = {word for word in words if word.startswith("--")}
    until = min((words.index(option) for option in options), default=len(words))
    return tuple(words[:until]), options


def programs() -> dict[tuple[str, ...], set[str]]:
    """Every program of the project's that is started somewhere, and all its options."""
    found: dict[tuple[str, ...], set[str]] = {}
    for command in started().values():
        program, options = called(command)
        if program[0] != "python":
            found.setdefault(program, set()).update(options)
    return found


@pytest.mark.parametrize("program", programs(), ids=" ".join)
def test_what_is_started_is_there_and_takes_these_options(
    program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (BIN / program[0]).is_file()
    [script] = entry_points(group="console_scripts", name=program[0])
    monkeypatch.setattr(sys, "argv", [*program, "--help"])
    monkeypatch.setattr(os, "umask", lambda _: None)  # this process goes on
    with pytest.raises(SystemExit) as ended:
        script.load()()
    assert ended.value.code == 0
    helped = capsys.readouterr().out
    for option in programs()[program]:
        assert re.search(rf"{option}\b", helped)


def test_a_container_runs_what_a_unit_runs() -> None:
    services = started()
    assert services["CMD"] == services["mka1-usage-code"]
    assert services["daemon"] == services["mka1-usage-daemon"]
    in_unit = " ".join(services["mka1-usage-webserver"]).replace("=", " ")
    in_container = " ".join(services["webserver"]).replace("=", " ")
    assert in_container.replace("0.0.0.0", "127.0.0.1") == in_unit


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # then what other tests read in them has to do
        return
    shutil.copytree(SYSTEMD, tmp_path, dirs_exist_ok=True)
    units = sorted(tmp_path.glob("*.service"))
    for path in units:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(INSTALLED, f"{BIN}/"), encoding="utf-8")
    verified = bounded.finished(
        [analyze, "verify", "--man=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        check=False,
    )
    ours = [line for line in verified.stderr.splitlines() if "mka1-usage" in line]
    assert (verified.returncode, ours) == (0, [])


@pytest.mark.parametrize(
    "line",
    [
        *("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"),
        *("CapabilityBoundingSet=", "UMask=0077", "User=mka1-usage", "StateDirectoryMode=0700"),
        *("RuntimeDirectoryMode=0700", "SystemCallErrorNumber=EPERM"),
    ],
)
def test_a_service_may_do_no_more_than_it_needs(line: str) -> None:
    assert line in COMMON.splitlines()


def test_the_folders_are_the_same_in_every_file() -> None:
    home, dagster = "/var/lib/mka1-usage", "/etc/mka1-usage"
    for text in (COMMON, CONTAINERFILE):
        assert f"MKA1_USAGE_HOME={home}" in text
        assert f"DAGSTER_HOME={dagster}" in text
    assert f"socket: {SOCKET}" in (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
    for command in (CODE, " ".join(started()["CMD"]), " ".join(started()["HEALTHCHECK"])):
        assert SOCKET in command
    volumes = compose()["services"]["code"]["volumes"]
    assert volumes == [f"home:{home}", f"run:{Path(SOCKET).parent}"]
    for name in ("daemon", "webserver"):
        assert f"{dagster}/workspace.yaml" in " ".join(started()[name])
        assert f"{dagster}/workspace.yaml" in " ".join(started()[f"mka1-usage-{name}"])


# Containers


def test_containers_are_closed_but_for_the_page_on_loopback() -> None:
    services = compose()["services"]
    ports = [port for of in services.values() for port in of.get("ports", [])]
    assert ports == ["127.0.0.1:3000:3000"]
    for name in ("code", "daemon", "webserver"):
        of = services[name]
        assert of["read_only"] is True
        assert of["cap_drop"] == ["ALL"]
        assert of["security_opt"] == ["no-new-privileges:true"]
    assert set(compose()["volumes"]) == {"home", "postgres", "run"}


def test_the_image_is_made_of_what_is_let_in_and_is_there() -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / path).exists() for path in copied)
    assert "USER 10001" in CONTAINERFILE
    assert "--require-hashes -r .ci/constraints-${PINS}.txt" in CONTAINERFILE
    pins = {"postgres", compose("shared")["services"]["code"]["build"]["args"]["PINS"]}
    assert "ARG PINS=postgres\n" in CONTAINERFILE
    assert {f".ci/constraints-{name}.txt" for name in pins} <= {*copied}
    bases = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
    assert bases == {"python:3.11-slim-bookworm"}


def test_what_is_pinned_for_production_is_what_is_tested() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / ".ci" / name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))

    plain, postgres, shared, tested = (
        pins(f"constraints{kind}.txt") for kind in ("", "-postgres", "-shared", "-test")
    )
    assert postgres.items() <= shared.items() <= tested.items()
    assert plain.items() <= postgres.items()
    assert postgres.keys() - plain.keys() == {"dagster-postgres", "psycopg2-binary"}
    lock = (ROOT / ".ci" / "lock").read_text(encoding="utf-8")
    made = re.findall(r"--output-file (\S+)", lock)
    assert sorted(made) == sorted(f".ci/{path.name}" for path in ROOT.glob(".ci/constraints*"))


# Workers side by side


def test_what_compose_adds_for_a_shared_lake_fits_what_it_is_added_to() -> None:
    shared, plain = compose("shared"), compose()
    assert set(shared["services"]) - set(plain["services"]) == {"s3"}
    code = shared["services"]["code"]
    storage = shared["services"]["s3"]
    bucket = code["environment"]["MKA1_USAGE_WAREHOUSE"].removeprefix("s3://").partition("/")[0]
    assert f"-bucket={bucket}" in storage["command"]
    assert set(code["depends_on"]) == {"s3"}
    assert "ports" not in storage
    catalog = code["environment"]["MKA1_USAGE_CATALOG"]
    given = dict.fromkeys(re.findall(r"\$\{(\w+)\}", catalog), "given")
    settings = load_settings(
        shared_catalog=re.sub(r"\$\{(\w+)\}", lambda it: given[it[1]], catalog),
        shared_warehouse=code["environment"]["MKA1_USAGE_WAREHOUSE"],
    )
    assert settings.shared_catalog is not None


def test_the_pool_of_the_cluster_is_as_large_as_its_workers(tmp_path: Path) -> None:
    config = CHART["additionalInstanceConfig"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        limits = instance.get_concurrency_config()
    pool = limits.pool_config
    assert str(pool.default_pool_limit) == POD["env"]["MKA1_USAGE_WORKERS"]
    assert pool.pool_granularity is not None
    assert pool.pool_granularity.value == "run"
    assert limits.run_queue_config is not None
    assert limits.run_queue_config.max_concurrent_runs > int(POD["env"]["MKA1_USAGE_WORKERS"])


def test_pods_write_nowhere_but_into_their_volumes_and_runs_get_the_same() -> None:
    assert POD["includeConfigInLaunchedRuns"] == {"enabled": True}
    places = {mount["name"]: mount["mountPath"] for mount in POD["volumeMounts"]}
    assert places == {"home": POD["env"]["MKA1_USAGE_HOME"], "tmp": "/tmp"}
    assert {volume["name"] for volume in POD["volumes"]} == set(places)
    assert all("emptyDir" in volume for volume in POD["volumes"])
    closed = POD["securityContext"]
    assert closed["readOnlyRootFilesystem"] is True
    assert f"USER {closed['runAsUser']}" in CONTAINERFILE
    assert f"MKA1_USAGE_HOME={places['home']}" in CONTAINERFILE
    assert not any("KEY" in name or "CATALOG" in name for name in POD["env"]), "it has a secret"
    assert POD["envSecrets"]


def test_the_chart_is_of_the_version_of_dagster_that_is_pinned() -> None:
    [line] = [line for line in BY_ENGINE if line.startswith("helm upgrade")]
    assert f"--version {version('dagster')} " in line
    assert "--values docs/deploy/kubernetes.yaml" in line
    started_by = [line for line in BY_ENGINE if "schedule start" in line]
    assert len(started_by) == 1


# What only root or an engine can run


def test_what_root_types_names_files_that_are_there_and_go_where_the_units_look() -> None:
    for line in [*BY_ROOT, *BY_ENGINE]:
        bounded.finished(["bash", "-n", "-c", line])
        for path in re.findall(r"(?<![\w/-])(?:docs|\.ci)/[\w./-]+", line):
            if not path.endswith("/.env"):  # it is what one of the lines makes
                assert (ROOT / path).exists(), path
    together = "\n".join(BY_ROOT)
    assert "/etc/mka1-usage/env" in together
    assert "EnvironmentFile=/etc/mka1-usage/env" in COMMON
    enabled = re.findall(r"enable --now (.*)", together)[0].split()
    assert set(enabled) == set(UNITS) - {"mka1-usage-doctor"}
    assert f"python3 -m venv {INSTALLED.removesuffix('/bin/')}" in together


@pytest.mark.slow
def test_the_code_server_starts_as_the_unit_says_and_is_found_by_the_workspace(
    tmp_path: Path,
) -> None:
    socket = tmp_path / "code.sock"
    services = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
    (tmp_path / "workspace.yaml").write_text(services.replace(SOCKET, str(socket)))
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DAGSTER_HOME": str(tmp_path),
        "MKA1_USAGE_HOME": str(tmp_path / "home"),
    }

    def ready(command: list[str]) -> list[str]:
        return [word.replace(SOCKET, str(socket)) for word in command]

    with bounded.started(
        ready(started()["mka1-usage-code"]),
        cwd=tmp_path,
        env=environment,
        stdout=PIPE,
        stderr=STDOUT,
    ) as process:
        assert process.stdout is not None
        bounded.read_until("Started Dagster code proxy server", process.stdout)
        for command in (
            ready(started()["HEALTHCHECK"]),
            ["dagster", "schedule", "list", "-w", str(tmp_path / "workspace.yaml")],
        ):
            asked = bounded.finished(command, cwd=tmp_path, env=environment)
        assert "hourly_trailing_window" in asked.stdout
