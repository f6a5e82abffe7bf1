"""The console in a real browser: a reviewer's whole way, and hostile text that stays text."""

from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.escalation.case import Handling
from gateway.verdict import Label
from tests.gateway.console.browser import CHROMIUM, chromium
from tests.gateway.console.hostile import HOSTILE
from tests.gateway.console.world import PASSWORD, World, held_reply

pytestmark = pytest.mark.skipif(not CHROMIUM.is_file(), reason="Debian's package chromium is not installed")


def test_a_reviewer_signs_in_from_a_notice_reads_and_approves(world: World, tmp_path: Path) -> None:
    case = world.open(reply=held_reply(("send_email", '{"to": "owner@example.com", "body": "見積書です\\u202e"}')))
    with chromium(tmp_path / "profile", viewport={"width": 1200, "height": 900}) as browser:
        page = browser.pages[0]
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.goto(f"{world.url}/cases/{case.id}")
        page.get_by_label("Name").fill("sato")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        assert page.url == f"{world.url}/cases/{case.id}"
        assert "見積書です" in page.locator(".call").inner_text()
        assert page.locator(".call .hidden-character").inner_text() == "U+202E"
        assert world.case(case).status == "pending"
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("Approved by sato").wait_for()
        assert world.case(case).status == "approved"
        page.get_by_role("link", name="All cases").click()
        assert page.locator(".row.approved").count() == 1
        page.get_by_role("button", name="Sign out").click()
        assert page.url == f"{world.url}/sign-in"
        page.goto(f"{world.url}/cases/{case.id}")
        assert "/sign-in" in page.url
        assert not [each for each in problems if "favicon" not in each]


def test_hostile_text_in_every_field_stays_text(world: World, tmp_path: Path) -> None:
    text = "\n".join(HOSTILE)
    case = world.open(
        owner=HOSTILE[0],
        messages=[{"role": each, "content": each, each: each} for each in HOSTILE],
        reply=held_reply(*((each, each) for each in HOSTILE), text=text),
        handling=Handling(HOSTILE[0]),
        rationale=text,
        reasons=tuple(Reason("rule", Label.ESCALATE, each) for each in HOSTILE[:50]),
        tools=[{"type": "function", "function": {"name": each, "description": each}} for each in HOSTILE],
    )
    with chromium(tmp_path / "profile") as browser:
        page = browser.pages[0]
        dialogs: list[str] = []
        requested: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.on("request", lambda request: requested.append(request.url))
        page.add_init_script("window.alert = text => { document.title = 'ran ' + text }")
        page.goto(f"{world.url}/sign-in")
        page.get_by_label("Name").fill("sato")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.goto(f"{world.url}/cases/{case.id}")
        for summary in page.locator("summary").all():
            summary.click()
        page.wait_for_timeout(500)
        assert dialogs == []
        assert "ran" not in page.title()
        assert page.locator("script, img, iframe, svg, object, embed, style, base, math, video").count() == 0
        assert all(url.startswith(world.url) or url.endswith("/favicon.ico") for url in requested)
        assert "<script>alert(1)</script>" in page.locator("main").inner_text()
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0
        assert world.case(case).status == "pending"
