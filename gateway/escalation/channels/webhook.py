"""Webhooks by the Standard Webhooks specification: signed, thin, with an id that stays the same over all tries."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.errors import DeliveryRefused
from gateway.escalation.channels.post import TIMEOUT_S, Poster
from gateway.escalation.notices import Notice

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = range(24, 65)


class WebhookChannel:
    """A target's address is the name of the environment variable that holds the URL; NAME_SECRET holds its secrets.

    A secret is ``whsec_`` and 24 to 64 bytes in Base64. Several, with spaces between, sign side by side: so a
    receiver changes its secret without a gap.
    """

    def __init__(self, environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._poster = Poster(environment, timeout_s=timeout_s)

    async def send(self, notice: Notice) -> None:
        """POST the signed notice; DeliveryRefused where the secret is missing or malformed."""
        secrets = _secrets(self._poster.value(f"{notice.target}_SECRET"))
        body = orjson.dumps(build_event(notice))
        at = int(time.time())
        signatures = " ".join(sign(secret, notice.id, at, body) for secret in secrets)
        headers = {"webhook-id": notice.id, "webhook-timestamp": str(at), "webhook-signature": signatures}
        await self._poster.post(notice.target, body, headers)

    async def close(self) -> None:
        """Close the session."""
        await self._poster.close()


def build_event(notice: Notice) -> dict[str, Any]:
    """Return the body: the same bytes on every try."""
    data = {
        "case": notice.case_id,
        "organization": notice.organization,
        "domain": notice.domain,
        "route": notice.route,
        "stage": notice.stage,
        "key": notice.key_id,
        "due_at": _iso(notice.due_at),
        "url": notice.link,
    }
    if notice.outcome is not None:
        data["outcome"] = notice.outcome
    return {"type": f"case.{notice.kind}", "timestamp": _iso(notice.at), "data": data}


def sign(secret: bytes, notice_id: str, at: int, body: bytes) -> str:
    """Return a signature of version 1: HMAC-SHA256 over the id, the time in seconds and the body."""
    digest = hmac.digest(secret, f"{notice_id}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _secrets(value: str) -> list[bytes]:
    secrets = []
    for each in value.split():
        try:
            secret = base64.b64decode(each.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise DeliveryRefused("secret_invalid") from None
        if not each.startswith(PREFIX) or len(secret) not in SECRET_BYTES:
            raise DeliveryRefused("secret_invalid")
        secrets.append(secret)
    return secrets


def _iso(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at % 1000:03}Z"
