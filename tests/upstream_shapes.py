"""What the upstream double answers beside chats: responses, messages, completions and embeddings."""

from typing import Any

import orjson

Steps = dict[str, Any]
Event = dict[str, Any]
USAGE = {"input_tokens": 1, "output_tokens": 1}
SPENT = {
    **USAGE,
    "total_tokens": 2,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


def asked(body: dict[str, Any]) -> str:
    """Return the last text that a user wrote, in whichever of the formats."""
    found: Any = next((body[name] for name in ("messages", "input", "prompt") if name in body), "")
    if isinstance(found, list):
        found = [item["content"] if isinstance(item, dict) else item for item in found if _of_user(item)]
        found = found[-1] if found else ""
    return found if isinstance(found, str) else ""


def _of_user(item: object) -> bool:
    return not isinstance(item, dict) or item.get("role") == "user"


def response(body: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Return a whole response."""
    return _response(body, "completed", _items(steps))


def response_events(body: dict[str, Any], steps: Steps) -> list[Event]:
    """Return the events of a response."""
    items = _items(steps)
    begun = _response(body, "in_progress", [])
    events: list[Event] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(items):
        where = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            (part,) = item["content"]
            place = {**where, "content_index": 0}
            empty = item | {"status": "in_progress", "content": []}
            events += [
                {"type": "response.output_item.added", "output_index": index, "item": empty},
                {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
            ]
            events += [
                {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
                for word in _words(part["text"])
            ]
            events += [
                {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", **place, "part": part},
            ]
        else:
            empty = item | {"status": "in_progress", "arguments": ""}
            events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
            events += [
                {"type": "response.function_call_arguments.delta", **where, "delta": part}
                for part in _halves(item["arguments"])
            ]
            done = {"type": "response.function_call_arguments.done", **where, "name": item["name"]}
            events.append(done | {"arguments": item["arguments"]})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": _response(body, "completed", items)})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _items(steps: Steps) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if steps.get("text") is not None:
        part = {"type": "output_text", "text": steps["text"], "annotations": [], "logprobs": []}
        message = {"id": "msg_double", "type": "message", "role": "assistant", "status": "completed"}
        items.append(message | {"content": [part]})
    for index, (name, arguments) in enumerate(steps.get("tools", [])):
        call = {"id": f"fc_{index}", "type": "function_call", "call_id": f"call_{index}", "status": "completed"}
        items.append(call | {"name": name, "arguments": arguments})
    return items


def _response(body: dict[str, Any], status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "resp_double",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "top_p": 1.0,
        "usage": SPENT if status == "completed" else None,
    }


def message(body: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Return a whole message of the Messages API."""
    reason = "tool_use" if steps.get("tools") else "end_turn"
    return _message(body) | {"content": _blocks(steps), "stop_reason": reason, "usage": USAGE}


def message_events(body: dict[str, Any], steps: Steps) -> list[Event]:
    """Return the events of a message."""
    events: list[Event] = [{"type": "message_start", "message": _message(body)}, {"type": "ping"}]
    for index, block in enumerate(_blocks(steps)):
        events.append({"type": "content_block_start", "index": index, "content_block": _empty_block(block)})
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": word} for word in _words(block["text"])]
        else:
            written = steps["tools"][index - (steps.get("text") is not None)][1]
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in _halves(written)]
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = "tool_use" if steps.get("tools") else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
    return events


def _blocks(steps: Steps) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": steps["text"]}] if steps.get("text") is not None else []
    for index, (name, arguments) in enumerate(steps.get("tools", [])):
        blocks.append({"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": orjson.loads(arguments)})
    return blocks


def _empty_block(block: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
    return block | empty


def _message(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_double",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 0},
    }


def completion(body: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Return a whole text completion."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return _completion(body, steps.get("text", ""), "stop") | {"usage": usage}


def completion_events(body: dict[str, Any], steps: Steps) -> list[Event]:
    """Return the chunks of a text completion."""
    return [*(_completion(body, word, None) for word in _words(steps.get("text", ""))), _completion(body, "", "stop")]


def _completion(body: dict[str, Any], text: str, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return {
        "id": "cmpl-double",
        "object": "text_completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }


def embeddings(body: dict[str, Any], _steps: Steps) -> dict[str, Any]:
    """Return a vector for each text, in the encoding that was asked for."""
    count = len(body["input"]) if isinstance(body["input"], list) else 1
    vector: Any = "AACAPwAAAEA=" if body.get("encoding_format") == "base64" else [1.0, 2.0]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _words(text: str) -> list[str]:
    """Return the pieces that a text is streamed in."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def _halves(text: str) -> list[str]:
    half = len(text) // 2
    return [text[:half], text[half:]]
