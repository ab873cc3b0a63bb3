"""What every test relies on: no account, no proxy, no settings of whoever runs them."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option of the suite."""
    parser.addoption(
        "--long",
        action="store_true",
        help="run tests/torture at full length, and the queries on Spark",
    )


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    for name in list(os.environ):
        ours = name.startswith(("MKA1_", "DAGSTER_", "SSL_CERT_")) or name == "SSLKEYLOGFILE"
        if ours or name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture
def unused_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
