"""The case: what would be sent or done, why it was stopped, what happened since, and the forms to decide it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from starlette.responses import Response

from gateway.console.desk import PageError, Visit
from gateway.console.dossier import open_dossier
from gateway.console.reviewing import has_ruled, may_see, owns, reviewer
from gateway.console.texts import Say, word
from gateway.escalation.case import RESOLUTIONS, Case, Kind, Lesson

MAX_ANSWER: Final = 20_000


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of a case's history; ``text`` is what a reviewer wrote."""

    at: int
    what: str
    note: str = ""
    text: str = ""


async def show(visit: Visit) -> Response:
    """Show the case. Looking changes nothing."""
    return await _page(visit, await _case(visit))


async def rule(visit: Visit) -> Response:
    """Take the user's ruling; durable when the page that follows is shown."""
    if visit.request.path_params["kind"] not in RESOLUTIONS:
        raise PageError(404, "error.not-found")
    kind = cast("Kind", visit.request.path_params["kind"])
    case = await _case(visit)
    text = visit.form.get("text", "").strip() or None
    if len(text or "") > MAX_ANSWER:
        raise PageError(413, "error.too-large", count=MAX_ANSWER)
    if kind == "answer" and text is None:
        return await _page(visit, case, 400, problem=visit.say("error.no-answer"))
    lesson: Lesson | None = "refuse" if kind == "deny" and visit.form.get("lesson") == "refuse" else None
    await visit.desk.cases.rule(case.id, reviewer(visit.person.user), kind, text=text, lesson=lesson)
    return visit.go(f"/cases/{case.id}")


async def _case(visit: Visit) -> Case:
    """Return the case of the path; what the user may not see does not exist for the user."""
    case = await visit.desk.cases.get(str(visit.request.path_params["case"]))
    if case is None or not may_see(visit.person.user, case):
        raise PageError(404, "error.not-found")
    return case


async def _page(visit: Visit, case: Case, status: int = 200, problem: str | None = None) -> Response:
    user, cases = visit.person.user, visit.desk.cases
    texts = [await cases.text(case, ruling) or "" for ruling in case.rulings]
    return visit.page(
        "case.html",
        status,
        case=case,
        dossier=await open_dossier(cases, case),
        happenings=history(visit.say, case, texts),
        own=owns(user, case),
        ruled=has_ruled(user, case),
        given=sum(ruling.kind == "approve" for ruling in case.rulings),
        problem=problem,
        written=visit.form.get("text", ""),
        max_answer=MAX_ANSWER,
    )


def history(say: Say, case: Case, texts: Sequence[str]) -> list[Happening]:
    """Return what happened to a case, in order; ``texts`` has what was written with each ruling."""
    found = [Happening(case.opened_at, say("event.opened"))]
    for ruling, text in zip(case.rulings, texts, strict=True):
        notes = []
        if ruling.auth == "cli":
            notes.append(say("event.cli"))
        if ruling.lesson is not None:
            notes.append(say("event.lesson" if ruling.lesson == "refuse" else "event.lesson.allow"))
        what = say(f"event.{ruling.kind}", name=ruling.by)
        found.append(Happening(ruling.at, what, say("list.and").join(notes), text))
    if case.consumed_at is not None:
        found.append(Happening(case.consumed_at, say("event.consumed")))
    if case.finished_at is not None and case.status not in ("denied", "answered"):
        reason = word(say, "reason", case.reason) if case.reason else ""
        found.append(Happening(case.finished_at, say(f"status.{case.status}"), reason))
    return found
