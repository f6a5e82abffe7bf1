"""POST /v1/embeddings: texts become vectors, so a reply says nothing and a refusal is always an error."""

from gateway.errors import UpstreamError
from gateway.parts import Conversation, Message
from gateway.wire import fields
from gateway.wire.chat import read_body
from gateway.wire.completions import read_inputs
from gateway.wire.format import Choice, Reply, Request
from gateway.wire.reading import Reading, Strands
from gateway.wire.reply import heading, parse_object, read_asides


def parse_request(data: bytes) -> Request:
    """Return the request in ``data`` or raise RequestError; token ids are unjudged."""
    body, forwarded = read_body(data)
    reading = Reading()
    extra = fields.EMBEDDINGS.read(body, reading)
    texts = read_inputs(body.get("input"), "input", reading)
    return Request(
        conversation=Conversation((*extra, *texts), (), tuple(reading.unjudged), tuple(reading.marks)),
        forwarded=forwarded,
        model=body["model"],
        subject=body.get("safety_identifier") or body.get("user") or None,
    )


def parse_reply(data: bytes) -> Reply:
    """Return the reply in ``data`` or raise UpstreamError(invalid). Its vectors are numbers, or base64 of them."""
    body = parse_object(data)
    items = body.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UpstreamError("invalid", "the upstream's reply has no list of embeddings")
    reading = Reading(trusted=True)
    rest = Strands()
    for index, item in enumerate(items):
        rest.once({name: value for name, value in item.items() if name != "embedding"}, "/data")
        if isinstance(vector := item.get("embedding"), str):
            reading.sealed(vector, f"/data/{index}/embedding")
        else:
            rest.weave(vector, f"/data/{index}/embedding")
    said = Message("assistant", "\n".join(rest.texts(reading, "")), "/data")
    choice = Choice(0, said, tuple(reading.unjudged), tuple(reading.marks))
    return Reply((choice,), **heading(body), asides=read_asides(body, "data"))
