"""The queue: what waits first, then the rest, newest first."""

from typing import Final, cast, get_args

from starlette.responses import Response

from gateway.console.desk import PageError, Visit
from gateway.console.reviewing import may_see
from gateway.escalation.case import Case, Status

LIMIT: Final = 200
STATUSES: Final = cast("tuple[Status, ...]", get_args(Status))


async def show(visit: Visit) -> Response:
    """Show the cases that the user may see, of one status where ``?status=`` names it."""
    user, cases = visit.person.user, visit.desk.cases
    asked = visit.request.query_params.get("status", "")
    if asked and asked not in STATUSES:
        raise PageError(404, "error.not-found")
    pending = [each for each in cases.listing(user.organization, "pending", LIMIT) if may_see(user, each)]
    pending.sort(key=lambda each: (each.due_at, each.id))
    rest: list[Case] = []
    if asked != "pending":
        status = cast("Status | None", asked or None)
        listed = cases.listing(user.organization, status, LIMIT)
        rest = [each for each in listed if each.status != "pending" and may_see(user, each)]
        rest.sort(key=lambda each: (each.opened_at, each.id), reverse=True)
    shown = (pending if asked in ("", "pending") else []) + rest
    return visit.page(
        "queue.html", cases=shown[:LIMIT], waiting=len(pending), statuses=STATUSES, asked=asked, limit=LIMIT
    )
