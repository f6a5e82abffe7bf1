"""Deciding: what a reviewer's form does, and everything that must not decide."""

import threading

import pytest
import requests

from gateway.escalation.case import Case, Handling, Reviewer
from tests.gateway.console.world import Read, World, held_reply


def test_an_approval_is_recorded_with_its_reviewer(world: World) -> None:
    case = world.open()
    visitor = world.visitor("sato")
    answer = visitor.decide(case, "approve")
    assert answer.headers["location"] == f"/console/cases/{case.id}"
    decided = world.case(case)
    assert decided.status == "approved"
    assert [(ruling.kind, ruling.by, ruling.auth) for ruling in decided.rulings] == [("approve", "sato", "console")]
    page = visitor.get(f"/cases/{case.id}").text
    assert "Approved by sato" in page
    assert "/approve" not in page


def test_a_denial_can_teach(world: World) -> None:
    case = world.open()
    world.visitor("sato").decide(case, "deny", lesson="refuse")
    assert world.case(case).status == "denied"
    assert world.case(case).rulings[0].lesson == "refuse"


def test_an_answer_needs_a_text_and_keeps_it_sealed(world: World) -> None:
    case = world.open()
    visitor = world.visitor("sato")
    empty = visitor.decide(case, "answer", text="  ")
    assert empty.status_code == 400
    assert "Write the answer first" in empty.text
    assert visitor.decide(case, "answer", text="x" * 20_001).status_code == 413
    assert visitor.decide(case, "answer", text="いいえ。\r\n医師に相談を。").status_code == 303
    assert world.run(world.cases.payload(world.case(case), "answer")) == "いいえ。\n医師に相談を。".encode()
    assert "医師に相談を" in visitor.get(f"/cases/{case.id}").text
    assert "医師" not in str(world.entries())


def test_the_owner_of_the_key_cannot_decide(world: World) -> None:
    world.add("hanako")
    world.add("taro", email="Hanako@Acme.example")
    for owner, name in (("Ｈanako", "hanako"), ("hanako@acme.example", "taro")):
        case = world.open(owner=owner)
        visitor = world.visitor(name)
        page = visitor.get(f"/cases/{case.id}").text
        assert "somebody else must decide" in page
        assert "/approve" not in page
        assert visitor.decide(case, "approve").status_code == 403
        assert world.case(case).status == "pending"
    assert [each["ground"] for each in world.entries() if each["ev"] == "ruling_refused"] == ["owner", "owner"]


def test_only_those_whom_the_route_names_see_the_case(world: World) -> None:
    world.add("kato", "acme", "medical")
    case = world.open(handling=Handling("desk", ("group:medical",)))
    outsider, insider = world.visitor("sato"), world.visitor("kato")
    assert case.id not in outsider.get("/").text
    assert outsider.get(f"/cases/{case.id}").status_code == 404
    assert outsider.decide(case, "approve").status_code == 404
    assert insider.decide(case, "approve").status_code == 303


def test_another_organisation_sees_nothing(world: World) -> None:
    world.add("mallory", "other")
    case = world.open()
    visitor = world.visitor("mallory")
    assert case.id not in visitor.get("/").text
    assert visitor.get(f"/cases/{case.id}").status_code == 404
    assert visitor.decide(case, "approve").status_code == 404
    assert world.case(case).status == "pending"


def test_two_must_approve_and_one_does_not_count_twice(world: World) -> None:
    world.add("kato")
    case = world.open(handling=Handling("desk", approvals=2))
    first = world.visitor("sato")
    first.decide(case, "approve")
    assert "1 of 2" in first.get(f"/cases/{case.id}").text
    again = first.decide(case, "approve")
    assert again.status_code == 403
    assert "you have decided on it already" in again.text
    assert world.case(case).status == "pending"
    world.visitor("kato").decide(case, "approve")
    assert world.case(case).status == "approved"


