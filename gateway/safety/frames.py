"""Messages between the gateway and the judge's process: a four-byte big-endian length, then JSON.

Also the JSON shapes of conversations and verdicts on that wire.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.parts import Conversation, Message, ToolCall, ToolDefinition, Unjudged
from gateway.verdict import Label, Reading, Scores, Verdict

LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = 64 << 20


def pack(message: Mapping[str, Any]) -> bytes:
    """Return the frame of a message."""
    body = orjson.dumps(message)
    return LENGTH.pack(len(body)) + body


def conversation_to_wire(conversation: Conversation) -> dict[str, Any]:
    """Return plain JSON values; nothing is lost."""
    return {
        "tools": [[t.name, t.text, t.pointer] for t in conversation.tools],
        "messages": [
            [m.role, m.text, m.pointer, [[c.name, c.arguments, c.pointer] for c in m.tool_calls]]
            for m in conversation.messages
        ],
        "unjudged": [[u.pointer, u.reason] for u in conversation.unjudged],
    }


def conversation_from_wire(raw: Mapping[str, Any]) -> Conversation:
    """Undo ``conversation_to_wire``."""
    return Conversation(
        messages=tuple(
            Message(role, text, pointer, tuple(ToolCall(*call) for call in calls))
            for role, text, pointer, calls in raw["messages"]
        ),
        tools=tuple(ToolDefinition(*tool) for tool in raw["tools"]),
        unjudged=tuple(Unjudged(*part) for part in raw["unjudged"]),
    )


def verdict_from_wire(raw: Mapping[str, Any]) -> Verdict:
    """Build the verdict that the judge's process sent (the dictionary form of ``Verdict``)."""
    return Verdict(
        label=Label(raw["label"]),
        scores=Scores(**raw["scores"]),
        domain=raw["domain"],
        domains=raw["domains"],
        pointer=raw["pointer"],
        release=raw["release"],
        release_digest=raw["release_digest"],
        template=raw["template"],
        judged_bytes=raw["judged_bytes"],
        readings=tuple(Reading(r["pointer"], Scores(**r["scores"]), r["domains"]) for r in raw["readings"]),
        unjudged=tuple(Unjudged(**part) for part in raw["unjudged"]),
        rationale=raw["rationale"],
        cached=raw["cached"],
    )
