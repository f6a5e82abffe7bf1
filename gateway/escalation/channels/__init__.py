"""The channels: mail, Slack, and signed webhooks."""

import os
from collections.abc import Mapping

from gateway.escalation.channels.base import Channel
from gateway.escalation.channels.email import EmailChannel
from gateway.escalation.channels.slack import SlackChannel
from gateway.escalation.channels.webhook import WebhookChannel
from gateway.settings import Settings

__all__ = ["Channel", "create_channels"]


def create_channels(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, Channel]:
    """Return the channels by the names that targets use; ``email`` only where a mail server is set."""
    channels: dict[str, Channel] = {"slack": SlackChannel(environment), "webhook": WebhookChannel(environment)}
    if settings.smtp.host is not None:
        channels["email"] = EmailChannel(settings.smtp, settings.smtp_password(environment))
    return channels
