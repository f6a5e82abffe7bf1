"""A situation written by hand, as test tables and ``so8t policy explain`` have it: what a policy decides about.

What is left out is what is harmless: without ``label``, ``domain`` or ``scores`` the Safety head lets it pass.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from gateway.parts import ToolCall, Unjudged
from gateway.policy.engine import Facts
from gateway.policy.merge import EffectivePolicy
from gateway.policy.source import Path
from gateway.policy.violations import suggest
from gateway.principal import Principal
from gateway.verdict import Label, Scores, Thresholds, Verdict

_SURE: Final = {
    Label.ALLOW: Scores(1.0, 0.0, 0.0),
    Label.REFUSE: Scores(0.0, 1.0, 0.0),
    Label.ESCALATE: Scores(0.0, 0.0, 1.0),
}
MONDAY: Final = "2026-01-05T09:00Z"
"""When it is, where nobody says."""

_DEFAULT_THRESHOLDS: Final = Thresholds(0.5, 0.5)
_PROBABILITY: Final = {"type": "number", "minimum": 0, "maximum": 1}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 1000}
_NAMES: Final[dict[str, Any]] = {"type": "array", "maxItems": 200, "items": _TEXT}
_WORD: Final = {"enum": ["allow", "escalate", "refuse"]}
_ARGUMENTS: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The call's arguments. To try text that is no JSON, use `arguments_text`.",
}
_RAW: Final[dict[str, Any]] = {"type": "string", "description": "The arguments as the exact text of the wire."}


def _object(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


GIVEN_SCHEMA: Final = _object(
    "The situation. What is left out is harmless.",
    {
        "stage": {
            "enum": ["request", "response"],
            "description": "What somebody asks, or what the reply proposes. Default: response where a tool is called.",
        },
        "label": _WORD | {"description": "What the Safety head says. Default: what `domain` belongs to, else allow."},
        "domain": _TEXT | {"description": "The domain that the Safety head names."},
        "scores": _object(
            "The Safety head's probabilities, in place of `label`.",
            {"allow": _PROBABILITY, "refuse": _PROBABILITY, "escalate": _PROBABILITY},
            ("allow", "refuse", "escalate"),
        ),
        "domains": {
            "type": "object",
            "additionalProperties": _PROBABILITY,
            "maxProperties": 200,
            "description": "The Safety head's score for each domain.",
        },
        "thresholds": _object(
            "The release's own thresholds. Default 0.5 and 0.5.",
            {"refuse": _PROBABILITY, "escalate": _PROBABILITY},
            ("refuse", "escalate"),
        ),
        "tool": _TEXT | {"description": "The tool that the reply proposes to call."},
        "arguments": _ARGUMENTS,
        "arguments_text": _RAW,
        "calls": {
            "type": "array",
            "maxItems": 50,
            "description": "Several calls at once, in place of `tool`.",
            "items": _object("A call.", {"tool": _TEXT, "arguments": _ARGUMENTS, "arguments_text": _RAW}, ("tool",)),
        },
        "unjudged": {
            "type": "array",
            "maxItems": 50,
            "description": "Parts that the Safety head cannot read, by kind: [image].",
            "items": _TEXT,
        },
        "key": _TEXT | {"description": "The public id of the key that calls."},
        "owner": _TEXT | {"description": "The owner of the key that calls."},
        "teams": _NAMES | {"description": "Teams of the organisation, beside those of `key` and `owner`."},
        "offered": _NAMES | {"description": "The tools that the caller offers."},
        "kinds": _NAMES | {"description": "The kinds of parts: user, assistant, system, tool, tool_call ..."},
        "judged_bytes": {"type": "integer", "minimum": 0, "description": "How much text was judged."},
        "turns": {"type": "integer", "minimum": 0, "description": "How often the user spoke. Default 1."},
        "risk": _PROBABILITY | {"description": "The conversation's risk. Default: refuse + escalate."},
        "now": {
            "type": "string",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})$",
            "patternErrorMessage": "write the time as `2026-11-24T09:30Z`, or with `+09:00` in place of `Z`",
            "description": "The time, as 2026-11-24T09:30Z. Default: 2026-01-05T09:00Z, a Monday.",
        },
    },
)
"""What can be said of a situation, as JSON Schema."""


def facts_of(given: Mapping[str, Any], policy: EffectivePolicy) -> Facts:
    """Return the facts of ``given``, which fits GIVEN_SCHEMA and has no ``contradictions``."""
    calls = tuple(
        ToolCall(one["tool"], _text(one), f"/choices/0/message/tool_calls/{index}")
        for index, one in enumerate(given.get("calls", [given] if "tool" in given else []))
    )
    release = Thresholds(**given["thresholds"]) if "thresholds" in given else None
    return Facts(
        given.get("stage", "response" if calls else "request"),
        _verdict(given, policy, release),
        calls,
        release or (_DEFAULT_THRESHOLDS if "scores" in given else None),
        principal=Principal(policy.name, given.get("key", "loopback"), given.get("owner", "nobody")),
        teams=tuple(given.get("teams", ())),
        kinds=tuple(given.get("kinds", ("user", *(("tool_call",) if calls else ())))),
        tools=tuple(given.get("offered", ())),
        turns=given.get("turns", 1),
        risk=given.get("risk"),
        now=_milliseconds(given.get("now", MONDAY)),
    )


def contradictions(given: Mapping[str, Any], policy: EffectivePolicy) -> Iterator[tuple[Path, str]]:
    """Return what is wrong with ``given`` beyond its schema, by path."""
    known = list(policy.domains)
    names: list[tuple[Path, str]] = [(("domains", name), name) for name in given.get("domains", {})]
    if "domain" in given:
        names.append((("domain",), given["domain"]))
    for path, name in names:
        if name not in known:
            yield path, f"no domain `{name}`; {suggest(name, known)}"
    for index, team in enumerate(given.get("teams", ())):
        if team not in policy.teams:
            yield ("teams", index), f"no team `{team}`; {suggest(team, list(policy.teams) or ['none'])}"
    if "now" in given:
        try:
            _milliseconds(given["now"])
        except ValueError:
            yield ("now",), f"there is no time `{given['now']}`"
    if "scores" in given and abs(sum(given["scores"].values()) - 1) > 0.01:
        yield ("scores",), "the scores are probabilities: they must sum to 1"
    for one, other in (("label", "scores"), ("tool", "calls"), ("arguments", "arguments_text")):
        if one in given and other in given:
            yield (other,), f"`{other}` stands beside `{one}`; keep one"
    for name in ("arguments", "arguments_text"):
        if name in given and "tool" not in given:
            yield (name,), f"`{name}` without `tool`; name the tool that is called"
    if given.get("stage") == "request" and ("tool" in given or "calls" in given):
        what = "a request calls no tools: contracts and rules about tools hold where the reply proposes a call"
        yield ("stage",), f"{what}; leave `stage` out"
    for index, call in enumerate(given.get("calls", ())):
        if "arguments" in call and "arguments_text" in call:
            yield ("calls", index, "arguments_text"), "`arguments_text` stands beside `arguments`; keep one"


def _verdict(given: Mapping[str, Any], policy: EffectivePolicy, release: Thresholds | None) -> Verdict:
    domain: str | None = given.get("domain")
    domains: Mapping[str, float] = given.get("domains", {})
    if "scores" in given:
        scores = Scores(**{name: float(value) for name, value in given["scores"].items()})
        label = (release or _DEFAULT_THRESHOLDS).label(scores)
    elif "label" in given:
        label = Label(given["label"].upper())
        scores = _SURE[label]
    else:
        label = policy.domains[domain].label if domain else Label.ALLOW
        scores = _SURE[label]
    if domain is None:
        own = [(score, name) for name, score in domains.items() if policy.domains[name].label is label]
        domain = max(own)[1] if own else None
    return Verdict(
        label=label,
        scores=scores,
        domain=None if label is Label.ALLOW else domain,
        domains=domains or ({domain: 1.0} if domain else {}),
        pointer="/messages/0",
        release="given",
        release_digest="0" * 64,
        template=1,
        judged_bytes=given.get("judged_bytes", 0),
        unjudged=tuple(
            Unjudged(f"/messages/0/content/{index}", kind) for index, kind in enumerate(given.get("unjudged", ()))
        ),
    )


def _milliseconds(written: str) -> int:
    return int(datetime.fromisoformat(written).timestamp() * 1000)


def _text(call: Mapping[str, Any]) -> str:
    written = call.get("arguments_text")
    return written if written is not None else orjson.dumps(call.get("arguments", {})).decode()
