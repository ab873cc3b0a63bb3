"""The server as an ASGI app: routes, who is let in, and errors in the API's shape.

Every answer that is no page is `{"error": "one line"}`, as the API's are.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api.usage import PATH
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.names.file import NamesOfNow
from pipeline.query.buckets import NotLoadedError
from pipeline.serve.answers import Answers, Body, BusyError, UnreadableError
from pipeline.serve.keys import Keys, names_this_machine
from pipeline.serve.metrics import Metrics, Timed
from pipeline.serve.openapi import document
from pipeline.serve.page_route import broken, page_route
from pipeline.serve.pages import Pages
from pipeline.serve.parameters import parse
from pipeline.settings import Settings
from pipeline.terminal import say

COMPLETE_THROUGH: Final = "X-Usage-Complete-Through"
"""The header that says (Unix seconds) before when the page's numbers are complete."""
PAGE_PATH: Final = "/"
LONGEST_QUERY: Final = 1 << 15
"""Bytes of a query string: some 2,000 user ids."""
_BUSY: Final = (
    "this takes longer than the server has now: try again, or ask for fewer buckets, by limit"
)
LONGEST_WAIT: Final = 30.0
"""Seconds after which a page that is still not there is not waited for any more."""
_TAG: Final = re.compile(r'"[^"]*"')
_LONGEST_ERROR: Final = 500
"""Characters of an error, which may quote what was asked."""


def build_app(
    settings: Settings,
    *,
    partial: bool = False,
    clock: Callable[[], float] = time.time,
    pulled_at: Callable[[], float | None] = lambda: None,
) -> Starlette:
    """The app over the lake of `settings`, for those who have one of its keys to serve.

    Where it has none, only requests that call the host by a name of this machine are answered.
    `partial` counts days that were never loaded as empty; `clock` says what "now" is (Unix
    seconds), where a window without an end ends, and `pulled_at` when a copy was pulled.
    """
    keys = Keys(settings.serve_keys)
    lake = Lake(settings.lake, settings.lookback_days, settings.memory)
    names = NamesOfNow(settings, lake)
    answers = Answers(
        lake,
        partial=partial,
        pseudonyms=settings.pseudonyms,
        names=names,
        clock=clock,
    )
    measured = Metrics(
        Lake(settings.lake, settings.lookback_days, settings.memory), settings.home, clock
    )
    pages = Pages(settings, lake, names, pulled_at)
    contract = msgspec.json.encode(document(by_key=bool(keys)))

    def admit(request: Request) -> None:
        if keys and not keys.admit(request.headers.get("authorization")):
            raise HTTPException(
                401, "Missing or invalid API key", headers={"WWW-Authenticate": "Bearer"}
            )

    async def usage(request: Request) -> Response:
        admit(request)
        if "x-on-behalf-of" in request.headers:
            raise HTTPException(400, "X-On-Behalf-Of is not known here: filter by user_ids")
        raw: bytes = request.scope["query_string"]
        if len(raw) > LONGEST_QUERY:
            raise HTTPException(414, f"the query string is longer than {LONGEST_QUERY:,} bytes")
        try:
            query = parse(raw)
            body = answers.kept(query) or await _while_there(request, answers.page(query))
        except BusyError:
            raise HTTPException(503, _BUSY, headers={"Retry-After": "1"}) from None
        except UserIdModeError as error:
            say(f"error: {error}")
            raise HTTPException(
                400, "user_ids is not known here: the lake has ids of another kind than the server"
            ) from None
        except (NotLoadedError, ValueError) as error:
            raise HTTPException(400, str(error)) from None
        except UnreadableError as error:
            say(f"error: {error.words} ({error})")
            raise HTTPException(500, error.words) from None
        headers = {
            COMPLETE_THROUGH: str(body.complete_through),
            "ETag": body.etag,
            "Cache-Control": "private, no-cache",
        }
        if _is_known(body.etag, ", ".join(request.headers.getlist("if-none-match"))):
            return Response(status_code=304, headers=headers)
        return Response(body.content, headers=headers, media_type="application/json")

    async def openapi(_: Request) -> Response:
        return Response(contract, media_type="application/json")

    async def metrics(request: Request) -> Response:
        admit(request)
        content, media_type = await asyncio.to_thread(
            measured.page, request.headers.get("accept", "")
        )
        return Response(content, headers={"Content-Type": media_type})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        answers.close()
        pages.close()

    app = Starlette(
        routes=[
            Route(PATH, usage, methods=["GET"]),
            Route("/openapi.json", openapi),
            Route("/metrics", metrics, methods=["GET"]),
            Route(PAGE_PATH, page_route(keys, pages, _is_known), methods=["GET"]),
        ],
        middleware=[
            Middleware(Timed, answers=measured.answers),
            *([] if keys else [Middleware(_ThisMachineOnly)]),
        ],
        exception_handlers={HTTPException: _refusal, 500: _broken},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # the API's paths are the API's, to the letter
    return app


async def _while_there(request: Request, page: Coroutine[Any, Any, Body]) -> Body:
    """The page, unless the client hangs up before it is there, or it takes too long: BusyError."""
    making, leaving = asyncio.ensure_future(page), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait((making, leaving), timeout=LONGEST_WAIT, return_when="FIRST_COMPLETED")
        if making.done():
            return making.result()
        raise BusyError
    finally:
        making.cancel()
        leaving.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_known(etag: str, if_none_match: str) -> bool:
    """Whether a page is one that the client has, as `If-None-Match` names them (RFC 9110, 13.1.2).

    `*` is any page, and a weak tag is as good as a strong one.
    """
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


class _ThisMachineOnly:
    """Refuses requests that call the server by another name than this machine's own.

    So a page of some other site cannot read the lake through its visitor's browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and not names_this_machine(Headers(scope=scope).get("host")):
            app = _error(
                400,
                "the header Host must be localhost, 127.0.0.1 or [::1]: without "
                "MKA1_USAGE_SERVE_KEYS, this server answers its own machine only",
            )
        await app(scope, receive, send)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    if len(message) > _LONGEST_ERROR:
        message = message[: _LONGEST_ERROR - 1] + "…"
    content = msgspec.json.encode({"error": message})
    return Response(content, status, headers, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _error(error.status_code, error.detail, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    if request.scope["path"] == PAGE_PATH:
        return broken()
    return _error(500, f"the server failed: {type(error).__name__}")
