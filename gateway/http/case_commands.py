"""What an administrator's commands about cases ask of a running gateway."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, cast, get_args

from gateway.errors import CaseNotFound, RequestError
from gateway.escalation.case import RESOLUTIONS, Case, Reviewer, Status
from gateway.escalation.cases import Cases

MAX_LIMIT: Final = 1000
_STATUSES: Final = get_args(Status)
_SHOWN: Final = ("request", "reply", "asked")
_HIDDEN: Final = {"binding", "subject", "payload_entry", "answer_entry", "reply_digest"}


class CaseCommandError(RequestError):
    """A command about cases is wrong."""

    code = "invalid_case_command"


class CaseCommands:
    """Does what ``POST /control/cases`` asks for.

    Deciding here is an administrator's act: the name after ``as`` is recorded beside the operating system's user.
    """

    def __init__(self, cases: Cases) -> None:
        self._cases = cases

    async def command(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a command; RequestError when it is wrong or refused.

        ``{"action": "list", "organization", "status", "limit"}`` gives ``{"cases"}``; ``{"action": "show", "id"}``
        gives ``{"case", "request", "reply", "asked", "texts"}``; ``{"action": "approve" | "deny" | "answer", "id",
        "as", "text", "lesson"}`` gives ``{"case"}``. Each with ``actor``, the operating system's user.
        """
        action = str(body.get("action"))
        if action == "list":
            return self._list(body)
        if action == "show":
            return await self._show(body)
        if action in RESOLUTIONS:
            return await self._rule(action, body)
        raise CaseCommandError(f"a command is `list`, `show`, {', '.join(f'`{each}`' for each in RESOLUTIONS)}")

    def _list(self, body: Mapping[str, Any]) -> dict[str, Any]:
        organization, status, limit = body.get("organization"), body.get("status"), body.get("limit", 100)
        if organization is not None and not isinstance(organization, str):
            raise CaseCommandError("`organization` must be a name or null")
        if status is not None and status not in _STATUSES:
            raise CaseCommandError(f"a status is one of: {', '.join(_STATUSES)}")
        if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
            raise CaseCommandError(f"`limit` must be from 1 to {MAX_LIMIT}")
        return {"cases": [plain(each) for each in self._cases.listing(organization, cast("Status", status), limit)]}

    async def _show(self, body: Mapping[str, Any]) -> dict[str, Any]:
        case_id = _text(body, "id")
        case = await self._cases.get(case_id)
        if case is None:
            raise CaseNotFound(f"there is no case `{case_id[:40]}`")
        payloads = {name: await self._cases.payload(case, name) for name in _SHOWN}
        texts = [await self._cases.text(case, ruling) for ruling in case.rulings]
        told = {name: None if data is None else data.decode(errors="replace") for name, data in payloads.items()}
        return {"case": plain(case), **told, "texts": texts}

    async def _rule(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        text, lesson = body.get("text"), body.get("lesson")
        if not isinstance(text, str | None) or lesson not in (None, "allow", "refuse"):
            raise CaseCommandError("`text` must be a text or null, `lesson` one of allow, refuse, null")
        by = Reviewer(_text(body, "as"), None, auth="cli", os_user=_text(body, "actor"))
        case = await self._cases.rule(_text(body, "id"), by, cast("Any", action), text=text, lesson=lesson)
        return {"case": plain(case)}


def plain(case: Case) -> dict[str, Any]:
    """Return a case for a script; nothing in it is of the request's content."""
    value = {name: each for name, each in asdict(case).items() if name not in _HIDDEN}
    for ruling in value["rulings"]:
        del ruling["entry_id"]
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise CaseCommandError(f"`{name}` is missing")
    return value
