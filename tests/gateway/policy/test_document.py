"""A file becomes frozen values, and the published schema and the loader agree about what a file may say."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.errors import PolicyError
from gateway.policy import read_policy
from gateway.policy.document import EmailNotice, Otherwise, Route, SlackNotice
from gateway.policy.schema import BASE_SCHEMA, POLICY_SCHEMA
from gateway.verdict import Label
from tests.gateway.policy.examples import BASE

PUBLISHED = Path(__file__).parents[3] / "policies" / "schema" / "policy.schema.json"
CLINIC = Path(__file__).parents[3] / "policies" / "acme-clinic.yaml"


def test_the_example_reads_as_it_says() -> None:
    policy = read_policy(CLINIC.read_bytes(), "acme-clinic.yaml")
    assert (policy.name, policy.language, policy.mode) == ("acme-clinic", "ja", "enforce")
    assert policy.domains["legal"].approvals == 2
    assert policy.domains["medical"].effect is Label.ESCALATE
    notify = (EmailNotice(("duty-doctor@acme.example",)), SlackNotice("SLACK_MEDICAL_WEBHOOK"))
    assert policy.routes["medical-desk"] == Route(1800, Label.REFUSE, ("group:medical",), notify)
    mail = policy.tools.find("send_email")
    assert mail is not None
    assert mail.arguments is not None
    assert mail.arguments.matches({"to": "a@acme.example"})
    assert not mail.arguments.matches({"to": "a@acme.example\n"})
    assert mail.otherwise.domain == "pii"
    assert policy.unjudged is Label.ESCALATE


def test_what_is_left_out_is_none() -> None:
    policy = read_policy(b"version: 1\norganization: a\ntools: {x: {arguments: {}}}\n", "a.yaml")
    nothing = (policy.language, policy.mode, policy.default_route, policy.unjudged, policy.shape, policy.limits.refuse)
    assert set(nothing) == {None}
    assert policy.tools.default is Label.ALLOW
    assert policy.tools.contracts[0].otherwise == Otherwise(Label.REFUSE)


@pytest.mark.parametrize(("due", "seconds"), [("90s", 90), ("30m", 1800), ("8h", 28800), ("2d", 172800)])
def test_times(due: str, seconds: int) -> None:
    text = f"version: 1\norganization: a\nroutes: {{r: {{due: {due}, on_expired: refuse}}}}\n"
    assert read_policy(text.encode(), "a.yaml").routes["r"].due_s == seconds


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("send_email", "send_email"),
        ("send_mail", "send_*"),
        ("send_x", "send_?"),
        ("Send_email", None),
        ("read_file", "read_*"),
        ("read_all_files", "*_files"),
        ("xyz", None),
        ("send_email\n", "send_*"),
    ],
)
def test_the_exact_name_counts_then_the_glob_with_most_letters(name: str, pattern: str | None) -> None:
    patterns = ["read_*", "send_*", "*_files", "send_email", "send_?", "s*"]
    text = f"version: 1\norganization: a\ntools: {orjson.dumps({one: {} for one in patterns}).decode()}\n"
    found = read_policy(text.encode(), "a.yaml").tools.find(name)
    assert (found.pattern if found else None) == pattern


def test_the_published_schema_is_the_loaders() -> None:
    assert orjson.loads(PUBLISHED.read_bytes()) == POLICY_SCHEMA
    for schema in (POLICY_SCHEMA, BASE_SCHEMA):
        Draft202012Validator.check_schema(schema)


def test_the_base_knows_the_domains_of_the_design() -> None:
    stops = {name for name, rule in BASE.domains.items() if rule.effect is Label.ESCALATE}
    refused = {name for name, rule in BASE.domains.items() if rule.effect is Label.REFUSE}
    lawful = "medical legal pii compliance harassment hr finance security self_harm other"
    assert stops == set(lawful.split())
    designed = "violence weapons drugs cyber fraud privacy_attack child_safety hate sexual injection evasion"
    assert refused == set(designed.split())
    assert BASE.permits_monitor is False


ODD = st.sampled_from(
    [None, True, 0, 1, 2, 0.5, -1, "", "x", "refuse", "escalate", "30m", "x\n", [], ["x"], {}, {"x": 1}]
)


def mappings(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return mappings of some keys, sometimes with a wrong value or an unknown key."""
    right = st.fixed_dictionaries({}, optional=values)
    wrong = st.fixed_dictionaries({}, optional=dict.fromkeys((*values, "unknown"), ODD))
    return st.one_of(right, right, right, wrong, ODD)


EFFECT = st.sampled_from(["escalate", "refuse"])
ROUTE = mappings(
    due=st.sampled_from(["30m", "8h", "0s"]),
    on_expired=st.just("refuse"),
    reviewers=st.lists(st.sampled_from(["group:a", "user:b", "c"]), max_size=2),
    notify=st.lists(mappings(email=st.just({"to": ["a@b.example"]}), slack=st.just({"webhook": "${A}"})), max_size=2),
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "version": st.sampled_from([1, 1, 1, 1, 1.0, "1", 2]),
        "organization": st.sampled_from(["acme", "acme", "a b", 1]),
    },
    optional={
        "mode": st.sampled_from(["enforce", "monitor", "off"]),
        "language": st.sampled_from(["en", "ja", "fr"]),
        "safety": mappings(
            thresholds=mappings(refuse=st.floats(0, 1.1), escalate=st.floats(0, 1)), release=st.just("x")
        ),
        "domains": mappings(
            medical=mappings(effect=EFFECT, approvals=st.integers(0, 3)), legal=mappings(effect=EFFECT)
        ),
        "routes": mappings(desk=ROUTE),
        "tools": mappings(
            default=st.sampled_from(["judge", "refuse", "allow"]),
            send_email=mappings(
                effect=EFFECT, arguments=st.just({"type": "object"}), otherwise=mappings(effect=EFFECT)
            ),
        ),
        "failures": mappings(unjudged=EFFECT),
        "refusal": mappings(shape=st.sampled_from(["error", "content_filter"])),
        "rules": st.just([]),
    },
)


@given(DOCUMENTS)
@settings(max_examples=400, deadline=None)
def test_the_published_schema_and_the_loader_agree(document: dict[str, Any]) -> None:
    published = orjson.loads(PUBLISHED.read_bytes())
    try:
        unshared = orjson.loads(orjson.dumps(document))  # else the dumper writes anchors, which are not read
        read_policy(yaml.safe_dump(unshared).encode(), "x.yaml")
        loads = True
    except PolicyError:
        loads = False
    assert loads is Draft202012Validator(published).is_valid(document)
