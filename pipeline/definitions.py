"""The code location: everything that Dagster loads, put together in one place.

Belongs here: composition.
"""

from __future__ import annotations

import dagster as dg

from pipeline.assets.conversations import conversation_assets
from pipeline.assets.exporting import bi_export
from pipeline.assets.refresh import refresh_job
from pipeline.assets.reporting import report_job, usage_report
from pipeline.assets.usage import usage_assets
from pipeline.checks import check_against_api, check_reconciliation, check_tables
from pipeline.partitions import daily
from pipeline.resources import Workspace
from pipeline.schedules import (
    conversations_job,
    conversations_schedule,
    export_job,
    export_schedule,
    refresh_schedule,
    usage_job,
    usage_schedules,
)
from pipeline.watching import alerts_job, check_alerts, watch_alerts


def build_defs(workspace: Workspace | None = None) -> dg.Definitions:
    """All definitions, over `workspace` (by default: what the environment says).

    The first partition is the setting MKA1_USAGE_FIRST_DAY; no other setting is needed to load.
    """
    workspace = workspace or Workspace()
    partitions = daily(workspace.settings.first_day)
    return dg.Definitions(
        assets=[usage_assets(partitions), conversation_assets(partitions), bi_export, usage_report],
        asset_checks=[check_tables, check_against_api, check_reconciliation, check_alerts],
        jobs=[
            usage_job(),
            conversations_job(),
            export_job(),
            refresh_job,
            report_job(),
            alerts_job,
        ],
        schedules=[
            *usage_schedules(),
            conversations_schedule(),
            export_schedule(),
            refresh_schedule(),
        ],
        sensors=[watch_alerts],
        resources={"workspace": workspace},
        # Steps are few and short next to starting a process for each.
        executor=dg.in_process_executor,
    )


defs = build_defs()
