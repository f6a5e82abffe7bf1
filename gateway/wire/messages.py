"""POST /v1/messages: the request body of the Messages API, strictly parsed, and the one encoding that is forwarded."""

from typing import Any, Final

from gateway.errors import RequestError
from gateway.parts import Conversation, Message, Role
from gateway.wire import fields
from gateway.wire.blocks import Blocks, read_tools
from gateway.wire.chat import MAX_MESSAGES, read_body
from gateway.wire.format import Request
from gateway.wire.reading import Reading
from gateway.wire.strict import join

ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}


def parse_request(data: bytes) -> Request:
    """Return the request in ``data`` or raise RequestError with what is wrong, where, and how to mend it."""
    body, forwarded = read_body(data)
    reading = Reading()
    extra = fields.MESSAGES.read(body, reading)
    system = _system(body.get("system"), reading)
    messages = _messages(body.get("messages"), reading)
    tools = read_tools(body.get("tools"), reading)
    metadata = body.get("metadata") or {}
    return Request(
        conversation=Conversation((*extra, *system, *messages), tools, tuple(reading.unjudged), tuple(reading.marks)),
        forwarded=forwarded,
        model=body["model"],
        stream=bool(body.get("stream")),
        max_tokens=body.get("max_tokens"),
        subject=metadata.get("user_id") or None,
    )


def _system(value: Any, reading: Reading) -> list[Message]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [Message("system", value, "/system")]
    if not isinstance(value, list):
        raise RequestError("`system` must be a string or a list of text blocks", param="/system")
    blocks = Blocks(reading, "system", "/system")
    for index, block in enumerate(value):
        at = join("/system", index)
        if not isinstance(block, dict) or block.get("type") != "text":
            raise RequestError("`system` must be a string or a list of text blocks", param=at)
        blocks.block(block, at)
    return [Message("system", "\n".join(blocks.texts), "/system")]


def _messages(value: object, reading: Reading) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RequestError("`messages` must be a list with at least one message", param="/messages")
    if len(value) > MAX_MESSAGES:
        raise RequestError(f"more than {MAX_MESSAGES} messages", param="/messages")
    found = []
    for index, item in enumerate(value):
        at = join("/messages", index)
        if not isinstance(item, dict):
            raise RequestError("a message must be an object", param=at)
        written = item.get("role")
        if not isinstance(written, str) or written not in ROLES:
            raise RequestError("unknown role: use one of " + ", ".join(ROLES), param=join(at, "role"))
        reading.others(item, ("role", "content"), at)
        content = item.get("content")
        found += Blocks(reading, ROLES[written], at).read("" if content is None and written == "system" else content)
    return found
