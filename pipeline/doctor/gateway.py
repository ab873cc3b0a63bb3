"""Is the gateway reached, does its clock agree with ours, and does it take our keys?

One step after the other, so that what fails is known by its name. It costs one request without a
key, one for a minute of usage, and one for a single conversation by each key of MKA1_API_KEYS.
Nothing is tried twice.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from pydantic import SecretStr
from socksio import SOCKSError

from pipeline.api import (
    ApiError,
    Client,
    ConversationsQuery,
    Limits,
    QuotaExhausted,
    RouteError,
    Unauthorized,
    UsageQuery,
    get_conversations,
    get_usage,
    route_to,
)
from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning
from pipeline.settings import Settings
from pipeline.timeline import DAY, closed_through, iso

_WARN_SKEW: Final = 5.0
_FAIL_SKEW: Final = 60.0
"""Seconds. A clock that is a minute ahead takes a minute for closed that is still open."""
_HALF_A_SECOND: Final = 0.5
"""On average what the Date of an answer, in whole seconds, is behind."""
_EXPIRES_SOON: Final = 14 * DAY


def environment(context: CheckContext) -> Iterator[Finding]:
    """The proxy and the certificates that the environment names, as every request uses them."""
    try:
        route = route_to(context.settings.base_url)
    except RouteError as error:
        yield failed(f"{error.variable}: {error.found}", error.todo)
        return
    if not route.words:
        yield ok("directly: no proxy is set")
        return
    todo = "write the entry as host, host:port, address or address/bits" if route.ignored else ""
    yield Finding("warning" if route.ignored else "ok", "network", route.words, todo)


def _way(settings: Settings) -> tuple[str, int, str]:
    """Host and port that are connected to, and the variable by which they are those of a proxy."""
    url = httpx.URL(settings.base_url)
    route = route_to(settings.base_url)
    if route.first_hop is not None:
        return *route.first_hop, route.variable
    return url.host, url.port or (443 if url.scheme == "https" else 80), ""


def _called(host: str, port: int, proxied: str) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"the proxy {address} of {proxied}" if proxied else address


def name(context: CheckContext) -> Iterator[Finding]:
    """The addresses of the gateway's host, or of the proxy's."""
    host, port, proxied = _way(context.settings)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        where = f"the proxy in {proxied}" if proxied else "MKA1_BASE_URL"
        yield failed(
            f"{host} has no address ({getattr(error, 'strerror', None) or error})",
            f"check the network, the name server and {where}",
        )
        return
    yield ok(f"{host} is {', '.join(sorted({str(address[4][0]) for address in found}))}")


def connection(context: CheckContext) -> Iterator[Finding]:
    """Whether a connection comes about."""
    host, port, proxied = _way(context.settings)
    where = _called(host, port, proxied)
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=context.patience / 2):
            took = time.monotonic() - began
    except OSError as error:
        yield failed(
            f"{where} can't be connected to ({error.strerror or error})",
            f"see that a firewall lets out to {where}, and that {proxied or 'MKA1_BASE_URL'} has "
            "the right port",
        )
        return
    yield ok(f"connected to {where} in {took * 1_000:.0f} ms")


def encryption(context: CheckContext) -> Iterator[Finding]:
    """Whether the certificate is one that the client takes."""
    url = httpx.URL(context.settings.base_url)
    host, port, proxied = _way(context.settings)
    route = route_to(context.settings.base_url)
    if url.scheme == "http":
        yield ok("not used: http:// to this machine")
        return
    where = _called(host, port, proxied)
    if proxied:
        yield ok(f"not looked at through {where}")
        return
    try:
        with (
            socket.create_connection((host, port), timeout=context.patience / 2) as raw,
            closing(route.tls.wrap_socket(raw, server_hostname=url.raw_host.decode())) as secure,
        ):
            version, certificate = secure.version(), secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield failed(
            f"the certificate of {host} is refused: {error.verify_message}",
            f"send no key there; {route.distrust(error)}; if a date is the reason, set this "
            "machine's clock",
        )
        return
    except OSError as error:
        yield failed(
            f"{where} does not speak TLS ({getattr(error, 'reason', None) or error})",
            "see that MKA1_BASE_URL has the right port",
        )
        return
    ends = int(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
    soon = ends - context.now() < _EXPIRES_SOON
    yield Finding(
        "warning" if soon else "ok",
        "TLS",
        f"{version}, the certificate of {host} is good until {iso(ends)}",
        "tell whoever runs the gateway" if soon else "",
    )


def clock(context: CheckContext) -> Iterator[Finding]:
    """How far this clock is from the one of the gateway, by the Date of an answer."""
    url, route = context.settings.base_url, route_to(context.settings.base_url)
    before = context.now()
    try:
        answer = httpx.head(
            url, proxy=route.proxy, verify=route.tls, trust_env=False, timeout=context.patience / 2
        )
    except (httpx.HTTPError, SOCKSError) as error:
        refusal = route.refusal(error)
        yield failed(
            f"no answer to ask the time of ({type(error).__name__} {error})",
            refusal.todo
            if refusal
            else route.distrust(error)
            or f"see that MKA1_BASE_URL is an HTTP server's{_or_proxy(route.variable)}",
        )
        return
    ours = (before + context.now()) / 2
    try:
        said = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        yield skipped("the gateway's answers don't say when they were made")
        return
    skew = ours - (said.replace(tzinfo=said.tzinfo or UTC).timestamp() + _HALF_A_SECOND)
    side = "ahead of" if skew > 0 else "behind"
    moment = datetime.fromtimestamp(int(ours), UTC).strftime("%H:%M:%S UTC")
    if abs(skew) <= _WARN_SKEW:
        yield ok(f"within {max(abs(skew), 1):.0f} s of the gateway's ({moment})")
        return
    yield Finding(
        "failed" if abs(skew) > _FAIL_SKEW else "warning",
        "clock",
        f"{abs(skew):,.0f} s {side} the gateway's ({moment} here)",
        "set it, for example by `timedatectl set-ntp true`: it decides which minutes are closed",
    )


def _or_proxy(variable: str) -> str:
    return f", and {variable} a proxy's" if variable else ""


def keys(context: CheckContext) -> Iterator[Finding]:
    """Whether each key is taken for what it is for."""
    settings = context.settings
    if settings.api_key is None and not settings.api_keys:
        yield skipped("not tried: MKA1_API_KEY is not set")
        return
    yield from asyncio.run(_tried(context))
    if not settings.api_keys:
        yield ok("MKA1_API_KEYS is not set: conversations are not read")


async def _tried(context: CheckContext) -> list[Finding]:
    settings = context.settings
    end = closed_through(context.now())
    minute = UsageQuery(end - 60, end, "1m", limit=1)
    one = ConversationsQuery(limit=1)
    at_once = asyncio.Semaphore(settings.concurrency)

    async def usage(client: Client) -> None:
        await get_usage(client, minute)

    async def conversations(client: Client) -> None:
        await get_conversations(client, one)

    async def in_turn(key_id: str, secret: SecretStr) -> Finding:
        whose = f"{key_id} of MKA1_API_KEYS"
        async with at_once:
            return await _try(context, whose, secret, "conversations", conversations)

    to_try = [in_turn(key_id, secret) for key_id, secret in settings.api_keys.items()]
    if settings.api_key is not None:
        to_try.insert(0, _try(context, "MKA1_API_KEY", settings.api_key, "usage", usage))
    return await asyncio.gather(*to_try)


async def _try(
    context: CheckContext,
    whose: str,
    secret: SecretStr,
    what: str,
    request: Callable[[Client], Awaitable[None]],
) -> Finding:
    limits = Limits(
        concurrency=1,
        requests_per_second=context.settings.requests_per_worker,
        retry_seconds=0,
        attempts=1,
        request_timeout=context.patience / 2,
    )
    try:
        async with Client(
            context.settings.base_url, secret, limits, private=True, now=context.now
        ) as client:
            await request(client)
    except Unauthorized as error:
        if error.status == httpx.codes.FORBIDDEN:
            return failed(f"{whose} may not read {what} (403)", "let it, or set a key that may")
        return failed(
            f"{whose} is refused (401)",
            "it is mistyped, revoked or of another gateway: set the right one",
        )
    except QuotaExhausted:
        return warning(
            f"{whose} has spent a quota (429)",
            "wait; if it is often so, lower MKA1_USAGE_REQUESTS_PER_SECOND",
        )
    except ApiError as error:
        return failed(f"{whose}: {error}", "look again when the API is well")
    return ok(f"{whose} reads {what}")
