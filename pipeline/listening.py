"""A socket that a server listens on, and why it can't."""

from __future__ import annotations

import errno
import socket
from typing import Final

_BACKLOG: Final = 2048
_REASONS: Final = {
    errno.EADDRINUSE: (
        "port {port} on {host} is in use: stop what uses it, or choose another with --port "
        "(0 takes any that is free)"
    ),
    errno.EADDRNOTAVAIL: "{host} is no address of this machine: --host 0.0.0.0 is all that it has",
    errno.EACCES: "port {port} is for the system only: choose one above 1023 with --port",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket on `host` (an IP address) and `port` (0: any that is free).

    OSError, with what to do, where there can be none.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off the delay of small writes only for a socket whose protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        number = error.errno or 0
        raise OSError(
            number, _REASONS.get(number, str(error)).format(host=host, port=port)
        ) from None
    return listening


def port_of(listening: socket.socket) -> int:
    """The port that a socket has got."""
    return int(listening.getsockname()[1])
