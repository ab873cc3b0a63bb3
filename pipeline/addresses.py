"""Settings of messages: URLs of webhooks and of mail servers, mail addresses, the signing secret.

Belongs here: what each of them must look like, and one complaint for each, which quotes none of it:
all but mail addresses are secrets, or hold one.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64
from email.headerregistry import Address
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode

if TYPE_CHECKING:
    import httpx

SIGNING_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_PORTS: Final = range(1, 65_536)
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*://[!-~]+")
_ADDRESS: Final = re.compile(r"[!-?A-Z\[-~]+@[0-9A-Za-z.-]*[0-9A-Za-z]")
"""One `@`, ASCII without blanks. Whether it exists, the mail server says."""
_MAIL: Final = (
    "must be such as smtps://user:password@mail.example.com or smtp://mail.example.com:587"
)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_webhook(secret: SecretStr) -> SecretStr:
    """The URL without blanks around it; ValueError where nothing secret can be sent to it."""
    text = secret.get_secret_value().strip()
    url = _url(text)
    if url is None or url.scheme not in {"http", "https"}:
        raise ValueError("must be a URL such as https://hooks.example.com/path")
    if url.userinfo:
        raise ValueError("must not hold a user name or password")
    if url.fragment:
        raise ValueError("must not hold a fragment")
    if url.scheme == "http" and not is_loopback(url.host):
        raise ValueError("must be https:// (http:// is taken for this machine only)")
    return SecretStr(text)


def checked_mail_server(secret: SecretStr) -> SecretStr:
    """The URL without blanks around it; ValueError where it names no mail server."""
    text = secret.get_secret_value().strip()
    url = _url(text)
    if url is None or url.scheme not in {"smtp", "smtps"}:
        raise ValueError(f"{_MAIL}, percent-encoded")
    if url.path not in {"", "/"} or url.query or url.fragment:
        raise ValueError(f"{_MAIL}, percent-encoded, without a path or a query")
    if url.password and not url.username:
        raise ValueError("holds a password without a user name")
    return SecretStr(text)


def checked_signing_secret(secret: SecretStr) -> SecretStr:
    """ValueError where it is no secret as Standard Webhooks has them."""
    text = secret.get_secret_value().strip()
    try:
        size = len(b64decode(text.removeprefix(SIGNING_PREFIX), validate=True))
    except (NoBase64, ValueError):
        size = 0
    if not text.startswith(SIGNING_PREFIX) or size not in _SECRET_BYTES:
        raise ValueError(
            f"must be {SIGNING_PREFIX} and 24 to 64 bytes in base64, such as "
            f"`echo {SIGNING_PREFIX}$(openssl rand -base64 32)` prints"
        )
    return SecretStr(text)


def split_mail_addresses(value: object) -> object:
    """`address,address` as a tuple, each once."""
    if not isinstance(value, str):
        return value
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    for place, entry in enumerate(entries, start=1):
        if not is_mail_address(entry):
            raise ValueError(f"entry {place} is no mail address such as oncall@example.com")
    return tuple(dict.fromkeys(entries))


def is_mail_address(text: str) -> bool:
    """Whether a text is an address that a mail can be sent to."""
    if not _ADDRESS.fullmatch(text):
        return False
    try:
        return Address(addr_spec=text).addr_spec == text
    except (ValueError, IndexError):  # what email raises for addresses that are none
        return False


def check_mail(
    server: SecretStr | None, sender: tuple[str, ...], receivers: tuple[str, ...]
) -> None:
    """ValueError, about the receivers, where the three do not make a mail together."""
    if server is None:
        if receivers:
            raise ValueError("is set without MKA1_USAGE_SMTP_URL, the mail server: set both")
        return
    if not receivers:
        raise ValueError(
            "is not set, and MKA1_USAGE_SMTP_URL is: set it to address,address of those who are to "
            "have messages"
        )
    import httpx  # only where a URL is set: completion and `--help` must not wait for it

    if not sender and not is_mail_address(httpx.URL(server.get_secret_value()).username):
        raise ValueError(
            "is set, but no sender: set MKA1_USAGE_MAIL_FROM to the address that mail comes from"
        )


def split_urls(value: object) -> object:
    """`scheme://… scheme://…` as secrets, each once."""
    if not isinstance(value, str):
        return value
    entries = value.split()
    for place, entry in enumerate(entries, start=1):
        if not _URL.fullmatch(entry):
            raise ValueError(
                f"entry {place} is no URL such as msteams://…, separated by blanks: "
                "https://appriseit.com/services/ has the form of each"
            )
    return tuple(dict.fromkeys(entries))


AppriseUrls = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_urls)]
WebhookUrl = Annotated[SecretStr, AfterValidator(checked_webhook)]
SigningSecret = Annotated[SecretStr, AfterValidator(checked_signing_secret)]
MailServer = Annotated[SecretStr, AfterValidator(checked_mail_server)]
MailAddresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_mail_addresses)]


class MessageSettings(BaseSettings):
    """The settings of messages; `pipeline.settings.Settings` has them with all others."""

    slack_webhook: WebhookUrl | None = None
    """Slack's incoming webhook, which is a secret as a whole."""
    webhook_secret: SigningSecret | None = None
    """What webhooks are signed with."""
    webhook_url: WebhookUrl | None = None
    """Where messages are posted to as JSON."""
    smtp_url: MailServer | None = None
    """The mail server, with user and password."""
    mail_from: MailAddresses = ()
    """One address; none: the mail server's user."""
    mail_to: MailAddresses = Field((), validate_default=True)
    apprise_urls: AppriseUrls = ()
    """Other channels, as apprise names them."""

    @field_validator("webhook_url")
    @classmethod
    def _signed(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # Where the secret itself is wrong, that is what the complaint is about.
        if url is not None and info.data.get("webhook_secret", url) is None:
            raise ValueError(
                "is set without MKA1_USAGE_WEBHOOK_SECRET, which messages are signed with: set it "
                "to what `echo whsec_$(openssl rand -base64 32)` prints, here and at the receiver"
            )
        return url

    @field_validator("mail_from")
    @classmethod
    def _one_sender(cls, sender: tuple[str, ...]) -> tuple[str, ...]:
        if len(sender) > 1:
            raise ValueError("must be one address")
        return sender

    @field_validator("mail_to")
    @classmethod
    def _with_mail_server(cls, receivers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if {"smtp_url", "mail_from"} <= info.data.keys():
            check_mail(info.data["smtp_url"], info.data["mail_from"], receivers)
        return receivers


def _url(text: str) -> httpx.URL | None:
    """The URL; None where it is none that can be connected to."""
    import httpx  # as above

    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError):
        return None
    if not url.host or ".." in url.host or not text.isascii() or not text.isprintable():
        return None
    if " " in text or "\\" in text or (port is not None and port not in _PORTS):
        return None
    return url
