"""What a client is told of a decision or a case: the text for people, the object for programs, and the headers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.decision import Decision
from gateway.escalation.case import Case
from gateway.texts import TEXTS, Language
from gateway.verdict import Label, Stage

Header = tuple[bytes, bytes]

CASES: Final = "/v1/cases"
"""Where clients find their cases."""
POLL_AFTER_S: Final = 2


def decision_headers(decision: Decision) -> tuple[Header, ...]:
    """Return the headers that tell a client what was decided, and under which id the log has it."""
    headers = (
        (b"x-so8t-decision", decision.effect.value.lower().encode()),
        (b"x-so8t-decision-id", decision.id.encode()),
    )
    return headers if decision.enforced else (*headers, (b"x-so8t-enforced", b"false"))


def undecided_headers(decision_id: str) -> tuple[Header, ...]:
    """Return the headers of an answer without a verdict."""
    return ((b"x-so8t-decision", b"unavailable"), (b"x-so8t-decision-id", decision_id.encode()))


def case_headers(case: Case, word: str) -> tuple[Header, ...]:
    """Return the headers that tell what became of a case: ``approved``, ``denied`` ..., ``escalate`` while it waits."""
    told = {"pending": "escalate", "consumed": "approved", "completed": "approved"}.get(word, word)
    return (
        (b"x-so8t-decision", told.encode()),
        (b"x-so8t-decision-id", case.decision_id.encode()),
        (b"x-so8t-case-id", case.id.encode()),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What a client is told in place of a reply: for people, for programs, and (``outcome``) for the log."""

    text: str
    governance: dict[str, Any]
    headers: tuple[Header, ...]
    outcome: str


def tell_stop(decision: Decision, stage: Stage, language: Language) -> Told:
    """Return what a client is told of a refusal: the rule's own message where a rule decided, else what happened."""
    said = decision.message or _say(f"{decision.effect.value}:{stage}", decision.domain, language)
    refused = decision.effect is Label.REFUSE
    sentences = [said] if refused else [said, TEXTS[language]["too_many_cases"]]
    text = _sign(sentences, "reference", decision.id, language)
    return Told(text, governance(decision), decision_headers(decision), "refused" if refused else "too_many_cases")


def tell_case(case: Case, language: Language, message: str | None = None) -> Told:
    """Return what a client is told of a case that waits, or that ended without its request being carried out.

    ``message`` is the rule's own, which stands first while the case waits.
    """
    if case.live:
        said = message or _say(f"ESCALATE:{case.stage}", case.domain, language)
        text = _sign([said, TEXTS[language]["pending"]], "case", case.id, language)
        return Told(text, _about(case, "escalate"), case_headers(case, "pending"), "held")
    text = _sign([_say(_ending(case), case.domain, language)], "case", case.id, language)
    return Told(text, _about(case, case.status), case_headers(case, case.status), case.status)


def tell_answer(case: Case, text: str) -> Told:
    """Return what a client is told of a case that a person answered: the person's own words."""
    return Told(text, _about(case, "answered"), case_headers(case, "answered"), "answered")


def case_object(case: Case) -> dict[str, Any]:
    """Return what a client may know of its case. Times are ISO 8601, UTC."""
    return {
        "id": case.id,
        "object": "case",
        "status": case.status,
        "reason": case.reason,
        "stage": case.stage,
        "domain": case.domain,
        "decision_id": case.decision_id,
        "url": f"{CASES}/{case.id}",
        "opened_at": _moment(case.opened_at),
        "due_at": _moment(case.due_at),
        "decided_at": _moment(case.decided_at),
        "expires_at": _moment(case.expires_at),
        "predecessor": case.predecessor,
        "successor": case.successor,
        "poll_after_s": POLL_AFTER_S if case.live else None,
    }


def _about(case: Case, word: str) -> dict[str, Any]:
    return {
        "decision": word,
        "decision_id": case.decision_id,
        "domain": case.domain,
        "case_id": case.id,
        "policy": case.policy,
        "revision": case.revision,
    }


def _moment(at: int | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ending(case: Case) -> str:
    """Return the name of the text about a case that ended."""
    if case.status == "denied":
        return f"denied:{case.stage}"
    if case.status == "expired":
        kind = "unused" if case.decided_at is not None else case.reason
        return f"expired:{kind}" if kind in ("unused", "unreachable") else "expired:due"
    return "withdrawn:policy_changed" if case.reason == "policy_changed" else case.status


def _say(name: str, domain: str | None, language: Language) -> str:
    texts = TEXTS[language]
    return texts[name].format(domain=texts["domain"].format(domain=domain) if domain else "")


def _sign(sentences: list[str], kind: str, identifier: str, language: Language) -> str:
    texts = TEXTS[language]
    return texts["space"].join(sentences) + "\n" + texts[kind].format(id=identifier)


def governance(decision: Decision) -> dict[str, Any]:
    """Return the object that tells a program what was decided."""
    return {
        "decision": decision.effect.value.lower(),
        "decision_id": decision.id,
        "domain": decision.domain,
        "policy": decision.policy,
        "revision": decision.revision,
    }
