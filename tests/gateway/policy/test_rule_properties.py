"""What holds for every policy with rules and teams: 10,000 random cases each, from a seed."""

import copy
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from gateway.decision import Decision
from gateway.parts import ToolCall, Unjudged
from gateway.policy import EffectivePolicy, Facts, decide, merge, read_policy
from gateway.policy.bundle import read_files
from gateway.principal import Principal
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict
from tests.gateway.policy.examples import BASE, call

POLICIES, CASES = 100, 100
STOPS = ("escalate", "refuse")
DOMAINS = ("medical", "legal", "pii", "other", "violence")
WHENS = (
    "true",
    'stage == "request"',
    'tool.name == "send" && tool.arguments.a == "x"',
    "tool.arguments.n > 5",
    "verdict.domains.legal > 0.5",
    "verdict.scores.refuse > 0.2 || conversation.turns > 2",
    '"red" in principal.teams',
    'principal.owner == "alice"',
    "now.getHours() > 11",
    'parts.tools.exists(name, name == "send")',
)
PERMITTING = read_policy(
    read_files([]).base[1].replace(b"overrides: []", b"overrides: [medical, legal]"), "base.yaml", base=True
)
OBLIGATIONS = ({"tag": {"word": "x"}}, {"cap_tokens": {"max": 5}}, {"redact": {"kinds": ["email"]}})


def rule(order: random.Random, name: str, *, overrides: bool) -> dict[str, Any]:
    kind = order.random()
    written: dict[str, Any] = {"id": name, "when": order.choice(WHENS)}
    if overrides and kind < 0.3:
        return written | {"effect": "allow", "overrides": "model", "domain": order.choice(["medical", "legal"])}
    if kind < 0.5:
        return written | {"effect": "allow", "obligations": [order.choice(OBLIGATIONS)]}
    return written | {"effect": order.choice(STOPS), "domain": order.choice(DOMAINS)}


def layer(order: random.Random, prefix: str, *, overrides: bool) -> dict[str, Any]:
    written: dict[str, Any] = {
        "rules": [rule(order, f"{prefix}{index}", overrides=overrides) for index in range(order.randrange(5))],
        "domains": {name: {"effect": "refuse"} for name in order.sample(DOMAINS, order.randrange(3))},
        "tools": {},
    }
    if order.random() < 0.4:
        written["tools"] = {order.choice(["send", "s*", "*"]): {"effect": order.choice(STOPS)}}
    if order.random() < 0.3:
        written["safety"] = {"thresholds": {order.choice(["refuse", "escalate"]): order.random()}}
    return written


def document(order: random.Random, *, overrides: bool = False) -> dict[str, Any]:
    written = {"version": 1, "organization": "acme", **layer(order, "o", overrides=overrides)}
    teams = {}
    for name, people in (("red", ["alice", "bob"]), ("blue", ["alice"]), ("green", ["carol"])):
        team = layer(order, name, overrides=overrides)
        if "safety" in written:
            team.pop("safety", None)
        teams[name] = team | {"owners": people}
    return written | {"teams": teams}


def scores(order: random.Random) -> Scores:
    one, two = sorted((order.random(), order.random()))
    return Scores(one, two - one, 1 - two)


def situation(order: random.Random) -> Facts:
    label = order.choice(list(Label))
    stage: Stage = order.choice(["request", "response"])
    domains = {name: order.random() for name in order.sample(DOMAINS, 2)}
    verdict = Verdict(
        label=label,
        scores=scores(order),
        domain=None if label is Label.ALLOW else order.choice(DOMAINS),
        domains=domains,
        pointer="/messages/0",
        release="r",
        release_digest="0" * 64,
        template=1,
        judged_bytes=1,
        readings=(Reading("/x", scores(order), domains),) if order.random() < 0.5 else (),
        unjudged=(Unjudged("/x", "image"),) if order.random() < 0.1 else (),
    )
    texts = ['{"a": "x"}', '{"n": 6}', '{"n": "y"}', "{}", "[]", '{"a":1,"a":2}']
    calls: tuple[ToolCall, ...] = tuple(
        call(order.choice(["send", "read"]), order.choice(texts)) for _ in range(order.randrange(3))
    )
    return Facts(
        stage,
        verdict,
        calls,
        Thresholds(order.random(), order.random()) if order.random() < 0.5 else None,
        principal=Principal("acme", "k", order.choice(["alice", "bob", "carol", "dave"])),
        tools=("send",) if order.random() < 0.5 else (),
        turns=order.randrange(5),
        now=order.choice([None, 1_770_000_000_000, 1_770_041_000_000]),
    )


