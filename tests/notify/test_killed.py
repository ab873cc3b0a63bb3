"""A process that is killed while it sends: the next one sends the same message, which says so."""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.alerts.history import History
from tests.bounded import finished, join, started

LONGEST = 120.0


@pytest.mark.slow  # processes
def test_a_message_that_was_under_way_is_sent_again_with_the_same_id(tmp_path: Path) -> None:
    history = History(days=8)
    history.daily(100)
    history.publish(tmp_path / "home", catalog=False)
    came, answer = threading.Event(), threading.Event()
    ids: list[str] = []
    titles: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ids.append(str(self.headers["webhook-id"]))
            titles.append(body["data"]["title"])
            came.set()
            answer.wait(LONGEST)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: it is no news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Nothing: who asked was killed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MKA1")},
            "MKA1_USAGE_HOME": str(tmp_path / "home"),
            "MKA1_USAGE_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/",
            "MKA1_USAGE_WEBHOOK_SECRET": "whsec_" + "QUJD" * 8,
        }
        program = [str(Path(sys.executable).parent / "mka1-usage"), "alerts", "--send"]
        try:
            with started(program, cwd=tmp_path, env=environment) as process:
                assert came.wait(LONGEST)
                process.kill()
            answer.set()
            again = finished(program, cwd=tmp_path, env=environment, check=False)
        finally:
            answer.set()
            server.shutdown()
            join(thread)
    assert len(ids) == 2
    assert len({*ids}) == len({*titles}) == 1
    assert "sent: 1 message to webhook" in again.stderr
