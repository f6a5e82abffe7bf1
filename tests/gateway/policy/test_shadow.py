"""A shadow decides beside the first bundle, for a share of keys that only grows, until it is taken back."""

from pathlib import Path

import pytest

from gateway.policy import Facts, load_bundle
from gateway.policy.inputs import input_row
from gateway.policy.shadow import ShadowStore, decide_both, read_stage, shadow_report, staged, write_stage
from gateway.principal import Principal
from gateway.verdict import Label
from tests.gateway.policy.examples import verdict

HEAD = "version: 1\norganization: acme\n"


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (tmp_path / "acme.yaml").write_text(HEAD)
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "acme.yaml").write_text(HEAD + "domains: {medical: {effect: refuse}}\n")
    return tmp_path


def test_a_larger_share_holds_a_smaller_one() -> None:
    keys = [f"k{number}" for number in range(2000)]
    shares = [{key for key in keys if staged("acme", key, percent)} for percent in (0, 5, 25, 100)]
    assert shares[0] == set()
    assert shares[0] <= shares[1] <= shares[2] <= shares[3] == set(keys)
    assert 50 < len(shares[1]) < 150
    assert 400 < len(shares[2]) < 600


def test_both_decide_and_one_counts(policies: Path) -> None:
    current, shadow = load_bundle(policies), ShadowStore(policies).current
    assert set(current.policies) == {"acme"}
    assert shadow is not None
    facts = Facts("request", verdict(Label.ESCALATE), principal=Principal("acme", "k1", "anna"))
    rows = []
    for percent, effect, acted in ((0, Label.ESCALATE, "current"), (100, Label.REFUSE, "shadow")):
        both = decide_both(current, shadow, percent, facts, decision_id=f"d{percent}")
        assert (both.decision.effect, both.acted) == (effect, acted)
        assert (both.current.effect, both.shadow.effect) == (Label.ESCALATE, Label.REFUSE)
        rows.append(input_row(facts, both.current, 0, shadow=both.shadow, acted=both.acted))
    report = shadow_report(rows)
    assert {pair: flips.count for pair, flips in report.flips.items()} == {("ESCALATE", "REFUSE"): 2}
    assert set(report.rules) == {"domain:medical"}
    assert shadow_report([]).total == 0


def test_the_stage_is_a_file_and_wrong_ones_are_nothing(policies: Path) -> None:
    store = ShadowStore(policies)
    assert (store.percent, store.changed()) == (0, False)
    write_stage(policies / "shadow", 12.5)
    assert store.changed()
    assert store.reload() == ()
    assert (store.percent, store.changed()) == (12.5, False)
    for wrong in ("", "many", "101", "-1", "nan", "inf"):
        (policies / "shadow" / "stage").write_text(wrong)
        assert read_stage(policies / "shadow") == 0
    assert store.current is not None


def test_a_wrong_shadow_decides_nothing(policies: Path) -> None:
    store = ShadowStore(policies)
    write_stage(policies / "shadow", 100)
    (policies / "shadow" / "acme.yaml").write_text(HEAD + "mode: monitor\n")
    assert store.changed()
    assert store.reload()
    assert (store.current, store.percent) == (None, 0)
    (policies / "shadow" / "acme.yaml").write_text(HEAD)
    assert store.changed()
    assert store.reload() == ()
    assert store.current is not None
    assert store.percent == 100


def test_a_shadow_comes_and_goes(tmp_path: Path) -> None:
    store = ShadowStore(tmp_path)
    assert store.current is None
    assert not store.changed()
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "a.yaml").write_text(HEAD)
    assert store.changed()
    store.reload()
    assert set(vars(store)["_store"].current.policies) == {"acme"}
    (tmp_path / "shadow" / "a.yaml").unlink()
    (tmp_path / "shadow").rmdir()
    assert store.changed()
    store.reload()
    assert store.current is None
