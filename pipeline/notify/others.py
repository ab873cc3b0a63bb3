"""Any other channel that apprise knows, such as Teams, Discord, ntfy or PagerDuty, by its URL.

apprise is an extra, so it is imported when a message is sent. It logs URLs with their secrets at
DEBUG, and so does what it posts with; both are kept from that. Redirects are not followed, and it
sends no name or picture of its own.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from typing import TYPE_CHECKING, Final, cast

from pydantic import SecretStr

from pipeline.addresses import is_loopback
from pipeline.notify.channel import ChannelError
from pipeline.notify.message import Message
from pipeline.notify.rendering import as_text

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

_CALLS: Final = re.compile(r"([@<!])(?=!|@|#|everyone|here|channel|all\b)", re.IGNORECASE)
"""What calls everybody in one service or another, where an id holds it."""
_NOTHING: Final = "\u200b"
"""A space without width: what stands apart by it calls nobody, and looks the same."""
_LONGEST_REASON: Final = 200
_LOGGERS: Final = ("apprise", "urllib3", "requests_oauthlib", "oauthlib")


@dataclass(frozen=True, slots=True)
class Other:
    """A channel by a URL of apprise."""

    url: SecretStr

    @property
    def name(self) -> str:
        """The service, and some letters that tell it from another one of that service."""
        text = self.url.get_secret_value()
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{text.partition('://')[0].lower()}-{digest[:4]}"

    @property
    def where(self) -> str:
        """Nothing: all of the URL may be a secret."""
        return "by apprise"

    def send(self, message: Message) -> Sequence[str]:
        """Hand it over; ChannelError where it was not taken, or can't be sent in secret."""
        try:
            from apprise import NotifyFormat  # noqa: PLC0415 - an extra
        except ImportError:
            raise ChannelError(
                "apprise is not installed: pip install 'mka1-usage[channels]'"
            ) from None
        text = _CALLS.sub(rf"\1{_NOTHING}", as_text(message).partition("\n")[2].strip())
        with _said() as records:
            taken = self._service().notify(
                title=_CALLS.sub(rf"\1{_NOTHING}", message.title),
                body=text or message.title,
                body_format=NotifyFormat.TEXT,
            )
        if not taken:
            raise ChannelError(self._without_secrets(records) or "it was not taken")
        return ()

    def _service(self) -> NotifyBase:
        from apprise import Apprise  # noqa: PLC0415 - an extra

        service = Apprise.instantiate(self.url.get_secret_value(), asset=_asset())
        if service is None:
            raise ChannelError("is no URL that apprise knows")
        protocols = cast("str | Iterable[str] | None", service.secure_protocol) or ()
        secure = {protocols} if isinstance(protocols, str) else {*protocols}
        if service.schema not in secure and not is_loopback(str(service.host)):
            with_tls = f": write {min(secure)}://" if secure else ""
            raise ChannelError(f"{service.schema}:// sends without TLS{with_tls}")
        if not service.verify_certificate:
            raise ChannelError("verify=no is not taken: certificates are always verified")
        return service

    def _without_secrets(self, records: Sequence[logging.LogRecord]) -> str:
        """The last line of what apprise said, unless it holds a part of the URL."""
        last = " ".join(records[-1].getMessage().split()) if records else ""
        secrets = re.split(r"[/?&=@:]+", self.url.get_secret_value().partition("://")[2])
        if not last.isprintable() or any(len(it) > 3 and it in last for it in secrets):
            return ""
        return last[:_LONGEST_REASON]


@contextmanager
def _said() -> Iterator[Sequence[logging.LogRecord]]:
    """What apprise logs in the block, from warnings on; it goes nowhere else."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logger, handler = logging.getLogger("apprise"), BufferingHandler(1_000)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _asset() -> AppriseAsset:
    """How apprise calls itself: by our name, without its pictures."""
    from apprise import AppriseAsset  # noqa: PLC0415 - an extra

    return AppriseAsset(
        app_id="mka1-usage",
        app_desc="mka1-usage",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        secure_logging=True,
    )
