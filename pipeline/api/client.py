"""One authenticated GET or POST that either brings a decoded body or says clearly why not.

Belongs here: transport, timeouts, size limits, and what becomes of an answer (docs/api.md,
"Retries"). Redirects are never followed: a key goes to one host only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import httpx
from pydantic import SecretStr
from socksio import SOCKSError

from pipeline.api.clock import Clock
from pipeline.api.decompression import decompressed
from pipeline.api.errors import (
    AnswerTooBig,
    InvalidQuery,
    MalformedBody,
    OutcomeUnknown,
    Refused,
    ShapeError,
    Unauthorized,
    UnknownCoding,
)
from pipeline.api.network import Route, route_to
from pipeline.api.rate_limit import RateLimiter
from pipeline.api.redaction import Bearer
from pipeline.api.retry import Retry, RetryableError, retry_after, retrying, worth_another_try
from pipeline.api.unicode import OddText
from pipeline.messages import count

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Params = Sequence[tuple[str, str]]

_HEADERS: Final = {
    b"Accept": b"application/json",
    b"Accept-Encoding": b"gzip",
    b"User-Agent": b"mka1-usage",
}
_PERSONAL: Final = frozenset({"user_ids", "external_user_ids", "page"})
"""Parameters that hold user ids, or may: what is in a cursor is the server's business."""
_EXCERPT: Final = 200
_LONGEST_QUESTION: Final = 1_000
_LONGEST_ERROR_BODY: Final = 64 * 1024
_NO_CONNECTION: Final = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError),
    SOCKSError,
)
"""What is raised before a request has left, also by what is no proxy though it was named as one."""


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
class Answer(Generic[T_co]):
    """A decoded body, its size in bytes and the seconds that the last try took."""

    value: T_co
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    path: str
    params: Params
    private: bool
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Lazy:
    """A text that only an error needs: it is made when it is asked for."""

    make: Callable[[], str]

    def __str__(self) -> str:
        return self.make()


def _is_done(request: httpx.Request, status: int) -> bool:
    """Whether an answer says that it was done as asked; to a POST, also that it was created."""
    return status == HTTPStatus.OK or (request.method == "POST" and 200 <= status < 300)


async def _why(response: httpx.Response) -> bytes:
    """The body of a refusal, as far as a message needs it."""
    if response.status_code == HTTPStatus.MISDIRECTED_REQUEST:
        # What is not read to its end is closed: another try takes another connection.
        return b"(a body that was not read)"
    body = b""
    try:
        async for chunk in decompressed(response):
            body += chunk
            if len(body) > _LONGEST_ERROR_BODY:
                return b"(a long body)"
    except (UnknownCoding, httpx.DecodingError):
        return b"(a body that can't be unpacked)"
    return body


def _outcome_unknown(asked: _Lazy, came_back: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{asked} was sent and brought {came_back}. It may or may not have been done: look before "
        "sending it again."
    )


class _Words:
    """What errors say of questions and answers: never the key."""

    def __init__(self, auth: Bearer, address: str) -> None:
        self._auth = auth
        self._address = address

    def asked(self, question: _Question) -> str:
        """A question, without the user ids of a private one."""
        hidden: frozenset[str] = _PERSONAL if question.private else frozenset()
        shown = tuple((name, "-" if name in hidden else value) for name, value in question.params)
        query = str(httpx.QueryParams(shown))
        return self.cut(
            f"{question.method} {self._address}{question.path}{'?' if query else ''}{query}",
            _LONGEST_QUESTION,
        )

    def excerpt(self, body: bytes, private: bool) -> str:
        """The beginning of a body; of a private one its size alone."""
        if private:
            return f"(a body of {count(len(body), 'byte')}, which may hold what people wrote)"
        text = self._auth.redact(body[:_LONGEST_ERROR_BODY].decode("utf-8", "replace"))
        if len(body) > _LONGEST_ERROR_BODY:
            text = text[:_EXCERPT]  # not the end, where a key may have been cut in two
        return self.cut(" ".join(text.split())) or "(no body)"

    def cut(self, text: str, length: int = _EXCERPT) -> str:
        """`text` without the key, and then no longer than `length`: the key is not cut in two."""
        text = self._auth.redact(text)
        return text if len(text) <= length else text[:length] + "…"


