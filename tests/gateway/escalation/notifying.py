"""Cases and notices for tests of the delivery."""

from dataclasses import replace
from typing import Any

from audit.entry import new_id
from gateway.decision import Decision, Reason
from gateway.escalation.case import Handling, Opening, Target
from gateway.escalation.notices import Notice
from gateway.principal import Principal
from gateway.verdict import Label

REVISION = "ab" * 32
SECRET_TEXT = "launch code 0000"


def opening(*targets: Target, organization: str = "acme", **handling: Any) -> Opening:
    request_id, decision_id = new_id(), new_id()
    decision = Decision(
        decision_id, Label.ESCALATE, "medical", "clinic", (Reason("model", Label.ESCALATE),), "acme", REVISION
    )
    return Opening(
        principal=Principal(organization, "abcd1234", "alice"),
        stage="request",
        endpoint="/v1/chat/completions",
        stream=False,
        request_id=request_id,
        subject=None,
        decision=decision,
        fields={
            "request": request_id,
            "decision": decision_id,
            "route": "/v1/chat/completions",
            "key": "abcd1234",
            "stage": "request",
            "effect": "ESCALATE",
            "reasons": ["model"],
        },
        payloads={"request": SECRET_TEXT.encode()},
        binding="h1:" + (new_id() + new_id()).replace("-", "")[:64],
        reply_digest=None,
        handling=replace(Handling(route="clinic", targets=targets), **handling),
    )


def notice(target: str, **values: Any) -> Notice:
    base = Notice(
        id="01999999-0000-7000-8000-000000000001",
        kind="opened",
        target=target,
        case_id="01999999-0000-7000-8000-00000000000a",
        organization="acme",
        domain="medical",
        route="clinic",
        stage="request",
        outcome=None,
        key_id="abcd1234",
        at=1_795_549_557_123,
        due_at=1_795_551_357_123,
        language="en",
        link="https://so8t.example.org/console/cases/01999999-0000-7000-8000-00000000000a",
    )
    return replace(base, **values)
