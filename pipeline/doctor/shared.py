"""The shared lake, where one is set: what it needs, its catalog, its tables, its files, the clock.

Where none is set, nothing is said of it. The storage is tried with a small file of its own, which
is removed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from packaging.requirements import Requirement

from pipeline.doctor.finding import CheckContext, Finding, State, failed, ok, skipped, warning
from pipeline.messages import count
from pipeline.shared_lake import Place, SharedLakeError, open_shared_lake, place_of

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

_EXTRA: Final = "shared"
_INSTALL: Final = "pip install 'mka1-usage[shared]', with .ci/constraints-shared.txt in a clone"
_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_WARN_SKEW: Final = 60.0
_FAIL_SKEW: Final = 600.0
"""Seconds. S3 refuses requests that are signed a quarter of an hour off."""


def installed(context: CheckContext) -> Iterator[Finding]:
    """Whether what the extra `shared` needs is there, and of the versions that were tested."""
    if _place(context) is None:
        return
    there: list[str] = []
    for line in distribution("mka1-usage").requires or ():
        wanted = Requirement(line)
        if wanted.marker is None or not _of_extra(wanted):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield failed(f"{wanted.name} is not installed", _INSTALL)
            return
        if not wanted.specifier.contains(found, prereleases=True):
            yield warning(f"{wanted.name} is {found}, tested is {wanted.specifier}", _INSTALL)
        there.append(f"{wanted.name} {found}")
    yield ok(", ".join(there))


def catalog(context: CheckContext) -> Iterator[Finding]:
    """Whether the catalog can be used, and its tables are of the contract."""
    place = _place(context)
    if place is None:
        return
    try:
        shared = open_shared_lake(place)
        days = shared.days()
    except SharedLakeError as error:
        yield failed(_words(error), _todo(place))
        return
    kind = urlsplit(place.catalog).scheme
    found = f"{place.shown}: {count(len(days), 'day')} published"
    if days:
        found += f", {days[0]} to {days[-1]}"
    if kind == "sqlite" and not place.warehouse.startswith("/"):
        yield warning(
            f"{found}; SQLite is of this machine, and the warehouse is not",
            "name a catalog that all workers reach: postgresql://user:password@host/database",
        )
    else:
        yield ok(found)
    yield from _tables(shared)


def storage(context: CheckContext) -> Iterator[Finding]:
    """Whether files of the warehouse can be written, read and removed; by which credentials."""
    place = _place(context)
    if place is None:
        return
    from pipeline.shared_lake import storage as files  # noqa: PLC0415  it needs the extra

    remote = place.warehouse.startswith("s3://")
    try:
        warehouse = open_shared_lake(place).warehouse
        location = f"{warehouse.root}/.doctor-{uuid4().hex}"
        with tempfile.TemporaryDirectory(prefix="mka1-usage-") as folder:
            probe = Path(folder) / "probe"
            probe.write_bytes(b"mka1-usage doctor")
            try:
                files.put(warehouse.io, probe, location)
                size, _ = files.digest(warehouse.io, location)
            finally:
                with suppress(OSError):
                    files.remove_file(warehouse.io, location)
    except (OSError, SharedLakeError) as error:
        reason = " ".join(str(error).split())
        yield failed(f"{place.warehouse} can't be used: {reason}", _todo_storage(reason, remote))
        return
    by = f" ({_credentials(context)})" if remote else ""
    if size != len(b"mka1-usage doctor"):
        yield failed(f"{place.warehouse} gives back another file than was written", "see its log")
        return
    yield ok(f"{place.warehouse}: written, read and removed{by}")


def clock(context: CheckContext) -> Iterator[Finding]:
    """How far this clock is from the one of the storage, by the Date of an answer."""
    place = _place(context)
    if place is None or not place.warehouse.startswith("s3://"):
        return
    before = context.now()
    try:
        answer = httpx.head(_endpoint(place), timeout=context.patience / 2)
        said = parsedate_to_datetime(answer.headers["Date"]).replace(tzinfo=UTC).timestamp()
    except httpx.HTTPError as error:
        yield failed(
            f"no answer to ask the time of ({type(error).__name__} {error})",
            "see that AWS_ENDPOINT_URL is the storage's",
        )
        return
    except (KeyError, ValueError):
        yield skipped("the storage's answers don't say when they were made")
        return
    skew = (before + context.now()) / 2 - said
    if abs(skew) <= _WARN_SKEW:
        yield ok(f"within {max(abs(skew), 1):.0f} s of the storage's")
        return
    state: State = "failed" if abs(skew) > _FAIL_SKEW else "warning"
    side = "ahead of" if skew > 0 else "behind"
    todo = "set it, for example by `timedatectl set-ntp true`: signed requests are refused else"
    yield Finding(state, "", f"{abs(skew):,.0f} s {side} the storage's", todo)


def _place(context: CheckContext) -> Place | None:
    return place_of(context.settings.shared_catalog, context.settings.shared_warehouse)


def _of_extra(wanted: Requirement) -> bool:
    marker = wanted.marker
    return (
        marker is not None
        and marker.evaluate({"extra": _EXTRA})
        and not marker.evaluate({"extra": ""})
    )


def _tables(shared: SharedLake) -> Iterator[Finding]:
    """Whether each table has the columns of the contract."""
    try:
        differing = shared.other_columns()
    except SharedLakeError as error:
        yield failed(_words(error), _todo(shared.place), subject="tables")
        return
    for table, (missing, others) in differing.items():
        if missing:
            yield warning(
                f"{table} lacks {', '.join(missing)}",
                "the next commit adds them: see that all workers run this version",
                subject="tables",
            )
        if others:
            yield failed(
                f"{table} has other columns than the contract: {', '.join(others)}",
                "see which program has changed it; a shared lake is read by others, not written",
                subject="tables",
            )


def _words(error: SharedLakeError) -> str:
    return str(error).removesuffix(": `mka1-usage doctor` says what to do")


def _todo(place: Place) -> str:
    parts = urlsplit(place.catalog)
    if parts.scheme == "sqlite":
        return "make the folder of its file, or name another file in MKA1_USAGE_CATALOG"
    if parts.scheme.startswith("postgres"):
        return "start Postgres, or correct address, database, user and password"
    return "see that it is an Iceberg REST catalog; a client id and secret go before the host"


def _todo_storage(reason: str, remote: bool) -> str:
    if not remote:
        return "make the folder writable for this user, or set MKA1_USAGE_WAREHOUSE to another one"
    if "NO_SUCH_BUCKET" in reason or "NoSuchBucket" in reason:
        return "make the bucket: mka1-usage makes none"
    if any(words in reason for words in ("ACCESS_DENIED", "403", "InvalidAccessKey", "Signature")):
        return f"see that {' and '.join(_KEYS)} are right, and may read, write and delete there"
    return "see that AWS_ENDPOINT_URL is the storage's, AWS_REGION its region, and the bucket there"


def _credentials(context: CheckContext) -> str:
    names = [name for name in (*_KEYS, "AWS_SESSION_TOKEN") if context.environment.get(name)]
    return f"by {', '.join(names)}" if names else "by what the AWS libraries find here"


def _endpoint(place: Place) -> str:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name]
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"https://s3.{region}.amazonaws.com"