class _Lane:
    """A connection pool for one request at a time, and what becomes of that on the way.

    A pool looks at each of its connections for every request: with 32 in flight that takes longer
    than the requests. So each request in flight has a pool of its own.
    """

    def __init__(
        self,
        route: Route,
        limits: Limits,
        auth: Bearer,
        words: _Words,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._route = route
        self._limits = limits
        self._words = words
        self._client = httpx.AsyncClient(
            auth=auth,
            transport=transport,
            verify=route.tls,
            proxy=None if transport else route.proxy,
            follow_redirects=False,
            trust_env=False,  # the route is what the environment says
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def send(
        self, request: httpx.Request, asked: _Lazy, private: bool
    ) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and whole body; never more than `max_bytes` of it."""
        posted = request.method == "POST"
        chunks: list[bytes] = []
        size = 0
        try:
            async with (
                asyncio.timeout(self._limits.request_timeout),
                aclosing(await self._client.send(request, stream=True)) as response,
            ):
                status, headers = response.status_code, response.headers
                if not _is_done(request, status):
                    return status, headers, await _why(response)
                async for chunk in decompressed(response):
                    size += len(chunk)
                    if size > self._limits.max_bytes:
                        raise self._too_big(asked, posted)
                    chunks.append(chunk)
                return status, headers, b"".join(chunks)
        except UnknownCoding as error:
            if posted:
                raise _outcome_unknown(asked, str(error)) from None
            raise UnknownCoding(
                f"{asked} was answered with {error}. Let whoever runs the gateway, or a proxy on "
                "the way, send it plain or in gzip, as was asked for."
            ) from None
        except _NO_CONNECTION as error:
            raise self._no_connection(error, asked) from None
        except (TimeoutError, httpx.ReadTimeout):
            if posted:
                raise _outcome_unknown(asked, "no answer in time") from None
            raise AnswerTooBig(
                f"{asked} had not been answered in whole after {self._limits.request_timeout:g} s"
            ) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            # The chain is cut: what httpx carries along holds the request and its headers.
            # And of a private answer nothing is told: the reason quotes what was no HTTP.
            reason = type(error).__name__
            if not private:
                reason = self._words.cut(f"{reason} {error}".strip())
            if posted:
                raise _outcome_unknown(asked, f"no whole answer: {reason}") from None
            raise RetryableError(f"no whole answer: {reason}") from None

    def _too_big(self, asked: _Lazy, posted: bool) -> Exception:
        most = f"{self._limits.max_bytes:,}"
        if posted:
            return _outcome_unknown(asked, f"more than {most} bytes")
        return AnswerTooBig(
            f"{asked} is answered with more than the {most} bytes that MKA1_USAGE_MAX_ANSWER_MB "
            "allows",
            slow=False,
        )

    def _no_connection(self, error: Exception, asked: _Lazy) -> Exception:
        """What to raise where no connection came about."""
        if refusal := self._route.refusal(error):
            return refusal
        distrust = self._route.distrust(error)
        hint = distrust or self._route.words
        reason = self._words.cut(f"{type(error).__name__} {error}".strip())
        again = RetryableError(f"no connection: {reason}" + (f" ({hint})" if hint else ""))
        # Of a certificate that is not trusted another try would bring the same.
        return again.giving_up(str(asked), 1) if distrust else again


class Client:
    """An async client of one API host with one key. Use it as an async context manager.

    `private`: every answer is, see `get`. `odd_text` notes which texts were not Unicode. `on_retry`
    is called before each wait between two tries of a request. `transport` is the seam for tests;
    `sleep` and `now` (Unix seconds) are the clock. RouteError where the environment names a proxy
    or certificates that can't be used.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        limits: Limits | None = None,
        *,
        private: bool = False,
        on_retry: Callable[[Retry], None] = lambda _: None,
        odd_text: OddText | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        if httpx.URL(base_url).scheme not in {"http", "https"}:
            raise ValueError("the base URL must begin with https:// (or http://)")
        self.limits = limits or Limits()
        self.requests = 0
        """Requests sent so far, retries included."""
        self.odd_text = odd_text or OddText()
        """What was not Unicode in the answers so far."""
        self.clock = now if isinstance(now, Clock) else Clock(now)
        """Unix seconds, held against the API's own."""
        self._private = private
        self._on_retry = on_retry
        self._sleep = sleep
        self._auth = Bearer(key)
        self._pace = RateLimiter(self.limits.requests_per_second)
        self._address = str(httpx.URL(base_url).copy_with(userinfo=b"")).rstrip("/")
        self._words = _Words(self._auth, self._address)
        # Made once, for reading the authorities takes longer than a request.
        route = route_to(base_url)
        self._lanes = [
            _Lane(route, self.limits, self._auth, self._words, transport)
            for _ in range(self.limits.concurrency)
        ]
        self._idle: asyncio.LifoQueue[_Lane] = asyncio.LifoQueue()
        for one in self._lanes:
            self._idle.put_nowait(one)
        self._timeout = httpx.Timeout(self.limits.request_timeout, connect=10, pool=None).as_dict()
        self._base = httpx.URL(base_url)
        self._base_path = self._base.raw_path.rstrip(b"/")

    def __repr__(self) -> str:
        return f"Client({self._address!r})"

    @property
    def account(self) -> str:
        """A name for the host and the key together, from which neither can be told."""
        return self._auth.digest(self._address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for lane in self._lanes:
            await lane.close()

    async def get(
        self,
        path: str,
        params: Params,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None = None,
        *,
        private: bool = False,
    ) -> Answer[T]:
        """GET `path` and decode its body; `decode` raises MalformedBody for one worth a retry.

        `path` is percent-encoded already. No error quotes an answer that is `private`: it may hold
        what people wrote, or who they are. Raises Unauthorized, Refused, QuotaExhausted,
        Unavailable, AnswerTooBig, UnknownCoding, ShapeError, InvalidQuery for a question that no
        URL holds, and whatever else `decode` does.
        """
        private = private or self._private
        return await self._ask(_Question("GET", path, params, private), decode, headers)

    async def post(
        self,
        path: str,
        params: Params,
        body: bytes,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Answer[T]:
        """POST a JSON `body`, once. The answer is private.

        Raises what `get` raises, and OutcomeUnknown where it may or may not have been done.
        """
        typed = {b"Content-Type": b"application/json", **(headers or {})}
        return await self._ask(_Question("POST", path, params, True, body), decode, typed)

    async def _ask(
        self,
        question: _Question,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None,
    ) -> Answer[T]:
        asked = _Lazy(partial(self._words.asked, question))
        limits = self.limits
        tries = retrying(
            *(limits.retry_seconds, limits.attempts, limits.longest_wait),
            self._sleep,
            self._on_retry,
        )
        query = str(httpx.QueryParams(list(question.params)))
        target = self._base_path + question.path.encode() + (f"?{query}".encode() if query else b"")
        try:
            # Not the client's own way, which parses the URL three times.
            request = httpx.Request(
                question.method,
                self._base.copy_with(raw_path=target),
                headers={**_HEADERS, **(headers or {})},
                content=question.body,
                extensions={"timeout": self._timeout},
            )
        except httpx.InvalidURL as error:
            raise InvalidQuery(f"{asked} cannot be sent: {self._words.cut(str(error))}") from None
        if request.url.raw_path.partition(b"?")[0] != self._base_path + question.path.encode():
            # `.` and `..` are taken out of paths: the question would reach another endpoint.
            raise InvalidQuery(f"{asked} cannot be sent: its path would become another")
        try:
            return await tries(self._once, request, decode, asked, question.private)
        except RetryableError as last:
            raise last.giving_up(str(asked), int(tries.statistics["attempt_number"])) from None

    async def _once(
        self, request: httpx.Request, decode: Callable[[bytes], T], asked: _Lazy, private: bool
    ) -> Answer[T]:
        lane = await self._idle.get()
        try:
            generation = await self._pace.turn()
            self.requests += 1
            began, sent = time.monotonic(), self.clock.local()
            status, answer_headers, body = await lane.send(request, asked, private)
            seconds = time.monotonic() - began
            self.clock.heard(answer_headers, sent)
        finally:
            self._idle.put_nowait(lane)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.too_fast(generation)
            wait = retry_after(answer_headers.get("Retry-After"), self.clock())
            raise RetryableError(
                f"429: {self._words.excerpt(body, private)}", wait, rate_limited=True
            )
        self._pace.went_well()
        if request.method == "POST" and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _outcome_unknown(asked, f"{status}: {self._words.excerpt(body, private)}")
        if request.method == "GET" and worth_another_try(status):
            wait = retry_after(answer_headers.get("Retry-After"), self.clock())
            raise RetryableError(f"{status}: {self._words.excerpt(body, private)}", wait)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unauthorized(
                f"{asked} was refused with {status}: {self._words.excerpt(body, private)}. "
                "Check the key in MKA1_API_KEY or MKA1_API_KEYS, and what it may do.",
                status,
            )
        if not _is_done(request, status):
            where = answer_headers.get("Location")
            shown = "elsewhere" if private else self._words.cut(where or "")
            moved = f" (a redirect to {shown}, not followed)" if where else ""
            raise Refused(
                f"{asked} was refused with {status}{moved}: {self._words.excerpt(body, private)}",
                status,
            )
        try:
            return Answer(decode(body), len(body), seconds)
        except (MalformedBody, ShapeError) as error:
            came = f"{status} with {error} ({count(len(body), 'byte')})"
            if request.method == "POST":
                raise _outcome_unknown(asked, came) from None
            raise self._unreadable(error, came, asked, body, private) from None

    def _unreadable(
        self, error: MalformedBody | ShapeError, came: str, asked: _Lazy, body: bytes, private: bool
    ) -> Exception:
        excerpt = self._words.excerpt(body, private)
        if isinstance(error, MalformedBody):
            return RetryableError(came + (f": {excerpt}" if error.says_why else ""))
        return ShapeError(
            f"{asked} was answered with {error}: {excerpt}. "
            "The API may have changed; compare with its current reference."
        )
