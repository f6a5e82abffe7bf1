"""Who may rule on a case, and what a ruling needs."""

from email.utils import parseaddr
from typing import Final

from gateway.errors import NotReviewerError, RulingError
from gateway.escalation.case import GROUP, RESOLUTIONS, Case, Reviewer, fold

MAX_TEXT: Final = 65536
"""Characters of an answer or a reason."""
MAX_NAME: Final = 200
IDEOGRAPHIC_SPACE: Final = "\u3000"
"""Between Japanese names; Python does not call it printable."""

_LESSONS: Final = {"approve": (None, "allow"), "deny": (None, "refuse"), "answer": (None,)}
_MESSAGES: Final = {
    "other_organization": "the case belongs to another organisation",
    "owner": "whoever owns the key cannot decide its cases: somebody else must",
    "not_named": "the route `{route}` names other reviewers",
    "cli_forbidden": "the route `{route}` does not let an administrator decide at the command line: use the console",
    "ruled_already": "this reviewer has ruled on the case already",
}


def check_ruling(by: Reviewer, kind: str, text: str | None, lesson: str | None) -> bytes | None:
    """Return the text as it is sealed; RulingError when nobody could rule so."""
    if kind not in RESOLUTIONS:
        raise RulingError("a ruling is `approve`, `deny` or `answer`")
    if lesson not in _LESSONS[kind]:
        raise RulingError("an approval can teach `allow`, a denial `refuse`, an answer nothing")
    printable = by.name.replace(IDEOGRAPHIC_SPACE, " ").isprintable()
    if not printable or not 0 < len(fold(by.name)) <= MAX_NAME or len(by.name) > MAX_NAME:
        raise RulingError(f"a reviewer has a printable name of at most {MAX_NAME} characters")
    if kind == "answer" and not (text and text.strip()):
        raise RulingError("an answer needs its text")
    if not text:
        return None
    if len(text) > MAX_TEXT:
        raise RulingError(f"a text may have {MAX_TEXT} characters, not {len(text)}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise RulingError("the text is not valid Unicode") from None


def refusal(case: Case, by: Reviewer) -> str | None:
    """Return on which ground ``by`` may never rule on ``case``; None when there is none."""
    if by.organization is None and by.auth != "cli":
        return "other_organization"
    if by.organization not in (None, case.organization):
        return "other_organization"
    if _identities(case.owner) & (_identities(by.name) | _identities(by.email or "")):
        return "owner"
    if by.auth == "cli" and not case.handling.allow_cli:
        return "cli_forbidden"
    if by.organization is not None and not _named(case, by):
        return "not_named"
    return None


def refused(ground: str, case: Case) -> NotReviewerError:
    """Return the error that tells ``ground``."""
    return NotReviewerError(ground, _MESSAGES[ground].format(route=case.handling.route))


def _named(case: Case, by: Reviewer) -> bool:
    own = {fold(by.name), fold(by.email or "")}
    groups = {fold(each) for each in by.groups}
    for wanted in case.handling.reviewers:
        if wanted.startswith(GROUP):
            if fold(wanted.removeprefix(GROUP)) in groups:
                return True
        elif fold(wanted) in own:
            return True
    return not case.handling.reviewers


def _identities(person: str) -> set[str]:
    """Return the forms under which a person may be known: the whole, and both halves of ``Name <address>``."""
    return {form for form in map(fold, (person, *parseaddr(person))) if form}
