"""Background responses: how many are kept, for how long, and that nothing runs on after the end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import orjson
import pytest

from gateway.enforcement import Answer
from gateway.errors import NotFoundError
from gateway.http import background
from gateway.http.background import KEEP_S, WAITING_S, Background, TooManyBackgroundError
from gateway.ports import Call
from gateway.principal import Principal
from gateway.wire.routes import RESPONSES

ANN = Principal("acme", "1", "ann")
PENDING = Answer(409, b'{"error":{"message":"m","type":"t","code":"escalation_pending"}}')
DONE = Answer(200, b'{"id":"resp_up","status":"completed"}')


class Line:
    """A pipeline that answers what it is told to, once it is let."""

    def __init__(self) -> None:
        self.answer = DONE
        self.open = asyncio.Event()
        self.calls: list[Call] = []
        self.cancelled = 0
        self.now = 0.0

    async def govern(self, call: Call) -> Answer:
        """Answer."""
        self.calls.append(call)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def kept(line: Line) -> AsyncIterator[Background]:
    made = Background(line.govern, lambda: line.now)
    yield made
    await made.close()


def call(principal: Principal = ANN) -> Call:
    request = RESPONSES.parse_request(b'{"model":"m","input":"hi","background":true}')
    return Call(principal, request, "/v1/responses", format=RESPONSES, wait_s=600)


def start(kept: Background, principal: Principal = ANN) -> str:
    return str(read(kept.start(call(principal)))["id"])


def read(answer: Answer) -> dict[str, object]:
    assert isinstance(answer.body, bytes)
    return dict(orjson.loads(answer.body))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_kept_for_its_time_under_its_own_id(kept: Background, line: Line) -> None:
    line.open.set()
    response_id = start(kept)
    await settle()
    for _ in range(2):
        assert read(kept.fetch(ANN, response_id)) == {"id": response_id, "status": "completed", "background": True}
    assert line.calls[0].wait_s is None
    line.now = KEEP_S + 1
    with pytest.raises(NotFoundError):
        kept.fetch(ANN, response_id)


async def test_what_waits_for_people_is_asked_again_and_kept_longer(kept: Background, line: Line) -> None:
    line.open.set()
    line.answer = PENDING
    response_id = start(kept)
    for _ in range(3):
        await settle()
        line.now += WAITING_S - 1
        assert read(kept.fetch(ANN, response_id))["status"] == "in_progress"
    assert len({call.id for call in line.calls}) == len(line.calls) >= 3
    line.answer = DONE
    kept.fetch(ANN, response_id)
    await settle()
    kept.fetch(ANN, response_id)
    await settle()
    assert read(kept.fetch(ANN, response_id))["status"] == "completed"


async def test_what_runs_is_not_forgotten(kept: Background, line: Line) -> None:
    response_id = start(kept)
    line.now = 10 * WAITING_S
    assert read(kept.fetch(ANN, response_id))["status"] == "in_progress"


async def test_a_key_may_have_so_many(kept: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_PER_KEY", 2)
    start(kept)
    start(kept)
    with pytest.raises(TooManyBackgroundError):
        start(kept)
    start(kept, Principal("acme", "2", "eve"))
    monkeypatch.setattr(background, "MAX_BYTES", 100)
    with pytest.raises(TooManyBackgroundError):
        start(kept, Principal("acme", "3", "bob"))


async def test_a_streamed_answer_is_read_to_its_end(kept: Background, line: Line) -> None:
    async def body() -> AsyncGenerator[bytes]:
        yield b" "
        yield b'{"status":"completed"}'

    line.answer = Answer(200, body())
    line.open.set()
    response_id = start(kept)
    await settle()
    assert read(kept.fetch(ANN, response_id))["status"] == "completed"


async def test_a_bug_is_a_failed_response(kept: Background, line: Line) -> None:
    line.answer = None  # type: ignore[assignment]
    line.open.set()
    response_id = start(kept)
    await settle()
    found = read(kept.fetch(ANN, response_id))
    assert found["status"] == "failed"
    assert "NoneType" not in str(found)


async def test_the_end_breaks_off_what_runs(kept: Background, line: Line) -> None:
    response_id = start(kept)
    await settle()
    await kept.close()
    assert line.cancelled == 1
    with pytest.raises(NotFoundError):
        kept.fetch(ANN, response_id)
