"""A gateway whose policies escalate, the people who are told of it, and those who decide.

Each organisation is one test's own: what ``ann`` asks waits for people whatever the model says, and so does every call
of ``get_weather`` that a reply proposes.
"""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import openai
import orjson

from audit.entry import read_entry
from audit.log import latest_entries
from gateway.cli.control import ask
from gateway.store.directory import DataDirectory
from gateway.store.engine import open_reader
from tests.acceptance.process import GatewayProcess, so8t
from tests.doubles import UpstreamDouble
from tests.gateway.escalation.sinks import Hit, HttpSink, MailSink

T = TypeVar("T")
PATIENCE_S = 600.0
"""How long a test waits for what must come; a busy machine is slow, and nothing waits longer than it must."""
POLICY = """\
version: 1
organization: {organization}
safety: {{thresholds: {{escalate: {escalate}}}}}
escalation: {{hold: {hold}, stream_hold: {stream_hold}}}
default_route: desk
routes:
  desk: {{due: {due}, on_expired: refuse, notify: [{notify}]}}
rules:
  - {{id: ann-asks, when: 'stage == "request" && principal.owner == "ann"', effect: escalate}}
{rules}
tools:
  default: judge
  get_weather: {{effect: escalate}}
"""
NOTIFY = '{email: {to: [desk@example.org]}}, {slack: {webhook: "${SLACK_DESK}"}}'
SETTINGS: Mapping[str, Any] = {"waiters_per_key": 1200, "open_per_key": 1200}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return today's weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def policy(organization: str, *, told: bool = False, **terms: str) -> str:
    """Return an organisation's policy; with ``told`` its people get mail and Slack messages."""
    known = {"hold": "10m", "stream_hold": "10m", "due": "8h", "escalate": "0.9", "rules": ""}
    return POLICY.format(organization=organization, notify=NOTIFY if told else "", **(known | terms))


