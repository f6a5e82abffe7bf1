"""The HTTP upstream against a real server."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import orjson
import pytest

from gateway.errors import UpstreamError
from gateway.parts import Conversation, Message
from gateway.upstream.base import Outbound
from gateway.upstream.http import HttpUpstream
from gateway.wire.stream import HeldStream
from tests.doubles import UpstreamDouble, script


@pytest.fixture
def double() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        yield server


@pytest.fixture
async def upstream(double: UpstreamDouble) -> AsyncIterator[HttpUpstream]:
    made = HttpUpstream(double.url, "own-key", connect_timeout_s=2, read_timeout_s=1)
    yield made
    await made.close()


def outbound(text: str, *, stream: bool = False) -> Outbound:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    return Outbound(orjson.dumps(body), stream, "m", Conversation((Message("user", text, "/messages/0"),)))


async def read(upstream: HttpUpstream, text: str, *, stream: bool = False) -> bytes:
    inbound = await upstream.send(outbound(text, stream=stream))
    try:
        return await inbound.read()
    finally:
        await inbound.close()


async def test_the_body_goes_out_as_it_is_with_our_own_key(double: UpstreamDouble, upstream: HttpUpstream) -> None:
    reply = orjson.loads(await read(upstream, "hi"))
    assert reply["choices"][0]["message"]["content"] == "echo: hi"
    assert double.bodies == [outbound("hi").body]
    assert double.paths == ["/v1/chat/completions"]
    assert double.headers[0]["authorization" if "authorization" in double.headers[0] else "Authorization"] == (
        "Bearer own-key"
    )


@pytest.mark.parametrize(("version", "told"), [(None, "2023-06-01"), ("2023-01-01", "2023-01-01")])
async def test_the_messages_api_gets_the_key_and_its_version_in_its_own_headers(
    double: UpstreamDouble, upstream: HttpUpstream, version: str | None, told: str
) -> None:
    inbound = await upstream.send(replace(outbound("hi"), path="/messages", version=version))
    assert orjson.loads(await inbound.read())["content"] == [{"type": "text", "text": "echo: hi"}]
    sent = {name.lower(): value for name, value in double.headers[0].items()}
    assert (sent["x-api-key"], sent["anthropic-version"]) == ("own-key", told)
    assert "authorization" not in sent
    assert double.paths == ["/v1/messages"]


async def test_a_stream_arrives_piece_by_piece(upstream: HttpUpstream) -> None:
    inbound = await upstream.send(outbound(script(text="a b c"), stream=True))
    assert inbound.event_stream
    stream = HeldStream()
    async for piece in inbound.chunks():
        stream.feed(piece)
    await inbound.close()
    assert stream.done
    assert stream.reply.reply().choices[0].message.text == "abc"


async def test_a_status_is_not_an_exception(upstream: HttpUpstream) -> None:
    inbound = await upstream.send(outbound(script(status=429)))
    assert (inbound.status, inbound.retry_after) == (429, "7")
    await inbound.close()


async def test_nobody_there(double: UpstreamDouble) -> None:
    with UpstreamDouble() as other:
        url = other.url
    upstream = HttpUpstream(url, None, connect_timeout_s=1, read_timeout_s=1)
    with pytest.raises(UpstreamError) as caught:
        await upstream.send(outbound("x"))
    assert caught.value.reason == "unreachable"
    assert not await upstream.reachable()
    await upstream.close()


async def test_silence_is_a_timeout(upstream: HttpUpstream) -> None:
    with pytest.raises(UpstreamError) as caught:
        await read(upstream, script(text="x", delay=3))
    assert caught.value.reason == "timeout"


async def test_a_stream_that_breaks_off_is_invalid(upstream: HttpUpstream) -> None:
    with pytest.raises(UpstreamError) as caught:
        await read(upstream, script(text="a b c", cut=2), stream=True)
    assert caught.value.reason == "invalid"


async def test_redirects_are_not_followed(double: UpstreamDouble) -> None:
    upstream = HttpUpstream(double.url + "/moved", None, connect_timeout_s=1, read_timeout_s=1)
    with pytest.raises(UpstreamError, match="302"):
        await upstream.models()
    await upstream.close()


async def test_models_are_listed(upstream: HttpUpstream) -> None:
    inbound = await upstream.models()
    assert orjson.loads(await inbound.read())["data"][0]["id"] == "double"
    await inbound.close()
    assert await upstream.reachable()
