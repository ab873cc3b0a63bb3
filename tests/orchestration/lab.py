"""A lab: one emulator, one home folder, one Dagster instance, and runs in words of the tests.

Belongs here: launching runs and reading what they recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import dagster as dg

from pipeline.definitions import build_defs
from pipeline.emulator import EmulatorServer, Event, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.orchestration.assets.days import loading
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import JOB
from pipeline.settings import Settings
from pipeline.timeline import day_window
from pipeline.usage.changed_hours import Reads

DAYS: Final = [date(2024, 1, day) for day in (1, 2, 3)]
ASSETS: Final = ["raw_usage", "usage_1m", "usage_1h", "usage_1d", "coverage", "revisions"]
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own log goes to the event log only."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, in the words of the tests."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def materialized(self) -> dict[tuple[str, str | None], Mapping[str, dg.MetadataValue]]:
        """Metadata by (asset, partition); a second materialization of one fails the test."""
        found: dict[tuple[str, str | None], Mapping[str, dg.MetadataValue]] = {}
        for entry in self.instance.all_logs(
            self.result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ):
            event = entry.get_dagster_event()
            assert event.asset_key is not None
            key = (event.asset_key.to_user_string(), event.partition)
            assert key not in found, f"{key} is materialized twice"
            found[key] = event.step_materialization_data.materialization.metadata
        return found

    @property
    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Evaluations by `asset.check`."""
        return {
            f"{one.asset_key.to_user_string()}.{one.check_name}": one
            for one in self.result.get_asset_check_evaluations()
        }

    @property
    def failed_checks(self) -> set[str]:
        return {name for name, one in self.checks.items() if not one.passed}

    @property
    def failures(self) -> list[str]:
        """What each failed step says: its Failure's words, or the error."""
        said: list[str] = []
        for event in self.result.all_events:
            if event.event_type_value == "STEP_FAILURE":
                data = event.step_failure_data
                if data.user_failure_data and data.user_failure_data.description:
                    said.append(data.user_failure_data.description)
                elif data.error:
                    said.append((data.error.cause or data.error).message)
        return said


@dataclass
class Lab:
    """One emulator, one home folder, one Dagster instance."""

    server: EmulatorServer
    settings: Settings
    services: Services
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return self.services.lake

    def run(
        self,
        first: date,
        last: date | None = None,
        *,
        assets: Sequence[str] | None = None,
        checks: bool = True,
        reads: Reads = "full",
    ) -> Ran:
        """The job over a range of days; of `assets` and, unless told otherwise, their checks."""
        tags = range_tags(first, last or first)
        return self.run_tagged(tags, assets=assets, checks=checks, reads=reads)

    def run_tagged(
        self,
        tags: Mapping[str, str],
        *,
        assets: Sequence[str] | None = None,
        checks: bool = True,
        reads: Reads = "full",
    ) -> Ran:
        job = build_defs(self.services).resolve_job_def(JOB)
        if not checks:
            selection = dg.AssetSelection.assets(*(assets or ASSETS)).without_checks()
            return self._run(selection, tags, reads)
        chosen = None if assets is None else [dg.AssetKey(name) for name in assets]
        return Ran(
            job.execute_in_process(
                instance=self.instance,
                tags=dict(tags),
                asset_selection=chosen,
                raise_on_error=False,
                run_config=QUIET if reads == "full" else QUIET | loading(reads, self.services),
            ),
            self.instance,
        )

    def check(
        self, first: date | None = None, last: date | None = None, *, names: Sequence[str] = ()
    ) -> Ran:
        """The checks alone: of a range of days, or started without a partition.

        `names` are `asset.check`; all checks of usage by default, but for the alerts.
        """
        selection: dg.AssetSelection = dg.AssetSelection.checks_for_assets(*ASSETS)
        selection -= dg.AssetSelection.checks(*ALERT_CHECKS)
        if names:
            keys = [
                dg.AssetCheckKey(dg.AssetKey(asset), check)
                for asset, check in (name.split(".") for name in names)
            ]
            selection = dg.AssetSelection.checks(*keys)
        return self._run(selection, {} if first is None else range_tags(first, last or first))

    def _run(
        self, selection: dg.AssetSelection, tags: Mapping[str, str], reads: Reads = "full"
    ) -> Ran:
        part = dg.define_asset_job("part", selection)
        defs = dg.Definitions.merge(build_defs(self.services), dg.Definitions(jobs=[part]))
        return Ran(
            defs.resolve_job_def("part").execute_in_process(
                instance=self.instance,
                tags=dict(tags),
                raise_on_error=False,
                run_config=QUIET if reads == "full" else QUIET | loading(reads, self.services),
            ),
            self.instance,
        )

    def partitions(self, asset: str) -> set[str]:
        """The partitions that Dagster has on record as materialized."""
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))


def small_world(clock: Callable[[], float] | None = None) -> World:
    """Three days of a few users; every day differs from the others."""
    world = synthetic_world(days=3, users=4, conversations_per_user_day=3.0)
    if clock is not None:
        world.clock = clock
    return world


def events_of(world: World, day: date) -> list[Event]:
    """The events of a UTC day."""
    window = day_window(day)
    return [event for event in world.events() if window.start <= event.at < window.end]
