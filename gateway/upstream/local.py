"""The built-in upstream: the release's own Task head, in OpenAI's shapes. It proposes no tool calls."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, Protocol
from uuid import uuid4

import orjson

from gateway.errors import NotFoundError, RequestError
from gateway.parts import Conversation
from gateway.upstream.base import Inbound, Outbound

MAX_TOKENS: Final = 512
"""Of one reply, where the client names no limit of its own, and at most."""


class Generator(Protocol):
    """The part of the safety engine that writes."""

    def generate(self, conversation: Conversation, max_tokens: int) -> AsyncIterator[str]:
        """Yield the pieces of the Task head's reply."""
        ...


class LocalInbound:
    """An answer that is made here, piece by piece or whole."""

    retry_after: str | None = None

    def __init__(self, pieces: AsyncGenerator[bytes], *, event_stream: bool) -> None:
        self.status = 200
        self.event_stream = event_stream
        self._pieces = pieces

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self._pieces])

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as the Task head writes it."""
        return self._pieces

    async def close(self) -> None:
        """Stop writing."""
        await self._pieces.aclose()


class LocalUpstream:
    """Answers as the model ``name``, and as no other, and says so in a header."""

    headers: tuple[tuple[bytes, bytes], ...] = ((b"x-so8t-upstream", b"task-head"),)

    def __init__(self, generator: Generator, name: str) -> None:
        self._generator = generator
        self._name = name

    async def send(self, outbound: Outbound) -> Inbound:
        """Start a reply of the Task head, to a chat and to nothing else."""
        if outbound.path != "/chat/completions":
            raise NotFoundError(
                f"the built-in Task head does not serve `{outbound.path}`: call `/chat/completions`, or name an "
                "upstream that serves it",
                code="route_not_served",
            )
        if outbound.model != self._name:
            raise NotFoundError(
                f"the model `{outbound.model}` does not exist here: use `{self._name}`, the built-in Task head, "
                "or name an upstream",
                param="/model",
                code="model_not_found",
            )
        if outbound.choices != 1:
            raise RequestError("the built-in Task head gives one choice: leave `n` out", param="/n")
        pieces = self._streamed(outbound) if outbound.stream else self._whole(outbound)
        return LocalInbound(pieces, event_stream=outbound.stream)

    async def models(self) -> Inbound:
        """List the one model."""
        return LocalInbound(self._listing(), event_stream=False)

    async def reachable(self) -> bool:
        """Say yes: it is here."""
        return True

    async def close(self) -> None:
        """Nothing is open between replies."""

    async def _listing(self) -> AsyncGenerator[bytes]:
        model = {"id": self._name, "object": "model", "created": 0, "owned_by": "so8t"}
        yield orjson.dumps({"object": "list", "data": [model]})

    def _heading(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": self._name}

    async def _text(self, outbound: Outbound) -> AsyncIterator[str]:
        limit = min(outbound.max_tokens or MAX_TOKENS, MAX_TOKENS)
        async for piece in self._generator.generate(outbound.conversation, limit):
            yield piece

    async def _whole(self, outbound: Outbound) -> AsyncGenerator[bytes]:
        pieces = [piece async for piece in self._text(outbound)]
        message = {"role": "assistant", "content": "".join(pieces), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(outbound, len(pieces))}
        yield orjson.dumps({**self._heading("chat.completion"), "choices": [choice], "usage": _usage(len(pieces))})

    async def _streamed(self, outbound: Outbound) -> AsyncGenerator[bytes]:
        heading = self._heading("chat.completion.chunk")

        def event(delta: dict[str, str], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return b"data: " + orjson.dumps({**heading, "choices": [choice]}) + b"\n\n"

        yield event({"role": "assistant", "content": ""})
        count = 0
        async for piece in self._text(outbound):
            count += 1
            yield event({"content": piece})
        yield event({}, _finish(outbound, count))
        if outbound.include_usage:
            usage = {**heading, "choices": [], "usage": _usage(count)}
            yield b"data: " + orjson.dumps(usage) + b"\n\n"
        yield b"data: [DONE]\n\n"


def _finish(outbound: Outbound, count: int) -> str:
    return "length" if count >= min(outbound.max_tokens or MAX_TOKENS, MAX_TOKENS) else "stop"


def _usage(completion: int) -> dict[str, int]:
    """Return what is known: the pieces written. The engine does not tell how many tokens it read."""
    return {"prompt_tokens": 0, "completion_tokens": completion, "total_tokens": completion}
