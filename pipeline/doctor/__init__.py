"""`mka1-usage doctor`: is everything here that a run needs, and how to fix what is not?

Belongs here: which checks there are, in which order, and that none of them hangs or raises.

    finding        what a check says
    configured     settings, `.env`, names that look like settings
    gateway        proxy, DNS, TCP, TLS, the clock, the keys
    disk           room, what the file system can do, who may read
    tables         the lake, its days, who is loading, the catalog
    shared         the shared lake: what it needs, catalog, tables, storage, clock
    written        prices, budgets and names that people write
    messages       the channels of alerts, and what waits for them
    versions       what is installed against what is pinned
    orchestration  Dagster's home, pool, schedules and daemon

What blocks most comes first. A check writes nothing but a folder of its own in the home folder, and
a file of its own in the warehouse, which it removes. Checks that another one makes pointless are
skipped, and say so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Final, Literal, TypeAlias, cast

from pipeline.doctor.finding import CheckContext, Finding, State

__all__ = ["CHECKS", "Check", "CheckContext", "Finding", "State", "examine"]


_Function: TypeAlias = Callable[[CheckContext], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, where it is made, and what it relies on."""

    name: str
    place: str
    """Module and function. It is imported when its turn comes: in an installation that lacks
    something, the other checks are made all the same.
    """
    after: Sequence[str] = ()
    """Checks without which this one says nothing; and settings, by variable, that it relies on."""
    patient: Literal["always", "unless deep"] = "always"

    def imported(self) -> _Function:
        """The function."""
        module, _, function = self.place.partition(".")
        return cast(_Function, getattr(import_module(f"{__name__}.{module}"), function))


_LONGEST: Final = 200
"""Characters of an error that no check expects."""
_HOME: Final = "MKA1_USAGE_HOME"
_SHARED: Final = ("MKA1_USAGE_CATALOG", "MKA1_USAGE_WAREHOUSE")
CHECKS: Final = (
    Check("settings", "configured.settings"),
    Check("home", "disk.room", (_HOME,)),
    Check("file system", "disk.trial", (_HOME, "home")),
    Check("permissions", "disk.permissions", (_HOME,)),
    Check("network", "gateway.environment", ("MKA1_BASE_URL",)),
    Check("DNS", "gateway.name", ("MKA1_BASE_URL", "network")),
    Check("TCP", "gateway.connection", ("DNS",)),
    Check("TLS", "gateway.encryption", ("TCP",)),
    Check("clock", "gateway.clock", ("TLS",)),
    Check("keys", "gateway.keys", ("MKA1_API_KEY", "MKA1_API_KEYS", "TLS")),
    Check("lake", "tables.lake", (_HOME, "MKA1_USAGE_PSEUDONYM_KEY"), "unless deep"),
    Check("days", "tables.days", (_HOME, "MKA1_USAGE_LOOKBACK_DAYS")),
    Check("runs", "tables.runs", (_HOME,)),
    Check("catalog", "tables.catalog", (_HOME,)),
    Check("duckdb", "tables.command_line", ("catalog",)),
    Check("extra", "shared.installed", _SHARED),
    Check("shared lake", "shared.catalog", (*_SHARED, "extra")),
    Check("storage", "shared.storage", (*_SHARED, "extra", "shared lake")),
    Check("its clock", "shared.clock", _SHARED),
    Check("prices", "written.files", (_HOME,)),
    Check("names", "written.names", (_HOME, "MKA1_USAGE_PSEUDONYM_KEY")),
    Check("messages", "messages.channels", (_HOME,)),
    Check("versions", "versions.installed"),
    Check("dagster", "orchestration.instance", (_HOME, "DAGSTER_HOME")),
)


def examine(context: CheckContext, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """Every finding, as soon as it is made. Raises nothing of what a check may raise."""
    dark = set(context.wrong)
    for check in checks:
        missing = [name for name in check.after if name in dark]
        if missing:
            why = f"not looked at: see {missing[0]} above"
            found = iter([Finding("skipped", check.name, why)])
        else:
            endless = check.patient == "unless deep" and context.deep
            found = _within(None if endless else context.patience, check, context)
        for one in found:
            finding = one if one.subject else replace(one, subject=check.name)
            if finding.state in {"failed", "skipped"} and finding.subject == check.name:
                dark.add(check.name)
            yield _without(context.secrets, finding)


def _within(patience: float | None, check: Check, context: CheckContext) -> Iterator[Finding]:
    """What a check finds within so many seconds; its thread is left alone after that."""
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
    imported = threading.Event()

    def run() -> None:
        try:
            try:
                made = check.imported()
            finally:
                imported.set()
            for finding in made(context):
                found.put(finding)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a finding too
            words = " ".join(f"{type(error).__name__} {error}".split())[:_LONGEST]
            found.put(Finding("failed", check.name, f"could not be looked at: {words}"))
        found.put(None)

    # Not of an executor: the interpreter would wait for its threads at the end.
    threading.Thread(target=run, name=check.name, daemon=True).start()
    imported.wait()  # the time that an import takes says nothing of what is checked
    until = None if patience is None else time.monotonic() + patience
    while True:
        left = None if until is None else max(until - time.monotonic(), 0)
        try:
            finding = found.get(timeout=left)
        except queue.Empty:
            yield Finding(
                "failed",
                check.name,
                f"no answer within {patience:g} s: given up",
                "look at what it needs (network, disk, database), or give more with --patience",
            )
            return
        if finding is None:
            return
        yield finding


def _without(secrets: Mapping[str, str], finding: Finding) -> Finding:
    """A finding that quotes what others say, without any secret that they may have quoted."""
    found, fix = finding.found, finding.fix
    for secret, instead in secrets.items():
        found, fix = (text.replace(secret, f"({instead})") for text in (found, fix))
    return replace(finding, found=found, fix=fix)
