"""The probe as a command: settings to a client, steps to lines of text."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable
from datetime import UTC, datetime
from time import time

from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.async_runner import run_async
from pipeline.messages import count
from pipeline.settings import Settings
from pipeline.usage.delay_probe import Probe, ProbePlan, ProbeResult


def plan_of(
    settings: Settings, conversation: str, items: int, user: str | None, key_id: str | None
) -> tuple[ProbePlan, SecretStr]:
    """A probe and its key. ValueError for bad arguments, SettingsError for no key."""
    if key_id is None:
        key, key_id = settings.key(), settings.api_key_id
    else:
        keys = settings.keys()
        if key_id not in keys:
            known = ", ".join(sorted(keys)) or "none"
            raise ValueError(f"--key-id {key_id!r} has no secret in MKA1_API_KEYS (known: {known})")
        key = keys[key_id]
    return ProbePlan(conversation, items, user, key_id), key


def in_words(settings: Settings, plan: ProbePlan) -> str:
    """What a probe will do, for the question whether to."""
    user = plan.on_behalf_of
    if user is not None and settings.pseudonyms is not None:
        user = settings.pseudonyms.of(user)
    whose = "the key's owner" if user is None else f"user {user!r}"
    return (
        f"this adds {count(plan.items, 'item')} to the conversation {plan.conversation_id!r} of "
        f"{whose}, in {count(len(plan.posts), 'request')}, each a user message 'mka1-usage probe "
        f"{plan.mark} …'; they cannot be taken out again. Then it watches the usage endpoint until "
        "they are counted"
    )


def run_probe(
    settings: Settings,
    plan: ProbePlan,
    key: SecretStr,
    patience: float,
    say: Callable[[str], None],
) -> ProbeResult:
    """Run it, saying each step. Raises ApiError, which says what is known of items added."""
    limits = Limits(
        requests_per_second=settings.requests_per_worker,
        retry_seconds=settings.retry_seconds,
        request_timeout=settings.request_timeout,
    )
    private = settings.pseudonym_key is not None

    def timed(step: str) -> None:
        say(f"{datetime.fromtimestamp(time(), UTC):%H:%M:%S} {step}")

    async def work() -> ProbeResult:
        async with Client(settings.base_url, key, limits, private=private) as client:
            return await Probe(client, plan, time, sleep, timed).run(patience)

    return run_async(work())
