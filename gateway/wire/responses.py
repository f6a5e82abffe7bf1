"""POST /v1/responses: the request body, strictly parsed, and the one encoding of it that is forwarded."""

from typing import Any, Final

from gateway.errors import RequestError
from gateway.parts import Conversation, Message
from gateway.wire import fields
from gateway.wire.chat import read_body
from gateway.wire.format import Request
from gateway.wire.items import Items, read_tools
from gateway.wire.reading import Reading
from gateway.wire.strict import dumps

MAX_ITEMS: Final = 1024
_OURS: Final = ("background", "background_options")
"""Fields that the gateway carries out itself."""


def parse_request(data: bytes) -> Request:
    """Return the request in ``data`` or raise RequestError with what is wrong, where, and how to mend it.

    What the upstream would have kept from earlier (a previous response, a conversation, items by reference) is refused:
    nobody could judge it. An approval that the client brings is unjudged, so that a person decides.
    """
    body, forwarded = read_body(data)
    reading = Reading()
    extra = fields.RESPONSES.read(body, reading)
    items = Items(reading)
    messages = _input(body.get("input"), items)
    instructions = _instructions(body.get("instructions"))
    tools = (*read_tools(body.get("tools"), "/tools", reading), *items.tools)
    background = bool(body.get("background"))
    if background:
        if body.get("stream"):
            raise RequestError("`background` cannot be streamed: ask for one of both", param="/background")
        forwarded = dumps({name: value for name, value in body.items() if name not in _OURS})
    return Request(
        conversation=Conversation(
            (*extra, *instructions, *messages), tools, tuple(reading.unjudged), tuple(reading.marks)
        ),
        forwarded=forwarded,
        model=body["model"],
        stream=bool(body.get("stream")),
        max_tokens=body.get("max_output_tokens"),
        subject=body.get("safety_identifier") or body.get("user") or None,
        background=background,
    )


def _instructions(value: Any) -> list[Message]:
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        raise RequestError("`instructions` must be a string", param="/instructions")
    return [Message("system", value, "/instructions")]


def _input(value: object, items: Items) -> list[Message]:
    if isinstance(value, str) and value:
        return [Message("user", value, "/input")]
    if not isinstance(value, list) or not value:
        raise RequestError("`input` must be a text or a list with at least one item", param="/input")
    if len(value) > MAX_ITEMS:
        raise RequestError(f"more than {MAX_ITEMS} items", param="/input")
    return [items.read(item, f"/input/{index}") for index, item in enumerate(value)]
