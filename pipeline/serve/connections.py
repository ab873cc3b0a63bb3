"""Connections: what each may take of the server's time and room, and where its requests end.

No bound here needs a key, so that nobody without one can hold the server up. Where there is no
room, the connection that has kept the server waiting the longest for a request is closed: those who
send their requests at once are served, however many others do not.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter, deque
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pipeline.serve.app import LONGEST_QUERY

if sys.platform != "win32":
    import resource

_LONGEST_HEAD: Final = 2 * LONGEST_QUERY
"""Bytes that a request may take before its headers end: the query, and as much beside it."""
_LONGEST_BODY: Final = 1 << 20
"""Bytes of a request with a body, which is read to its end and is otherwise of no use here."""
_MOST_HEADERS: Final = 100
_VERSIONS: Final = ("1.0", "1.1")
PIPELINED: Final = 16
"""Requests of one connection that wait behind the one that is being answered."""
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~-]*)(:\d*)?", re.ASCII)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on connections. Times in seconds, sizes in bytes."""

    request: float = 10.0
    """A whole request takes at most that, from its first byte; and so does a new connection until
    its first request begins."""
    idle: int = 5
    """Between an answer and the next request."""
    unread: float = 10.0
    """An answer is taken by the client in that time, and what it needs at the `slowest` rate."""
    slowest: int = 16_384
    """Bytes a second."""
    most: int = 4_096
    """Connections at once, where the system allows as many files (`connections_at_most`)."""
    held_bytes: int = 32 << 20
    """Requests that have not been answered, whole or in part, of all connections together."""
    unread_bytes: int = 64 << 20
    """Answers that clients have not taken yet, of all connections together."""

    def connections_at_most(self) -> int:
        """How many connections there may be: three of eight files that the process may open.

        As many again can come before those are counted, and the rest is for the lake's files.
        """
        if sys.platform == "win32":
            return self.most
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return self.most if files == resource.RLIM_INFINITY else min(self.most, files * 3 // 8)


class Connections(ServerState):
    """All connections of a server: how many there are, whose, and which of them wait for what."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self.limits: Final = limits
        self.held = 0
        """Bytes of requests that have not been answered."""
        self._admitted: set[Connection] = set()
        self._of_peer: Counter[str] = Counter()
        # Those that owe a request, the longest waiting first.
        self._waiting: dict[Connection, None] = {}
        self._waiting_of_peer: dict[str, dict[Connection, None]] = {}

    def admit(self, new: Connection) -> bool:
        """Whether there is room for a new connection, or could be made.

        A peer has three quarters of all at most.
        """
        most = self.limits.connections_at_most()
        rivals: dict[Connection, None] | None = None
        if self._of_peer[new.peer] >= most * 3 // 4:
            rivals = self._waiting_of_peer.get(new.peer, {})
        elif len(self._admitted) >= most:
            rivals = self._waiting
        if rivals is not None:
            if not rivals:
                return False
            self._evict(next(iter(rivals)))
        self._admitted.add(new)
        self._of_peer[new.peer] += 1
        self.wait_for(new)
        return True

    def leave(self, gone: Connection) -> None:
        """Count a connection no more."""
        if gone in self._admitted:
            self._admitted.remove(gone)
            self._of_peer[gone.peer] -= 1
            if not self._of_peer[gone.peer]:
                del self._of_peer[gone.peer]
            self.wait_no_more(gone)
            self.held -= gone.held
            gone.held = 0

    def wait_for(self, connection: Connection) -> None:
        """From now on, the connection owes a request."""
        self._waiting[connection] = None
        self._waiting_of_peer.setdefault(connection.peer, {})[connection] = None

    def wait_no_more(self, connection: Connection) -> None:
        """The connection has sent a request, or is gone."""
        self._waiting.pop(connection, None)
        of_peer = self._waiting_of_peer.get(connection.peer, {})
        of_peer.pop(connection, None)
        if not of_peer:
            self._waiting_of_peer.pop(connection.peer, None)

    def hold(self, connection: Connection, size: int) -> bool:
        """Hold so many bytes more of its requests; False where there is no room for them."""
        connection.held += size
        self.held += size
        while self.held > self.limits.held_bytes:
            slow = next((each for each in self._waiting if each.held), None)
            if slow is None:
                return False
            self._evict(slow)
        return True

    def release(self, connection: Connection, size: int) -> None:
        """A request of that size is answered."""
        connection.held -= size
        self.held -= size

    def close_late(self, now: float) -> None:
        """Close the connections that have taken too long; `now` is the event loop's time."""
        unread = []
        for connection in list(self.connections):
            each = cast("Connection", connection)
            each.close_if_late(now)
            if each.unread:
                unread.append(each)
        size = sum(each.unread for each in unread)
        for each in sorted(unread, key=lambda each: each.unread_from):
            if size <= self.limits.unread_bytes:
                break
            each.transport.abort()
            size -= each.unread

    def _evict(self, connection: Connection) -> None:
        self.leave(connection)
        connection.transport.abort()


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol, with bounds, and with requests that are answered once they are whole.

    A request that could be read in two ways is refused, and ends the connection. So does one with a
    body or an upgrade: what follows them is not looked at. While an answer is under way, nothing
    is sent that could be taken for it.
    """

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.peer = ""
        """Whose connection it is: an IPv4 address, or the 64 bits of an IPv6 network."""
        self.held = 0
        """Bytes that have come of requests without an answer."""
        self.unread = 0
        """Bytes of answers that the client had not taken when it was last looked at."""
        self.unread_from = 0.0
        self._all = server_state
        self._began = self.loop.time()
        self._unread_until = 0.0
        self._ending = False
        """Nothing that still comes is looked at; the connection is closed after its last answer."""
        self._wrong = ""
        """What is wrong with the request under way, where it is not the parser that says so."""
        self._in_head = True
        self._has_body = False
        self._taken = 0
        """Bytes that have come of the request under way."""
        self._unanswered: deque[tuple[RequestResponseCycle, int]] = deque()
        """Each request that is being answered, or waits for that, and its bytes."""

    # What a client does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.peer = _peer(self.client)
        if not self._all.admit(self):
            self._refuse("503 Service Unavailable", "too many connections: try again", retry=True)

    def data_received(self, data: bytes) -> None:
        if self._ending or self.transport.is_closing():
            return
        if not self._taken:
            self._began = self.loop.time()
        self._taken += len(data)
        if not self._all.hold(self, len(data)):
            self._refuse("503 Service Unavailable", "too many requests: try again", retry=True)
        elif not self.transport.is_closing():
            super().data_received(data)
            if self._taken > (_LONGEST_HEAD if self._in_head else _LONGEST_BODY):
                self.send_400_response("The request is too long.")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle, _ in self._unanswered:  # uvicorn notifies the last one alone
            cycle.disconnected = True
            cycle.message_event.set()
        self._all.leave(self)

    # What the parser finds

    def on_message_begin(self) -> None:
        if self._ending or len(self.pipeline) >= PIPELINED:
            raise ValueError("no more requests are taken on this connection")
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, which must not pass for a header
            return
        if len(self.headers) >= _MOST_HEADERS:
            self._wrong = f"a request has {_MOST_HEADERS} headers at most"
            raise ValueError(self._wrong)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        try:
            _check(self.url, self.headers, self.parser.get_http_version())
        except ValueError as error:
            self._wrong = str(error)
            raise
        self._has_body = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )
        if self._has_body and self.expect_100_continue:
            self.on_message_complete()  # answered at once, so that its body need not be sent

    def on_body(self, body: bytes) -> None:
        """What is in it changes no answer."""

    def on_message_complete(self) -> None:
        if self._ending:
            return
        self.expect_100_continue = False
        super().on_headers_complete()
        super().on_message_complete()
        self.flow.resume_reading()  # or nobody would notice that the client has gone away
        self._all.wait_no_more(self)
        self._unanswered.append((self.cycle, self._taken))
        self._taken = 0
        if self._has_body or self.parser.should_upgrade():
            self.cycle.keep_alive = False
        self._ending = not self.cycle.keep_alive

    # What becomes of it

    def on_response_complete(self) -> None:
        _, size = self._unanswered.popleft()
        self._all.release(self, size)
        super().on_response_complete()
        if not self._busy and not self._ending:
            self._began = self.loop.time()
            self._all.wait_for(self)

    @property
    def _busy(self) -> bool:
        """Whether any request has no whole answer yet."""
        return bool(self._unanswered)

    def close_if_late(self, now: float) -> None:
        """Close it where its time for the request, or for taking the answer, is over."""
        limits, unread = self._all.limits, self.transport.get_write_buffer_size()
        if unread > self.unread:
            self._unread_until = now + limits.unread + unread / limits.slowest
        if not self.unread:
            self.unread_from = now
        self.unread = unread
        if unread:
            if now > self._unread_until:
                self.transport.abort()
        elif not self._busy and now - self._began > limits.request:
            if self._taken:
                self._refuse("408 Request Timeout", "the request did not come to its end in time")
            else:
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", self._wrong or msg)

    def _refuse(self, status: str, message: str, *, retry: bool = False) -> None:
        """End the connection, in the API's shape, if that can't be taken for another answer."""
        if self._ending or self.transport.is_closing():
            return
        self._ending = True
        if self._busy:
            self.cycle.keep_alive = False
            return
        body = b'{"error":"%s"}' % message.encode("ascii")
        again = b"retry-after: 1\r\n" if retry else b""
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n"
            b"connection: close\r\n\r\n%s" % (status.encode("ascii"), again, len(body), body)
        )
        self.transport.close()


def _check(url: bytes, headers: list[tuple[bytes, bytes]], version: str) -> None:
    """ValueError where it is not clear which host is asked for what (RFC 9112, 3.2).

    HttpParserError where the target is no URL.
    """
    httptools.parse_url(url)
    if version not in _VERSIONS:
        raise ValueError("the version must be HTTP/1.1")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise ValueError("the header Host must be there once")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise ValueError("the header Host must be a name or an address")
    absolute = _ABSOLUTE.match(url)
    if absolute is not None and [absolute[1].lower()] != [host.lower() for host in hosts]:
        raise ValueError("the target must not name another host than the header Host")
    if (absolute is None and not url.startswith(b"/")) or b"#" in url:
        raise ValueError("the target must be a path and a query")


def _peer(client: tuple[str, int] | None) -> str:
    try:
        address = ip_address(client[0].partition("%")[0] if client else "")
    except ValueError:  # it is gone already
        return ""
    if not isinstance(address, IPv6Address):
        return str(address)
    # Who has one address of an IPv6 network has all of them.
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
