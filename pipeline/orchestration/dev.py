"""Dagster's page, daemon and code server as one child of this process: `dagster dev`.

Belongs here: starting it, waiting until its page shows the definitions, and ending it with all that
it has started. It is the leader of a process group of its own, so that a Ctrl-C at the terminal
reaches this process alone, and the whole group can be ended, runs included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
from filelock import FileLock, Timeout

from pipeline.lake.store import private_folder
from pipeline.listening import listen, port_of
from pipeline.orchestration import dev_process

HOST: Final = "127.0.0.1"
_PATIENCE: Final = 300.0
"""Seconds that the page may take to answer."""
_POLL: Final = 0.2
_GRACE: Final = 20.0
"""Seconds that Dagster and the runs in it have to end by themselves."""
_KEPT: Final = 30
"""Lines of what it writes that are kept, for when it ends by itself. None goes to a file: a run's
warnings may name users."""
_LOCK: Final = ".mka1-usage-dagster.lock"
_WORKSPACE: Final = """\
load_from:
  - python_module:
      module_name: pipeline.definitions
      location_name: mka1_usage
"""
"""As in the workspace.yaml files: Dagster remembers by this name which schedules are on."""
_LOADED: Final = """{
  workspaceOrError {
    ... on Workspace {
      locationEntries {
        loadStatus
        locationOrLoadError { __typename ... on PythonError { message } }
      }
    }
  }
}"""


class DagsterDevError(Exception):
    """It could not be started, or ended by itself. One line, or more with what it wrote last."""


class BusyError(Exception):
    """Another process shows the same folder. One line, with what to do."""


class DagsterDev:
    """A `dagster dev` that runs."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.url: Final = f"http://{HOST}:{port}"
        self._process = process
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_loaded(self) -> None:
        """Return when its page shows the definitions; DagsterDevError where it never will."""
        deadline = time.monotonic() + _PATIENCE
        with httpx.Client(trust_env=False, timeout=_PATIENCE) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise self._ended()
                with suppress(httpx.TransportError):
                    answer = client.post(f"{self.url}/graphql", json={"query": _LOADED})
                    if _shows_definitions(answer):
                        return
                time.sleep(_POLL)
        raise DagsterDevError(f"Dagster's page did not answer within {_PATIENCE:.0f} s: try again")

    def wait(self) -> None:
        """Wait for a signal; DagsterDevError if it ends before one comes."""
        while self._process.poll() is None:
            time.sleep(_POLL)
        raise self._ended()

    def end(self) -> None:
        """End it as Ctrl-C at its terminal would; kill what is left then, or at another Ctrl-C."""
        deadline = time.monotonic() + _GRACE
        with suppress(KeyboardInterrupt):
            self._send(signal.SIGINT)
            while self._send(0) and time.monotonic() < deadline:
                time.sleep(_POLL)
        self._send(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._reader.join(_POLL)

    def _send(self, number: int) -> bool:
        """Send a signal to the whole group; whether there was anybody to get it."""
        self._process.poll()  # a child that has ended counts until somebody asks
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _read(self) -> None:
        if (lines := self._process.stdout) is not None:
            with lines:
                self._said.extend(line.rstrip() for line in lines)

    def _ended(self) -> DagsterDevError:
        self._reader.join(_POLL)
        said = "".join(f"\n  {line}" for line in self._said)
        return DagsterDevError(
            f"Dagster ended by itself, with exit code {self._process.returncode}"
            + (f"; what it wrote last:{said}" if said else "")
        )


@contextmanager
def alone(dagster_home: Path) -> Iterator[None]:
    """While this lasts, nobody else shows this folder; BusyError where somebody does.

    A second daemon would start the runs of each schedule once more.
    """
    private_folder(dagster_home)
    lock = FileLock(dagster_home / _LOCK, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another `mka1-usage dagster` shows {dagster_home} already, and two would run each "
            "schedule twice: use its page, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def dagster_dev(environment: Mapping[str, str], folder: Path, port: int) -> Iterator[DagsterDev]:
    """Start `dagster dev` with this environment, from `folder`, whose `.env` it reads as well.

    The page is at `port` of this machine alone. On exit nothing of it is left.
    """
    with tempfile.TemporaryDirectory(prefix="mka1-usage-") as temporary:
        workspace = Path(temporary) / "workspace.yaml"
        workspace.write_text(_WORKSPACE, encoding="utf-8")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", dev_process.__name__),
                *("dev", "--workspace", str(workspace)),
                *("--host", HOST, "--port", str(port)),
                *("--log-level", "warning", "--code-server-log-level", "warning"),
            ],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        dev = DagsterDev(process, port)
        try:
            yield dev
        finally:
            dev.end()


def _shows_definitions(answer: httpx.Response) -> bool:
    """Whether all is loaded; DagsterDevError where it can't be."""
    if answer.is_error:
        return False
    entries = answer.json()["data"]["workspaceOrError"].get("locationEntries", [])
    for entry in entries:
        if (found := entry["locationOrLoadError"]) and found["__typename"] == "PythonError":
            reason = " ".join(found["message"].split())
            raise DagsterDevError(f"Dagster can't load the definitions: {reason}")
    return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)


def free_port(port: int) -> int:
    """The port, or any that is free for 0. OSError, with what to do, where it is taken."""
    with closing(listen(HOST, port)) as listening:
        return port_of(listening)
