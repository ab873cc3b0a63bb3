"""One authenticated GET that either brings a decoded body or says clearly why not.

Belongs here: transport, timeouts, size limits, and which answers are worth another try. Does not
belong here: waits and budgets (`pipeline.api.retrying`), the key (`pipeline.api.redaction`), what
an endpoint's parameters and bodies mean (`pipeline.api.usage`), or how pages make a whole
(`pipeline.api.paging`).

The rules (API.md, "Errors and limits"): 429, 5xx, connection errors, connections cut in mid-body
and bodies that are cut or not JSON are tried again, with jittered exponential backoff; a
`Retry-After` in seconds or as a date is the least that is waited, each wait capped; no try begins
once the budget of its request is spent. Redirects are never followed: a key goes to one host only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import httpx
from pydantic import SecretStr

from pipeline.api.errors import (
    AnswerTooBig,
    InvalidQuery,
    MalformedBody,
    Refused,
    ShapeError,
    Unauthorized,
)
from pipeline.api.pacing import Pace
from pipeline.api.redaction import Bearer
from pipeline.api.retrying import TryAgain, retry_after, retrying

T = TypeVar("T")
Params = Sequence[tuple[str, str]]

_EXCERPT: Final = 200
_LONGEST_QUESTION: Final = 1_000
_LONGEST_ERROR_BODY: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client allows itself. Seconds and bytes."""

    concurrency: int = 4
    requests_per_second: float = 50.0
    retry_seconds: float = 120.0
    """Budget of one request: no wait goes beyond it. The last try may still be under way."""
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
        if httpx.URL(base_url).scheme not in {"http", "https"}:
            raise ValueError("the base URL must begin with https:// (or http://)")
        self.limits = limits or Limits()
        self.requests = 0
        """Requests sent so far, retries included."""
        self.now = now
        self._sleep = sleep
        self._auth = Bearer(key)
        self._pace = Pace(self.limits.requests_per_second)
        self._in_flight = asyncio.Semaphore(self.limits.concurrency)
        self._http = httpx.AsyncClient(
            base_url=base_url,
            auth=self._auth,
            transport=transport,
            timeout=httpx.Timeout(self.limits.request_timeout, connect=10.0, pool=None),
            follow_redirects=False,
            # A proxy from the environment is sent https:// as it is, but could read http://.
            trust_env=httpx.URL(base_url).scheme == "https",
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": "mka1-usage",
            },
        )
        self._address = str(self._http.base_url.copy_with(userinfo=b"")).rstrip("/")

    def __repr__(self) -> str:
        return f"Client({self._address!r})"

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

        Raises Unauthorized, Refused, QuotaExhausted, Unavailable, AnswerTooBig, ShapeError,
        InvalidQuery for a question that no URL holds, and whatever else `decode` raises.
        """
        asked = self._asked(path, params)
        limits = self.limits
        tries = retrying(limits.retry_seconds, limits.attempts, limits.longest_wait, self._sleep)
        try:
            request = self._http.build_request(
                "GET", path, params=httpx.QueryParams(list(params)), headers=dict(headers or {})
            )
        except httpx.InvalidURL as error:
            raise InvalidQuery(f"{asked} cannot be sent: {self._cut(str(error))}") from None
        try:
            return await tries(self._once, request, decode, asked)
        except TryAgain as last:
            raise last.giving_up(asked, int(tries.statistics["attempt_number"])) from None

    async def _once(
        self, request: httpx.Request, decode: Callable[[bytes], T], asked: str
    ) -> Answer[T]:
        async with self._in_flight:
            generation = await self._pace.turn()
            self.requests += 1
            began = time.monotonic()
            status, answer_headers, body = await self._send(request, asked)
            seconds = time.monotonic() - began
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.too_fast(generation)
            wait = retry_after(answer_headers.get("Retry-After"), self.now())
            raise TryAgain(f"429: {self._excerpt(body)}", wait, rate_limited=True)
        self._pace.went_well()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait = retry_after(answer_headers.get("Retry-After"), self.now())
            raise TryAgain(f"{status}: {self._excerpt(body)}", wait)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unauthorized(
                f"{asked} was refused with {status}: {self._excerpt(body)}. "
                "Check the key in MKA1_API_KEY and what it may read."
            )
        if status != HTTPStatus.OK:
            where = answer_headers.get("Location")
            moved = f" (a redirect to {self._cut(where)}, not followed)" if where else ""
            raise Refused(
                f"{asked} was refused with {status}{moved}: {self._excerpt(body)}", status
            )
        try:
            return Answer(decode(body), len(body), seconds)
        except MalformedBody as error:
            raise TryAgain(f"200 with {error} ({len(body):,} bytes)") from None
        except ShapeError as error:
            raise ShapeError(
                f"{asked} was answered with {error}: {self._excerpt(body)}. "
                "The API may have changed; compare with its current reference."
            ) from None

    async def _send(self, request: httpx.Request, asked: str) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and whole body; never more than `max_bytes` of it."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with (
                asyncio.timeout(self.limits.request_timeout),
                aclosing(await self._http.send(request, stream=True)) as response,
            ):
                refused = response.status_code != HTTPStatus.OK
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if refused and size > _LONGEST_ERROR_BODY:
                        chunks = [b"(a long body)"]
                        break
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
            reason = self._cut(f"{type(error).__name__} {error}".strip())
            raise TryAgain(f"no whole answer: {reason}") from None

    def _asked(self, path: str, params: Params) -> str:
        query = str(httpx.QueryParams(list(params)))
        return self._cut(
            f"GET {self._address}{path}{'?' if query else ''}{query}", _LONGEST_QUESTION
        )

    def _excerpt(self, body: bytes) -> str:
        text = self._auth.redact(body[:_LONGEST_ERROR_BODY].decode("utf-8", "replace"))
        if len(body) > _LONGEST_ERROR_BODY:
            text = text[:_EXCERPT]  # not the end, where a key may have been cut in two
        return self._cut(" ".join(text.split())) or "(no body)"

    def _cut(self, text: str, length: int = _EXCERPT) -> str:
        """`text` without the key, and then no longer than `length`: the key is not cut in two."""
        text = self._auth.redact(text)
        return text if len(text) <= length else text[:length] + "…"
