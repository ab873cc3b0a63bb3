"""What the tests of forgetting share."""

from __future__ import annotations

import pytest


@pytest.fixture
def at_length(request: pytest.FixtureRequest) -> None:
    """Only with `--long`."""
    if not request.config.getoption("--long"):
        pytest.skip("only with --long")
