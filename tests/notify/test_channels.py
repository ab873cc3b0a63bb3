"""Each channel sends what it should, where it should, in a form that its receiver understands."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.notify.channel import ChannelError, RefusedError
from pipeline.notify.mail import Mail, MailAccount, compose
from pipeline.notify.message import Message, Part
from pipeline.notify.posting import ATTEMPTS
from pipeline.notify.rendering import as_html, as_text
from pipeline.notify.slack import Slack
from pipeline.notify.slack import payload as slack_payload
from pipeline.notify.webhook import Webhook
from tests.loopback import certificate
from tests.notify.receivers import hooks, mail_server

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
"""The mail server of the tests says so of itself."""

EVIL = 'user <!channel> *x* & <http://evil.example|click> "q"'
MESSAGE = Message(
    "0123abcd",
    "alerts",
    f"warning: {EVIL}",
    1_706_576_400,
    (
        Part("Began: warning", (EVIL,), "mka1-usage sql \"select 1 < 2 and '&'\"", "warning"),
        Part("Ended: error", ("It was: late",), "", "ended"),
    ),
    {"changes": [{"what": EVIL}]},
)
PATH = "/services/T0PLANTED/B0PLANTED/planted-secret-5ec2e7"
SIGNING = "whsec_" + base64.b64encode(b"planted-signing-secret-5ec2e7-01").decode()


def at_once(_: float) -> None:
    """Do not wait."""


def slack(url: str, sleep: Callable[[float], None] = at_once) -> Slack:
    """Slack's channel, which does not wait."""
    return Slack(SecretStr(url + PATH), sleep=sleep)


# Slack


def test_slack_gets_blocks_in_which_no_id_means_anything() -> None:
    with hooks() as server:
        slack(server.url).send(MESSAGE)
        (posted,) = server.posted
    assert posted.path == PATH
    assert posted.headers["Content-Type"] == "application/json"
    sent = json.loads(posted.body)
    assert sent == slack_payload(MESSAGE)
    for block in sent["blocks"]:
        if block["text"]["type"] == "mrkdwn":
            assert "<" not in block["text"]["text"]
            assert ">" not in block["text"]["text"]
    assert "<" not in sent["text"]
    sentences = [block["text"]["text"] for block in sent["blocks"] if "emoji" in block["text"]]
    assert EVIL in sentences
    assert "select 1 &lt; 2 and '&amp;'" in json.dumps(sent)


def test_a_phone_shows_what_is_worst() -> None:
    several = Message(
        "x", "alerts", "2 errors", 0, (Part("Began", ("late",)), Part("y", ("z",))), {}
    )
    assert slack_payload(several)["text"] == "2 errors: late"
    one = Message("x", "alerts", "error: late", 0, (Part("Began", ("late",)),), {})
    assert slack_payload(one)["text"] == "error: late"


def test_what_is_long_is_cut_to_what_slack_takes() -> None:
    long = Message(
        "x", "alerts", "&" * 9_999, 0, (Part("<" * 9_999, ("y" * 9_999,), "`" * 9_999),) * 16, {}
    )
    sent = slack_payload(long)
    assert len(sent["blocks"]) <= 50
    assert len(sent["blocks"][0]["text"]["text"]) <= 150
    assert all(0 < len(block["text"]["text"]) <= 3_000 for block in sent["blocks"])
    assert "&amp" not in sent["text"].replace("&amp;", "")


