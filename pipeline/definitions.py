"""The code location: everything that Dagster loads, put together in one place."""

from __future__ import annotations

import dagster as dg

from pipeline.orchestration.alert_sensor import alerts_job, check_alerts, watch_alerts
from pipeline.orchestration.assets.conversations import conversation_assets
from pipeline.orchestration.assets.export import export_asset
from pipeline.orchestration.assets.meters import cost_assets, meter_assets
from pipeline.orchestration.assets.refresh import refresh_job
from pipeline.orchestration.assets.report import report_job, usage_report
from pipeline.orchestration.assets.usage import usage_assets
from pipeline.orchestration.checks import (
    check_against_api,
    check_costs,
    check_meters,
    check_meters_against_api,
    check_reconciliation,
    check_tables,
)
from pipeline.orchestration.digest import digest_job
from pipeline.orchestration.partitions import backfill_policy, daily
from pipeline.orchestration.resources import Services
from pipeline.orchestration.retention import retention_job
from pipeline.orchestration.schedules import (
    EXPIRING,
    SCHEDULES,
    conversations_job,
    expire_job,
    export_job,
    usage_job,
)


def build_defs(services: Services | None = None) -> dg.Definitions:
    """All definitions, over `services` (by default: what the environment says).

    The first partition is the setting MKA1_USAGE_FIRST_DAY; no other setting is needed to load.
    """
    services = services or Services()
    partitions = daily(services.settings.first_day)
    policy = backfill_policy(services.settings.days_per_run)
    assets = [
        usage_assets(partitions, policy),
        conversation_assets(partitions),
        export_asset(bills=services.has_bills),
        usage_report,
    ]
    checks = [check_tables, check_against_api, check_reconciliation, check_alerts]
    if services.feeds:
        assets.append(meter_assets(partitions, policy))
        checks += [check_meters, check_meters_against_api]
    if services.has_bills:
        assets.append(cost_assets(partitions, policy))
        checks.append(check_costs)
    shared = services.settings.shared_catalog is not None
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[
            *(usage_job, conversations_job, export_job, refresh_job, report_job, alerts_job),
            *(digest_job, retention_job),
            *([expire_job] if shared else []),
        ],
        schedules=[*SCHEDULES, *([EXPIRING] if shared else [])],
        sensors=[watch_alerts],
        resources={"services": services},
        # Steps are few and short next to starting a process for each.
        executor=dg.in_process_executor,
    )


defs = build_defs()
