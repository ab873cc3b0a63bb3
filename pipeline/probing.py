"""The probe as a command: settings to a client, events to lines of text.

Belongs here: which key is used, and what is said meanwhile.
"""

from __future__ import annotations

import secrets
from asyncio import sleep
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.background import run_async
from pipeline.probe import ProbeEvent, ProbePlan, ProbeResult, plan, probe
from pipeline.settings import Settings
from pipeline.words import count


@dataclass(frozen=True, slots=True)
class AskedProbe:
    """A probe that has been asked for, not begun: its plan, its key and its mark."""

    plan: ProbePlan
    key: SecretStr
    mark: str
    user: str | None
    """What the user it acts for is called in all that is said."""

    @property
    def words(self) -> str:
        """What it will do, for the question whether to."""
        plan = self.plan
        whose = "the key's owner" if self.user is None else f"user {self.user!r}"
        requests = len(plan.batches)
        return (
            f"this adds {plan.items:,} item{'s' if plan.items > 1 else ''} to the conversation "
            f"{plan.conversation_id!r} of {whose}, in {requests:,} "
            f"request{'s' if requests > 1 else ''}, each a user message "
            f"'mka1-usage probe {self.mark} …'; they cannot be taken out again. Then it watches "
            "the usage endpoint until they are counted"
        )


def plan_of(
    settings: Settings, conversation: str, items: int, user: str | None, key_id: str | None
) -> AskedProbe:
    """The probe that the arguments ask for. ValueError for bad ones, SettingsError for no key."""
    if key_id is None:
        key, key_id = settings.key(), settings.api_key_id
    else:
        keys = settings.keys()
        if key_id not in keys:
            known = ", ".join(sorted(keys)) or "none"
            raise ValueError(f"--key-id {key_id!r} has no secret in MKA1_API_KEYS (known: {known})")
        key = keys[key_id]
    asked = plan(conversation, items, on_behalf_of=user, api_key_id=key_id)
    pseudonyms = settings.pseudonyms
    return AskedProbe(asked, key, secrets.token_hex(6), pseudonyms.of(user) if pseudonyms else user)


def run_probe(
    settings: Settings, asked: AskedProbe, patience: float, say: Callable[[str], None]
) -> ProbeResult:
    """Run it, saying each step. Raises ApiError, which says what is known of items added."""
    limits = Limits(
        requests_per_second=settings.requests_per_second,
        retry_seconds=settings.retry_seconds,
        request_timeout=settings.request_timeout,
    )

    async def work() -> ProbeResult:
        private = settings.pseudonym_key is not None
        async with Client(settings.base_url, asked.key, limits, private=private) as client:
            return await probe(
                client,
                asked.plan,
                now=time,
                sleep=sleep,
                on_event=lambda event: say(_said(event)),
                mark=asked.mark,
                patience_seconds=patience,
            )

    return run_async(work())


def _said(event: ProbeEvent) -> str:
    at = f"{datetime.fromtimestamp(time(), UTC):%H:%M:%S}"
    match event.kind:
        case "baseline":
            return f"{at} usage counts {count(event.count, 'item')} in this minute before the probe"
        case "added":
            return f"{at} added to the conversation: {event.count:,} of {count(event.of, 'item')}"
        case "polled":
            return f"{at} usage counts {event.count:,} of {event.of:,}"
        case "fate_unknown":
            return f"{at} it is not known what became of a request, looking: {event.detail}"
        case _:
            return f"{at} usage could not be read, trying again: {event.detail}"
