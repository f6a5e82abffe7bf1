"""The JSON Schema of policy files: what editors complete, what the documentation says, and what the loader checks.

``patternErrorMessage`` and ``errorMessage`` are the words of VS Code's YAML support for a value that does not fit.
``policies/schema/policy.schema.json`` is this schema, published by ``so8t policy schema``; a test holds them equal.
"""

from typing import Any, Final

Json = dict[str, Any]

CONTRACT_PATTERN: Final = r"^[A-Za-z0-9_.*?/-]+$"


def _text(description: str, **more: object) -> Json:
    return {"type": "string", "minLength": 1, "maxLength": 1000, "description": description, **more}


def _object(description: str, properties: Json, required: tuple[str, ...] = (), **more: object) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


_STOP: Final = {"enum": ["escalate", "refuse"]}
_NAME: Final = {
    "pattern": r"^[a-z][a-z0-9_-]*$",
    "maxLength": 64,
    "patternErrorMessage": "a name has lower-case letters, digits, `_` and `-`, and begins with a letter",
}

_MESSAGE: Final = _text("What clients and reviewers are told when this stops something.")
_DOMAIN_NAME: Final = _text("A domain of the base or of `domains`.", maxLength=64)
_ROUTE_NAME: Final = _text("A route of the base or of `routes`.", maxLength=64)

_KIND: Final = {
    "pattern": r"^[a-z][a-z0-9_]*$",
    "maxLength": 32,
    "patternErrorMessage": "a kind has lower-case letters, digits and `_`, and begins with a letter",
}
_OBLIGATION: Final = _object(
    "What must be done when something passes.",
    {
        "redact": _object(
            "What is recognised is replaced before it goes out.",
            {
                "kinds": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 50,
                    "items": _text(
                        "email, phone, card, iban, my_number, ssn, or a kind of `recognisers`.", maxLength=32
                    ),
                    "description": "What is recognised.",
                },
                "restore": {
                    "type": "boolean",
                    "description": "Whether it is put back in the reply. Default false.",
                },
            },
            ("kinds",),
        ),
        "restrict_tools": _object(
            "Only these tools may be offered or called.",
            {
                "allow": {
                    "type": "array",
                    "maxItems": 200,
                    "items": {
                        "type": "string",
                        "maxLength": 128,
                        "pattern": CONTRACT_PATTERN,
                        "patternErrorMessage": "a tool's name has letters, digits, `_`, `-`, `.`, `/`, and `*` or `?` "
                        "as wildcards",
                    },
                    "description": "Names or globs; none at all with `[]`.",
                }
            },
            ("allow",),
        ),
        "cap_tokens": _object(
            "The reply is cut.",
            {
                "max": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 10_000_000,
                    "description": "Tokens of the reply, reasoning included.",
                }
            },
            ("max",),
        ),
        "system_notice": _object(
            "A system message before the conversation.", {"text": _text("What it says.")}, ("text",)
        ),
        "require_upstream": _object(
            "Only a trusted upstream may answer.",
            {
                "trusted": {
                    "const": True,
                    "description": "One that the operator marks as trusted.",
                    "errorMessage": "`trusted` can only be `true`",
                }
            },
            ("trusted",),
        ),
        "tag": _object(
            "A word in the entry of the decision.",
            {
                "word": {
                    "type": "string",
                    "maxLength": 64,
                    "pattern": r"^[a-z][a-z0-9_-]*$",
                    "description": "The word.",
                    "patternErrorMessage": "a tag has lower-case letters, digits, `_` and `-`",
                }
            },
            ("word",),
        ),
    },
    minProperties=1,
    maxProperties=1,
    errorMessage="each item of `obligations` is one obligation; begin another item with `-`",
)
_RULE: Final = _object(
    "What holds where a condition holds. A rule that stops only adds; all rules are tried, in no order.",
    {
        "id": {
            "type": "string",
            "description": "Stands in decisions as `rule:ID`; each once in a file.",
            **_NAME,
        },
        "when": _text("The condition, in CEL (policies/README.md lists what it can ask for).", maxLength=2000),
        "effect": {
            "enum": ["escalate", "refuse", "allow"],
            "description": "allow: does not stop; for `obligations`, or `overrides: model` where the base permits it.",
        },
        "domain": _DOMAIN_NAME,
        "route": _ROUTE_NAME,
        "message": _MESSAGE,
        "overrides": {
            "enum": ["model"],
            "description": "Lowers the model's ESCALATE for `domain` to ALLOW; only for domains that the base permits.",
            "errorMessage": "only what the model says can be overridden; write `model`",
        },
        "obligations": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": _OBLIGATION,
            "description": "What must be done when it passes; the strictest of all rules that hold.",
        },
    },
    ("id", "when", "effect"),
)
_RULES: Final = {"type": "array", "maxItems": 1000, "items": _RULE, "description": "Conditions, in no order."}

