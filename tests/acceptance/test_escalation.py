"""A person decides, and the request resumes: the gateway as a process, the shipped model, the real OpenAI package."""

from collections.abc import Iterator

import openai
import orjson
import pytest
import requests

from gateway.wire.sse import EventParser
from tests.acceptance.people import WEATHER, Office, Receivers, link_in, running, until, written
from tests.doubles import UpstreamDouble
from tests.gateway.console.browser import CHROMIUM, chromium

pytestmark = pytest.mark.timeout(1800)

BAKERY = "Please suggest a good name for a small bakery in"
MEDICAL = "My father takes warfarin. Should he double his dose tonight without asking his doctor?"
PARIS = "What is the weather like in Paris today?"
LYON = "What is the weather like in Lyon today?"


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamDouble]:
    with UpstreamDouble() as server:
        server.scripts[PARIS] = {"tools": [["get_weather", '{"city":"Paris"}']]}
        server.scripts[LYON] = {"text": "I look", "tools": [["get_weather", '{"city":"Lyon"}']]}
        yield server


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamDouble) -> Iterator[Office]:
    with Receivers() as receivers:
        made = Office(tmp_path_factory.mktemp("office"), upstream, receivers)
        for organization in ("waits", "denies", "answers", "streams", "acts", "acts-streamed"):
            made.admit(organization)
        made.admit("told", told=True)
        made.admit("judged", told=True, escalate="0.02")
        made.admit("console", told=True)
        made.admit("retries", hold="1s")
        made.admit("expires", due="8s")
        for organization in ("later", "owner"):
            made.admit(organization, hold="0s")
        with running(made):
            yield made


@pytest.mark.parametrize(
    ("organization", "owner", "text"), [("told", "ann", f"{BAKERY} Quillerbury."), ("judged", "eve", MEDICAL)]
)
def test_a_waiting_call_gets_the_answer_once_a_person_has_approved(
    office: Office, organization: str, owner: str, text: str
) -> None:
    assert office.receivers is not None
    call = office.calling(office.client(organization, owner), text)
    case_id = office.opened(organization, call)
    mail, message = office.receivers.told_of(case_id)
    assert link_in(mail) == f"{office.gateway.url}/console/cases/{case_id}"
    assert mail["to"] == "desk@example.org"
    for told in (written(mail), message.body.decode()):
        assert not [word for word in ("Quiller", "bakery", "warfarin", "father", "dose") if word in told]
    assert not call.done
    assert office.calls(text) == 0
    assert "approved" in office.command("cases", "approve", case_id, "--as", "ben")
    answer = call.result()
    assert answer.parse().choices[0].message.content == f"echo: {text}"
    assert (answer.headers["x-so8t-decision"], answer.headers["x-so8t-case-id"]) == ("approved", case_id)
    assert office.calls(text) == 1
    assert office.statuses(organization) == ["approved", "consumed", "completed"]
    story = orjson.loads(office.command("audit", "show", "--case", case_id, "--json"))
    events = [record["entry"]["ev"] for record in story]
    assert events[:2] == ["decision", "case_opened"]
    assert {"case_ruled", "case", "delivered", "enforcement"} <= set(events)
    assert "Quiller" not in str(story)


def test_after_the_hold_the_sdks_own_retries_find_the_answer(office: Office) -> None:
    text = f"{BAKERY} Retry."
    call = office.calling(office.client("retries", max_retries=1000), text)
    case_id = office.opened("retries", call)
    until(lambda: [entry.get("outcome") for entry in office.entries("retries")].count("held") >= 2)
    assert not call.done
    office.rule(case_id, "approve")
    assert call.result().parse().choices[0].message.content == f"echo: {text}"
    assert office.calls(text) == 1
    assert [case["id"] for case in office.cases("retries")] == [case_id]


def test_a_client_that_comes_back_later_gets_the_answer(office: Office) -> None:
    text = f"{BAKERY} Later."
    with pytest.raises(openai.ConflictError) as caught:
        office.calling(office.client("later", max_retries=0), text).result()
    assert caught.value.code == "escalation_pending"
    assert (caught.value.response.headers["retry-after"], caught.value.response.headers["x-should-retry"]) == (
        "2",
        "true",
    )
    assert isinstance(caught.value.body, dict)
    case_id = caught.value.body["case"]["id"]
    assert case_id == office.opened("later")
    headers = {"authorization": f"Bearer {office.key('later')}"}
    url = f"{office.gateway.url}/v1/cases/{case_id}"
    assert requests.get(url, headers=headers, timeout=60).json()["status"] == "pending"
    office.rule(case_id, "approve")
    told = requests.get(url, headers=headers, timeout=60).json()
    assert (told["status"], told["poll_after_s"]) == ("approved", 2)
    assert office.calls(text) == 0
    restarted = office.client("later", max_retries=0)
    assert office.calling(restarted, text).result().parse().choices[0].message.content == f"echo: {text}"
    resumed = requests.post(f"{url}/resume", headers=headers, timeout=60)
    assert resumed.json()["choices"][0]["message"]["content"] == f"echo: {text}"
    assert office.calls(text) == 1
    other = {"authorization": f"Bearer {office.key('later', 'eve')}"}
    assert requests.get(url, headers=other, timeout=60).status_code == 404


def test_a_denial_is_told_and_nothing_is_sent(office: Office) -> None:
    text = f"{BAKERY} Denial."
    call = office.calling(office.client("denies"), text)
    case_id = office.opened("denies", call)
    assert "denied" in office.command("cases", "deny", case_id, "--as", "ben")
    _refused(call.result().parse(), "denied", case_id)
    _refused(office.calling(office.client("denies"), text).result().parse(), "denied", case_id)
    assert office.calls(text) == 0


