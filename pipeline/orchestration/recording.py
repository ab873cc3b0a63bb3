"""Notes what a step asked the API for, and how it ended, for `/metrics` of `mka1-usage serve`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from pipeline.orchestration.resources import Services
from pipeline.run_log import RunFigures, RunLog


@contextmanager
def recording(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, services: Services
) -> Iterator[None]:
    """Note the figures of the block as those of this run, however it ends."""
    started_at, before = time.time(), services.asked()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        after = services.asked()
        run = context.run
        figures = RunFigures(
            job=run.job_name,
            run_id=run.run_id,
            started_at=started_at,
            ended_at=time.time(),
            succeeded=succeeded,
            requests=after.requests - before.requests,
            retries=after.retries - before.retries,
            quota_answers=after.quota_answers - before.quota_answers,
        )
        try:
            RunLog(services.settings.home).add(figures)
        except (OSError, ValueError) as error:  # which is no reason to fail a run
            services.warn(f"the figures of this run are not kept for /metrics: {error}")
