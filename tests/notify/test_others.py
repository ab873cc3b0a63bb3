"""Other channels, by apprise: what they are sent, in secret, and what is said where they fail."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from pydantic import SecretStr

from pipeline.notify.channel import ChannelError
from pipeline.notify.message import Message, Part
from pipeline.notify.others import Other
from tests.notify.receivers import hooks

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
"""apprise looks for it."""

SECRET = "planted-5ec2e7"
MESSAGE = Message(
    "1",
    "alerts",
    "warning: user @everyone",
    0,
    (Part("Began: warning", ("user <!channel> of a@example.org",), "mka1-usage status"),),
    {},
)


def other(url: str, path: str = SECRET) -> Other:
    """A channel of apprise that posts JSON to a server on loopback."""
    return Other(SecretStr(url.replace("http://", "json://") + f"/{path}"))


def test_it_is_sent_as_text_that_calls_nobody() -> None:
    with hooks() as server:
        other(server.url).send(MESSAGE)
        (posted,) = server.posted
    sent = json.loads(posted.body)
    assert posted.headers["User-Agent"] == "mka1-usage"
    assert "@everyone" not in sent["title"]
    assert "<!channel>" not in sent["message"]
    assert "a@example.org" in sent["message"]
    assert "$ mka1-usage status" in sent["message"]
    shown = sent["title"].replace("\u200b", "")
    assert shown == MESSAGE.title


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, SECRET.encode()), "error=500"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "error=302"),
    ],
)
def test_what_is_not_taken_is_said_without_the_secret(
    answer: tuple[int, dict[str, str], bytes], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        hooks(answer) as server,
        pytest.raises(ChannelError) as caught,
    ):
        other(server.url).send(MESSAGE)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nothing://x", "is no URL that apprise knows"),
        (f"json://example.com/{SECRET}", "json:// sends without TLS: write jsons://"),
        (f"jsons://example.com/{SECRET}?verify=no", "verify=no is not taken"),
        (f"mailto://me:{SECRET}@example.com", "mailto:// sends without TLS: write mailtos://"),
    ],
)
def test_what_is_not_sent_in_secret_is_not_sent(url: str, said: str) -> None:
    with pytest.raises(ChannelError) as caught:
        Other(SecretStr(url)).send(MESSAGE)
    assert str(caught.value).startswith(said)
    assert SECRET not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelError, match="is not installed: pip install"):
        other("http://127.0.0.1:1").send(MESSAGE)


def test_two_of_a_service_have_names_of_their_own_without_their_secrets() -> None:
    one, two = (Other(SecretStr(f"ntfys://example.com/{SECRET}{number}")) for number in (1, 2))
    assert one.name != two.name
    assert one.name.startswith("ntfys-")
    assert SECRET not in repr(one) + one.name + one.where
