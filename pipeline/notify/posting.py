"""One HTTP POST of JSON, tried again where that may help.

The URL is a secret: no error holds more of it than its host. Redirects are not followed, so nobody
else gets the message. Proxies and certificates are those of the client of the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote_plus

import httpx
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pipeline.api import RouteError
from pipeline.api.network import route_to
from pipeline.api.retry import retry_after, worth_another_try
from pipeline.messages import count
from pipeline.notify.channel import ChannelError, RefusedError

ATTEMPTS: Final = 3
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
"""Seconds for a connection, and for each piece of a question or an answer."""
_LONGEST_WAIT: Final = 5.0
_EXCERPT: Final = 100
"""Characters of an answer that a message quotes."""
_READ: Final = 4_096
"""Bytes of an answer in which secrets are looked for."""
_OF_THE_MESSAGE: Final = {400, 413, 422}
"""Statuses that are about what was sent: another message may be taken."""


class _AgainError(Exception):
    def __init__(self, words: str, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.seconds = seconds


def post(
    url: SecretStr,
    body: bytes,
    headers: Mapping[str, str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """POST `body`; ChannelError where no answer says that it was taken, RefusedError where one is
    about this message.

    An answer that is lost may mean that it was: then it is sent twice.
    """
    try:
        route = route_to(url.get_secret_value())
    except RouteError as error:
        raise ChannelError(str(error)) from None
    tries = Retrying(
        retry=retry_if_exception_type(_AgainError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=_wait,
        sleep=sleep,
        reraise=True,
    )
    with httpx.Client(
        verify=route.tls,
        proxy=route.proxy,
        trust_env=False,  # the route is what the environment says
        follow_redirects=False,
        timeout=_TIMEOUT,
    ) as client:
        try:
            tries(_once, client, url, body, headers)
        except _AgainError as error:
            words = f"{error} (after {count(ATTEMPTS, 'try')})"
            raise ChannelError(words) from None


def host_of(url: SecretStr) -> str:
    """Scheme and host, which are no secret."""
    parsed = httpx.URL(url.get_secret_value())
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _once(client: httpx.Client, url: SecretStr, body: bytes, headers: Mapping[str, str]) -> None:
    typed = {"Content-Type": "application/json", "User-Agent": "mka1-usage", **headers}
    try:
        with client.stream("POST", url.get_secret_value(), content=body, headers=typed) as response:
            status = response.status_code
            if 200 <= status < 300:
                return
            words = f"{host_of(url)} answered {status}{_excerpt(response, url)}"
    except httpx.ConnectError as error:
        raise _AgainError(f"no connection to {host_of(url)}: {type(error).__name__}") from None
    except httpx.TransportError as error:
        raise _AgainError(f"no answer of {host_of(url)}: {type(error).__name__}") from None
    if 300 <= status < 400:
        raise ChannelError(f"{words}: a redirect, which is not followed")
    if worth_another_try(status):
        wait = retry_after(response.headers.get("retry-after"), time.time())
        raise _AgainError(words, wait or 0.0)
    raise RefusedError(words) if status in _OF_THE_MESSAGE else ChannelError(words)


def _excerpt(response: httpx.Response, url: SecretStr) -> str:
    """The beginning of what it says, if that is text and does not repeat the secret."""
    try:
        first = next(response.iter_bytes(_READ), b"")
    except httpx.HTTPError:
        return ""
    text = " ".join(first.decode("utf-8", "replace").split())
    shown = text[:_EXCERPT]
    # Looked for in all that was read: a secret that is cut is one, too.
    if not shown or not shown.isprintable() or any(part in text for part in _secrets(url)):
        return ""
    return f": {shown}"


def _secrets(url: SecretStr) -> set[str]:
    """Parts of a path and values of a query, as they are written and as they are read."""
    path, _, query = httpx.URL(url.get_secret_value()).raw_path.decode("ascii").partition("?")
    values = [value or name for name, _, value in (it.partition("=") for it in query.split("&"))]
    parts = [*path.split("/"), *values]
    return {text for part in parts for text in (part, unquote_plus(part)) if len(text) > 3}


def _wait(state: RetryCallState) -> float:
    """Half a second, then one; or what the server says, within reason."""
    error = state.outcome.exception() if state.outcome else None
    requested = error.seconds if isinstance(error, _AgainError) else 0.0
    return min(max(requested, 0.5 * state.attempt_number), _LONGEST_WAIT)
