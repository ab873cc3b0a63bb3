"""A run of hours and days alone can have them rolled up by Spark: what it refuses, in one line.

`tests/on_spark` has runs that do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.schedules import JOB
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran


def by_spark(lab: Lab, assets: Sequence[str]) -> Ran:
    """A run of these assets over all days with the config that asks for Spark."""
    config = {"ops": {"load_usage": {"config": {"engine": "spark"}}}}
    result = (
        build_defs(lab.services)
        .resolve_job_def(JOB)
        .execute_in_process(
            instance=lab.instance,
            tags=range_tags(DAYS[0], DAYS[-1]),
            asset_selection=[dg.AssetKey(name) for name in assets],
            raise_on_error=False,
            run_config={**QUIET, **config},
        )
    )
    return Ran(result, lab.instance)


@pytest.mark.parametrize(
    ("assets", "said"),
    [
        (["usage_1h", "usage_1d"], "set MKA1_USAGE_CATALOG"),
        (["usage_1m", "usage_1h"], "select usage_1h and usage_1d alone"),
    ],
)
def test_a_run_that_spark_cant_do_fails_in_one_line(
    make_lab: MakeLab, assets: list[str], said: str
) -> None:
    ran = by_spark(make_lab(), assets)
    assert not ran.success
    (words,) = ran.failures
    assert said in words
    assert "\n" not in words
