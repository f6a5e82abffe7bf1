"""A console that serves: a real store, real cases, a free port; only passwords are hashed cheaply."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
import requests
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.routing import Mount
from uuid6 import uuid7

from audit.entry import read_entry
from audit.log import latest_entries
from gateway.console import create_console
from gateway.decision import Decision, Reason
from gateway.entries import Origin, decision_fields
from gateway.escalation.asked import asked
from gateway.escalation.case import Case, Handling, Opening
from gateway.escalation.cases import Cases
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.records import Administrator
from gateway.store.store import Store
from gateway.store.users import Language, NewUser, Users
from gateway.verdict import Label, Reading, Scores, Stage, Verdict
from tests.doubles import Served

T = TypeVar("T")
PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ROOT = Administrator("root")


class World:
    """A console under ``/console`` with the user ``sato`` of acme."""

    def __init__(self, path: Path) -> None:
        self.store = Store(DataDirectory(path))
        self.users = Users(self.store.reader, self.store.writer, self.store.trail, hasher=CHEAP)
        self.cases = Cases(self.store.reader, self.store.writer, self.store.trail)
        console = create_console(self.cases, self.users, self.store.sessions)

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            self._loop = asyncio.get_running_loop()
            yield

        self.app = Starlette(routes=[Mount("/console", console)], lifespan=lifespan)
        self._served = Served(self.app)

    def __enter__(self) -> Self:
        self._served.__enter__()
        self.url = f"{self._served.url}/console"
        self.add("sato")
        return self

    def __exit__(self, *_: object) -> None:
        self._served.__exit__()
        self.store.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def add(
        self, name: str, organization: str = "acme", *groups: str, email: str | None = None, language: Language = "en"
    ) -> None:
        """Add a user."""
        self.run(self.users.create(NewUser(name, organization, groups, email, language), PASSWORD, ROOT))

    def open(self, **fields: Any) -> Case:
        """Open a case."""
        return self.run(self.cases.open(opening(**fields)))

    def case(self, case: Case) -> Case:
        """Return a case as it is now."""
        found = self.run(self.cases.get(case.id))
        assert found is not None
        return found

    def entries(self, organization: str = "acme") -> list[dict[str, Any]]:
        """Return what is recorded, oldest first."""
        with self.store.reader.connect() as conn:
            return [read_entry(leaf) for _, leaf in sorted(latest_entries(conn, organization, 1000))]

    def visitor(self, name: str | None = None) -> "Visitor":
        """Return somebody with a browser, signed in by ``name``."""
        visitor = Visitor(self.url)
        if name is not None:
            answer = visitor.sign_in(name)
            assert answer.status_code == 303, answer.text
        return visitor


class Visitor:
    """A browser without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()

    def get(self, path: str, **options: Any) -> requests.Response:
        """Get a page."""
        return self.http.get(self.url + path, timeout=60, allow_redirects=False, **options)

    def post(self, path: str, form: dict[str, str], origin: str | None = "own") -> requests.Response:
        """Send a form as it is."""
        headers = {} if origin is None else {"origin": self.url.removesuffix("/console") if origin == "own" else origin}
        return self.http.post(self.url + path, data=form, headers=headers, timeout=60, allow_redirects=False)

    def sign_in(self, name: str, password: str = PASSWORD, after: str = "") -> requests.Response:
        """Fill the sign-in form."""
        return self.post("/sign-in", {"name": name, "password": password, "next": after})

    def token(self) -> str:
        """Return the token that this session's forms carry."""
        return Read(self.get("/").text).fields["csrf"]

    def decide(self, case: Case, kind: str, **fields: str) -> requests.Response:
        """Fill a form of the case page."""
        return self.post(f"/cases/{case.id}/{kind}", {"csrf": self.token(), **fields})


class Read(HTMLParser):
    """A page as a browser would read it: the tags with their attributes, the text, the links and the form fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.fields: dict[str, str] = {}
        self.links: list[str] = []
        self._text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "a":
            self.links.append(found.get("href", ""))
        if tag in ("input", "textarea"):
            self.fields[found.get("name", "")] = found.get("value", "")

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self._text.append(data)

    @property
    def text(self) -> str:
        """All text."""
        return "".join(self._text)


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You answer for a clinic."},
    {"role": "user", "content": "May my father double his warfarin dose?"},
]


def opening(
    *,
    owner: str = "hanako",
    organization: str = "acme",
    messages: list[dict[str, Any]] | None = None,
    body: bytes | None = None,
    reply: bytes | None = None,
    handling: Handling | None = None,
    domain: str = "medical",
    rationale: str = "",
    actions: Sequence[dict[str, object]] = (),
    reasons: tuple[Reason, ...] = (Reason("model", Label.ESCALATE),),
    **extra: Any,
) -> Opening:
    """Return what a case is opened with; each has a binding of its own."""
    asked_for = MESSAGES if messages is None else messages
    request = body if body is not None else orjson.dumps({"model": "gpt-4.1", "messages": asked_for, **extra})
    stage: Stage = "request" if reply is None else "response"
    scores = Scores(0.11, 0.07, 0.82)
    domains = {"medical": 0.91, "pii": 0.22}
    pointer = f"/messages/{len(asked_for) - 1}"
    verdict = Verdict(
        Label.ESCALATE, scores, domain, domains, pointer, "so8t-nano", "0" * 64, 1, 10, (Reading(pointer, scores, {}),)
    )
    decision = Decision(str(uuid7()), Label.ESCALATE, domain, "medical-desk", reasons, organization, "1" * 64)
    origin = Origin(str(uuid7()), "/v1/chat/completions", "k1234567", stage, decision.id)
    told = asked(decision, replace(verdict, rationale=rationale), (), actions)
    payloads = {"request": request, "asked": told} | ({} if reply is None else {"reply": reply})
    return Opening(
        principal=Principal(organization, "k1234567", owner),
        stage=stage,
        endpoint=origin.route,
        stream=False,
        request_id=origin.request,
        subject=None,
        decision=decision,
        fields=decision_fields(origin, decision, [verdict]),
        payloads=payloads,
        binding=f"h1:{uuid7().hex}{uuid7().hex}",
        reply_digest=None if reply is None else f"h1:{uuid7().hex}{uuid7().hex}",
        handling=handling or Handling("medical-desk"),
    )


def held_reply(*calls: tuple[str, str], text: str | None = None) -> bytes:
    """Return a reply that proposes calls."""
    listed = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, "tool_calls": listed}
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
