"""The closed lists of top-level fields of each request format, and what each field may carry.

A field that carries no meaning to the model is checked against a narrow shape and forwarded. A field that carries text
is judged; one that mostly carries ids is judged where it has room for a sentence. A field that carries meaning which
the Safety head cannot read, or that is not known, counts as unjudged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import RequestError
from gateway.parts import Message
from gateway.wire.reading import Reading
from gateway.wire.strict import dumps, join

Check = Callable[[object], bool]

NAME: Final = re.compile(r"[A-Za-z0-9_.:/@+-]{1,256}")
"""Model, tool and participant names, enumerations: no blanks, so no sentences."""
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.:|/=+@-]{1,512}")
"""Opaque ids that are echoed, never read."""
MAX_OPAQUE: Final = 512
MAX_METADATA: Final = 16


def is_name(value: object) -> bool:
    """Tell whether ``value`` is a name: letters, digits and a few marks, at most 256 characters."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def is_identifier(value: object) -> bool:
    """Tell whether ``value`` is an opaque id."""
    return isinstance(value, str) and IDENTIFIER.fullmatch(value) is not None


def is_number(value: object) -> bool:
    """Tell whether ``value`` is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    """Tell whether ``value`` is an integer and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _opaque(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_OPAQUE


def _biases(value: object) -> bool:
    return isinstance(value, dict) and all(is_name(key) and is_number(item) for key, item in value.items())


def _metadata(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_METADATA
        and all(_opaque(key) and _opaque(item) for key, item in value.items())
    )


def _stream_options(value: object) -> bool:
    return isinstance(value, dict) and all(is_name(key) and isinstance(item, bool) for key, item in value.items())


def _tool_choice(value: object) -> bool:
    return is_name(value) or (isinstance(value, dict) and _names_only(value, depth=6))


def _names_only(value: object, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(is_name(key) and _names_only(item, depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_names_only(item, depth - 1) for item in value)
    return value is None or isinstance(value, int | float) or is_name(value)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(is_name(item) for item in value)


def _strings(value: object) -> bool:
    return isinstance(value, dict) and all(_opaque(key) and _opaque(item) for key, item in value.items())


Shape = tuple[Check, str]

BOOLEAN: Final[Shape] = (_boolean, "a boolean")
INTEGER: Final[Shape] = (is_integer, "an integer")
NUMBER: Final[Shape] = (is_number, "a number")
A_NAME: Final[Shape] = (is_name, "a name")
NAMES: Final[Shape] = (_names, "a list of names")
STREAM_OPTIONS: Final[Shape] = (_stream_options, "an object of booleans")
TOOL_CHOICE: Final[Shape] = (_tool_choice, "a name or an object of names")
OPAQUE: Final[Shape] = (_opaque, f"a string of at most {MAX_OPAQUE} characters")
METADATA: Final[Shape] = (_metadata, f"an object of at most {MAX_METADATA} strings")
ANYTHING: Final[Shape] = (lambda _value: True, "a value")


@dataclass(frozen=True, slots=True)
class Fields:
    """What the top-level fields of one format may carry. ``judged`` always become text, ``ids`` only free text."""

    parsed: tuple[str, ...]
    without_meaning: Mapping[str, Shape]
    ids: Mapping[str, Shape] = field(default_factory=dict)
    judged: tuple[str, ...] = ()
    silent: tuple[object, ...] = ()
    """Values of judged fields that say nothing."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """What to do instead, for fields that are not served."""
    unjudgeable: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every field that is known."""
        return (*self.parsed, *self.without_meaning, *self.ids, *self.judged, *self.unjudgeable)

    def read(self, body: Mapping[str, Any], reading: Reading) -> list[Message]:
        """Check every field but the parsed ones; return the judged ones as leading system messages."""
        if body.get("model") is None:
            raise RequestError("`model` is missing", param="/model")
        found = []
        for name, value in body.items():
            if name not in self.parsed and value is not None:
                found.append((name, self._read_one(name, value, reading)))
        return [Message("system", f"{name}: {text}", join("", name)) for name, text in found if text]

    def _read_one(self, name: str, value: object, reading: Reading) -> str:
        pointer = join("", name)
        for group in (self.without_meaning, self.ids):
            if name in group:
                check, shape = group[name]
                if not check(value):
                    raise RequestError(f"`{name}` must be {shape}", param=pointer)
        if name in self.without_meaning:
            reading.mark(value, pointer)
        elif name in self.ids:
            return reading.read(value, pointer)
        elif name in self.judged:
            if value not in self.silent:
                return value if isinstance(value, str) else dumps(value).decode()
            reading.mark(value, pointer)
        elif name in self.refused:
            raise RequestError(self.refused[name], param=pointer)
        else:
            reading.refuse(pointer, self.unjudgeable.get(name, "unknown field"))
        return ""


_SAMPLING: Final[Mapping[str, Shape]] = {
    "model": (is_name, "a model name"),
    "stream": BOOLEAN,
    "stream_options": STREAM_OPTIONS,
    "n": INTEGER,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": INTEGER,
    "min_p": NUMBER,
    "repetition_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "max_tokens": INTEGER,
    "seed": INTEGER,
    "logit_bias": (_biases, "an object of numbers"),
    "service_tier": A_NAME,
}
_CALLER: Final[Mapping[str, Shape]] = {"user": OPAQUE, "safety_identifier": OPAQUE, "prompt_cache_key": OPAQUE}

CHAT: Final = Fields(
    parsed=("messages", "tools", "modalities"),
    without_meaning={
        **_SAMPLING,
        "max_completion_tokens": INTEGER,
        "logprobs": BOOLEAN,
        "top_logprobs": INTEGER,
        "parallel_tool_calls": BOOLEAN,
        "store": BOOLEAN,
        "tool_choice": TOOL_CHOICE,
        "reasoning_effort": A_NAME,
        "verbosity": A_NAME,
        "prompt_cache_retention": A_NAME,
    },
    ids={**_CALLER, "metadata": METADATA, "prompt_cache_options": ANYTHING, "moderation": ANYTHING},
    judged=("stop", "response_format", "prediction"),
    silent=({"type": "text"}, {"type": "json_object"}),
    refused={
        "functions": "`functions` is no longer supported: use `tools`",
        "function_call": "`function_call` is no longer supported: use `tool_choice`",
    },
    unjudgeable={
        "audio": "audio cannot be judged",
        "web_search_options": "content that the upstream fetches cannot be judged",
    },
)
COMPLETIONS: Final = Fields(
    parsed=("prompt",),
    without_meaning={**_SAMPLING, "best_of": INTEGER, "echo": BOOLEAN, "logprobs": INTEGER},
    ids=_CALLER,
    judged=("suffix", "stop"),
)
EMBEDDINGS: Final = Fields(
    parsed=("input",),
    without_meaning={"model": (is_name, "a model name"), "dimensions": INTEGER, "encoding_format": A_NAME},
    ids=_CALLER,
)
RESPONSES: Final = Fields(
    parsed=("input", "tools", "instructions"),
    without_meaning={
        "model": (is_name, "a model name"),
        "stream": BOOLEAN,
        "stream_options": STREAM_OPTIONS,
        "temperature": NUMBER,
        "top_p": NUMBER,
        "max_output_tokens": INTEGER,
        "max_tool_calls": INTEGER,
        "top_logprobs": INTEGER,
        "parallel_tool_calls": BOOLEAN,
        "store": BOOLEAN,
        "background": BOOLEAN,
        "tool_choice": TOOL_CHOICE,
        "include": NAMES,
        "service_tier": A_NAME,
        "truncation": A_NAME,
        "prompt_cache_retention": A_NAME,
    },
    ids={
        **_CALLER,
        "metadata": METADATA,
        "reasoning": ANYTHING,
        "prompt_cache_options": ANYTHING,
        "context_management": ANYTHING,
        "access_programs": ANYTHING,
        "background_options": ANYTHING,
        "image": ANYTHING,
        "moderation": ANYTHING,
    },
    judged=("text",),
    silent=({}, {"format": {"type": "text"}}, {"format": {"type": "json_object"}}),
    refused={
        "previous_response_id": "this gateway keeps no replies to go on from: send the whole conversation in `input`",
        "conversation": "this gateway keeps no conversations: send the whole conversation in `input`",
    },
    unjudgeable={"prompt": "a prompt that the upstream keeps cannot be judged"},
)
MESSAGES: Final = Fields(
    parsed=("messages", "system", "tools"),
    without_meaning={
        "model": (is_name, "a model name"),
        "max_tokens": INTEGER,
        "stream": BOOLEAN,
        "temperature": NUMBER,
        "top_p": NUMBER,
        "top_k": INTEGER,
        "service_tier": A_NAME,
        "speed": A_NAME,
        "inference_geo": A_NAME,
    },
    ids={
        "metadata": (_strings, "an object of strings"),
        "thinking": ANYTHING,
        "tool_choice": ANYTHING,
        "cache_control": ANYTHING,
        "diagnostics": ANYTHING,
        "user_profile_id": OPAQUE,
        "workspace_id": OPAQUE,
    },
    judged=("stop_sequences", "output_config"),
    silent=([], {}),
    unjudgeable={
        "container": "a container of files cannot be judged",
        "mcp_servers": "content that the upstream fetches cannot be judged",
    },
)
