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
from http import HTTPStatus
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import httpcore
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
from pipeline.api.rate_limit import Quota, RateLimiter
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
    """A request, as often as it is sent. As text it is what errors say of it."""

    words: _Words
    method: str
    path: str
    params: Params
    private: bool
    body: bytes | None = None

    def __str__(self) -> str:
        """Method and address, without the user ids of a private question."""
        hidden: frozenset[str] = _PERSONAL if self.private else frozenset()
        shown = tuple((name, "-" if name in hidden else value) for name, value in self.params)
        query = str(httpx.QueryParams(shown))
        return self.words.cut(
            f"{self.method} {self.words.address}{self.path}{'?' if query else ''}{query}",
            _LONGEST_QUESTION,
        )

    @property
    def is_post(self) -> bool:
        """Whether it may not be asked again."""
        return self.method == "POST"

    def is_done(self, status: int) -> bool:
        """Whether an answer says that it was done as asked; to a POST, also that it was created."""
        return status == HTTPStatus.OK or (self.is_post and 200 <= status < 300)


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


def _outcome_unknown(asked: _Question, came_back: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{asked} was sent and brought {came_back}. It may or may not have been done: look before "
        "sending it again."
    )


class _Words:
    """What errors say of questions and answers: never the key."""

    def __init__(self, auth: Bearer, address: str) -> None:
        self.address = address
        self._auth = auth

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


# A read of the socket brings up to 256 kB. httpcore would hand it on in four pieces: 42 answers of
# 4 MB take 0.25 s of processor time then, and 0.20 s so.
httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = 256 * 1024