_DOMAIN: Final = _object(
    "What happens when the Safety head stops something for this domain.",
    {
        "effect": _STOP
        | {
            "description": "At least as strict as the base. Needed for a domain that the base does not know.",
            "errorMessage": "a domain can be `escalate` or `refuse`; a policy cannot allow what the Safety head stops",
        },
        "route": _ROUTE_NAME | {"description": "Where its cases go; else `default_route`."},
        "message": _MESSAGE,
        "approvals": {
            "type": "integer",
            "minimum": 1,
            "maximum": 10,
            "description": "How many reviewers must approve; at least as many as in the base. Default 1.",
        },
    },
)

_VARIABLE: Final = {
    "type": "string",
    "pattern": r"^\$\{[A-Z_][A-Z0-9_]*\}$",
    "description": 'The environment variable that holds the address, as "${NAME}".',
    "patternErrorMessage": "the address of a webhook is a secret and must not stand in a file; "
    'write "${NAME}" and set NAME in the environment of the gateway',
}
_SLACK: Final = _object("A Slack incoming webhook.", {"webhook": _VARIABLE}, ("webhook",))
_WEBHOOK: Final = _object("A message signed by Standard Webhooks.", {"url": _VARIABLE}, ("url",))
_EMAIL: Final = _object(
    "A mail without any text of the request.",
    {
        "to": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "description": "Addresses.",
            "items": {
                "type": "string",
                "maxLength": 254,
                "pattern": r'^[^@\s,;<>"]+@[^@\s,;<>"]+$',
                "patternErrorMessage": "not a mail address; write it as `name@example.org`",
            },
        }
    },
    ("to",),
)
_NOTICE: Final = _object(
    "One channel.",
    {"email": _EMAIL, "slack": _SLACK, "webhook": _WEBHOOK},
    minProperties=1,
    maxProperties=1,
    errorMessage="each item of `notify` is one channel, `email`, `slack` or `webhook`; begin another item with `-`",
)
_ROUTE: Final = _object(
    "Where cases go: who decides, who is told, and by when.",
    {
        "reviewers": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "description": "Who may decide, as `group:NAME` or `user:NAME`; else any reviewer of the organisation.",
            "items": {
                "type": "string",
                "maxLength": 254,
                "pattern": r"^(?:group|user):[^\s:]+$",
                "patternErrorMessage": "write a reviewer as `group:NAME` or `user:NAME`",
            },
        },
        "notify": {"type": "array", "maxItems": 20, "items": _NOTICE, "description": "Who is told of a new case."},
        "due": {
            "type": "string",
            "pattern": r"^[1-9][0-9]{0,4}[smhd]$",
            "description": "How long a case waits for people, as `90s`, `30m`, `8h` or `2d`.",
            "patternErrorMessage": "write a time as a whole number and one of s, m, h, d: `30m`",
        },
        "on_expired": {
            "enum": ["refuse"],
            "description": "What a case becomes that nobody decided in time.",
            "errorMessage": "what nobody decided in time is refused; write `refuse`",
        },
        "on_unreachable": {
            "enum": ["wait", "refuse"],
            "description": "What becomes of a case when no channel of `notify` can be reached. Default refuse.",
        },
        "cli": {
            "type": "boolean",
            "description": "Whether a case may be decided at the command line. Default true.",
        },
    },
    ("due", "on_expired"),
)

