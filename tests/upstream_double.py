"""A real model server on a loopback port, scripted by what it is asked."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import orjson
from aiohttp import web

from gateway.verdict import Label
from tests.upstream_shapes import (
    asked,
    completion,
    completion_events,
    embeddings,
    message,
    message_events,
    response,
    response_events,
)

SCRIPT = "script:"
"""A user message that begins so tells the upstream double what to do; the rest is JSON."""


def script(**steps: object) -> str:
    """Return a user message that scripts the upstream double.

    ``tools``: list of [name, arguments text]; ``text``; ``status``; ``choices``; ``delay`` seconds between chunks;
    ``cut``: break off after so many chunks; ``raw``: the whole body as text; ``no_stream``: answer without a stream.
    """
    text = orjson.dumps(steps).decode()
    for label in Label:  # a label's word shall appear in the reply and not in the request
        text = text.replace(label.value, f"\\u{ord(label.value[0]):04x}{label.value[1:]}")
    return SCRIPT + text


class UpstreamDouble:
    """A real HTTP server in a thread of its own. ``requests`` holds what it got, ``aborted`` how many hung up on it."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.aborted = 0
        self.scripts: dict[str, dict[str, Any]] = {}
        """Steps by the exact text of the last user message, where that text shall read like a person's."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Base URL, as an OpenAI client takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        for path, shape in SHAPES.items():
            app.router.add_post(f"/v1{path}", partial(self._answer, shape))
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/moved/models", self._moved)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _models(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        return web.json_response({"object": "list", "data": [{"id": "double", "object": "model"}]})

    async def _moved(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/v1/models")

    async def _answer(self, shape: "Shape", request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = orjson.loads(data)
        self.bodies.append(data)
        self.requests.append(body)
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        steps = _steps(body, self.scripts)
        try:
            if "status" in steps:
                error = {"message": steps.get("text", "no"), "type": "server_error", "code": "scripted", "param": None}
                headers = {"retry-after": "7", "x-secret": "inside"}
                return web.json_response({"error": error}, status=steps["status"], headers=headers)
            if "raw" in steps:
                return web.Response(body=steps["raw"].encode(), content_type="application/json")
            if body.get("stream") and not steps.get("no_stream"):
                return await self._stream(request, shape, shape.events(body, steps), steps)
            await asyncio.sleep(steps.get("delay", 0))
            return web.json_response(shape.whole(body, steps))
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise

    async def _stream(
        self, request: web.Request, shape: "Shape", events: list[dict[str, Any]], steps: dict[str, Any]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, chunk in enumerate(events):
            if number == steps.get("cut"):
                assert request.transport is not None
                request.transport.abort()
                return response
            name = b"event: " + chunk["type"].encode() + b"\n" if "type" in chunk else b""
            await response.write(name + b"data: " + orjson.dumps(chunk) + b"\n\n")
            await asyncio.sleep(steps.get("delay", 0))
        await response.write(shape.end)
        return response


def _steps(body: dict[str, Any], scripts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    last = asked(body)
    if last in scripts:
        return scripts[last]
    if last.startswith(SCRIPT):
        return dict(orjson.loads(last.removeprefix(SCRIPT)))
    return {"text": f"echo: {last}"}


def _calls(steps: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(steps.get("tools", []))
    ]


def _completion(body: dict[str, Any], steps: dict[str, Any]) -> dict[str, Any]:
    calls = _calls(steps)
    message: dict[str, Any] = {"role": "assistant", "content": steps.get("text"), "refusal": None}
    quiet = {"role": "assistant", "content": "nothing to do", "refusal": None}
    if calls:
        message["tool_calls"] = calls
    count = steps.get("choices", body.get("n") or 1)
    choices = [{"index": i, "message": quiet, "finish_reason": "stop"} for i in range(count - 1)]
    choices.append({"index": count - 1, "message": message, "finish_reason": "tool_calls" if calls else "stop"})
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    heading = {"id": "chatcmpl-double", "object": "chat.completion", "created": 1, "model": body["model"]}
    return {**heading, "choices": choices, "usage": usage, "system_fingerprint": "fp_double"}


def _chunks(body: dict[str, Any], steps: dict[str, Any]) -> list[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        heading = {"id": "chatcmpl-double", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        return {**heading, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": word}) for word in (steps.get("text") or "").split(" ") if word]
    for index, call in enumerate(_calls(steps)):
        function = call["function"]
        opening = {"index": index, "id": call["id"], "type": "function", "function": function | {"arguments": ""}}
        chunks.append(chunk({"tool_calls": [opening]}))
        half = len(function["arguments"]) // 2
        for part in (function["arguments"][:half], function["arguments"][half:]):
            chunks.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
    chunks.append(chunk({}, "tool_calls" if steps.get("tools") else "stop"))
    return chunks


@dataclass(frozen=True)
class Shape:
    """What a route answers, whole or as the events of a stream and its end."""

    whole: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    events: Callable[[dict[str, Any], dict[str, Any]], list[dict[str, Any]]]
    end: bytes = b""


DONE: Final = b"data: [DONE]\n\n"
SHAPES: Final[Mapping[str, Shape]] = {
    "/chat/completions": Shape(_completion, _chunks, DONE),
    "/responses": Shape(response, response_events),
    "/messages": Shape(message, message_events),
    "/completions": Shape(completion, completion_events, DONE),
    "/embeddings": Shape(embeddings, lambda _body, _steps: []),
}
