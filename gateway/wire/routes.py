"""The wire formats by route."""

from collections.abc import Mapping
from typing import Final

from gateway.errors import UpstreamError
from gateway.wire import (
    chat,
    chat_shapes,
    completions,
    embeddings,
    messages,
    messages_reply,
    messages_shapes,
    reply,
    responses,
    responses_reply,
    responses_shapes,
    stream,
)
from gateway.wire.format import HeldStream, Notice, WireFormat


def _no_stream() -> HeldStream:
    raise UpstreamError("invalid", "the upstream streams what is never a stream")


def _nothing(_notice: Notice) -> bytes:
    return b""


def _no_events(_notice: Notice) -> list[bytes]:
    return []


CHAT: Final = WireFormat(
    name="chat",
    path="/chat/completions",
    streams=True,
    parse_request=chat.parse_request,
    parse_reply=reply.parse_reply,
    hold=stream.HeldStream,
    refusal=chat_shapes.refusal,
    refusal_events=chat_shapes.refusal_events,
    answer=chat_shapes.answer,
    answer_events=chat_shapes.answer_events,
    error=chat_shapes.error,
    error_events=chat_shapes.error_events,
)
RESPONSES: Final = WireFormat(
    name="responses",
    path="/responses",
    streams=True,
    parse_request=responses.parse_request,
    parse_reply=responses_reply.parse_reply,
    hold=responses_reply.ResponsesStream,
    refusal=responses_shapes.refusal,
    refusal_events=responses_shapes.refusal_events,
    answer=responses_shapes.answer,
    answer_events=responses_shapes.answer_events,
    error=chat_shapes.error,
    error_events=responses_shapes.error_events,
)
MESSAGES: Final = WireFormat(
    name="messages",
    path="/messages",
    streams=True,
    parse_request=messages.parse_request,
    parse_reply=messages_reply.parse_reply,
    hold=messages_reply.MessagesStream,
    refusal=messages_shapes.refusal,
    refusal_events=messages_shapes.refusal_events,
    answer=messages_shapes.answer,
    answer_events=messages_shapes.answer_events,
    error=messages_shapes.error,
    error_events=messages_shapes.error_events,
)
COMPLETIONS: Final = WireFormat(
    name="completions",
    path="/completions",
    streams=True,
    parse_request=completions.parse_request,
    parse_reply=completions.parse_reply,
    hold=completions.CompletionStream,
    refusal=completions.refusal,
    refusal_events=completions.refusal_events,
    answer=completions.answer,
    answer_events=completions.answer_events,
    error=chat_shapes.error,
    error_events=chat_shapes.error_events,
)
EMBEDDINGS: Final = WireFormat(
    name="embeddings",
    path="/embeddings",
    streams=False,
    parse_request=embeddings.parse_request,
    parse_reply=embeddings.parse_reply,
    hold=_no_stream,
    refusal=_nothing,
    refusal_events=_no_events,
    answer=_nothing,
    answer_events=_no_events,
    error=chat_shapes.error,
    error_events=chat_shapes.error_events,
)
FORMATS: Final[Mapping[str, WireFormat]] = {
    f"/v1{each.path}": each for each in (CHAT, RESPONSES, MESSAGES, COMPLETIONS, EMBEDDINGS)
}
"""By the route that a client calls."""