_CONTRACT: Final = _object(
    "What a tool may be called with. A contract only stops; the verdict holds beside it.",
    {
        "effect": _STOP
        | {
            "description": "The effect of every call. Leave it out to let the verdict and `arguments` decide.",
            "errorMessage": "a contract can only stop: `escalate` or `refuse`; leave `effect` out to let the verdict "
            "decide",
        },
        "arguments": {
            "type": "object",
            "description": "JSON Schema 2020-12 of the arguments; `$` is the end of the text, not of a line.",
        },
        "otherwise": _object(
            "What happens when the arguments do not match; without it the call is refused.",
            {
                "effect": _STOP
                | {
                    "description": "The effect of a call whose arguments do not match.",
                    "errorMessage": "arguments that do not match are `escalate` or `refuse`",
                },
                "domain": _DOMAIN_NAME,
                "route": _ROUTE_NAME,
                "message": _MESSAGE,
            },
            ("effect",),
        ),
        "message": _MESSAGE,
        "domain": _DOMAIN_NAME,
        "route": _ROUTE_NAME,
    },
    dependentRequired={"otherwise": ["arguments"]},
)

_HOLD: Final = {
    "type": "string",
    "pattern": r"^(?:[0-9]{1,2}s|[1-5][0-9]{2}s|600s|[0-9]m|10m)$",
    "patternErrorMessage": "write a time of at most ten minutes as a whole number and s or m: `50s`",
}
_KEYS: Final[Json] = {
    "version": {
        "const": 1,
        "description": "Of this format.",
        "errorMessage": "this gateway reads version 1; write the number, `version: 1`",
    },
    "language": {"enum": ["en", "ja"], "description": "Of notices to people and of refusals to clients."},
    "mode": {
        "enum": ["enforce", "monitor"],
        "description": "monitor: decide and record, act as for ALLOW; only where the base permits it.",
    },
    "safety": _object(
        "How the Safety head is read.",
        {
            "release": _text("The release that the policy was written for.", maxLength=128),
            "thresholds": _object(
                "Lower is stricter. The release brings both; the lower of the release's and these holds.",
                {
                    "refuse": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": 1,
                        "description": "REFUSE from this probability of REFUSE on.",
                    },
                    "escalate": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": 1,
                        "description": "ESCALATE from this probability of REFUSE or ESCALATE on.",
                    },
                },
            ),
        },
    ),
    "domains": {
        "type": "object",
        "maxProperties": 200,
        "propertyNames": _NAME,
        "additionalProperties": _DOMAIN,
        "description": "By domain. A verdict of REFUSE stays REFUSE whatever stands here.",
    },
    "default_route": _ROUTE_NAME | {"description": "Where cases go that have no route of their own."},
    "routes": {
        "type": "object",
        "maxProperties": 200,
        "propertyNames": _NAME,
        "additionalProperties": _ROUTE,
        "description": "By name; a route of the base can be replaced.",
    },
    "tools": {
        "type": "object",
        "maxProperties": 1000,
        "propertyNames": {
            "pattern": CONTRACT_PATTERN,
            "maxLength": 128,
            "patternErrorMessage": "a tool's name has letters, digits, `_`, `-`, `.`, `/`, and `*` or `?` as wildcards",
        },
        "properties": {
            "default": {
                "enum": ["judge", "escalate", "refuse"],
                "description": "For tools that no contract of this file names: the verdict alone, or a stop.",
                "errorMessage": "`default` is `judge`, `escalate` or `refuse`; match a tool of the name `default` with "
                "`defaul?`",
            }
        },
        "additionalProperties": _CONTRACT,
        "description": "Contracts by exact name or glob. The exact name counts first, then the glob with most letters.",
    },
    "rules": _RULES,
    "recognisers": {
        "type": "object",
        "maxProperties": 50,
        "propertyNames": _KIND,
        "additionalProperties": _object(
            "What `redact` recognises under this name.",
            {"pattern": _text("A regular expression in RE2's terms (linear time).", maxLength=500)},
            ("pattern",),
        ),
        "description": "Kinds of your own, beside email, phone, card, iban, my_number and ssn.",
    },
    "failures": _object(
        "What happens when something cannot be judged or a rule fails.",
        {"unjudged": _STOP | {"description": "The effect of a part that the Safety head cannot read."}},
    ),
    "escalation": _object(
        "How long a client waits while people decide.",
        {
            "hold": _HOLD | {"description": "A plain call, in silence; clients give up after their own time-out."},
            "stream_hold": _HOLD | {"description": "A streamed call, kept alive by comments."},
            "after_hold": {
                "enum": ["conflict", "refusal"],
                "description": "conflict: 409 with the case, to be sent again; refusal: shaped as a refusal.",
            },
        },
    ),
    "refusal": _object(
        "How a stop looks to clients.",
        {
            "shape": {
                "enum": ["content_filter", "error"],
                "description": "content_filter: 200 with finish_reason content_filter; error: HTTP 400.",
            }
        },
    ),
}

