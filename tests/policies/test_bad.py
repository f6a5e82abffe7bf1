"""Every wrong policy is refused with the words that stand beside it, and nothing of it comes into force."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle, Files, build_bundle, read_files
from gateway.policy.source import MAX_BYTES, MAX_PROBLEMS, read_source

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
POLICIES = Path(__file__).parents[2] / "policies"
PUBLISHED = sorted(file for file in POLICIES.rglob("*.yaml") if not file.name.endswith("_test.yaml"))


def build(files: Mapping[str, bytes]) -> Bundle:
    """Return the bundle of ``files`` over the packaged base."""
    return build_bundle(Files(read_files([]).base, MappingProxyType(dict(files))))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_it_is_refused_with_its_recorded_message(file: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        build({file.name: file.read_bytes()})
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text()


def test_there_is_a_message_for_each() -> None:
    assert len(BAD) >= 60
    assert {file.stem for file in BAD} == {file.stem for file in (Path(__file__).parent / "bad").glob("*.txt")}


@pytest.mark.parametrize("name", ["secret", "channel_literal_secret"])
def test_a_secret_is_not_repeated(name: str) -> None:
    assert "SECRET" in (Path(__file__).parent / "bad" / f"{name}.yaml").read_text()
    assert "SECRET" not in (Path(__file__).parent / "bad" / f"{name}.txt").read_text()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_it_is_refused_within_100_ms(file: Path) -> None:
    data = file.read_bytes()
    build({})
    took = []
    for _ in range(3):
        began = time.process_time()
        with pytest.raises(PolicyError):
            build({file.name: data})
        took.append(time.process_time() - began)
    assert min(took) < 0.1


def test_the_problems_of_all_files_are_told_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        build({file.name: file.read_bytes() for file in BAD})
    assert {problem.split(":")[0] for problem in caught.value.problems} == {file.name for file in BAD}


def test_one_wrong_file_refuses_the_bundle() -> None:
    good = b"version: 1\norganization: acme\n"
    assert set(build({"good.yaml": good}).policies) == {"acme"}
    with pytest.raises(PolicyError):
        build({"good.yaml": good, "bad.yaml": b"version: 2\norganization: other\n"})


def test_an_organisation_has_one_file() -> None:
    with pytest.raises(PolicyError) as caught:
        build({"a.yaml": b"version: 1\norganization: acme\n", "b.yaml": b"version: 1\norganization: acme\n"})
    assert caught.value.problems == ("b.yaml:2:15: `acme` has a policy already, in a.yaml; keep one",)


def test_a_file_has_an_end() -> None:
    with pytest.raises(PolicyError, match=r"big\.yaml:1:1: the file has 262145 bytes, more than 262144"):
        build({"big.yaml": b"#" * (MAX_BYTES + 1)})


@pytest.mark.parametrize(
    "bomb",
    [
        b"a: &a [x,x]\n" + b"".join(b"k%d: [" % n + b"*a," * 300 + b"]\n" for n in range(20)),
        b"[" * MAX_BYTES,
        b"{a: " * 60_000,
        b"- " * 100_000,
        b"? " * 100_000,
    ],
    ids=["aliases", "lists", "mappings", "dashes", "questions"],
)
def test_a_bomb_is_refused_fast(bomb: bytes) -> None:
    began = time.process_time()
    with pytest.raises(PolicyError) as caught:
        build({"bomb.yaml": bomb})
    assert time.process_time() - began < 3
    assert len(caught.value.problems) <= MAX_PROBLEMS + 1


# What only the loader can know: the meaning of tool schemas, and what stands in the base or elsewhere in the file.
BEYOND_SCHEMA = {
    "backtracking", "bad_pattern", "bad_schema", "close_domain", "duplicate_key", "laxer_domain",
    "laxer_refuse_domains", "misspelled_domain", "monitor", "redact_unknown_kind", "remote_ref", "reserved_name",
    "rule_loops", "rule_misspelt_variable", "rule_override", "rule_override_forbidden", "rule_references",
    "rule_twice", "rule_unreachable", "rule_wrong_type", "schema_not_object", "team_empty", "team_laxer",
    "unknown_route",
}  # fmt: skip
NOT_YAML = {
    "anchor", "carriage_return", "control_character", "deep", "empty", "indentation", "newline", "not_utf8",
    "not_yaml", "only_comment", "quoted_tab", "tab", "tag", "two_documents", "unclosed_list", "unquoted_colon",
}  # fmt: skip


@pytest.mark.parametrize("file", [f for f in BAD if f.stem not in NOT_YAML], ids=lambda file: file.stem)
def test_the_published_schema_sees_what_a_schema_can_see(file: Path) -> None:
    published: dict[str, Any] = orjson.loads((POLICIES / "schema" / "policy.schema.json").read_bytes())
    source, _ = read_source(file.read_bytes(), file.name)
    assert Draft202012Validator(published).is_valid(source.value) is (file.stem in BEYOND_SCHEMA)


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: str(file.relative_to(POLICIES)))
def test_the_published_policies_are_right(file: Path) -> None:
    published: dict[str, Any] = orjson.loads((POLICIES / "schema" / "policy.schema.json").read_bytes())
    source, problems = read_source(file.read_bytes(), file.name)
    assert not problems
    Draft202012Validator(published).validate(source.value)
    assert set(build({file.name: file.read_bytes()}).policies) == {source.value["organization"]}
