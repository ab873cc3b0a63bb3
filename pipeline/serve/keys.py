"""Who is let in: those with keys, and without any, this machine alone."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from pydantic import SecretStr

_THIS_MACHINE: Final = re.compile(
    r"(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII
)


class Keys:
    """The bearer keys that are let in. Only their hashes are kept."""

    def __init__(self, secrets: Iterable[SecretStr]) -> None:
        self._digests = [_digest(secret.get_secret_value()) for secret in secrets]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, authorization: str | None) -> bool:
        """Whether the header `Authorization` holds one of the keys.

        How long that takes reveals nothing of a key: hashes are compared, all of them, in full.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        return self._has(secret.strip()) and scheme.lower() == "bearer"

    def admit_browser(self, authorization: str | None) -> bool:
        """The same, or whether it has a key as the password of any user (RFC 7617)."""
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return self.admit(authorization)
        try:
            sent = b64decode(encoded.strip(), validate=True).decode()
        except ValueError:
            return False
        return self._has(sent.partition(":")[2])

    def _has(self, secret: str) -> bool:
        sent = _digest(secret)
        admitted = [compare_digest(sent, digest) for digest in self._digests]
        return any(admitted)


def names_this_machine(host: str | None) -> bool:
    """Whether the header `Host` is a name of this machine alone.

    A page of some other site that has its own name lead to 127.0.0.1 still sends that name.
    """
    return host is not None and _THIS_MACHINE.fullmatch(host) is not None


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