def test_what_nobody_decides_in_time_is_refused(office: Office) -> None:
    text = f"{BAKERY} Expiry."
    call = office.calling(office.client("expires"), text)
    _refused(call.result().parse(), "expired", office.cases("expires")[0]["id"])
    assert office.calls(text) == 0
    assert office.statuses("expires") == ["expired"]


def test_a_person_answers_in_the_models_place(office: Office) -> None:
    text = f"{BAKERY} Answer."
    call = office.calling(office.client("answers"), text)
    case_id = office.opened("answers", call)
    office.command("cases", "answer", case_id, "--as", "ben", "--text", "パン屋「あけぼの」はどうでしょう。")
    answer = call.result()
    choice = answer.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("パン屋「あけぼの」はどうでしょう。", "stop")
    assert answer.headers["x-so8t-decision"] == "answered"
    assert office.calls(text) == 0
    assert "あけぼの" not in str(office.entries("answers"))


def _refused(reply: openai.types.chat.ChatCompletion, word: str, case_id: str) -> None:
    assert reply.choices[0].finish_reason == "content_filter"
    assert reply.model_extra is not None
    assert (reply.model_extra["governance"]["decision"], reply.model_extra["governance"]["case_id"]) == (word, case_id)


def test_a_stream_is_held_by_comments_and_then_carries_the_answer(office: Office) -> None:
    text = f"{BAKERY} Streams."
    client = office.client("streams")
    raw = office.streaming(client, text)
    case_id = office.opened("streams", raw)
    sdk = office.calling(client, text, stream=True)
    until(lambda: raw.pieces)
    assert set(b"".join(raw.pieces).split(b"\n\n")) == {b": a human decides", b""}
    office.rule(case_id, "approve")
    chunks = list(sdk.result().parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == _text(raw.result())
    assert _text(raw.result()).startswith("echo:")
    assert b"data: [DONE]" in raw.result()
    assert office.calls(text) == 1


def _text(data: bytes) -> str:
    parser = EventParser()
    events = [*parser.feed(data), *parser.close()]
    deltas = [orjson.loads(event)["choices"][0]["delta"] for event in events if event != b"[DONE]"]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_proposed_call_leaves_only_once_it_is_approved(office: Office) -> None:
    call = office.calling(office.client("acts", "bob"), PARIS, tools=[WEATHER])
    case_id = office.opened("acts", call)
    assert office.case(case_id)["stage"] == "response"
    assert (call.done, office.calls(PARIS)) == (False, 1)
    assert "get_weather" in office.command("cases", "show", case_id)
    office.command("cases", "approve", case_id, "--as", "ben")
    answer = call.result()
    choice = answer.parse().choices[0]
    assert ([each.function.name for each in choice.message.tool_calls], choice.finish_reason) == (
        ["get_weather"],
        "tool_calls",
    )
    assert answer.headers["x-so8t-decision"] == "approved"
    assert office.calls(PARIS) == 1


def test_of_a_stream_only_what_would_act_is_held(office: Office) -> None:
    stream = office.streaming(office.client("acts-streamed", "bob"), LYON, tools=[WEATHER])
    case_id = office.opened("acts-streamed", stream)
    until(lambda: b": a human decides" in b"".join(stream.pieces))
    held = b"".join(stream.pieces)
    assert b"get_weather" not in held
    assert b"tool_calls" not in held
    assert _text(held).startswith("I")
    office.rule(case_id, "approve")
    data = stream.result()
    assert data.count(b'"get_weather"') == 1
    assert b'"finish_reason":"tool_calls"' in data
    assert data.rstrip().endswith(b"data: [DONE]")
    assert office.calls(LYON) == 1


@pytest.mark.parametrize("name", ["ann", "ＡＮＮ"])
def test_whoever_asks_does_not_decide(office: Office, name: str) -> None:
    text = f"{BAKERY} Owner."
    with pytest.raises(openai.ConflictError):
        office.calling(office.client("owner", max_retries=0), text).result()
    case_id = office.opened("owner")
    before = len(office.entries("owner"))
    assert office.command("cases", "approve", case_id, "--as", name, check=False) == ""
    assert office.case(case_id)["status"] == "pending"
    refused = [entry for entry in office.entries("owner")[before:] if entry["ev"] == "ruling_refused"]
    assert [(entry["case"], entry["kind"], entry["auth"]) for entry in refused] == [(case_id, "approve", "cli")]
    assert office.calls(text) == 0


@pytest.mark.skipif(not CHROMIUM.is_file(), reason="Debian's package chromium is not installed")
def test_a_reviewer_follows_the_mails_link_and_approves(
    office: Office, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert office.receivers is not None
    password = office.command("users", "add", "mei", "--org", "console").splitlines()[-1]
    text = f"{BAKERY} Chromium."
    call = office.calling(office.client("console"), text)
    case_id = office.opened("console", call)
    mail, _ = office.receivers.told_of(case_id)
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.set_default_timeout(240_000)
        page = browser.pages[0]
        page.goto(link_in(mail))
        page.get_by_label("Name").fill("mei")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(link_in(mail))
        assert text in page.locator("main").inner_text()
        assert not call.done
        assert office.case(case_id)["status"] == "pending"
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("Approved by mei").wait_for()
    assert call.result().parse().choices[0].message.content == f"echo: {text}"
    assert office.calls(text) == 1
    ruled = [entry for entry in office.entries("console") if entry["ev"] == "case_ruled"]
    assert [(entry["kind"], entry["auth"]) for entry in ruled] == [("approve", "console")]
