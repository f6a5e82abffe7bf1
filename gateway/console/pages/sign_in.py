"""Signing in and out."""

import math
import re
from typing import Final

from starlette.responses import Response

from gateway.console.desk import COOKIE, Visit
from gateway.store.sessions import LIFE_S
from gateway.store.users import MAX_NAME, fold

_NEXT: Final = re.compile(r"/[A-Za-z0-9][A-Za-z0-9/-]{0,80}")


async def show(visit: Visit) -> Response:
    """Show the form; whoever has signed in goes on at once."""
    after = _after(visit.request.query_params.get("next", ""))
    return visit.go(after) if visit.session is not None else _form(visit, after)


async def enter(visit: Visit) -> Response:
    """Open a session for the right name and password, with its entry; tell nobody which of the two was wrong."""
    after = _after(visit.form.get("next", ""))
    name, password = visit.form.get("name", "").strip()[: 2 * MAX_NAME], visit.form.get("password", "")
    throttle, users = visit.desk.throttle, visit.desk.users
    throttled = throttle.wait_s(fold(name), visit.address)
    if throttled:
        minutes = math.ceil(throttled / 60)
        response = _form(visit, after, name, visit.say("sign-in.throttled", minutes=minutes), 429)
        response.headers["retry-after"] = str(math.ceil(throttled))
        return response
    throttle.fail(fold(name), visit.address)
    user = await users.authenticate(name, password)
    if user is None:
        ground = "throttled" if throttle.wait_s(fold(name), visit.address) else "refused"
        await users.record("sign_in_failed", name, {"ground": ground})
        return _form(visit, after, name, visit.say("sign-in.failed"), 401)
    throttle.succeed(fold(name), visit.address)
    await users.record("user_signed_in", user.name, {"auth": "console"})
    response = visit.go(after)
    response.set_cookie(
        COOKIE,
        await visit.desk.sessions.open(user),
        max_age=LIFE_S,
        path=visit.base or "/",
        secure=visit.secure,
        httponly=True,
        samesite="lax",
    )
    return response


async def leave(visit: Visit) -> Response:
    """End the session."""
    await visit.desk.sessions.end(visit.person)
    response = visit.go("/sign-in")
    response.delete_cookie(COOKIE, path=visit.base or "/", secure=visit.secure, httponly=True, samesite="lax")
    return response


def _form(visit: Visit, after: str, name: str = "", problem: str | None = None, status: int = 200) -> Response:
    return visit.page("sign_in.html", status, after=after, name=name, problem=problem)


def _after(path: str) -> str:
    """Return where to go after signing in: a path of the console, nothing else."""
    return path if _NEXT.fullmatch(path) else "/"