def effective(written: dict[str, Any], *, permitting: bool = False) -> EffectivePolicy:
    return merge(PERMITTING if permitting else BASE, read_policy(orjson.dumps(written), "acme.yaml"))


def cases(seed: int, *, overrides: bool = False) -> Iterator[tuple[dict[str, Any], random.Random]]:
    order = random.Random(seed)
    for _ in range(POLICIES):
        yield document(order, overrides=overrides), order


decided = partial(decide, decision_id="d")


def severity(decision: Decision) -> int:
    return decision.effect.severity


def test_no_file_is_laxer_than_the_base() -> None:
    base = merge(BASE)
    for written, order in cases(1):
        policy = effective(written)
        for _ in range(CASES):
            about = situation(order)
            own = decided(policy, about)
            assert severity(own) >= severity(decided(base, about))
            assert own.lowered == ()


def test_only_a_permitted_override_is_laxer_than_the_base() -> None:
    base = merge(PERMITTING)
    for written, order in cases(2, overrides=True):
        policy = effective(written, permitting=True)
        for _ in range(CASES):
            about = situation(order)
            own, under = decided(policy, about), decided(base, about)
            if severity(own) < severity(under):
                assert own.lowered
                assert under.effect is Label.ESCALATE
                assert about.verdict.label is not Label.REFUSE
                assert not about.verdict.unjudged
                assert {one.domain for one in own.lowered} <= {"medical", "legal"}


def test_adding_a_gate_never_makes_a_decision_laxer() -> None:
    for written, order in cases(3, overrides=True):
        tighter = copy.deepcopy(written)
        place = order.choice([tighter, *tighter["teams"].values()])
        kind = order.choice(["rule", "obligation", "domain", "tool", "team"])
        if kind == "rule":
            place["rules"].append({"id": "added", "when": order.choice(WHENS), "effect": order.choice(STOPS)})
        elif kind == "obligation":
            obligations = [order.choice(OBLIGATIONS)]
            place["rules"].append({"id": "added", "when": "true", "effect": "allow", "obligations": obligations})
        elif kind == "domain":
            place["domains"][order.choice(DOMAINS)] = {"effect": "refuse"}
        elif kind == "tool" and not place["tools"]:
            place["tools"] = {"send": {"effect": order.choice(STOPS)}}
        else:
            tighter["teams"]["added"] = layer(order, "added", overrides=False) | {"owners": ["alice", "dave"]}
            if "safety" in tighter:
                tighter["teams"]["added"].pop("safety", None)
        before, after = effective(written, permitting=True), effective(tighter, permitting=True)
        for _ in range(CASES):
            about = situation(order)
            assert severity(decided(after, about)) >= severity(decided(before, about))


def test_the_order_of_rules_teams_and_layers_does_not_matter() -> None:
    for written, order in cases(4, overrides=True):
        other = copy.deepcopy(written)
        for place in (other, *other["teams"].values()):
            order.shuffle(place["rules"])
        names = list(other["teams"])
        order.shuffle(names)
        other["teams"] = {name: other["teams"][name] for name in names}
        one, two = effective(written, permitting=True), effective(other, permitting=True)
        assert one.revision == two.revision
        for _ in range(CASES):
            about = situation(order)
            assert decided(one, about) == decided(two, about)


def test_a_decision_is_a_pure_function_of_policy_and_facts() -> None:
    for written, order in cases(5, overrides=True):
        one, two = effective(written, permitting=True), effective(written, permitting=True)
        for _ in range(CASES):
            about = situation(order)
            kept = copy.deepcopy(about)
            first = decided(one, about)
            assert decided(one, about) == first
            assert decided(two, about) == first
            assert about == kept
            assert first.effect is max((reason.effect for reason in first.reasons), key=lambda effect: effect.severity)
            assert (first.route is not None) == (first.effect is Label.ESCALATE)
            assert first.approvals >= 1
            assert not (first.effect is Label.REFUSE and first.obligations)
