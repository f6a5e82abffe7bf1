"""Slack and what all POSTs share: the message's form, and what each status means."""

import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest

from gateway.errors import DeliveryPostponed, DeliveryRefused
from gateway.escalation.channels.slack import SlackChannel, build_message
from tests.gateway.escalation.notifying import notice
from tests.gateway.escalation.sinks import HttpSink


async def send(sink: HttpSink, **values: Any) -> None:
    channel = SlackChannel({"SLACK_URL": sink.url()}, timeout_s=0.5)
    try:
        await channel.send(notice("SLACK_URL", **values))
    finally:
        await channel.close()


async def test_a_message_with_a_link_button() -> None:
    async with HttpSink() as sink:
        await send(sink)
    message = orjson.loads(sink.hits[0].body)
    assert sink.hits[0].headers["content-type"] == "application/json"
    buttons = [e for block in message["blocks"] if block["type"] == "actions" for e in block["elements"]]
    assert [button["url"] for button in buttons] == [notice("").link]
    assert notice("").link in message["text"]
    fields = next(block["fields"] for block in message["blocks"] if "fields" in block)
    assert len(fields) <= 10
    assert any(
        field["text"] == "*Decide by*\n<!date^1795551357^{date_short_pretty} {time}|2026-11-24 20:15 UTC>"
        for field in fields
    )


def test_markup_in_a_name_stays_text() -> None:
    text = orjson.dumps(build_message(notice("X", route="<!channel> & <https://evil|x>"))).decode()
    assert "<!channel>" not in text
    assert "&lt;!channel&gt; &amp; &lt;https://evil|x&gt;" in text


@pytest.mark.parametrize(
    ("status", "headers", "kind", "after_s"),
    [
        (400, {}, DeliveryRefused, None),
        (403, {}, DeliveryRefused, None),
        (404, {}, DeliveryRefused, None),
        (410, {}, DeliveryRefused, None),
        (408, {}, DeliveryPostponed, None),
        (429, {"retry-after": "30"}, DeliveryPostponed, 30),
        (429, {"retry-after": "soon"}, DeliveryPostponed, None),
        (503, {"retry-after": formatdate(time.time() + 10**6, usegmt=True)}, DeliveryPostponed, 86400),
        (503, {"retry-after": "99999999999"}, DeliveryPostponed, 86400),
        (500, {}, DeliveryPostponed, None),
        (302, {"location": "/elsewhere"}, DeliveryPostponed, None),
    ],
)
async def test_what_a_status_means(
    status: int, headers: dict[str, str], kind: type[Exception], after_s: float | None
) -> None:
    async with HttpSink(lambda *_: (status, headers)) as sink:
        with pytest.raises(kind, match=f"http_{status}") as caught:
            await send(sink)
    assert [hit.path for hit in sink.hits] == ["/hook"]
    if isinstance(caught.value, DeliveryPostponed):
        assert caught.value.after_s == after_s


async def test_a_date_is_understood_as_what_is_left_until_then() -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    async with HttpSink(lambda *_: (503, {"retry-after": date})) as sink:
        with pytest.raises(DeliveryPostponed) as caught:
            await send(sink)
    assert caught.value.after_s == pytest.approx(3590, abs=10)


async def test_silence_and_absence_are_tried_again() -> None:
    async with HttpSink(lambda *_: None) as sink:
        with pytest.raises(DeliveryPostponed, match="timeout"):
            await send(sink)
    with pytest.raises(DeliveryPostponed, match="unreachable"):
        await send(sink)


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({}, "variable_unset"),
        ({"SLACK_URL": " "}, "variable_unset"),
        ({"SLACK_URL": "ftp://x/secret"}, "url_invalid"),
        ({"SLACK_URL": "http://[secret"}, "url_invalid"),
        ({"SLACK_URL": "http:///secret"}, "url_invalid"),
    ],
)
async def test_a_variable_without_a_url(environment: dict[str, str], error: str) -> None:
    channel = SlackChannel(environment)
    with pytest.raises(DeliveryRefused, match=f"^{error}$"):
        await channel.send(notice("SLACK_URL"))
    await channel.close()
