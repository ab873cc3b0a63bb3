"""Receivers of messages on loopback: an HTTP server and a mail server, with what reached them.

Belongs here: starting them, what they answer, and what they were sent.
"""

from __future__ import annotations

import asyncio
import email
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.bounded import join


@dataclass(slots=True)
class Posted:
    """A request that reached the HTTP server."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Hooks:
    """The HTTP server. `answers` are given in order, the last of them for ever."""

    url: str
    answers: list[tuple[int, Mapping[str, str], bytes]]
    posted: list[Posted] = field(default_factory=list[Posted])


@contextmanager
def hooks(*answers: tuple[int, Mapping[str, str], bytes]) -> Iterator[Hooks]:
    """An HTTP server that takes POSTs, until the end of the block."""
    found = Hooks("", [*answers] or [(200, {}, b"ok")])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posted.append(Posted(self.path, dict(self.headers.items()), body))
            some = found.answers
            status, headers, content = some.pop(0) if len(some) > 1 else some[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: it is no news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield found
        finally:
            server.shutdown()
            join(thread)


@dataclass(slots=True)
class Mails:
    """The mail server: senders, receivers and mails, in order."""

    port: int = 0
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list[tuple[str, list[str]]])
    mails: list[EmailMessage] = field(default_factory=list[EmailMessage])
    logins: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    encrypted: list[bool] = field(default_factory=list[bool])


class _Handler:
    """What aiosmtpd calls. `refused` receivers do not exist; `quitting` is said at the end."""

    def __init__(self, mails: Mails, refused: frozenset[str], quitting: str) -> None:
        self._mails = mails
        self._refused = refused
        self._quitting = quitting

    async def handle_QUIT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, ___: Envelope
    ) -> str:
        return self._quitting

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        if address in self._refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self._mails.envelopes.append((str(envelope.mail_from), [*envelope.rcpt_tos]))
        mail = email.message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self._mails.mails.append(mail)
        assert server.transport is not None
        secure = server.transport.get_extra_info("ssl_object") is not None
        self._mails.encrypted.append(secure)
        return "250 OK"


@contextmanager
def mail_server(
    *,
    refused: frozenset[str] = frozenset(),
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    quitting: str = "221 Bye",
) -> Iterator[Mails]:
    """A mail server, until the end of the block. With a `password`, it asks for that."""
    mails = Mails()

    def login(*args: Any) -> AuthResult:
        data = args[-1]
        assert isinstance(data, LoginPassword)
        mails.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode() == password, handled=False)

    def protocol() -> SMTP:
        made = SMTP(
            _Handler(mails, refused, quitting),
            hostname="mail.example",
            tls_context=starttls,
            authenticator=login if password else None,
            auth_required=password is not None,
            auth_require_tls=False,
        )
        protocols.append(made)
        return made

    protocols: list[SMTP] = []

    async def close() -> None:
        server.close()
        for made in protocols:
            if made.transport is not None:
                made.transport.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    with _loop() as do:
        server = do(lambda loop: loop.create_server(protocol, "127.0.0.1", 0, ssl=tls))
        mails.port = server.sockets[0].getsockname()[1]
        try:
            yield mails
        finally:
            do(lambda _: close())


@contextmanager
def _loop() -> Iterator[Callable[[Callable[[asyncio.AbstractEventLoop], Any]], Any]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work(loop), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        join(thread)
        loop.close()