_TEAM: Final = _object(
    "A team's own layer over this file: it only tightens, but for rules that override where the base permits it.",
    {
        "keys": {
            "type": "array",
            "maxItems": 1000,
            "items": _text("The public id of a key, as `so8t keys list` shows it.", maxLength=32),
            "description": "For whom it holds.",
        },
        "owners": {
            "type": "array",
            "maxItems": 1000,
            "items": _text("The owner of keys.", maxLength=254),
            "description": "For whom it holds: all keys of these people.",
        },
        **{key: _KEYS[key] for key in ("domains", "default_route", "tools", "rules", "failures")},
        "safety": _object("How the Safety head is read.", {"thresholds": _KEYS["safety"]["properties"]["thresholds"]}),
    },
)
_TEAMS: Final = {
    "type": "object",
    "maxProperties": 200,
    "propertyNames": _NAME,
    "additionalProperties": _TEAM,
    "description": "Layers over this file for some keys or people. Whoever is in two has both.",
}

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

POLICY_SCHEMA: Final[Json] = {
    "$schema": _DIALECT,
    "title": "SO8T Gateway policy",
    **_object(
        "The policy of one organisation. Everything tightens the base; nothing can loosen what it does not permit.",
        {
            "version": _KEYS["version"],
            "organization": _text(
                "The organisation, as in `so8t keys create --organization`.",
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
                maxLength=64,
                patternErrorMessage="an organisation's name has letters, digits, `.`, `_` and `-`",
            ),
            **{key: value for key, value in _KEYS.items() if key != "version"},
            "teams": _TEAMS,
        },
        ("version", "organization"),
    ),
}

BASE_SCHEMA: Final[Json] = {
    "$schema": _DIALECT,
    "title": "SO8T Gateway base policy",
    **_object(
        "What holds for every organisation, and alone for one without a file.",
        {
            **_KEYS,
            "name": _text("Stands in decisions of organisations without a file.", **_NAME),
            "permits": _object(
                "What a policy may ask for.",
                {
                    "monitor": {"type": "boolean", "description": "Whether a policy may set `mode: monitor`."},
                    "overrides": {
                        "type": "array",
                        "maxItems": 200,
                        "items": _DOMAIN_NAME,
                        "description": "Domains in which a rule may lower the model's ESCALATE. None by default.",
                    },
                },
                ("monitor",),
            ),
        },
        (
            "version", "name", "language", "mode", "permits", "domains", "default_route", "routes", "failures",
            "refusal",
        ),
    ),
}  # fmt: skip
