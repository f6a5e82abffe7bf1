"""Webhooks, verified by the reference implementation of Standard Webhooks."""

import base64

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.errors import DeliveryRefused
from gateway.escalation.channels.webhook import WebhookChannel
from tests.gateway.escalation.notifying import notice
from tests.gateway.escalation.sinks import HttpSink


def secret(byte: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([byte]) * size).decode()


async def test_a_receiver_verifies_it_and_knows_a_repetition() -> None:
    async with HttpSink() as sink:
        channel = WebhookChannel({"HOOK": sink.url(), "HOOK_SECRET": f"{secret(1)} {secret(2)}"})
        await channel.send(notice("HOOK"))
        await channel.send(notice("HOOK"))
        await channel.close()
    first, second = sink.hits
    for hit in sink.hits:
        for each in (secret(1), secret(2)):
            event = Webhook(each).verify(hit.body, hit.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret(3)).verify(hit.body, hit.headers)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == notice("").id
    assert first.body == second.body
    assert len(first.body) < 2000
    assert event == {
        "type": "case.opened",
        "timestamp": "2026-11-24T19:45:57.123Z",
        "data": {
            "case": notice("").case_id,
            "organization": "acme",
            "domain": "medical",
            "route": "clinic",
            "stage": "request",
            "key": "abcd1234",
            "due_at": "2026-11-24T20:15:57.123Z",
            "url": notice("").link,
        },
    }


async def test_a_decision_is_told() -> None:
    async with HttpSink() as sink:
        channel = WebhookChannel({"HOOK": sink.url(), "HOOK_SECRET": secret(1)})
        await channel.send(notice("HOOK", kind="decided", outcome="denied"))
        await channel.close()
    event = Webhook(secret(1)).verify(sink.hits[0].body, sink.hits[0].headers)
    assert (event["type"], event["data"]["outcome"]) == ("case.decided", "denied")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "variable_unset"),
        ("secret", "secret_invalid"),
        (secret(1).removeprefix("whsec_"), "secret_invalid"),
        (secret(1, 23), "secret_invalid"),
        (secret(1, 65), "secret_invalid"),
        (f"{secret(1)} whsec_!", "secret_invalid"),
    ],
)
async def test_nothing_leaves_unsigned(value: str | None, error: str) -> None:
    async with HttpSink() as sink:
        environment = {"HOOK": sink.url()} | ({} if value is None else {"HOOK_SECRET": value})
        channel = WebhookChannel(environment)
        with pytest.raises(DeliveryRefused, match=f"^{error}$"):
            await channel.send(notice("HOOK"))
        await channel.close()
    assert sink.hits == []
