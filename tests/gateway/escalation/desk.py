"""A store with cases whose clock the tests turn, and what cases are opened with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.entry import new_id, read_entry
from audit.log import find_entries, latest_entries
from gateway.decision import Decision
from gateway.entries import Origin
from gateway.escalation.case import Case, Handling, Opening, Reviewer, StoredAnswer, Target
from gateway.escalation.cases import Cases
from gateway.principal import Principal
from gateway.store.store import Store
from gateway.verdict import Label

REVISION = "sha256:" + "1" * 64
ENDPOINT = "/v1/chat/completions"
HANAKO = Principal("acme", "ab12cd34", "Hanako")
REVIEWER = Reviewer("Dr Sato", "acme", frozenset({"medical"}), "sato@acme.example")
OTHER = Reviewer("Dr Mori", "acme", frozenset({"medical"}), "mori@acme.example")
ADMIN = Reviewer("Dr Abe", None, auth="cli", os_user="root")
ANSWER = StoredAnswer(200, "application/json", (("x-so8t-decision", "escalate"),), b'{"ok":true}\n\x00\xff')
MAIL = Target("email", "duty@acme.example")
HOOK = Target("webhook", "ACME_HOOK")


@dataclass
class Clock:
    """A clock that stands still until a test turns it."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


def opening(binding: str = "h1:a", *, principal: Principal = HANAKO, **changes: Any) -> Opening:
    """Return an opening of an escalated request; ``changes`` replace its fields."""
    stage = changes.get("stage", "request")
    decision = Decision(new_id(), Label.ESCALATE, "medical", "medical-desk", (), "acme-clinic", REVISION)
    request_id = new_id()
    origin = Origin(request_id, ENDPOINT, principal.key_id, stage, decision.id)
    fields = origin.fields() | {
        "effect": "ESCALATE",
        "reasons": ["model"],
        "policy": "acme-clinic",
        "revision": REVISION.removeprefix("sha256:"),
    }
    values: dict[str, Any] = {
        "principal": principal,
        "stage": stage,
        "endpoint": ENDPOINT,
        "stream": False,
        "request_id": request_id,
        "subject": None,
        "decision": decision,
        "fields": fields,
        "payloads": {"request": b'{"q":1}', "asked": b"{}"},
        "binding": binding,
        "reply_digest": None if stage == "request" else "sha256:reply",
        "handling": Handling("medical-desk", targets=(MAIL, HOOK)),
    }
    return Opening(**values | changes)


@dataclass
class Desk:
    """Cases over a real store."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    options: dict[str, float] = field(default_factory=dict)
    moved: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cases = self.beside()
        self.cases.subscribe(self.moved.append)

    def beside(self) -> Cases:
        """Return a second service over the same database, as another replica has it."""
        options: dict[str, Any] = self.options
        return Cases(self.store.reader, self.store.writer, self.store.trail, clock=self.clock, **options)

    async def approved(self, binding: str = "h1:a", **changes: Any) -> Case:
        case = await self.cases.open(opening(binding, **changes))
        return await self.cases.rule(case.id, REVIEWER, "approve")

    async def consumed(self, binding: str = "h1:a", **changes: Any) -> Case:
        case = await self.cases.consume((await self.approved(binding, **changes)).id, REVISION)
        assert case is not None
        return case

    def story(self, ref: str) -> list[dict[str, Any]]:
        """Return the entries with this id, oldest first."""
        with self.store.reader.connect() as conn:
            return [read_entry(leaf) for _, _, leaf in find_entries(conn, ref)]

    def events(self, ref: str) -> list[str]:
        return [f"{each['ev']}:{each['status']}" if each["ev"] == "case" else each["ev"] for each in self.story(ref)]

    def latest(self) -> dict[str, Any]:
        """Return the fields of the newest entry that are its event's own."""
        with self.store.reader.connect() as conn:
            entry = read_entry(latest_entries(conn, "acme", 1)[0][1])
        return {name: value for name, value in entry.items() if name not in {"v", "id", "t", "ev", "org"}}

    def notices(self, case: Case) -> list[tuple[str, str]]:
        """Return kind and target of the notices of a case."""
        query = "SELECT kind, target FROM delivery WHERE case_id = ? ORDER BY kind DESC, target"
        with self.store.reader.connect() as conn:
            return [(row[0], row[1]) for row in conn.exec_driver_sql(query, (case.id,))]

    def sql(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Change the database past everything but its schema."""
        self.store.writer.run(lambda conn: conn.exec_driver_sql(statement, tuple(values)) and None)
