"""A replay decides as the engine decides, guesses nothing, and tells what flips."""

import random
from typing import Any

import pytest

from gateway.parts import Unjudged
from gateway.policy import EffectivePolicy, Facts, decide
from gateway.policy.inputs import COLUMNS, MAX_NAMES, facts_of_row, input_row
from gateway.policy.replay import Player, plain, replay
from gateway.principal import Principal
from gateway.verdict import Label, Reading, Scores, Stage, Thresholds, Verdict
from tests.gateway.policy.examples import call, effective

DOMAINS = ("medical", "legal", "pii", "other", "violence", "weapons", "elsewhere")
OLD = effective()
NEW = effective(
    """
safety: {thresholds: {escalate: 0.4}}
domains: {legal: {effect: refuse}}
tools: {drop: {effect: refuse}, send: {arguments: {type: object}}}
teams: {ops: {keys: [k1], safety: {thresholds: {refuse: 0.3}}}}
"""
)
ASKING = effective(
    """
rules:
  - {id: many, when: 'parts.unjudged > 0 && "ops" in principal.teams', effect: refuse}
  - {id: key, when: 'principal.key == "k0" && stage == "request"', effect: escalate, domain: legal}
teams: {ops: {owners: [anna]}}
"""
)
EXACT = effective("rules: [{id: sure, when: 'verdict.scores.refuse > 0.2', effect: escalate}]")
STAGES: tuple[Stage, ...] = ("request", "response")
OWNERS = {"k0": "anna", "k1": "ben"}


def draw(rng: random.Random) -> Facts:
    def scores() -> Scores:
        shares = [rng.random() ** 2 + 1e-9 for _ in range(3)]
        return Scores(*(share / sum(shares) for share in shares))

    def named() -> dict[str, float]:
        return {name: rng.choice([0.0, 0.5, rng.random()]) for name in DOMAINS if rng.random() < 0.7}

    label = rng.choice(list(Label))
    first = scores()
    verdict = Verdict(
        label, first, None if label is Label.ALLOW else rng.choice(DOMAINS), named(), "/x", "r", "0" * 64, 1,
        rng.randrange(100), tuple(Reading("/x", scores(), named()) for _ in range(rng.randrange(3))),
        (Unjudged("/x", "image"),) if rng.random() < 0.2 else (),
    )  # fmt: skip
    calls = tuple(call(rng.choice(["send", "drop", "look"])) for _ in range(rng.choice([0, 0, 1, 2])))
    limits = rng.choice([None, Thresholds(0.5, 0.5), Thresholds(0.6, 0.3)])
    principal = Principal("acme", rng.choice(list(OWNERS)), "")
    stage: Stage = rng.choice(STAGES)
    return Facts(stage, verdict, calls, limits, principal=principal, turns=rng.randrange(3), now=rng.randrange(10**12))


def row(facts: Facts, number: int = 0, policy: EffectivePolicy = OLD) -> dict[str, Any]:
    return input_row(facts, decide(policy, facts, decision_id=f"d{number}"), 1000 + number)


@pytest.mark.parametrize("policy", [NEW, ASKING, EXACT], ids=["plain", "asking", "exact"])
def test_rows_that_a_policy_cannot_tell_apart_are_decided_alike(policy: EffectivePolicy) -> None:
    rng = random.Random(3)
    quick, exact = Player(policy, OWNERS), Player(policy, OWNERS, exact=True)
    for number in range(1500):
        drawn = row(draw(rng), number)
        assert quick.play(drawn) == exact.play(drawn)


def test_a_row_gives_back_what_was_decided() -> None:
    rng = random.Random(4)
    for number in range(300):
        facts = draw(rng)
        kept = row(facts, number)
        assert tuple(kept) == COLUMNS
        again = decide(OLD, facts_of_row(kept), decision_id=kept["decision_id"])
        assert (again.effect.value, again.domain) == (kept["effect"], kept["decided_domain"])


def test_no_text_is_kept() -> None:
    facts = draw(random.Random(1))
    long = Facts("response", facts.verdict, (call("n" * 500, '{"secret": "SECRET"}'),) * 200, principal=facts.principal)
    kept = row(long)
    assert "SECRET" not in str(kept)
    assert kept["calls"].count('"') == 2 * MAX_NAMES
    assert len(kept["calls"]) < MAX_NAMES * 132


def test_flips_are_counted_by_rule_domain_and_key_with_examples() -> None:
    rng = random.Random(5)
    rows = [row(draw(rng), number) for number in range(400)]
    report = replay(iter(rows), Player(NEW, OWNERS))
    told = plain(report)
    assert told["total"] == 400
    assert told["replayed"] + told["not_replayable"] == 400
    assert told["not_replayable"] == sum('"send"' in one["calls"] and one["stage"] == "response" for one in rows)
    assert (
        0 < told["flipped"] == sum(one["count"] for one in told["flips"]) == sum(one["count"] for one in told["keys"])
    )
    assert {one["name"] for one in told["rules"]} >= {"model", "domain:legal", "tool:drop"}
    assert all(one["examples"] for one in told["flips"])
    assert sum(told["after"].values()) == told["replayed"]


def test_a_policy_beside_itself_flips_nothing() -> None:
    rng = random.Random(6)
    rows = [row(draw(rng), number) for number in range(200)]
    assert replay(iter(rows), Player(NEW, OWNERS), Player(NEW, OWNERS)).flipped == 0
    assert replay(iter(rows), Player(OLD, OWNERS)).flipped == 0


def test_what_hung_on_arguments_then_is_not_guessed_now() -> None:
    facts = Facts("response", draw(random.Random(1)).verdict, (call("x", "{"),), principal=Principal("acme", "k", ""))
    report = replay(iter([row(facts)]), Player(OLD, OWNERS))
    assert (report.total, report.skipped) == (1, 1)
