"""The channels that the settings name."""

from __future__ import annotations

from pipeline.notify.channel import Channel
from pipeline.notify.mail import Mail, MailAccount
from pipeline.notify.others import Other
from pipeline.notify.slack import Slack
from pipeline.notify.webhook import Webhook
from pipeline.settings import Settings


def channels_of(settings: Settings) -> list[Channel]:
    """The channels that are set, in a fixed order; none where none is."""
    found: list[Channel] = []
    if settings.slack_webhook is not None:
        found.append(Slack(settings.slack_webhook))
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        found.append(Webhook(settings.webhook_url, settings.webhook_secret))
    if settings.smtp_url is not None:
        account = MailAccount.of(settings.smtp_url)
        sender = settings.mail_from[0] if settings.mail_from else account.user
        found.append(Mail(account, sender, settings.mail_to))
    found += [Other(url) for url in settings.apprise_urls]
    return found
