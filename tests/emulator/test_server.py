"""The server's own promises: loopback only, ready on entry, gone on exit, quiet, independent."""

import ast
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest

import pipeline.emulator
from pipeline.emulator import EmulatorServer
from tests.bounded import LIMIT, started

Serve = Callable[..., EmulatorServer]
USAGE = "/api/v1/llm/usage/conversations?start_time=0&end_time=60&bucket_width=1m"


def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(url, headers=headers, verify=False)


def authorised(server: EmulatorServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key}"}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", "", "10.0.0.1"])
def test_it_serves_nothing_but_loopback(host: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        EmulatorServer(host=host)


def test_it_is_ready_on_entry_and_gone_on_exit() -> None:
    threads = threading.active_count()
    with EmulatorServer(host="localhost") as server:
        assert get(server.base_url + USAGE, headers=authorised(server)).status_code == 200
        port = int(server.base_url.rpartition(":")[2])
    assert threading.active_count() == threads
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_ends_while_a_client_keeps_its_connection() -> None:
    with httpx.Client(verify=False) as http:
        with EmulatorServer() as server:
            assert http.get(server.base_url + USAGE, headers=authorised(server)).is_success
        with EmulatorServer(port=int(server.base_url.rpartition(":")[2])) as server:
            assert http.get(server.base_url + USAGE, headers=authorised(server)).is_success


def test_a_port_that_is_taken_is_named(serve: Serve) -> None:
    port = int(serve().base_url.rpartition(":")[2])
    for start in (
        lambda: EmulatorServer(port=port).__enter__(),
        lambda: EmulatorServer(port=port).run(),
    ):
        with pytest.raises(OSError, match=f"port {port} on 127.0.0.1 is in use"):
            start()


def test_servers_do_not_share_their_worlds(serve: Serve) -> None:
    first, second = serve(), serve()
    first.world.create_conversation(0, None, "key_web")
    for server, expected in ((first, 1), (second, 0)):
        url = server.base_url + "/api/v1/llm/conversations"
        assert len(get(url, headers=authorised(server)).json()["data"]) == expected


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic emulator-key-web", "emulator-key-web"],
)
@pytest.mark.parametrize("path", [USAGE, "/api/v1/llm/conversations", "/api/v1/llm/responses"])
def test_a_missing_or_wrong_key_is_a_401(
    serve: Serve, authorization: str | None, path: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = get(serve().base_url + path, headers=headers)
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("DELETE", "/api/v1/llm/responses", 405)]
)
def test_what_is_not_served_is_an_error_in_json(
    serve: Serve, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, serve().base_url + path, verify=False)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_requests_are_logged_as_they_were_sent(serve: Serve) -> None:
    server = serve()
    get(server.base_url + "/api/v1/llm/conversations?after=%2B%20x", headers=authorised(server))
    get(server.base_url + "/api/v1/llm/conversations/a%2Fb/items")
    assert server.requests == [
        ("GET", "/api/v1/llm/conversations?after=%2B%20x", 400),
        ("GET", "/api/v1/llm/conversations/a%2Fb/items", 401),
    ]


def test_it_is_quiet(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with EmulatorServer() as server:
        get(server.base_url + USAGE, headers=authorised(server))
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("uvicorn").handlers


FOREVER = """
from pipeline.emulator import EmulatorServer
EmulatorServer().run(lambda address: print(address, flush=True))
print("ended")
"""


def test_serving_for_ever_ends_quietly_when_interrupted() -> None:
    command = [sys.executable, "-W", "error", "-c", FOREVER]
    with started(command, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        headers = {"Authorization": "Bearer emulator-key-web"}
        assert get(address + USAGE, headers=headers).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
        assert process.stdout.read() == "ended\n"
        assert process.stderr.read() == ""


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would hide where they lead"
            names.add(node.module or "")
    return names


def test_it_shares_no_code_with_what_it_tests() -> None:
    files = sorted(Path(pipeline.emulator.__file__).parent.glob("**/*.py"))
    assert len(files) > 10
    for file in files:
        names = imported(ast.parse(file.read_text(encoding="utf-8")))
        ours = {name for name in names if name.partition(".")[0] == "pipeline"}
        assert all(f"{name}.".startswith("pipeline.emulator.") for name in ours), file
        assert not {name.partition(".")[0] for name in names} & {
            "duckdb",
            "polars",
            "pyarrow",
            "pandas",
            "numpy",
            "dagster",
            "meetkai_mka1",
        }, file