class _Connection:
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
        self, request: httpx.Request, asked: _Question
    ) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and whole body; never more than `max_bytes` of it."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with (
                asyncio.timeout(self._limits.request_timeout),
                aclosing(await self._client.send(request, stream=True)) as response,
            ):
                status, headers = response.status_code, response.headers
                if not asked.is_done(status):
                    return status, headers, await _why(response)
                async for chunk in decompressed(response):
                    size += len(chunk)
                    if size > self._limits.max_bytes:
                        raise self._too_big(asked)
                    chunks.append(chunk)
                return status, headers, b"".join(chunks)
        except UnknownCoding as error:
            if asked.is_post:
                raise _outcome_unknown(asked, str(error)) from None
            raise UnknownCoding(
                f"{asked} was answered with {error}. Let whoever runs the gateway, or a proxy on "
                "the way, send it plain or in gzip, as was asked for."
            ) from None
        except _NO_CONNECTION as error:
            raise self._no_connection(error, asked) from None
        except (TimeoutError, httpx.ReadTimeout):
            if asked.is_post:
                raise _outcome_unknown(asked, "no answer in time") from None
            raise AnswerTooBig(
                f"{asked} had not been answered in whole after {self._limits.request_timeout:g} s"
            ) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            # The chain is cut: what httpx carries along holds the request and its headers.
            # And of a private answer nothing is quoted: the reason has what was no HTTP.
            reason = type(error).__name__
            if not asked.private:
                reason = self._words.cut(f"{reason} {error}".strip())
            if asked.is_post:
                raise _outcome_unknown(asked, f"no whole answer: {reason}") from None
            raise RetryableError(f"no whole answer: {reason}") from None

    def _too_big(self, asked: _Question) -> Exception:
        if asked.is_post:
            return _outcome_unknown(asked, f"more than {self._limits.max_bytes:,} bytes")
        return AnswerTooBig(
            f"{asked} is answered with more than the {self._limits.max_bytes:,} bytes that "
            "MKA1_USAGE_MAX_ANSWER_MB allows",
            slow=False,
        )

    def _no_connection(self, error: Exception, asked: _Question) -> Exception:
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

    `private`: every answer is, see `get`. `quota`: one that other clients share. `odd_text` notes
    which texts were not Unicode. `on_retry` is called before each wait between two tries of a
    request. `transport` is the seam for tests; `sleep` and `now` (Unix seconds) are the clock.
    RouteError where the environment names a proxy or certificates that can't be used.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        limits: Limits | None = None,
        *,
        private: bool = False,
        quota: Quota | None = None,
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
        self.retries = 0
        """Tries so far that failed and were followed by another."""
        self.quota_answers = 0
        """Answers so far with status 429."""
        self.odd_text = odd_text or OddText()
        """What was not Unicode in the answers so far."""
        self.clock = now if isinstance(now, Clock) else Clock(now)
        """Unix seconds, compared with the API's own."""
        self._private = private
        self._on_retry = on_retry
        self._sleep = sleep
        self._auth = Bearer(key)
        self._rate_limit = RateLimiter(self.limits.requests_per_second, quota)
        self._address = str(httpx.URL(base_url).copy_with(userinfo=b"")).rstrip("/")
        self._words = _Words(self._auth, self._address)
        # Made once, for reading the authorities takes longer than a request.
        route = route_to(base_url)
        self._connections = [
            _Connection(route, self.limits, self._auth, self._words, transport)
            for _ in range(self.limits.concurrency)
        ]
        self._idle: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for one in self._connections:
            self._idle.put_nowait(one)
        self._timeout = httpx.Timeout(self.limits.request_timeout, connect=10, pool=None).as_dict()
        self._base = httpx.URL(base_url)
        self._base_path = self._base.raw_path.rstrip(b"/")

    def __repr__(self) -> str:
        return f"Client({self._address!r})"

    @property
    def account(self) -> str:
        """A name for the host and the key together, from which neither can be found out."""
        return self._auth.digest(self._address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._connections:
            await connection.close()

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
        asked = _Question(self._words, "GET", path, params, private)
        return await self._exchange(asked, decode, headers)

    async def post(
        self,
        path: str,
        body: bytes,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Answer[T]:
        """POST a JSON `body`, once. The answer is private.

        Raises what `get` raises, and OutcomeUnknown where it may or may not have been done.
        """
        typed = {b"Content-Type": b"application/json", **(headers or {})}
        asked = _Question(self._words, "POST", path, (), True, body)
        return await self._exchange(asked, decode, typed)

    async def _exchange(
        self,
        asked: _Question,
        decode: Callable[[bytes], T],
        headers: Mapping[bytes, bytes] | None,
    ) -> Answer[T]:
        limits = self.limits
        tries = retrying(
            *(limits.retry_seconds, limits.attempts, limits.longest_wait),
            self._sleep,
            self._retried,
        )
        query = str(httpx.QueryParams(list(asked.params)))
        target = self._base_path + asked.path.encode() + (f"?{query}".encode() if query else b"")
        try:
            # Not the client's own way, which parses the URL three times.
            request = httpx.Request(
                asked.method,
                self._base.copy_with(raw_path=target),
                headers={**_HEADERS, **(headers or {})},
                content=asked.body,
                extensions={"timeout": self._timeout},
            )
        except httpx.InvalidURL as error:
            raise InvalidQuery(f"{asked} cannot be sent: {self._words.cut(str(error))}") from None
        if request.url.raw_path.partition(b"?")[0] != self._base_path + asked.path.encode():
            # `.` and `..` are taken out of paths: the question would reach another endpoint.
            raise InvalidQuery(f"{asked} cannot be sent: its path would become another")
        try:
            return await tries(self._once, request, decode, asked)
        except RetryableError as last:
            raise last.giving_up(str(asked), int(tries.statistics["attempt_number"])) from None

    def _retried(self, retry: Retry) -> None:
        self.retries += 1
        self._on_retry(retry)

    async def _once(
        self, request: httpx.Request, decode: Callable[[bytes], T], asked: _Question
    ) -> Answer[T]:
        private = asked.private
        connection = await self._idle.get()
        try:
            async with self._rate_limit.turn() as generation:
                self.requests += 1
                began, sent = time.monotonic(), self.clock.local()
                status, answer_headers, body = await connection.send(request, asked)
                seconds = time.monotonic() - began
                self.clock.heard(answer_headers, sent)
        finally:
            self._idle.put_nowait(connection)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.quota_answers += 1
            self._rate_limit.too_fast(generation)
            wait = retry_after(answer_headers.get("Retry-After"), self.clock())
            raise RetryableError(
                f"429: {self._words.excerpt(body, private)}", wait, rate_limited=True
            )
        self._rate_limit.went_well()
        if asked.is_post and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _outcome_unknown(asked, f"{status}: {self._words.excerpt(body, private)}")
        if not asked.is_post and worth_another_try(status):
            wait = retry_after(answer_headers.get("Retry-After"), self.clock())
            raise RetryableError(f"{status}: {self._words.excerpt(body, private)}", wait)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unauthorized(
                f"{asked} was refused with {status}: {self._words.excerpt(body, private)}. "
                "Check the key in MKA1_API_KEY or MKA1_API_KEYS, and what it may do.",
                status,
            )
        if not asked.is_done(status):
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
            if asked.is_post:
                raise _outcome_unknown(asked, came) from None
            raise self._unreadable(error, came, asked, body) from None

    def _unreadable(
        self, error: MalformedBody | ShapeError, came: str, asked: _Question, body: bytes
    ) -> Exception:
        excerpt = self._words.excerpt(body, asked.private)
        if isinstance(error, MalformedBody):
            return RetryableError(came + (f": {excerpt}" if error.says_why else ""))
        return ShapeError(
            f"{asked} was answered with {error}: {excerpt}. "
            "The API may have changed; compare with its current reference."
        )
