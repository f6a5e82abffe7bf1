"""The closed list of top-level fields of a chat completion request, and what each may carry.

A field that carries no meaning to the model is checked against a narrow shape and forwarded. A field that carries text
is judged. A field that carries meaning which the Safety head cannot read, or that is not known, counts as unjudged.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

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
    return is_name(value) or (isinstance(value, dict) and _names_only(value, depth=4))


def _names_only(value: object, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(is_name(key) and _names_only(item, depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_names_only(item, depth - 1) for item in value)
    return is_name(value)


WITHOUT_MEANING: Final[Mapping[str, tuple[Check, str]]] = {
    "model": (is_name, "a model name"),
    "stream": (_boolean, "a boolean"),
    "stream_options": (_stream_options, "an object of booleans"),
    "n": (is_integer, "an integer"),
    "temperature": (is_number, "a number"),
    "top_p": (is_number, "a number"),
    "top_k": (is_integer, "an integer"),
    "min_p": (is_number, "a number"),
    "repetition_penalty": (is_number, "a number"),
    "presence_penalty": (is_number, "a number"),
    "frequency_penalty": (is_number, "a number"),
    "max_tokens": (is_integer, "an integer"),
    "max_completion_tokens": (is_integer, "an integer"),
    "seed": (is_integer, "an integer"),
    "logprobs": (_boolean, "a boolean"),
    "top_logprobs": (is_integer, "an integer"),
    "logit_bias": (_biases, "an object of numbers"),
    "parallel_tool_calls": (_boolean, "a boolean"),
    "store": (_boolean, "a boolean"),
    "tool_choice": (_tool_choice, "a name or an object of names"),
    "reasoning_effort": (is_name, "a name"),
    "verbosity": (is_name, "a name"),
    "service_tier": (is_name, "a name"),
    "user": (_opaque, f"a string of at most {MAX_OPAQUE} characters"),
    "safety_identifier": (_opaque, f"a string of at most {MAX_OPAQUE} characters"),
    "prompt_cache_key": (_opaque, f"a string of at most {MAX_OPAQUE} characters"),
    "prompt_cache_retention": (is_name, "a name"),
    "metadata": (_metadata, f"an object of at most {MAX_METADATA} strings"),
}
JUDGED_AS_TEXT: Final = ("stop", "response_format", "prediction")
PARSED: Final = ("messages", "tools")
REPLACED: Final[Mapping[str, str]] = {"functions": "tools", "function_call": "tool_choice"}
UNJUDGEABLE: Final[Mapping[str, str]] = {
    "audio": "audio cannot be judged",
    "modalities": "only text can be judged",
    "web_search_options": "content that the upstream fetches cannot be judged",
}
