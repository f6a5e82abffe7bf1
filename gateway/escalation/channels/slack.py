"""Slack: an incoming webhook, Block Kit with a button that is only a link. The URL is a secret."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.escalation.channels.post import TIMEOUT_S, Poster
from gateway.escalation.notices import Notice

MAX_HEADER: Final = 150
MAX_FIELD: Final = 2000


class SlackChannel:
    """A target's address is the name of the environment variable that holds the webhook's URL."""

    def __init__(self, environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._poster = Poster(environment, timeout_s=timeout_s)

    async def send(self, notice: Notice) -> None:
        """POST the notice; Slack has no id for what it was sent, so a repeated notice is shown twice."""
        await self._poster.post(notice.target, orjson.dumps(build_message(notice)))

    async def close(self) -> None:
        """Close the session."""
        await self._poster.close()


def build_message(notice: Notice) -> dict[str, Any]:
    """Return the message. Times are shown in each reader's own time zone."""
    opened = notice.outcome is None
    facts = [{"type": "mrkdwn", "text": _field(notice, label, value)} for label, value in notice.facts]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(notice.headline[:MAX_HEADER])},
        {"type": "section", "fields": facts},
    ]
    if notice.explanation is not None:
        blocks.append({"type": "section", "text": _plain(notice.explanation)})
    button: dict[str, Any] = {"type": "button", "text": _plain(notice.text("open")), "url": notice.link}
    if opened:
        button["style"] = "primary"
    blocks += [
        {"type": "actions", "elements": [button]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{_escape(notice.link)}\n{_footer(notice)}"}]},
    ]
    return {
        "text": _escape(f"{notice.subject} {notice.link}"),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _field(notice: Notice, label: str, value: str) -> str:
    shown = _escape(value)
    if label == notice.text("due"):
        shown = f"<!date^{notice.due_at // 1000}^{{date_short_pretty}} {{time}}|{shown}>"
    return f"*{_escape(label)}*\n{shown}"[:MAX_FIELD]


def _footer(notice: Notice) -> str:
    return _escape(notice.text("footer"))


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