def test_what_is_over_cannot_be_decided(world: World) -> None:
    case = world.open()
    visitor = world.visitor("sato")
    world.run(world.cases.withdraw(case.id, "policy_changed"))
    late = visitor.decide(case, "approve")
    assert late.status_code == 409
    assert "Withdrawn" in late.text
    assert "the policy changed" in visitor.get(f"/cases/{case.id}").text


def test_of_many_who_decide_at_once_one_does(world: World) -> None:
    case = world.open()
    names = [f"reviewer{number}" for number in range(8)]
    for name in names:
        world.add(name)
    visitors = [world.visitor(name) for name in names]
    answers: list[requests.Response] = []
    forms = [(visitor, visitor.token()) for visitor in visitors]

    def approve(number: int) -> None:
        visitor, token = forms[number]
        answers.append(visitor.post(f"/cases/{case.id}/approve", {"csrf": token}))

    threads = [threading.Thread(target=approve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [303] + [409] * 7
    assert len(world.case(case).rulings) == 1


def test_a_thousand_looks_decide_nothing(world: World) -> None:
    cases = [world.open(), world.open(reply=held_reply(("send_email", "{}"))), world.open()]
    world.run(world.cases.rule(cases[2].id, Reviewer("kato", "acme"), "approve"))
    visitor, stranger = world.visitor("sato"), world.visitor()
    before = world.entries()
    links = {"/", "/sign-in", "/sign-out", "/static/console.css", "/?status=pending"}
    for case in cases:
        links |= {f"/cases/{case.id}", *(f"/cases/{case.id}/{kind}" for kind in ("approve", "deny", "answer"))}
        links |= {link.removeprefix("/console") for link in Read(visitor.get(f"/cases/{case.id}").text).links}
    links |= {link.removeprefix("/console") for link in Read(visitor.get("/").text).links}
    paths = sorted(link for link in links if link.startswith("/"))
    done = 0
    while done < 1000:
        for path in paths:
            for who in (visitor, stranger):
                assert who.get(path).status_code in (200, 303, 404)
            assert visitor.http.head(world.url + path, timeout=60).status_code in (200, 303, 404)
            done += 3
    assert [world.case(case).status for case in cases] == ["pending", "pending", "approved"]
    assert world.entries() == before


@pytest.mark.parametrize("kind", ["approve", "deny", "answer"])
def test_a_form_without_session_token_or_origin_decides_nothing(world: World, kind: str) -> None:
    case = world.open()
    visitor, path = world.visitor("sato"), f"/cases/{case.id}/{kind}"
    world.add("kato")
    good, text = visitor.token(), {"text": "no"}
    others = world.visitor("kato").token()
    assert world.visitor().post(path, {"csrf": good, **text}).status_code == 303  # to the sign-in page
    for token in ("", "x", others, good[:-1], good + "0", "あ"):
        assert visitor.post(path, {"csrf": token, **text}).status_code == 403
    assert visitor.post(path, text).status_code == 403
    assert visitor.post(path, {"": ""}).status_code == 403
    bare = {"content-type": "application/x-www-form-urlencoded", "origin": world.url.removesuffix("/console")}
    assert visitor.http.post(world.url + path, data=b"", headers=bare, timeout=60).status_code == 403
    for origin in (
        "https://evil.example",
        "null",
        None,
        "http://127.0.0.1:1",
        world.url.replace("127.0.0.1", "localhost"),
    ):
        assert visitor.post(path, {"csrf": good, **text}, origin).status_code == 403
    forged = world.visitor()
    forged.http.cookies.set("so8t_session", "A" * 43)
    assert forged.post(path, {"csrf": good, **text}).status_code == 303
    assert world.case(case).status == "pending"
    assert world.case(case).rulings == ()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_no_other_method_decides(world: World, method: str) -> None:
    case: Case = world.open()
    visitor = world.visitor("sato")
    answer = visitor.http.request(method, f"{world.url}/cases/{case.id}/approve", timeout=60)
    assert answer.status_code in (403, 404, 405)
    assert world.case(case).status == "pending"
