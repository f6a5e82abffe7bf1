"""The HTTP interface over real sockets."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from gateway.escalation.case import Case, Kind, Reviewer
from gateway.escalation.cases import Cases
from gateway.holding import Patience, Room
from gateway.http.auth import Authenticator
from gateway.http.endpoints import Api, Services
from gateway.pipeline import Pipeline
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from gateway.upstream.http import HttpUpstream
from tests.doubles import Keyring, LabelRules, MemoryTrail, ScriptedSafetyModel, Served, UpstreamDouble, script


class Health:
    """Readiness that a test sets."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.seen: dict[str, str] = {}

    def problems(self) -> Mapping[str, str]:
        """Return what was set."""
        return self.found

    def warnings(self) -> Mapping[str, str]:
        """Return what was set."""
        return self.seen


class Stack:
    """A served gateway without its composition root."""

    def __init__(self, double: UpstreamDouble, store: Store) -> None:
        self.double = double
        self.rules = LabelRules()
        self.cases = Cases(store.reader, store.writer, store.trail)
        self.beside = Cases(store.reader, store.writer, store.trail)
        self.room = Room()
        self.judge = ScriptedSafetyModel()
        self.trail = MemoryTrail()
        self.keys = Keyring()
        self.health = Health()
        upstream = HttpUpstream(double.url, None, connect_timeout_s=1, read_timeout_s=3)
        services = Services(
            pipeline=Pipeline(
                self.judge, self.rules, self.trail, self.cases, upstream, judge_timeout_s=1, room=self.room
            ),
            cases=self.cases,
            upstream=upstream,
            authenticator=Authenticator(self.keys, loopback=True),
            health=self.health,
            body_limit=10_000,
            body_timeout_s=0.5,
        )
        self.api = Api(services)
        self.upstream = upstream


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with UpstreamDouble() as double, Store(DataDirectory(tmp_path / "var")) as store:
        yield Stack(double, store)


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await stack.upstream.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await stack.api(scope, receive, send)

    with Served(app, header_timeout_s=0.5) as served:
        yield served.url


def chat(url: str, text: str = "hi", headers: Mapping[str, str] | None = None, **fields: object) -> requests.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
    return requests.post(url + "/v1/chat/completions", data=orjson.dumps(body), headers=headers, timeout=10)


def code(response: requests.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return response.status_code, error["code"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_chat_is_answered_with_its_decision(url: str) -> None:
    response = chat(url)
    assert response.json()["choices"][0]["message"]["content"] == "echo: hi"
    assert response.headers["x-so8t-decision"] == "allow"
    assert "x-secret" not in response.headers


def test_health_is_told_without_a_key(url: str, stack: Stack) -> None:
    stack.keys.keys["k"] = Principal("acme", "1", "ann")
    assert requests.get(url + "/healthz", timeout=5).json() == {"status": "ok"}
    assert requests.get(url + "/readyz", timeout=5).status_code == 200
    stack.health.found["judge"] = "starting"
    ready = requests.get(url + "/readyz", timeout=5)
    assert (ready.status_code, ready.json()["problems"]) == (503, {"judge": "starting"})


def test_a_key_is_needed_once_there_is_one(url: str, stack: Stack) -> None:
    stack.keys.keys["right"] = Principal("acme", "1", "ann")
    assert code(chat(url)) == (401, "invalid_api_key")
    assert code(chat(url, headers={"authorization": "Bearer wrong"})) == (401, "invalid_api_key")
    assert code(chat(url, headers={"authorization": "Basic right"})) == (401, "invalid_api_key")
    assert code(requests.get(url + "/v1/models", timeout=5)) == (401, "invalid_api_key")
    assert chat(url, headers={"authorization": "Bearer right"}).status_code == 200
    assert stack.judge.judged[-1][0] == "acme"
    assert stack.double.headers[-1].get("Authorization") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:80"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"referer": "http://evil.example/x"},
    ],
)
def test_without_keys_a_foreign_page_is_not_answered(url: str, stack: Stack, headers: dict[str, str]) -> None:
    assert code(chat(url, headers=headers)) == (403, "foreign_origin")
    assert stack.judge.judged == []


