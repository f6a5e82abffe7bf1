"""The built-in Task head in OpenAI's shapes."""

from dataclasses import replace

import orjson
import pytest

from gateway.errors import NotFoundError, RequestError
from gateway.parts import Conversation, Message
from gateway.upstream.base import Outbound
from gateway.upstream.local import LocalUpstream
from gateway.wire.reply import parse_reply
from gateway.wire.stream import HeldStream
from tests.doubles import ScriptedSafetyModel

CONVERSATION = Conversation((Message("user", "hi", "/messages/0"),))


def outbound(*, stream: bool = False, model: str = "scripted", choices: int = 1, limit: int | None = None) -> Outbound:
    return Outbound(b"", stream, model, CONVERSATION, choices, limit, include_usage=True)


@pytest.fixture
def upstream() -> LocalUpstream:
    return LocalUpstream(ScriptedSafetyModel(), "scripted")


async def test_a_whole_reply(upstream: LocalUpstream) -> None:
    inbound = await upstream.send(outbound())
    body = await inbound.read()
    assert parse_reply(body).choices[0].message.text == "Hello from here"
    assert orjson.loads(body)["choices"][0]["finish_reason"] == "stop"
    assert orjson.loads(body)["usage"]["completion_tokens"] == 3


async def test_a_limit_ends_a_reply_with_length(upstream: LocalUpstream) -> None:
    body = orjson.loads(await (await upstream.send(outbound(limit=2))).read())
    assert body["choices"][0]["message"]["content"] == "Hello from"
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_streamed_reply(upstream: LocalUpstream) -> None:
    inbound = await upstream.send(outbound(stream=True))
    assert inbound.event_stream
    stream = HeldStream()
    pieces = [stream.feed(piece) async for piece in inbound.chunks()]
    assert stream.done
    assert stream.reply.complete
    assert stream.reply.reply().choices[0].message.text == "Hello from here"
    assert b'"usage"' in pieces[-2]


async def test_closing_stops_the_writing(upstream: LocalUpstream) -> None:
    inbound = await upstream.send(outbound(stream=True))
    pieces = inbound.chunks()
    await anext(pieces)
    await inbound.close()
    assert [piece async for piece in pieces] == []


async def test_another_model_is_not_found(upstream: LocalUpstream) -> None:
    with pytest.raises(NotFoundError) as caught:
        await upstream.send(outbound(model="gpt-5"))
    assert caught.value.code == "model_not_found"


async def test_it_serves_chats_only(upstream: LocalUpstream) -> None:
    with pytest.raises(NotFoundError, match="does not serve `/messages`") as caught:
        await upstream.send(replace(outbound(), path="/messages"))
    assert caught.value.code == "route_not_served"


async def test_it_gives_one_choice(upstream: LocalUpstream) -> None:
    with pytest.raises(RequestError):
        await upstream.send(outbound(choices=2))


async def test_it_lists_itself(upstream: LocalUpstream) -> None:
    body = orjson.loads(await (await upstream.models()).read())
    assert [model["id"] for model in body["data"]] == ["scripted"]
    assert await upstream.reachable()
    await upstream.close()
