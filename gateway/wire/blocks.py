"""Content blocks of the Messages API, as they stand in a request's messages and in a reply, to parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import RequestError
from gateway.parts import Message, Role, ToolCall, ToolDefinition
from gateway.wire.chat import MAX_TOOLS, read_definition
from gateway.wire.fields import is_name
from gateway.wire.reading import Reading
from gateway.wire.strict import dumps, join

UNJUDGEABLE: Final[Mapping[str, str]] = {
    "image": "an image cannot be judged",
    "container_upload": "a file cannot be judged",
    "redacted_thinking": "encrypted content cannot be judged",
}
SERVED: Final = (
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "tool_reference",
    "browser_state",
)
"""What the upstream ran by itself, what came of it, and states that a tool reports."""
SPOKEN: Final = ("text", "thinking", "search_result", "document", "redacted_thinking", *SERVED)
"""Blocks of a reply that propose nothing to the client."""
_CLIENT_TOOL: Final = re.compile(r"(bash|text_editor|memory|computer|browser_toolset|computer_toolset)_[0-9]{8}")
_TOOL_SEARCH: Final = re.compile(r"tool_search_tool_(bm25|regex)(_[0-9]{8})?")
_HOSTED_TOOL: Final = re.compile(r"(web_search|web_fetch|code_execution|mcp_toolset)(_[0-9]{8})?")
_IDS: Final = ("id", "tool_use_id", "cache_control", "caller", "toolset_name", "toolset", "agent", "from_agent")


@dataclass(slots=True)
class Blocks:
    """Reads the blocks of one message; ``messages`` are what came of them, in order."""

    reading: Reading
    role: Role
    pointer: str
    messages: list[Message] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def read(self, content: object) -> list[Message]:
        """Return the messages that ``content``, a string or a list of blocks, amounts to: at least one."""
        at = join(self.pointer, "content")
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            for index, block in enumerate(content):
                self.block(block, join(at, index))
        else:
            self._reject("`content` must be a string or a list of blocks", at)
        self._flush()
        return self.messages or [Message(self.role, "", self.pointer)]

    def block(self, block: object, pointer: str) -> None:
        """Take in one block."""
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(block, dict) or not isinstance(kind, str):
            self._reject("a content block must be an object with a `type`", pointer)
        elif kind == "tool_use":
            self._tool_use(block, pointer)
        elif kind == "tool_result":
            self._flush()
            text = "\n".join(self._tool_result(block, pointer))
            self.messages.append(Message("tool", text, pointer))
        else:
            self.texts += [text for text in self._text(block, kind, pointer) if text]

    def _flush(self) -> None:
        if self.texts or self.calls:
            said = Message(self.role, "\n".join(self.texts), self.pointer, tuple(self.calls))
            self.messages.append(said)
            self.texts, self.calls = [], []

    def _text(self, block: Mapping[str, Any], kind: str, pointer: str) -> list[str]:
        if kind == "text":
            return self._said(block, "text", pointer, ("citations",))
        if kind == "thinking":
            self.reading.signature(block.get("signature"), join(pointer, "signature"))
            return self._said(block, "thinking", pointer, known=("signature",))
        if kind == "redacted_thinking":
            self.reading.sealed(block.get("data"), join(pointer, "data"))
            return self._beside(block, ("type", "data"), pointer)
        if kind == "search_result":
            texts = self._nested(block.get("content"), join(pointer, "content"))
            texts += [self._label(name, block.get(name), pointer) for name in ("title", "source", "citations")]
            return texts + self._beside(block, ("type", "content", "title", "source", "citations"), pointer)
        if kind == "document":
            return self._document(block, pointer)
        if kind in SERVED:
            rest = {name: value for name, value in block.items() if name != "type" and value is not None}
            return [self.reading.read_media(rest, pointer)]
        self.reading.refuse(pointer, UNJUDGEABLE.get(kind, "unknown type of content block"))
        return []

    def _said(
        self, block: Mapping[str, Any], key: str, pointer: str, read: Sequence[str] = (), known: Sequence[str] = ()
    ) -> list[str]:
        text = block.get(key)
        if not isinstance(text, str):
            self._reject(f"a block of type `{block['type']}` must have a string `{key}`", join(pointer, key))
            text = ""
        beside = [self.reading.read(block.get(name), join(pointer, name)) for name in read]
        return [text, *beside, *self._beside(block, ("type", key, *read, *known), pointer)]

    def _document(self, block: Mapping[str, Any], pointer: str) -> list[str]:
        source = block.get("source")
        at = join(pointer, "source")
        kind = source.get("type") if isinstance(source, dict) else None
        texts = []
        if isinstance(source, dict) and kind == "text" and isinstance(source.get("data"), str):
            texts.append(source["data"])
            texts += [self.reading.read(source.get("media_type"), join(at, "media_type"))]
            texts += self._beside(source, ("type", "data", "media_type"), at)
        elif isinstance(source, dict) and kind == "content":
            texts += self._nested(source.get("content"), join(at, "content"))
            texts += self._beside(source, ("type", "content"), at)
        else:
            self.reading.refuse(at, "a file cannot be judged")
        named = ("title", "context", "citations")
        texts += [self._label(name, block.get(name), pointer) for name in named]
        return texts + self._beside(block, ("type", "source", *named), pointer)

    def _tool_use(self, block: Mapping[str, Any], pointer: str) -> None:
        name = block.get("name")
        if not isinstance(name, str) or not name:
            self._reject("a tool call must have a `name`", join(pointer, "name"))
            name = "" if name is None else dumps(name).decode()
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            self._reject("`input` must be an object", join(pointer, "input"))
        self.texts += self._beside(block, ("type", "name", "input"), pointer)
        self.calls.append(ToolCall(name, "" if arguments is None else dumps(arguments).decode(), pointer))

    def _tool_result(self, block: Mapping[str, Any], pointer: str) -> list[str]:
        texts = self._nested(block.get("content"), join(pointer, "content"))
        known = ("type", "content", *(["is_error"] if isinstance(block.get("is_error"), bool) else []))
        return [text for text in texts + self._beside(block, known, pointer) if text]

    def _nested(self, content: object, pointer: str) -> list[str]:
        """Return the texts of blocks inside a block."""
        if content is None:
            return []
        if isinstance(content, str):
            return [content]
        if not isinstance(content, list):
            self._reject("`content` must be a string or a list of blocks", pointer)
            return []
        texts = []
        for index, block in enumerate(content):
            at = join(pointer, index)
            kind = block.get("type") if isinstance(block, dict) else None
            if not isinstance(kind, str):
                self._reject("a content block must be an object with a `type`", at)
            elif kind in ("tool_use", "tool_result"):
                self.reading.refuse(at, "a tool call inside a block")
            else:
                texts += self._text(block, kind, at)
        return [text for text in texts if text]

    def _beside(self, value: Mapping[str, Any], known: Sequence[str], pointer: str) -> list[str]:
        texts = []
        for name, item in value.items():
            if name in known or item is None:
                continue
            if name in _IDS or self.reading.trusted:
                texts.append(self._label(name, item, pointer))
                if name not in _IDS:
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


def read_tools(value: object, reading: Reading) -> tuple[ToolDefinition, ...]:
    """Return the tools that a request offers; those that the upstream itself runs are unjudged."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError("`tools` must be a list", param="/tools")
    if len(value) > MAX_TOOLS:
        raise RequestError(f"more than {MAX_TOOLS} tools", param="/tools")
    tools = []
    for index, item in enumerate(value):
        at = join("/tools", index)
        if not isinstance(item, dict):
            raise RequestError("a tool must be an object", param=at)
        kind = item.get("type") or "custom"
        written = isinstance(kind, str)
        if kind != "custom" and not (written and (_CLIENT_TOOL.fullmatch(kind) or _TOOL_SEARCH.fullmatch(kind))):
            hosted = written and _HOSTED_TOOL.fullmatch(kind)
            reading.refuse(at, "a tool that the upstream runs cannot be judged" if hosted else "unknown type of tool")
            continue
        name: Any = item.get("name", None if kind == "custom" else kind)
        if not is_name(name):
            raise RequestError("a tool must have a `name`", param=join(at, "name"))
        what = {key: part for key, part in item.items() if key != "type"}
        tools.append(ToolDefinition(name, read_definition(what), at))
    return tuple(tools)