@pytest.mark.parametrize(
    ("answer", "tries", "said"),
    [
        ((400, {}, b"invalid_blocks"), 1, "answered 400: invalid_blocks"),
        ((404, {}, b"no_service"), 1, "answered 404: no_service"),
        ((403, {}, PATH.encode()), 1, "answered 403"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), 1, "a redirect, which is not followed"),
        ((500, {}, b"\x1b[31moops"), ATTEMPTS, "answered 500 (after 3 tries)"),
        ((429, {"Retry-After": "3600"}, b""), ATTEMPTS, "answered 429 (after 3 tries)"),
    ],
)
def test_a_refusal_is_one_line_without_the_secret(
    answer: tuple[int, dict[str, str], bytes],
    tries: int,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slept: list[float] = []
    with caplog.at_level(logging.DEBUG), hooks(answer) as server:
        with pytest.raises(ChannelError) as caught:
            slack(server.url, slept.append).send(MESSAGE)
        assert len(server.posted) == tries
    assert isinstance(caught.value, RefusedError) == (answer[0] == 400)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert "5ec2e7" not in str(caught.value) + caplog.text
    assert len(slept) == tries - 1
    assert all(0 < seconds <= 5 for seconds in slept)


def test_what_passes_is_tried_again() -> None:
    with hooks((503, {}, b""), (200, {}, b"ok")) as server:
        slack(server.url).send(MESSAGE)
        assert len(server.posted) == 2
        assert server.posted[0].body == server.posted[1].body


def test_where_nobody_listens_that_is_said() -> None:
    with pytest.raises(ChannelError, match=r"^no connection to http://127\.0\.0\.1:1: Connect"):
        slack("http://127.0.0.1:1").send(MESSAGE)


# Webhook


def test_a_webhook_is_signed_as_standard_webhooks_say() -> None:
    with hooks((500, {}, b""), (204, {}, b"")) as server:
        url = SecretStr(f"{server.url}/hook?token=planted-5ec2e7")
        Webhook(url, SecretStr(SIGNING), sleep=at_once, now=lambda: 1_706_576_402.9).send(MESSAGE)
        first, second = server.posted
    assert first.path == "/hook?token=planted-5ec2e7"
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "msg_0123abcd"
    assert second.headers["webhook-timestamp"] == "1706576402"
    key = base64.b64decode(SIGNING.removeprefix("whsec_"))
    signed = b"msg_0123abcd.1706576402." + second.body
    right = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert second.headers["webhook-signature"] == f"v1,{right}"
    assert json.loads(second.body) == {
        "type": "mka1_usage.alerts",
        "timestamp": "2024-01-30T01:00:00Z",
        "data": {"title": MESSAGE.title, "changes": [{"what": EVIL}]},
    }


@pytest.mark.parametrize(
    "answer",
    [
        b"no such token: planted-5ec2e7/1",
        b"no such token: planted-5ec2e7%2F1",
        b"no " * 30 + b"planted-secret-5ec2e7",
    ],
)
def test_an_answer_that_repeats_a_part_of_the_address_is_not_quoted(answer: bytes) -> None:
    with hooks((403, {}, answer)) as server:
        url = SecretStr(f"{server.url}{PATH}?v=1&token=planted-5ec2e7%2F1")
        with pytest.raises(ChannelError) as caught:
            Webhook(url, SecretStr(SIGNING), sleep=at_once).send(MESSAGE)
    assert str(caught.value) == f"{server.url} answered 403"


# Mail


def mail(port: int, *receivers: str, scheme: str = "smtp", user: str = "") -> Mail:
    """A mail channel to a server on loopback."""
    account = MailAccount.of(SecretStr(f"{scheme}://{user}127.0.0.1:{port}"))
    return Mail(account, "usage@example.com", receivers)


def test_a_mail_has_text_and_html_and_goes_to_all_at_once() -> None:
    with mail_server(password="p@ss word") as server:
        channel = mail(server.port, "a@example.com", "b@example.com", user="me:p%40ss%20word@")
        assert not channel.send(MESSAGE)
    assert server.envelopes == [("usage@example.com", ["a@example.com", "b@example.com"])]
    assert server.logins == [("me", "p@ss word")]
    (got,) = server.mails
    assert got["Subject"] == f"[mka1-usage] {MESSAGE.title}"
    assert got["To"] == "a@example.com, b@example.com"
    assert got["Message-ID"] == "<0123abcd@example.com>"
    assert got["Auto-Submitted"] == "auto-generated"
    text, html = got.get_body(("plain",)), got.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == as_text(MESSAGE)
    assert "&lt;!channel&gt;" in html.get_content()
    assert EVIL not in html.get_content()


def test_html_needs_no_network() -> None:
    html = as_html(MESSAGE)
    assert "src=" not in html
    assert "href=" not in html
    assert "<script" not in html


def test_receivers_that_do_not_exist_do_not_keep_the_mail_from_others() -> None:
    with mail_server(refused=frozenset({"gone@example.com"})) as server:
        notes = mail(server.port, "gone@example.com", "a@example.com").send(MESSAGE)
        assert server.envelopes[0][1] == ["a@example.com"]
        assert [note.partition(" refused ")[2] for note in notes] == [
            "gone@example.com: 550 no such user here"
        ]
        with pytest.raises(ChannelError, match=r"refused gone@example\.com: 550"):
            mail(server.port, "gone@example.com").send(MESSAGE)


def test_a_mail_that_was_taken_is_sent_whatever_the_server_says_at_the_end() -> None:
    with mail_server(quitting="421 too busy to say goodbye") as server:
        assert not mail(server.port, "a@example.com").send(MESSAGE)
        assert len(server.mails) == 1


def test_a_wrong_password_is_said_and_not_quoted() -> None:
    with mail_server(password="right") as server, pytest.raises(ChannelError) as caught:
        mail(server.port, "a@example.com", user="me:planted-5ec2e7@").send(MESSAGE)
    assert "answered 535" in str(caught.value)
    assert "5ec2e7" not in str(caught.value)
    assert not server.mails


def test_a_password_that_cannot_be_sent_is_said_and_not_quoted() -> None:
    with mail_server(password="right") as server, pytest.raises(ChannelError) as caught:
        mail(server.port, "a@example.com", user="me:planted-p%C3%A4ss@").send(MESSAGE)
    assert str(caught.value).endswith("the user and the password have to be ASCII")


def test_where_no_mail_server_listens_that_is_said() -> None:
    with pytest.raises(ChannelError, match=r"^no connection to smtp://127\.0\.0\.1:1: "):
        mail(1, "a@example.com").send(MESSAGE)


def test_tls_from_the_first_byte_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, tls = certificate(tmp_path, "127.0.0.1")
    with mail_server(tls=tls) as server:
        channel = mail(server.port, "a@example.com", scheme="smtps")
        with pytest.raises(ChannelError, match="certificate verify failed"):
            channel.send(MESSAGE)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        channel.send(MESSAGE)
    assert server.encrypted == [True]


def test_no_mail_leaves_this_machine_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if loopback were another machine."""
    monkeypatch.setattr("pipeline.notify.mail.is_loopback", lambda _: False)
    cert, tls = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with mail_server() as server:
        with pytest.raises(ChannelError, match="offers no STARTTLS, so nothing is sent"):
            mail(server.port, "a@example.com").send(MESSAGE)
        assert not server.mails
    with mail_server(starttls=tls) as server:
        mail(server.port, "a@example.com").send(MESSAGE)
    assert server.encrypted == [True]


def test_a_title_makes_one_header_whatever_an_id_holds() -> None:
    title = "x\r\nBcc: evil@example.com\n" + "ü" * 999
    composed = compose(
        Message("1", "alerts", title, 0, (), {}), "usage@example.com", ["a@example.com"]
    )
    assert composed["Bcc"] is None
    assert len(composed["Subject"]) <= 120
    assert b"\nBcc:" not in bytes(composed)
