"""Entries: exact bytes, a closed set of fields, no free text."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import EVENTS, FIELDS, MAX_BYTES, build_entry, is_organization, new_id, read_entry
from audit.errors import EntryError

DECISION: dict[str, Any] = {
    "request": "0199f3a0-0000-7000-8000-000000000001",
    "route": "/v1/chat/completions",
    "key": "ab12cd34",
    "stage": "request",
    "decision": "0199f3a0-0000-7000-8000-000000000002",
    "effect": "ESCALATE",
    "enforced": True,
    "domain": "medical",
    "route_to": "medical-desk",
    "reasons": ["model", "tool:send_email"],
    "errors": 0,
    "policy": "acme-clinic",
    "revision": "1" * 64,
    "label": "ESCALATE",
    "scores": {"allow": 0.2, "refuse": 0.1, "escalate": 0.7},
    "release": "so8t-nano",
    "release_digest": "0" * 64,
    "template": 1,
    "judged_bytes": 1234,
    "unjudged": 0,
    "verdicts": 1,
}
COMMITMENT = "c1:sha256:" + "a" * 64


def test_the_leaf_is_the_exact_json_of_the_fields() -> None:
    entry = build_entry(
        "acme", "decision", DECISION, {"request": COMMITMENT}, entry_id="0199f3a0-0000-7000-8000-000000000003", now=0.5
    )
    head = (
        b'{"v":1,"id":"0199f3a0-0000-7000-8000-000000000003","t":"1970-01-01T00:00:00.500Z",'
        b'"ev":"decision","org":"acme",'
    )
    assert entry.leaf.startswith(head)
    assert orjson.loads(entry.leaf) == {
        **orjson.loads(head[:-1] + b"}"),
        **DECISION,
        "payloads": {"request": COMMITMENT},
    }
    assert entry.refs == (entry.id, DECISION["decision"], DECISION["request"])
    assert read_entry(entry.leaf)["effect"] == "ESCALATE"


def test_ids_are_uuid7_and_ascend() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids
    )


def test_every_field_of_every_event_has_a_check() -> None:
    for event in EVENTS.values():
        assert event.required | event.optional <= FIELDS.keys()


@pytest.mark.parametrize("missing", sorted(EVENTS["decision"].required))
def test_a_missing_field_is_refused(missing: str) -> None:
    fields = {name: value for name, value in DECISION.items() if name != missing}
    with pytest.raises(EntryError, match=missing):
        build_entry("acme", "decision", fields)


@pytest.mark.parametrize("name", ["prompt", "id", "v", "org", "payloads", "outcome"])
def test_a_field_that_the_event_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(EntryError, match="has no field"):
        build_entry("acme", "decision", {**DECISION, name: "forwarded"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request", "not an id"),
        ("route", "https://elsewhere"),
        ("key", "two words"),
        ("stage", "reply"),
        ("effect", "allow"),
        ("enforced", 1),
        ("domain", "free text here"),
        ("reasons", ["free text here"]),
        ("reasons", "model"),
        ("reasons", ["x"] * 257),
        ("reasons", ["日本語"]),
        ("errors", True),
        ("errors", -1),
        ("errors", 1 << 60),
        ("revision", "1" * 63),
        ("scores", {"allow": 1.0}),
        ("scores", {"allow": 0.2, "refuse": 0.1, "escalate": 7}),
        ("scores", {"allow": 0.2, "refuse": float("nan"), "escalate": 0.5}),
        ("model", "gpt-4"),
        ("model", "h1:" + "a" * 63),
        ("tools", ["send_email"]),
        ("release", "x" * 201),
        ("release", "line\nbreak"),
    ],
)
def test_a_value_that_could_be_free_text_or_nonsense_is_refused(name: str, value: object) -> None:
    with pytest.raises(EntryError, match=name):
        build_entry("acme", "decision", {**DECISION, name: value})


@given(st.text(min_size=1, max_size=40).filter(lambda text: " " in text or not text.isascii()))
def test_no_field_takes_a_sentence(text: str) -> None:
    for name in sorted(DECISION):
        with pytest.raises(EntryError):
            build_entry("acme", "decision", {**DECISION, name: text})


def test_a_plain_digest_of_content_is_no_commitment() -> None:
    with pytest.raises(EntryError, match="payloads"):
        build_entry("acme", "decision", DECISION, {"request": "sha256:" + "a" * 64})


def test_an_unknown_event_and_an_impossible_organisation_are_refused() -> None:
    with pytest.raises(EntryError, match="unknown event"):
        build_entry("acme", "celebration", {})
    for name in ("", "Acme", "-acme", "a" * 64, "a/b", "..", "acme\n"):
        assert not is_organization(name)
        with pytest.raises(EntryError, match="organisation"):
            build_entry(name, "started", {})


def test_an_entry_over_16_kib_is_refused() -> None:
    fields = {**DECISION, "reasons": [f"rule-{at:03}-{'x' * 90}" for at in range(256)]}
    with pytest.raises(EntryError, match=str(MAX_BYTES)):
        build_entry("acme", "decision", fields)


@pytest.mark.parametrize("leaf", [b"", b"[]", b'{"v":2}', b"\xff", b'"text"'])
def test_what_is_no_entry_is_not_read(leaf: bytes) -> None:
    with pytest.raises(EntryError):
        read_entry(leaf)