@pytest.mark.parametrize("headers", [{"host": "localhost:99"}, {"host": "[::1]"}, {"origin": "http://localhost:3000"}])
def test_without_keys_a_local_page_is_answered(url: str, stack: Stack, headers: dict[str, str]) -> None:
    assert chat(url, headers=headers).status_code == 200
    assert stack.judge.judged[-1][0] == "default"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/moderations", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1//chat/completions", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_other_routes_say_which_exist(url: str, stack: Stack, method: str, path: str, status: int) -> None:
    response = requests.request(method, url + path, data=b"{}", timeout=5)
    assert code(response)[0] == status
    assert stack.double.requests == []
    if status == 404:
        assert "POST /v1/chat/completions" in response.json()["error"]["message"]


def test_models_pass_through(url: str) -> None:
    assert requests.get(url + "/v1/models", timeout=5).json()["data"][0]["id"] == "double"


def test_a_malformed_body_is_told_where(url: str, stack: Stack) -> None:
    response = chat(url, temperature="hot")
    assert code(response) == (400, "invalid_request")
    assert response.json()["error"]["param"] == "/temperature"
    assert stack.trail.entries == []


def test_the_limit_counts_what_comes_and_not_what_is_announced(url: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 1000

    response = requests.post(url + "/v1/chat/completions", data=pieces(), timeout=5)
    assert code(response) == (413, "request_too_large")


def test_compressed_bodies_are_refused(url: str) -> None:
    response = requests.post(url + "/v1/chat/completions", data=b"x", headers={"content-encoding": "gzip"}, timeout=5)
    assert code(response) == (415, "unsupported_media_type")


def raw(url: str, data: bytes, *, wait_s: float = 3) -> tuple[bytes, float]:
    """Send bytes on a socket; return what came until the server closed it, and how long that took."""
    host, port = url.removeprefix("http://").split(":")
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            return received, wait_s
        except ConnectionResetError:
            pass
    return received, time.monotonic() - started


@pytest.mark.parametrize("data", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow:"])
def test_headers_that_do_not_come_close_the_connection(url: str, data: bytes) -> None:
    received, took = raw(url, data)
    assert received == b""
    assert took < 2


def test_endless_headers_close_the_connection(url: str) -> None:
    _, took = raw(url, b"POST / HTTP/1.1\r\nx: " + b"y" * 200_000)
    assert took < 2


def test_a_body_that_does_not_come_is_a_408(url: str) -> None:
    received, _ = raw(url, b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nx")
    assert b"408" in received.split(b"\r\n")[0]


def test_a_client_that_hangs_up_aborts_the_upstream(url: str, stack: Stack) -> None:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": script(text="x", delay=2)}]})
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: len(stack.double.requests) == 1)
    until(lambda: stack.double.aborted == 1)
    until(lambda: [entry["outcome"] for entry in stack.trail.of("enforcement")] == ["client_disconnected"])


def test_a_client_that_leaves_a_stream_aborts_the_upstream(url: str, stack: Stack) -> None:
    text = script(text="a b c d e f g h", delay=0.2)
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}
    with requests.post(url + "/v1/chat/completions", data=orjson.dumps(body), stream=True, timeout=5) as response:
        assert next(response.iter_content(10))
    until(lambda: stack.double.aborted == 1)
    until(lambda: [entry["outcome"] for entry in stack.trail.of("enforcement")] == ["client_disconnected"])


def test_one_connection_serves_many_requests(url: str) -> None:
    with requests.Session() as session:
        for _ in range(5):
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            assert session.post(url + "/v1/chat/completions", data=orjson.dumps(body), timeout=5).status_code == 200
            time.sleep(0.02)


def test_a_bug_is_a_500_that_says_nothing(url: str, stack: Stack) -> None:
    def broken(_scope: object) -> None:
        raise ValueError("internals")

    stack.api._find = broken  # type: ignore[assignment, method-assign]
    response = chat(url)
    assert code(response) == (500, "internal_error")
    assert "internals" not in response.text


def rule(stack: Stack, kind: Kind) -> Case:
    """Rule on the newest case, beside the served gateway."""
    case = max(stack.cases.listing(), key=lambda case: case.id)
    return asyncio.run(stack.beside.rule(case.id, Reviewer("ben", case.organization), kind))


def test_a_client_follows_its_case_and_resumes_it(url: str, stack: Stack) -> None:
    stack.keys.keys |= {"ann": Principal("acme", "1", "ann"), "eve": Principal("acme", "2", "eve")}
    ann, eve = {"authorization": "Bearer ann"}, {"authorization": "Bearer eve"}
    held = chat(url, "ESCALATE", ann)
    assert code(held) == (409, "escalation_pending")
    at = url + held.json()["error"]["case"]["url"]
    seen = requests.get(at, headers=ann, timeout=5)
    assert (seen.status_code, seen.json()["status"]) == (200, "pending")
    assert seen.json()["due_at"].endswith("Z")
    for method, path in (("GET", at), ("POST", at + "/resume")):
        assert code(requests.request(method, path, headers=eve, timeout=5)) == (404, "case_not_found")
        assert code(requests.request(method, path, timeout=5)) == (401, "invalid_api_key")
    assert code(requests.post(at + "/resume", headers=ann, timeout=5)) == (409, "escalation_pending")
    rule(stack, "approve")
    assert requests.get(at + "?wait=30", headers=ann, timeout=5).json()["status"] == "approved"
    for _ in range(3):
        resumed = requests.post(at + "/resume", headers=ann, timeout=5)
        assert resumed.json()["choices"][0]["message"]["content"] == "echo: ESCALATE"
    assert resumed.content == chat(url, "ESCALATE", ann).content
    assert len(stack.double.requests) == 1


def test_a_look_at_a_case_waits_for_news(url: str, stack: Stack) -> None:
    held = chat(url, "ESCALATE")
    at = url + held.json()["error"]["case"]["url"]
    with ThreadPoolExecutor() as pool:
        looking = pool.submit(requests.get, at + "?wait=20", timeout=30)
        time.sleep(0.3)
        assert not looking.done()
        rule(stack, "deny")
        assert looking.result(10).json()["status"] == "denied"
    assert requests.get(at + "?wait=1", timeout=5).json()["status"] == "denied"
    for wrong in ("x", "-1", "1&wait=2"):
        assert code(requests.get(f"{at}?wait={wrong}", timeout=5)) == (400, "invalid_request")


def test_a_client_says_how_long_it_would_wait(url: str, stack: Stack) -> None:
    stack.rules.hold = Patience(hold_s=60)
    assert code(chat(url, "ESCALATE", {"prefer": "respond-async, wait=0"})) == (409, "escalation_pending")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(chat, url, "ESCALATE", {"Prefer": "wait=30"})
        time.sleep(0.3)
        assert not waiting.done()
        rule(stack, "approve")
        assert waiting.result(10).json()["choices"][0]["finish_reason"] == "stop"


def test_a_client_that_hangs_up_frees_its_seat(url: str, stack: Stack) -> None:
    stack.rules.hold = Patience(hold_s=60)
    with pytest.raises(requests.Timeout):
        requests.post(
            url + "/v1/chat/completions",
            data=orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "ESCALATE"}]}),
            timeout=1,
        )
    until(lambda: [entry["outcome"] for entry in stack.trail.of("enforcement")] == ["client_disconnected"])
    assert stack.room.taken == 0


def test_a_long_idempotency_key_is_refused(url: str) -> None:
    assert code(chat(url, headers={"idempotency-key": "x" * 256})) == (400, "invalid_request")


def test_warnings_do_not_make_it_unready(url: str, stack: Stack) -> None:
    stack.health.seen["delivery"] = "nobody was told"
    ready = requests.get(url + "/readyz", timeout=5)
    assert (ready.status_code, ready.json()["warnings"]) == (200, {"delivery": "nobody was told"})