def until(condition: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """Return what ``condition`` gives once that is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)
    return found


class Waiting(threading.Thread, Generic[T]):
    """A call that is under way. ``pieces`` is what a stream has brought so far."""

    def __init__(self, call: Callable[[], T], pieces: list[bytes] | None = None) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._found: list[T] = []
        self._error: BaseException | None = None
        self.pieces = [] if pieces is None else pieces
        self.start()

    def run(self) -> None:
        """Call."""
        try:
            self._found.append(self._call())
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the result
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has returned."""
        return not self.is_alive()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised."""
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the call still waits"
        if self._error is not None:
            raise self._error
        return self._found[0]


class Receivers:
    """A real mail server and a Slack receiver, in a loop of their own."""

    def __init__(self) -> None:
        self.mail = MailSink()
        self.slack = HttpSink()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self.mail.__aenter__())
        self._run(self.slack.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.slack.__aexit__())
        self._run(self.mail.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def told_of(self, case_id: str) -> tuple[EmailMessage, Hit]:
        """Return the mail and the Slack message about a case, once both are here."""
        mail = until(lambda: next((each for each in list(self.mail.mails) if case_id in written(each)), None))
        hit = until(lambda: next((each for each in list(self.slack.hits) if case_id.encode() in each.body), None))
        return mail, hit


def written(mail: EmailMessage) -> str:
    """Return everything in a mail that a person or a program can read."""
    parts = [part.get_content() for part in mail.walk() if part.get_content_maintype() == "text"]
    return "\n".join([*(f"{name}: {value}" for name, value in mail.items()), *parts])


def link_in(mail: EmailMessage) -> str:
    """Return the link that a mail asks people to follow."""
    found = re.search(r"http://127\.0\.0\.1:\d+/console/cases/[0-9a-f-]{36}", written(mail))
    assert found is not None
    return found[0]


class Office:
    """The gateway, who calls it, and who decides. Organisations are made by writing their policies before it starts."""

    def __init__(
        self, directory: Path, upstream: UpstreamDouble, receivers: Receivers | None = None, **escalation: float
    ) -> None:
        self.upstream = upstream
        self.receivers = receivers
        self.policies = directory / "policies"
        self.policies.mkdir(parents=True)
        self.data = DataDirectory(directory / "var")
        settings: dict[str, Any] = {"safety": {"timeout_s": PATIENCE_S}, "escalation": {**SETTINGS, **escalation}}
        environment = {}
        if receivers is not None:
            port = receivers.mail.port
            settings["smtp"] = {"host": "127.0.0.1", "port": port, "from": "so8t@example.org", "starttls": "never"}
            environment["SLACK_DESK"] = receivers.slack.url()
        config = directory / "so8t.yaml"
        config.write_bytes(orjson.dumps(settings))
        flags = ("--upstream-url", upstream.url, "--policies", str(self.policies), "--config", str(config))
        self.gateway = GatewayProcess(self.data.path, *flags, environment=environment)
        self._keys: dict[tuple[str, str], str] = {}

    def admit(self, organization: str, **terms: Any) -> None:
        """Write an organisation's policy."""
        (self.policies / f"{organization}.yaml").write_text(policy(organization, **terms))

    def key(self, organization: str, owner: str = "ann") -> str:
        """Return the key of ``owner``."""
        known = self._keys.get((organization, owner))
        if known is None:
            command = {"action": "create", "organization": organization, "owner": owner, "actor": "test"}
            known = self._keys[organization, owner] = str(ask(self.data, "/control/keys", command)["key"])
        return known

    def client(self, organization: str, owner: str = "ann", **options: Any) -> openai.OpenAI:
        """Return the real SDK with the key of ``owner``; without ``options`` as anybody would make it."""
        return self.gateway.client(self.key(organization, owner), **options)

    def calling(self, client: openai.OpenAI, text: str, **fields: Any) -> "Waiting[Any]":
        """Let the SDK call; the result has the headers, and by ``parse`` the reply."""
        create = client.chat.completions.with_raw_response.create
        return Waiting(lambda: create(model="m", messages=[{"role": "user", "content": text}], **fields))

    def streaming(self, client: openai.OpenAI, text: str, **fields: Any) -> "Waiting[bytes]":
        """Let the SDK read a stream, byte by byte as it comes."""

        pieces: list[bytes] = []

        def read() -> bytes:
            create: Any = client.chat.completions.with_streaming_response.create
            with create(model="m", messages=[{"role": "user", "content": text}], stream=True, **fields) as response:
                for piece in response.iter_bytes():
                    pieces.append(piece)
            return b"".join(pieces)

        return Waiting(read, pieces)

    def cases(self, organization: str) -> list[dict[str, Any]]:
        """Return the cases: those that wait first, then the newest."""
        listed = ask(self.data, "/control/cases", {"action": "list", "organization": organization, "limit": 1000})
        return list(listed["cases"])

    def opened(self, organization: str, call: "Waiting[Any] | None" = None) -> str:
        """Return the id of the case that waits, once there is one; what ``call`` dies of before is raised."""

        def pending() -> list[str]:
            if call is not None and call.done:
                call.result()
            return [case["id"] for case in self.cases(organization) if case["status"] == "pending"]

        (found,) = until(pending)
        return found

    def case(self, case_id: str) -> dict[str, Any]:
        """Return a case as it is now."""
        return dict(ask(self.data, "/control/cases", {"action": "show", "id": case_id})["case"])

    def rule(self, case_id: str, kind: str, name: str = "ben", **words: Any) -> dict[str, Any]:
        """Decide a case through the socket that the command uses."""
        command = {"action": kind, "id": case_id, "as": name, "actor": "test", **words}
        return dict(ask(self.data, "/control/cases", command)["case"])

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run a command on this gateway."""
        return so8t(*arguments, "--data-dir", str(self.data.path), check=check)

    def calls(self, text: str) -> int:
        """Return how often the upstream was asked ``text``."""
        return self.all_calls()[text]

    def all_calls(self) -> Counter[str]:
        """Return how often the upstream was asked each text."""
        return Counter(str(body["messages"][-1]["content"]) for body in list(self.upstream.requests))

    def entries(self, organization: str) -> list[dict[str, Any]]:
        """Return what is on record, oldest first."""
        reader = open_reader(self.data.database)
        try:
            with reader.connect() as conn:
                return [read_entry(leaf) for _, leaf in sorted(latest_entries(conn, organization, 1_000_000))]
        finally:
            reader.dispose()

    def statuses(self, organization: str) -> list[str]:
        """Return the steps of the cases on record, oldest first."""
        return [str(entry["status"]) for entry in self.entries(organization) if entry["ev"] == "case"]


@contextmanager
def running(office: Office) -> Iterator[Office]:
    """Let the gateway run until the context ends."""
    with office.gateway:
        yield office
