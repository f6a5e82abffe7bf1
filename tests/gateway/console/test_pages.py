"""What the pages show, and the rules that hold for every answer."""

import orjson
import pytest

from audit.entry import new_id
from gateway.console.dossier import read_dossier
from gateway.decision import Reason
from gateway.escalation.case import Handling
from gateway.verdict import Label
from tests.gateway.console.hostile import HOSTILE
from tests.gateway.console.world import ROOT, Read, World, held_reply

OURS = {
    *("html", "head", "meta", "title", "link", "body", "a", "header", "span", "div", "form", "input", "button", "main"),
    *("section", "article", "h1", "h2", "h3", "h4", "p", "dl", "dt", "dd", "ul", "ol", "li", "details", "summary"),
    *("pre", "label", "textarea", "strong", "br", "code", "meter", "time", "nav", "blockquote"),
}


def test_every_answer_carries_the_guards(world: World) -> None:
    visitor, case = world.visitor("sato"), world.open()
    for path in ("/", "/sign-in", f"/cases/{case.id}", f"/cases/{new_id()}", "/nowhere", "/static/console.css"):
        headers = visitor.get(path).headers
        assert "default-src 'none'; style-src 'self'; form-action 'self'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"


def test_the_queue_shows_what_waits_first_and_filters(world: World) -> None:
    done, late, soon = world.open(), world.open(handling=Handling("desk", due_s=9000)), world.open()
    visitor = world.visitor("sato")
    visitor.decide(done, "deny")
    order = [link for link in Read(visitor.get("/").text).links if "/cases/" in link]
    assert [link[-36:] for link in order] == [soon.id, late.id, done.id]
    assert "2 waiting for a decision" in visitor.get("/").text
    denied = [link[-36:] for link in Read(visitor.get("/?status=denied").text).links if "/cases/" in link]
    assert denied == [done.id]
    assert visitor.get("/?status=<b>").status_code == 404


def test_the_case_shows_exactly_what_would_be_done(world: World) -> None:
    world.add("花子", language="ja")
    arguments = '{"to":"bob@example.com","amount":1200000,"note":"二行\\n目"}'
    case = world.open(
        reply=held_reply(("transfer", arguments), text="I will pay."),
        rationale="It pays.",
        reasons=(Reason("rule:large-transfer", Label.ESCALATE, "Over one million."),),
        temperature=0.25,
    )
    page = Read(world.visitor("花子").get(f"/cases/{case.id}").text)
    for shown in (
        "transfer",
        "bob@example.com",
        "1200000",
        "二行\n目",
        "I will pay.",
        "Over one million.",
        "0.25",
        "医療",
    ):
        assert shown in page.text
    assert "この操作を実行してよいですか" in page.text
    assert ("html", {"lang": "ja"}) in page.tags
    assert ("details", {"class": "untrusted"}) in page.tags


def test_hostile_text_never_becomes_markup(world: World) -> None:
    visitor = world.visitor("sato")
    for at in range(0, len(HOSTILE), 20):
        some = HOSTILE[at : at + 20]
        case = world.open(
            owner=some[0],
            domain="other",
            messages=[{"role": each, "content": each, each: [each]} for each in some],
            reply=held_reply(*((each, each) for each in some), text=some[-1]),
            handling=Handling(some[0]),
            rationale=some[0],
            reasons=tuple(Reason("rule", Label.ESCALATE, each) for each in some),
            **{each: each for each in some},
        )
        answer = visitor.get(f"/cases/{case.id}")
        assert answer.status_code == 200
        for text in (answer.text, visitor.get("/").text):
            page = Read(text)
            assert {tag for tag, _ in page.tags} <= OURS
            for tag, attributes in page.tags:
                assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
                assert tag not in ("a", "link") or attributes.get("href", "#").startswith(("/console/", "#"))
                assert tag != "form" or attributes["action"].startswith("/console/")
            assert not any(each in text for each in ("\x1b", "\u202e", "\u200b", "\x00"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json <script>",
        b"[1,2]",
        b"\xff\xfe",
        b'{"messages":"x"}',
        b'{"messages":[1,null,{"content":[1,{"type":"image_url"}]},{"tool_calls":{"a":1}},{"tool_calls":[5,{"function":7}]}]}',
        b'{"tools":[1,{"function":3}],"messages":[]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b"[" * 100_000,
    ],
)
def test_whatever_was_sealed_can_be_shown(world: World, body: bytes) -> None:
    case = world.open(body=body, reply=body)
    page = world.visitor("sato").get(f"/cases/{case.id}")
    assert page.status_code == 200
    assert "Approve" in page.text


def test_an_erased_case_says_so(world: World) -> None:
    case = world.open()
    world.run(world.store.trail.erase("acme", [case.payload_entry], ground="request", by=ROOT))
    page = world.visitor("sato").get(f"/cases/{case.id}")
    assert "has been erased" in page.text


def test_a_dossier_reads_a_streamed_reply_as_it_was_told() -> None:
    actions = [{"choice": 1, "text": "t", "tool_calls": [{"name": "send", "arguments": '{"a":1}'}]}]
    dossier = read_dossier(b'{"messages":[]}', b"data: {}\n\n", orjson.dumps({"actions": actions}))
    assert [(reply.choice, reply.turn.texts) for reply in dossier.replies] == [(1, ("t",))]
    assert dossier.replies[0].turn.calls[0].fields == (("a", "1"),)
    assert dossier.reply == "data: {}\n\n"
