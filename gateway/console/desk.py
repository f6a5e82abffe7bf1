"""The desk: what the pages work with, and one visit of one person to one page."""

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.legible import markup
from gateway.console.texts import Say, choose_language, speak, word
from gateway.console.throttle import Throttle
from gateway.console.times import date, span
from gateway.errors import RequestError
from gateway.escalation.cases import Cases
from gateway.escalation.outbox import Problem
from gateway.store.sessions import Session, Sessions
from gateway.store.users import Language, Users

COOKIE: Final = "so8t_session"
MAX_FORM: Final = 256 * 1024
FORM_TIMEOUT_S: Final = 30.0


class PageError(RequestError):
    """A page cannot do what was asked; ``key`` names the text that says why, with ``values`` in it."""

    def __init__(self, status: int, key: str, **values: object) -> None:
        super().__init__(speak("en")(key, **values), code=key)
        self.status = status
        self.key = key
        self.values = values


class Problems(Protocol):
    """What keeps notices from being delivered."""

    def __call__(self, organization: str | None = None) -> Sequence[Problem]:
        """Return the pending cases of an organisation that some channel could not tell of."""
        ...


def environment() -> Environment:
    """Return the templates: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("gateway.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"legible": markup, "date": date}
    return made


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that the pages use. ``origin``: where people reach the console, None when nothing else is known."""

    cases: Cases
    users: Users
    sessions: Sessions
    origin: str | None
    problems: Problems
    clock: Callable[[], int]
    throttle: Throttle = field(default_factory=Throttle)
    templates: Environment = field(default_factory=environment)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to a page, who makes it, and the fields of its form."""

    desk: Desk
    request: Request
    session: Session | None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The path under which the console is mounted, without a slash at its end."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    @property
    def language(self) -> Language:
        """The user's language, the browser's where nobody has signed in."""
        if self.session is not None:
            return self.session.user.language
        return choose_language(self.request.headers.get("accept-language", ""))

    @property
    def say(self) -> Say:
        """The catalogue of that language."""
        return speak(self.language)

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return self.request.client.host if self.request.client else ""

    @property
    def secure(self) -> bool:
        """Whether the browser speaks TLS, here or with a proxy in front."""
        return self.request.url.scheme == "https" or (self.desk.origin or "").startswith("https://")

    @property
    def person(self) -> Session:
        """The session of somebody who must have signed in."""
        if self.session is None:
            raise PageError(401, "error.not-found")
        return self.session

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page in the visitor's language."""
        say, now = self.say, self.desk.clock()
        text = self.desk.templates.get_template(template).render(
            base=self.base,
            say=say,
            word=lambda kind, name: word(say, kind, name),
            until=lambda moment: span(say, moment - now),
            user=None if self.session is None else self.session.user,
            csrf=None if self.session is None else self.session.csrf,
            problems=[] if self.session is None else self.desk.problems(self.session.user.organization),
            **values,
        )
        return HTMLResponse(text, status, headers={"content-language": self.language})

    def go(self, path: str) -> Response:
        """Return a redirection to a path of the console, after something was done."""
        return RedirectResponse(self.base + path, 303)

    def sign_in(self) -> Response:
        """Return a redirection to the sign-in page, which leads back here."""
        path = self.request.url.path.removeprefix(self.base)
        return self.go("/sign-in" if path in ("", "/") else f"/sign-in?next={quote(path, safe='')}")


Page = Callable[[Visit], Awaitable[Response]]


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; PageError when it is too long, too slow, or no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise PageError(415, "error.form")
    data, until = b"", time.monotonic() + FORM_TIMEOUT_S
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > MAX_FORM:
                raise PageError(413, "error.form")
            if time.monotonic() > until:
                raise PageError(408, "error.form")
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except (ValueError, ClientDisconnect):
        raise PageError(400, "error.form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise PageError(400, "error.form")
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}


def check_origin(request: Request, origin: str | None) -> None:
    """Refuse what another site's page sent. A browser names the page's origin with every POST."""
    sent = request.headers.get("origin")
    if sent is None:
        if request.headers.get("sec-fetch-site") == "same-origin":
            return
    elif sent != "null":
        own = {request.headers.get("host", "").lower()}
        if origin is not None:
            own.add(urlsplit(origin).netloc.lower())
        if urlsplit(sent).netloc.lower() in own - {""}:
            return
    raise PageError(403, "error.origin")


def check_token(session: Session, form: Mapping[str, str]) -> None:
    """Refuse a form that was not made for this session."""
    if not hmac.compare_digest(session.csrf.encode(), form.get("csrf", "").encode()):
        raise PageError(403, "error.csrf")
