"""A webhook: JSON, signed as Standard Webhooks say (standardwebhooks.com).

The id is the same however often a message is sent, so a receiver can tell a repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from pydantic import SecretStr

from pipeline.addresses import SIGNING_PREFIX
from pipeline.notify.message import Message
from pipeline.notify.posting import host_of, post
from pipeline.timeline import iso


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of JSON. `now` is the clock, in Unix seconds."""

    url: SecretStr
    secret: SecretStr
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    now: Callable[[], float] = field(default=time.time, repr=False)
    name: str = "webhook"

    @property
    def where(self) -> str:
        """The host."""
        return host_of(self.url)

    def send(self, message: Message) -> Sequence[str]:
        """Post it; ChannelError where it is not taken."""
        body = msgspec.json.encode(payload(message))
        post(self.url, body, self._signed(message.id, body), sleep=self.sleep)
        return ()

    def _signed(self, name: str, body: bytes) -> Mapping[str, str]:
        id_, moment = f"msg_{name}", str(int(self.now()))
        key = b64decode(self.secret.get_secret_value().removeprefix(SIGNING_PREFIX))
        signed = hmac.new(key, f"{id_}.{moment}.".encode() + body, hashlib.sha256).digest()
        return {
            "webhook-id": id_,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{b64encode(signed).decode()}",
        }


def payload(message: Message) -> dict[str, object]:
    """The message as JSON."""
    return {
        "type": f"mka1_usage.{message.kind}",
        "timestamp": iso(message.made_at),
        "data": {"title": message.title, **message.data},
    }
