"""The key: added to each request, and taken out of all that a server sends before it is quoted."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Generator
from typing import Final

import httpx
from pydantic import SecretStr

MASK: Final = "***"
_HEAD: Final = 12
"""So many first characters of a key are taken for the key: a server may echo it cut short."""

# At DEBUG, httpcore logs the headers of answers as they came, and a server may echo the key there.
logging.getLogger("httpcore").setLevel(logging.INFO)
# At INFO, httpx logs whole addresses, and a question may name users.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Bearer(httpx.Auth):
    """The key, added as each request leaves, so that no client-wide header holds it.

    ValueError for a key that no header can carry; the message does not hold it.
    """

    def __init__(self, key: SecretStr) -> None:
        secret = key.get_secret_value()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ValueError("a key is one or more printable ASCII characters without spaces")
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Httpx's hook: one request, signed."""
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request

    def digest(self, about: str) -> str:
        """A name for the key together with `about`: short, and neither can be found out from it."""
        secret = self._key.get_secret_value()
        return hashlib.sha256(f"mka1-usage\n{about}\n{secret}".encode()).hexdigest()[:16]

    def redact(self, text: str) -> str:
        """`text` with every occurrence of the key masked, however URLs, JSON or HTML wrote it."""
        secret = self._key.get_secret_value()
        whole = "".join(map(_as_written, secret))
        cut_short = "".join(map(_as_written, secret[:_HEAD])) + r"[^\s\"'<>]*"
        return re.sub(f"{whole}|{cut_short}", MASK, text, flags=re.IGNORECASE)


def _as_written(char: str) -> str:
    """A pattern for `char` as it is, or escaped as URLs, JSON and HTML do."""
    plain, number = re.escape(char), ord(char)
    if char.isalnum():
        return plain
    # A URL that was escaped twice has %252B for the %2B of a plus.
    forms = [rf"\\*{plain}", f"%(?:25)*{number:02x}", rf"\\+u{number:04x}"]
    forms += [f"&#0*{number};", f"&#x0*{number:x};"]
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
    return f"(?:{'|'.join([*forms, *([named[char]] if char in named else [])])})"
