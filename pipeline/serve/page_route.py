"""The page over HTTP: who is let in, how long it takes, and what a browser may do with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pipeline.serve.keys import Keys
from pipeline.serve.live import Problem
from pipeline.serve.page_question import Question, read
from pipeline.serve.pages import Page, Pages, TooManyError, problem_page

LONGEST_PAGE_QUERY: Final = 1 << 13
"""Bytes of a query string."""
LONGEST_WAIT: Final = 25.0
"""Seconds after which a browser is told to ask again; the page is made meanwhile."""
_HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Authorization",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_EMPTY: Final = re.compile(rb"=(&|$)")
"""A field that a form sent empty: its page has a shorter address, which is the one to keep."""
_AGAIN: Final = {"Retry-After": "5", "Refresh": "5"}
_BUSY: Final = Problem(
    "This page is still being made", "It is asked for again in 5 seconds, without your doing."
)
_LOCKED: Final = Problem(
    "This page asks for a key",
    "Reload it, and enter one of the keys of MKA1_USAGE_SERVE_KEYS as the password; the user name "
    "may be anything.",
)
_BROKEN: Final = Problem(
    "The server failed",
    "Reload this page. If it fails again, tell whoever runs the server: what went wrong stands in "
    "its output.",
)
_TOO_LONG: Final = Problem(
    "The address is too long", f"It may have {LONGEST_PAGE_QUERY:,} bytes behind the question mark."
)


def page_route(
    keys: Keys, pages: Pages, known: Callable[[str, str], bool]
) -> Callable[[Request], Awaitable[Response]]:
    """What answers `/`. `known` says whether a tag is among those of `If-None-Match`."""
    locked = problem_page(401, _LOCKED)
    too_long = problem_page(414, _TOO_LONG)
    busy = problem_page(503, _BUSY)

    async def report(request: Request) -> Response:
        if keys and not keys.admit_browser(request.headers.get("authorization")):
            challenge = {"WWW-Authenticate": 'Basic realm="MKA1 usage", charset="UTF-8"'}
            return _response(locked, challenge)
        raw: bytes = request.scope["query_string"]
        if len(raw) > LONGEST_PAGE_QUERY:
            return _response(too_long)
        asked = read(raw)
        if isinstance(asked, Question) and _EMPTY.search(raw):
            return Response(status_code=303, headers={**_HEADERS, "Location": asked.address})
        try:
            page, etag = await asyncio.wait_for(pages.page(asked), LONGEST_WAIT)
        except (TimeoutError, TooManyError):
            return _response(busy, _AGAIN)
        tag = {"ETag": etag} if page.status == 200 else {}
        if tag and known(etag, ", ".join(request.headers.getlist("if-none-match"))):
            return Response(status_code=304, headers={**_HEADERS, **tag})
        return _response(page, tag)

    return report


def broken() -> Response:
    """What a browser gets when an error was not expected; the operator gets the error."""
    return _response(problem_page(500, _BROKEN))


def _response(page: Page, headers: dict[str, str] | None = None) -> Response:
    return Response(
        page.content, page.status, {**_HEADERS, **(headers or {})}, media_type="text/html"
    )
