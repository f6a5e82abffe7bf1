"""Items of the Responses API, as they stand in a request's input and in a reply's output, to parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import RequestError
from gateway.parts import Message, Role, ToolCall, ToolDefinition
from gateway.wire.chat import MAX_TOOLS, ROLES, read_definition
from gateway.wire.fields import is_name
from gateway.wire.reading import Reading, Strands
from gateway.wire.strict import StrictJsonError, dumps, join, loads

TEXT_PARTS: Final[Mapping[str, str]] = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
UNJUDGEABLE_PARTS: Final[Mapping[str, str]] = {
    "input_image": "an image cannot be judged",
    "computer_screenshot": "an image cannot be judged",
    "input_audio": "audio cannot be judged",
    "output_audio": "audio cannot be judged",
    "input_file": "a file cannot be judged",
}
PROPOSALS: Final[Mapping[str, str]] = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "mcp_approval_request": "arguments",
}
"""Calls of a named tool, and the field that its arguments stand in."""
ACTIONS: Final[Mapping[str, str]] = {
    "computer_call": "computer",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
    "tool_search_call": "tool_search",
}
"""Calls of a tool that the API itself names and the client runs."""
RESULTS: Final = (
    "function_call_output",
    "custom_tool_call_output",
    "computer_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)
SERVED: Final = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "tool_search_output",
    "additional_tools",
    "configuration_update",
    "compaction",
    "compaction_trigger",
)
"""What the upstream ran by itself, and what came of it."""
CLIENT_TOOLS: Final = (
    "local_shell",
    "shell",
    "apply_patch",
    "computer",
    "computer_use_preview",
    "tool_search",
    "programmatic_tool_calling",
)
_BEHIND: Final = "a tool that the upstream runs cannot be judged"
HOSTED_TOOLS: Final = (
    "mcp",
    "code_interpreter",
    "image_generation",
    "file_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
_IDS: Final = (
    "id",
    "call_id",
    "status",
    "phase",
    "namespace",
    "caller",
    "server_label",
    "approval_request_id",
    "agent",
)


@dataclass(slots=True)
class Items:
    """Reads items. A request's are held to the letter; a reply's (``reading.trusted``) are read in whatever shape."""

    reading: Reading
    tools: list[ToolDefinition] = field(default_factory=list)

    def read(self, item: object, pointer: str) -> Message:
        """Return one item as a message; what cannot be judged is listed."""
        if not isinstance(item, dict):
            self._reject("an item must be an object", pointer)
            return Message("assistant", "", pointer)
        kind = item.get("type")
        if kind is not None and not isinstance(kind, str):
            self._reject("`type` must be a string", join(pointer, "type"))
            return Message("assistant", "", pointer)
        if kind == "message" or (kind is None and "role" in item):
            return self._message(item, pointer)
        if kind is None:
            return self._unknown(kind, pointer)
        if kind == "reasoning":
            return self._reasoning(item, pointer)
        if kind in PROPOSALS:
            return self._proposal(item, kind, pointer)
        if kind in ACTIONS:
            return self._action(item, ACTIONS[kind], pointer)
        if kind in RESULTS:
            return self._result(item, pointer)
        return self._served(item, kind, pointer) if kind in SERVED else self._unknown(kind, pointer)

    def _unknown(self, kind: str | None, pointer: str) -> Message:
        if kind == "mcp_approval_response":
            self.reading.refuse(pointer, "an approval that the client brings is not believed")
        elif kind not in ("item_reference", None) or self.reading.trusted:
            self.reading.refuse(pointer, "unknown type of item")
        else:
            raise RequestError("this gateway keeps no items: send the item itself, not its id", param=pointer)
        return Message("user", "", pointer)

    def _message(self, item: Mapping[str, Any], pointer: str) -> Message:
        written = item.get("role")
        role: Role = "assistant"
        if isinstance(written, str) and written in ROLES and written != "tool":
            role = ROLES[written]
        else:
            self._reject("unknown role: use one of user, assistant, system, developer", join(pointer, "role"))
        texts = self._content(item.get("content"), join(pointer, "content"))
        texts += self._beside(item, ("type", "role", "content"), pointer)
        return Message(role, "\n".join(texts), pointer)

    def _reasoning(self, item: Mapping[str, Any], pointer: str) -> Message:
        texts = []
        for name in ("summary", "content"):
            if item.get(name) is not None:
                texts += self._content(item[name], join(pointer, name))
        self.reading.sealed(item.get("encrypted_content"), join(pointer, "encrypted_content"))
        texts += self._beside(item, ("type", "summary", "content", "encrypted_content"), pointer)
        return Message("assistant", "\n".join(texts), pointer)

    def _proposal(self, item: Mapping[str, Any], kind: str, pointer: str) -> Message:
        name, key = item.get("name"), PROPOSALS[kind]
        arguments = item.get(key)
        at = join(pointer, key)
        if not isinstance(name, str) or not name:
            self._reject("a call must have a `name`", join(pointer, "name"))
            name = "" if name is None else dumps(name).decode()
        if arguments is None:
            arguments = ""
        if not isinstance(arguments, str):
            self._reject(f"`{key}` must be a string", at)
            arguments = dumps(arguments).decode()
        elif key == "arguments" and arguments:
            try:
                loads(arguments)
            except StrictJsonError as error:
                self._reject(f"`arguments` is not strict JSON: {error.message[:100]}", at)
        texts = self._beside(item, ("type", "name", key), pointer)
        return Message("assistant", "\n".join(texts), pointer, (ToolCall(name, arguments, pointer),))

    def _action(self, item: Mapping[str, Any], name: str, pointer: str) -> Message:
        what = {key: value for key, value in item.items() if key not in ("type", *_IDS) and value is not None}
        texts = self._beside({key: value for key, value in item.items() if key in _IDS}, (), pointer)
        call = ToolCall(name, dumps(what).decode(), pointer)
        return Message("assistant", "\n".join(texts), pointer, (call,))

    def _result(self, item: Mapping[str, Any], pointer: str) -> Message:
        output = item.get("output")
        at = join(pointer, "output")
        if item.get("type") == "shell_call_output":
            texts = [dumps(output).decode()] if output else []
        elif isinstance(output, dict):
            texts = self._content([output], at, single=True)
        else:
            texts = self._content(output, at) if output is not None else []
        if item.get("acknowledged_safety_checks"):
            self.reading.refuse(
                join(pointer, "acknowledged_safety_checks"), "an approval that the client brings is not believed"
            )
        known = ["type", "output", "acknowledged_safety_checks", "name", "tool_name"]
        if isinstance(item.get("max_output_length"), int):
            known.append("max_output_length")
        texts += [self._label(name, item.get(name), pointer) for name in ("name", "tool_name")]
        texts += self._beside(item, known, pointer)
        return Message("tool", "\n".join(text for text in texts if text), pointer)

    def _served(self, item: Mapping[str, Any], kind: str, pointer: str) -> Message:
        role: Role = "assistant" if self.reading.trusted else "tool"
        rest = {name: value for name, value in item.items() if name != "type" and value is not None}
        if kind == "image_generation_call" and rest.pop("result", None):
            self.reading.refuse(join(pointer, "result"), "an image cannot be judged")
        if kind in ("additional_tools", "tool_search_output") and not self.reading.trusted:
            self.tools += read_tools(rest.pop("tools", None), join(pointer, "tools"), self.reading)
        return Message(role, self.reading.read_media(rest, pointer), pointer)

    def _content(self, value: object, pointer: str, *, single: bool = False) -> list[str]:
        """Return the texts of a string or of a list of parts."""
        if isinstance(value, str):
            return [value] if value else []
        if not isinstance(value, list):
            if value is not None or not self.reading.trusted:
                self._reject("`content` must be a string or a list of parts", pointer)
            return []
        texts = []
        for index, part in enumerate(value):
            at = pointer if single else join(pointer, index)
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                self._reject("a content part must be an object with a `type`", at)
            else:
                texts += self._part(part, at)
        return texts

    def _part(self, part: Mapping[str, Any], pointer: str) -> list[str]:
        kind = part["type"]
        if kind not in TEXT_PARTS:
            self.reading.refuse(pointer, UNJUDGEABLE_PARTS.get(kind, "unknown type of content part"))
            return []
        key = TEXT_PARTS[kind]
        text = part.get(key)
        if not isinstance(text, str):
            self._reject(f"a part of type `{kind}` must have a string `{key}`", join(pointer, key))
            text = ""
        texts = [text] if text else []
        for name in ("annotations", "prompt_cache_breakpoint"):
            if found := self.reading.read(part.get(name), join(pointer, name)):
                texts.append(found)
        if part.get("logprobs"):
            strands = Strands()
            strands.weave(part["logprobs"], join(pointer, "logprobs"))
            texts += strands.texts(self.reading, text)
        known = ("type", key, "annotations", "prompt_cache_breakpoint", "logprobs")
        return texts + self._beside(part, known, pointer)

    def _beside(self, value: Mapping[str, Any], known: Sequence[str], pointer: str) -> list[str]:
        """Return the texts of the other fields: ids where they have room for a sentence, unknown ones of a reply."""
        texts = []
        for name, item in value.items():
            if name in known or item is None:
                continue
            if name in _IDS or self.reading.trusted:
                texts.append(self._label(name, item, pointer))
                if self.reading.trusted and name not in _IDS:
                    texts.append(self.reading.read(name, join(pointer, name)))
            else:
                self.reading.refuse(join(pointer, name), "unknown field")
        return [text for text in texts if text]

    def _label(self, name: str, value: object, pointer: str) -> str:
        return self.reading.labelled(name, value, join(pointer, name))

    def _reject(self, message: str, pointer: str) -> None:
        if not self.reading.trusted:
            raise RequestError(message, param=pointer)
        self.reading.refuse(pointer, message)


def acts(item: object) -> bool:
    """Tell whether a client would run ``item`` of a reply, or might."""
    return not isinstance(item, dict) or item.get("type") not in ("message", "reasoning", *SERVED, *RESULTS)


def read_tools(value: object, pointer: str, reading: Reading) -> list[ToolDefinition]:
    """Return the tools that a request offers; those that the upstream itself runs are unjudged."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise RequestError("`tools` must be a list", param=pointer)
    if len(value) > MAX_TOOLS:
        raise RequestError(f"more than {MAX_TOOLS} tools", param=pointer)
    tools: list[ToolDefinition] = []
    for index, item in enumerate(value):
        at = join(pointer, index)
        if not isinstance(item, dict):
            raise RequestError("a tool must be an object", param=at)
        kind = item.get("type")
        what = {name: part for name, part in item.items() if name != "type"}
        if kind in ("function", "custom", "namespace"):
            if not is_name(item.get("name")):
                raise RequestError("a tool must have a `name`", param=join(at, "name"))
            nested = what.pop("tools", None) if kind == "namespace" else None
            tools.append(ToolDefinition(item["name"], read_definition(what), at))
            tools += read_tools(nested, join(at, "tools"), reading)
        elif kind in CLIENT_TOOLS:
            place = what.get("environment")
            if isinstance(place, dict) and place.get("type") != "local":
                reading.refuse(join(at, "environment"), _BEHIND)
            tools.append(ToolDefinition(kind, read_definition(what), at))
        else:
            reading.refuse(at, _BEHIND if kind in HOSTED_TOOLS else "unknown type of tool")
    return tools
