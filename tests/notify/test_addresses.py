"""What messages can be sent with, and the line that is said of what they can't be sent with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.notify.channels import channels_of
from pipeline.notify.mail import MailAccount
from pipeline.settings import SettingsError, load_settings
from tests.fixtures_local import clean_environment

SIGNING = "whsec_" + "QUJD" * 8


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, []),
        ({"slack_webhook": "https://hooks.slack.com/services/T/B/x"}, ["slack"]),
        ({"webhook_secret": SIGNING}, []),
        ({"apprise_urls": "ntfys://ntfy.sh/services  ntfys://ntfy.sh/services"}, ["ntfys-cddd"]),
        (
            {"webhook_secret": SIGNING, "webhook_url": "http://127.0.0.1:1/x?token=y"},
            ["webhook"],
        ),
        (
            {"smtp_url": "smtps://u%40example.com:p@mail.example.com", "mail_to": "a@b.example"},
            ["mail"],
        ),
        (
            {
                "smtp_url": "smtp://mail.example.com:2525",
                "mail_to": "a@b.example, c@b.example,",
                "mail_from": "x@b.example",
                "slack_webhook": "http://localhost:1/",
            },
            ["slack", "mail"],
        ),
    ],
)
def test_a_channel_is_there_where_its_settings_are(
    settings: dict[str, str], names: list[str]
) -> None:
    loaded = load_settings(**settings)
    channels = channels_of(loaded)
    assert [channel.name for channel in channels] == names
    assert "services" not in "".join(channel.where + repr(channel) for channel in channels)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"webhook_url": "https://h.example/x"},
            "MKA1_USAGE_WEBHOOK_URL: is set without MKA1_USAGE_WEBHOOK_SECRET",
        ),
        (
            {"mail_to": "a@b.example"},
            "MKA1_USAGE_MAIL_TO: is set without MKA1_USAGE_SMTP_URL",
        ),
        (
            {"smtp_url": "smtp://mail.example.com", "mail_from": "a@b.example"},
            "MKA1_USAGE_MAIL_TO: is not set, and MKA1_USAGE_SMTP_URL is",
        ),
        (
            {"smtp_url": "smtp://mail.example.com", "mail_to": "a@b.example"},
            "MKA1_USAGE_MAIL_TO: is set, but no sender: set MKA1_USAGE_MAIL_FROM",
        ),
        ({"webhook_secret": "QUJD" * 8}, "MKA1_USAGE_WEBHOOK_SECRET: must be whsec_"),
        ({"mail_from": "a@b.example,c@b.example"}, "MKA1_USAGE_MAIL_FROM: must be one address"),
        ({"mail_to": "a@b.example,nobody"}, "MKA1_USAGE_MAIL_TO: entry 2 is no mail address"),
    ],
)
def test_what_does_not_fit_together_is_one_line(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**settings)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_mail_account_is_what_its_url_says() -> None:
    account = MailAccount.of(SecretStr("smtps://me%40x.example:p%3A%2F%40ss@mail.example.com"))
    assert (account.host, account.port, account.user) == ("mail.example.com", 465, "me@x.example")
    assert account.password.get_secret_value() == "p:/@ss"
    assert str(account) == "smtps://mail.example.com:465"
    assert "p:/@ss" not in repr(account)
    assert MailAccount.of(SecretStr("smtp://mail.example.com")).port == 587
