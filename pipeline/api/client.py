"""One authenticated GET that either brings a decoded body or says clearly why not.

Belongs here: transport, authorization, retries, budgets, timeouts, size limits, redaction.
Does not belong here: what an endpoint's parameters and bodies mean (`pipeline.api.usage`), or how
pages make a whole (`pipeline.api.paging`).

The rules (API.md, "Errors and limits"): 429, 5xx, connection errors, connections cut in mid-body
and bodies that are cut or not JSON are tried again, with jittered exponential backoff; a
`Retry-After` in seconds or as a date is honoured, each wait capped; all tries and waits of one
request together stay within a budget. Redirects are never followed: a key goes to one host only.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from pipeline.api.errors import (
    AnswerTooBig,
    MalformedBody,
    QuotaExhausted,
    Refused,
    Unauthorized,
    Unavailable,
)
from pipeline.api.pacing import Pace

T = TypeVar("T")
Params = Sequence[tuple[str, str]]

_EXCERPT: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client allows itself. Seconds and bytes."""

    concurrency: int = 4
    requests_per_second: float = 20.0
    retry_seconds: float = 120.0
    """Budget of one request: all its tries and waits."""
    attempts: int = 12
    longest_wait: float = 30.0
    """Cap of a single wait, whatever `Retry-After` says."""
    request_timeout: float = 60.0
    """One try, from sending to the last byte."""
    max_bytes: int = 32 * 1024 * 1024
    """Largest body that is taken in."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A decoded body, its size in bytes and the seconds that the last try took."""

    value: T
    size: int
    seconds: float


