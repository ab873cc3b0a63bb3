"""Mail through an SMTP server: text and HTML, to all receivers at once.

TLS always, but to this machine: from the first byte with `smtps://`, else by STARTTLS, without
which nothing is sent.
"""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote

import httpx
from pydantic import SecretStr

from pipeline.addresses import is_loopback
from pipeline.api import RouteError
from pipeline.api.network import route_to
from pipeline.notify.channel import ChannelError, RefusedError
from pipeline.notify.message import Message
from pipeline.notify.rendering import as_html, as_text

TIMEOUT: Final = 10.0
"""Seconds for each answer of the server."""
_PORTS: Final = {"smtp": 587, "smtps": 465}
_LONGEST_SUBJECT: Final = 120
_EXCERPT: Final = 150


@dataclass(frozen=True, slots=True)
class MailAccount:
    """A mail server, and who is known there; the user is empty where nobody has to be."""

    scheme: str
    host: str
    port: int
    user: str
    password: SecretStr

    @classmethod
    def of(cls, secret: SecretStr) -> MailAccount:
        """The account of a URL that the settings took."""
        url = httpx.URL(secret.get_secret_value())
        user, _, password = url.userinfo.decode("ascii").partition(":")
        port = url.port or _PORTS[url.scheme]
        return cls(url.scheme, url.host, port, unquote(user), SecretStr(unquote(password)))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Mail:
    """Receivers of mail."""

    account: MailAccount
    sender: str
    receivers: Sequence[str]
    name: str = "mail"

    @property
    def where(self) -> str:
        """The addresses."""
        return ", ".join(self.receivers)

    def send(self, message: Message) -> Sequence[str]:
        """Hand it to the server; returns which receivers it refused, where it took others.

        ChannelError where it took none; RefusedError where it takes no mail with this text.
        """
        account = self.account
        try:
            server = self._connected()
            try:
                if account.user:
                    server.login(account.user, account.password.get_secret_value())
                refused = server.send_message(
                    compose(message, self.sender, self.receivers), self.sender, [*self.receivers]
                )
            finally:  # a mail that was taken is taken, whatever the server says at the end
                with suppress(smtplib.SMTPException):
                    server.quit()
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            raise ChannelError("; ".join(self._refusals(error.recipients))) from None
        except smtplib.SMTPResponseException as error:
            words = f"{account} answered {error.smtp_code} {self._words(error.smtp_error)}"
            of_the_message = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
            raise RefusedError(words) if of_the_message else ChannelError(words) from None
        except smtplib.SMTPException as error:
            raise ChannelError(f"{account}: {self._words(str(error))}") from None
        except UnicodeEncodeError:  # smtplib's logins know no more
            raise ChannelError(f"{account}: the user and the password have to be ASCII") from None
        except OSError as error:
            reason = error.strerror or self._words(str(error)) or type(error).__name__
            raise ChannelError(f"no connection to {account}: {reason}") from None
        return self._refusals(refused)

    def _connected(self) -> smtplib.SMTP:
        account = self.account
        if is_loopback(account.host) and account.scheme == "smtp":
            return smtplib.SMTP(account.host, account.port, timeout=TIMEOUT)
        try:
            tls = route_to(f"https://{_bracketed(account.host)}").tls
        except RouteError as error:
            raise ChannelError(str(error)) from None
        if account.scheme == "smtps":
            return smtplib.SMTP_SSL(account.host, account.port, timeout=TIMEOUT, context=tls)
        server = smtplib.SMTP(account.host, account.port, timeout=TIMEOUT)
        try:
            server.ehlo()
            if not server.has_extn("starttls"):
                raise ChannelError(
                    f"{account} offers no STARTTLS, so nothing is sent: take a server or a port "
                    "that does, or smtps://"
                )
            server.starttls(context=tls)
        except BaseException:
            server.close()
            raise
        return server

    def _refusals(self, refused: dict[str, tuple[int, bytes]]) -> list[str]:
        return [
            f"{self.account} refused {receiver}: {code} {self._words(words)}"
            for receiver, (code, words) in refused.items()
        ]

    def _words(self, said: bytes | str) -> str:
        """What a server says in one line, without the password."""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        if password := self.account.password.get_secret_value():
            text = text.replace(password, "***")
        line = " ".join(text.split())
        return line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…"


def compose(message: Message, sender: str, receivers: Sequence[str]) -> EmailMessage:
    """The mail. Its id is the same however often it is sent, so that programs show it once."""
    subject = " ".join(f"[mka1-usage] {message.title}".split())
    if len(subject) > _LONGEST_SUBJECT:
        subject = subject[: _LONGEST_SUBJECT - 3] + "..."
    # A subject on two lines begins with a blank in some programs.
    mail = EmailMessage(policy=SMTP.clone(max_line_length=200) if subject.isascii() else SMTP)
    mail["Subject"] = subject
    mail["From"] = Address("mka1-usage", addr_spec=sender)
    mail["To"] = [Address(addr_spec=receiver) for receiver in receivers]
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.made_at, UTC))
    mail["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(as_text(message))
    mail.add_alternative(as_html(message), subtype="html")
    return mail


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
