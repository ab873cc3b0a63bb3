"""The gateway in front of the API: it lets faults happen on the wire, and logs every request."""

import asyncio
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate

from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.emulator.app import LATE_BY
from pipeline.emulator.faults import FaultPlan, Faults

RequestLog = list[tuple[str, str, int]]
"""(method, path and query as sent, status); the status of a refused connection is 0."""
Hangup = Callable[[tuple[str, int]], None]
"""Closes the connection of a client's (host, port) once what was written to it has been sent."""

HTML_PAGE = b"<!doctype html><title>Please sign in</title><p>This network needs you to sign in.</p>"


@dataclass
class Gateway:
    """An ASGI app in front of `app`. `plan` is asked anew for each request."""

    app: ASGIApp
    plan: Callable[[], FaultPlan]
    log: RequestLog
    hang_up: Hangup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        target = _target(scope)
        plan = self.plan()
        client: tuple[str, int] = scope["client"]

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.log.append((scope["method"], target, message["status"]))
            await send(message)

        answering = scope, receive, logged
        kind = plan.next_request(f"{scope['method']} {target}")
        if plan.faults.latency:
            await asyncio.sleep(plan.faults.latency)
        match kind:
            case None:
                await self.app(*answering)
            case "rate_limited":
                await _error(429, "Rate limit exceeded", retry_after(plan.faults))(*answering)
            case "quota_used_up":
                wait = str(plan.faults.quota_retry_after)
                await _error(429, "Rate limit exceeded", wait)(*answering)
            case "server_error":
                await _error(plan.next_server_error(), "The server had an error")(*answering)
            case "timed_out":
                await self._answer({**scope, LATE_BY: plan.faults.timed_out_by}, receive)
                await _error(504, "The server took too long")(*answering)
            case "not_json":
                await HTMLResponse(HTML_PAGE)(*answering)
            case "refused":
                self.log.append((scope["method"], target, 0))
                self.hang_up(client)
                await _gone(receive)
            case "truncated":
                answer = await self._answer(scope, receive)
                await logged(answer.start(len(answer.half)))
                await logged({"type": "http.response.body", "body": answer.half})
            case "reset":
                answer = await self._answer(scope, receive)
                await logged(answer.start(len(answer.body)))
                body = {"type": "http.response.body", "body": answer.half, "more_body": True}
                await logged(body)
                self.hang_up(client)
                await _gone(receive)

    async def _answer(self, scope: Scope, receive: Receive) -> "_Answer":
        answer = _Answer()
        await self.app(scope, receive, answer.take)
        return answer


class _Answer:
    """A whole answer, held back."""

    def __init__(self) -> None:
        self._start: MutableMapping[str, object] = {}
        self.body = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self.body += message.get("body", b"")

    @property
    def half(self) -> bytes:
        """The first half: never valid JSON, as it lacks the closing brace."""
        return self.body[: len(self.body) // 2]

    def start(self, length: int) -> Message:
        """The start of the answer, declaring a body of `length` bytes."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
        return {**self._start, "headers": headers}


def retry_after(faults: Faults) -> str | None:
    """`Retry-After` for a 429, in the form that the switch asks for."""
    if faults.retry_after == "seconds":
        return str(faults.retry_after_seconds)
    if faults.retry_after == "date":
        # By the machine's clock, not the world's: a client compares it with its own.
        return formatdate(time.time() + faults.retry_after_seconds, usegmt=True)
    return None


def _error(status: int, message: str, wait: str | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, {} if wait is None else {"Retry-After": wait})


def _target(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


async def _gone(receive: Receive) -> None:
    """Wait until the connection has been closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