class Client:
    """An async client of one API host with one key. Use it as an async context manager.

    `transport` is the seam for tests; `sleep` and `now` (Unix seconds) are the clock.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        limits: Limits | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self.requests = 0
        """Requests sent so far, retries included."""
        self.now = now
        self._sleep = sleep
        self._auth = _Bearer(key)
        self._pace = Pace(self.limits.requests_per_second)
        self._in_flight = asyncio.Semaphore(self.limits.concurrency)
        self._http = httpx.AsyncClient(
            base_url=base_url,
            auth=self._auth,
            transport=transport,
            timeout=httpx.Timeout(self.limits.request_timeout, connect=10.0, pool=None),
            follow_redirects=False,
            headers={"Accept": "application/json", "User-Agent": "mka1-usage"},
        )

    def __repr__(self) -> str:
        return f"Client({str(self._http.base_url)!r})"

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def get(
        self,
        path: str,
        params: Params,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Answer[T]:
        """GET `path` and decode its body; `decode` raises MalformedBody for one worth a retry.

        Raises Unauthorized, Refused, QuotaExhausted, Unavailable, AnswerTooBig, and whatever else
        `decode` raises.
        """
        asked = self._asked(path, params)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=self._wait,
            stop=self._stop,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(self._once, path, params, decode, headers or {}, asked)
        except _TryAgain as last:
            tries = retrying.statistics.get("attempt_number", 1)
            raise last.giving_up(asked, int(tries)) from None

    async def _once(
        self,
        path: str,
        params: Params,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes],
        asked: str,
    ) -> Answer[T]:
        async with self._in_flight:
            generation = await self._pace.turn()
            self.requests += 1
            began = time.monotonic()
            status, answer_headers, body = await self._send(path, params, headers, asked)
            seconds = time.monotonic() - began
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.too_fast(generation)
            wait = _retry_after(answer_headers.get("Retry-After"), self.now())
            raise _TryAgain(f"429: {self._excerpt(body)}", wait, rate_limited=True)
        self._pace.went_well()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait = _retry_after(answer_headers.get("Retry-After"), self.now())
            raise _TryAgain(f"{status}: {self._excerpt(body)}", wait)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unauthorized(
                f"{asked} was refused with {status}: {self._excerpt(body)}. "
                "Check the key in MKA1_API_KEY and what it may read."
            )
        if status != HTTPStatus.OK:
            where = answer_headers.get("Location")
            moved = f" (a redirect to {self._clean(where)}, not followed)" if where else ""
            raise Refused(
                f"{asked} was refused with {status}{moved}: {self._excerpt(body)}", status
            )
        try:
            return Answer(decode(body), len(body), seconds)
        except MalformedBody as error:
            raise _TryAgain(f"200 with {error} ({len(body):,} bytes)", None) from None

    async def _send(
        self, path: str, params: Params, headers: Mapping[bytes, bytes], asked: str
    ) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and whole body; never more than `max_bytes` of it."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with (
                asyncio.timeout(self.limits.request_timeout),
                self._http.stream(
                    "GET", path, params=httpx.QueryParams(list(params)), headers=dict(headers)
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > self.limits.max_bytes:
                        raise AnswerTooBig(
                            f"{asked} is answered with more than {self.limits.max_bytes:,} bytes"
                        )
                    chunks.append(chunk)
                return response.status_code, response.headers, b"".join(chunks)
        except (TimeoutError, httpx.ReadTimeout):
            raise AnswerTooBig(
                f"{asked} had not been answered in whole after {self.limits.request_timeout:g} s"
            ) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            # The chain is cut: what httpx carries along holds the request and its headers.
            raise _TryAgain(
                f"no whole answer: {type(error).__name__} {error}".strip(), None
            ) from None

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next try: the server's word where it gave one, else backoff."""
        backoff = wait_exponential_jitter(
            initial=0.5, exp_base=2, max=self.limits.longest_wait, jitter=0.5
        )(state)
        asked_for = _failure(state).retry_after
        if asked_for is None:
            return backoff
        return min(max(asked_for, 0.0), self.limits.longest_wait)

    def _stop(self, state: RetryCallState) -> bool:
        failure = _failure(state)
        if failure.retry_after is not None and failure.retry_after > self.limits.retry_seconds:
            return True  # the server has said that no wait within the budget will do
        # With an injected sleep only idle_for moves; with a real one the clock holds it already.
        spent = max(state.seconds_since_start or 0.0, state.idle_for)
        over_budget = spent + state.upcoming_sleep > self.limits.retry_seconds
        return over_budget or state.attempt_number >= self.limits.attempts

    def _asked(self, path: str, params: Params) -> str:
        query = str(httpx.QueryParams(list(params)))
        return self._clean(f"GET {self._http.base_url.join(path)}{'?' if query else ''}{query}")

    def _excerpt(self, body: bytes) -> str:
        text = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())
        text = self._clean(text)
        if not text:
            return "(no body)"
        return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"

    def _clean(self, text: str) -> str:
        return self._auth.redact(text)


class _Bearer(httpx.Auth):
    """The key, added as each request leaves, so that no client-wide header holds it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request

    def redact(self, text: str) -> str:
        secret = self._key.get_secret_value()
        return text.replace(secret, "***").replace(quote(secret, safe=""), "***")


class _TryAgain(Exception):
    """One try failed in a way that another may not."""

    def __init__(
        self, came_back: str, retry_after: float | None, *, rate_limited: bool = False
    ) -> None:
        super().__init__(came_back)
        self.retry_after = retry_after
        self.rate_limited = rate_limited

    def giving_up(self, asked: str, tries: int) -> QuotaExhausted | Unavailable:
        times = f"{tries} tries" if tries > 1 else "1 try"
        if self.rate_limited:
            when = (
                "later" if self.retry_after is None else f"in {self.retry_after:,.0f} s, as it says"
            )
            return QuotaExhausted(
                f"{asked} was answered {self} after {times}: a quota of this key is spent. "
                f"Try again {when}.",
                self.retry_after,
            )
        return Unavailable(
            f"{asked} failed after {times}; the last one brought {self}. "
            "Nothing was published from it; run again when the API is well."
        )


def _failure(state: RetryCallState) -> _TryAgain:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, _TryAgain) else _TryAgain("", None)


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a `Retry-After` of seconds or of an HTTP date; None where it is neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
