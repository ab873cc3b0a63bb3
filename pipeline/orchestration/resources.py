"""What the assets and checks are given: settings, and the client and lake made from them.

It is no configurable resource: run config is stored and shown in the UI, and a key must not be.
Settings are read when they are first needed, so definitions load without an account.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import dagster as dg
from pydantic import SecretStr

from pipeline.api import Client, Clock, Limits, OddText, Retry, RouteError, quota_of
from pipeline.conversations.pseudonym_resolver import PseudonymResolver
from pipeline.conversations.sync import Synced, SyncProgress
from pipeline.endpoints import METERED
from pipeline.lake.schemas import USAGE
from pipeline.lake.store import Lake
from pipeline.settings import COSTS, Settings, SettingsError, load_settings
from pipeline.shared_lake import open_shared_lake, place_of
from pipeline.usage.load import Progress
from pipeline.usage.meters import Metered
from pipeline.usage.refresh import Refreshed

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

_RETRIES_EVERY: Final = 10.0
"""Seconds: an API that is down is no flood in the log."""


class Asked(NamedTuple):
    """Requests, retries included; retries; answers with status 429."""

    requests: int
    retries: int
    quota_answers: int


def _no_progress(_: object) -> None:
    """Dagster's own log says enough; the command line passes a listener that shows more."""


@dataclass
class Services:
    """Where data comes from and goes to. `now` is the machine's clock, in Unix seconds."""

    load: Callable[[], Settings] = load_settings
    now: Callable[[], float] = field(default_factory=lambda: time.time)
    on_progress: Callable[[Progress], None] = field(default=_no_progress, repr=False)
    on_sync: Callable[[SyncProgress], None] = field(default=_no_progress, repr=False)
    on_refreshed: Callable[[Refreshed], None] = field(default=_no_progress, repr=False)
    on_synced: Callable[[Synced], None] = field(default=_no_progress, repr=False)
    on_note: Callable[[str], None] = field(default=_no_progress, repr=False)
    """Gets what a person should know of a run that goes on all the same."""
    flags: tuple[str, ...] = ()
    """Of the command that started the run, to be given again to resume it."""
    odd_text: OddText = field(default_factory=OddText, repr=False)
    """What was not Unicode in the answers of the run so far."""

    _reported_at: float = field(default=-math.inf, init=False, repr=False)
    _clients: list[Client] = field(default_factory=list[Client], init=False, repr=False)

    @cached_property
    def settings(self) -> Settings:
        """The settings; SettingsError where one is missing or malformed."""
        return self.load()

    @cached_property
    def clock(self) -> Clock:
        """The machine's clock, held against the API's once a client has had an answer."""
        return Clock(self._local)

    def _local(self) -> float:
        return self.now()

    @property
    def lake(self) -> Lake:
        """The Parquet files."""
        return Lake(self.settings.lake, self.settings.lookback_days, self.settings.memory)

    @cached_property
    def shared(self) -> SharedLake | None:
        """The shared lake; None where none is set. SharedLakeError where it can't be used."""
        place = place_of(self.settings.shared_catalog, self.settings.shared_warehouse)
        return None if place is None else open_shared_lake(place)

    def published_days(self) -> list[date]:
        """The days that are loaded, here or in the shared lake, where there is one.

        SharedLakeError where that can't be used.
        """
        return self.lake.days(USAGE["1d"].name) if self.shared is None else self.shared.days()

    @property
    def feeds(self) -> list[Metered]:
        """The usage endpoints that are loaded beside that of conversations."""
        names = self.settings.endpoints
        return [Metered(endpoint) for name, endpoint in METERED.items() if name in names]

    @property
    def has_bills(self) -> bool:
        """Whether what the API bills is loaded."""
        return COSTS in self.settings.endpoints

    @property
    def resolver(self) -> PseudonymResolver | None:
        """How to find the users behind pseudonyms, where there are pseudonyms."""
        pseudonyms = self.settings.pseudonyms
        return None if pseudonyms is None else PseudonymResolver(pseudonyms, self.connect)

    def connect(self) -> Client:
        """A new client with the key that usage is read with; SettingsError where none is set."""
        return self._client(self.settings.key())

    def connect_each(self) -> dict[str, Callable[[], Client]]:
        """By key id, what makes a client with that key; SettingsError where no key is set."""
        keys = self.settings.keys()
        if not keys:
            raise SettingsError(
                "MKA1_API_KEYS is not set: conversations are listed per key, so set it to "
                "key_id=secret,key_id=secret"
            )
        return {key_id: partial(self._client, secret) for key_id, secret in keys.items()}

    def _client(self, key: SecretStr) -> Client:
        settings = self.settings
        limits = Limits(
            concurrency=settings.concurrency,
            requests_per_second=settings.requests_per_worker,
            retry_seconds=settings.retry_seconds,
            request_timeout=settings.request_timeout,
            max_bytes=settings.max_answer_mb * 1024 * 1024,
        )
        try:
            client = Client(
                settings.base_url,
                key,
                limits,
                private=settings.pseudonym_key is not None,
                quota=quota_of(settings.base_url, key, limits.requests_per_second),
                odd_text=self.odd_text,
                on_retry=self._retries,
                now=self.clock,
            )
        except RouteError as error:
            raise SettingsError(str(error)) from None
        self._clients.append(client)
        return client

    def asked(self) -> Asked:
        """What all clients of these services have asked for until now."""
        return Asked(
            sum(client.requests for client in self._clients),
            sum(client.retries for client in self._clients),
            sum(client.quota_answers for client in self._clients),
        )

    def note(self, message: str) -> None:
        """Write to Dagster's log and to a person at a terminal, as no warning."""
        dg.get_dagster_logger().info(message)
        self.on_note(message)

    def warn(self, message: str) -> None:
        """Write to Dagster's log and to a person at a terminal."""
        dg.get_dagster_logger().warning(message)
        self.on_note(f"warning: {message}")

    def _retries(self, retry: Retry) -> None:
        moment = time.monotonic()
        if moment - self._reported_at >= _RETRIES_EVERY:
            self._reported_at = moment
            dg.get_dagster_logger().warning(str(retry))
            self.on_note(str(retry))
