"""The case: what waits for people, which arrows its status may take, and what people did about it.

Times are milliseconds since the epoch, UTC, in fields that end in ``_at`` (and ``replay_until``); durations are seconds
(``_s``).
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.decision import Decision
from gateway.principal import Principal
from gateway.verdict import Stage

Status = Literal[
    "pending",
    "approved",
    "denied",
    "answered",
    "expired",
    "withdrawn",
    "consumed",
    "completed",
    "failed",
    "outcome_unknown",
]
Kind = Literal["approve", "deny", "answer"]
Lesson = Literal["allow", "refuse"]
Auth = Literal["cli", "console"]

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    "pending": frozenset({"approved", "denied", "answered", "expired", "withdrawn"}),
    "approved": frozenset({"consumed", "expired", "withdrawn"}),
    "consumed": frozenset({"completed", "failed", "outcome_unknown"}),
    "denied": frozenset(),
    "answered": frozenset(),
    "expired": frozenset(),
    "withdrawn": frozenset(),
    "completed": frozenset(),
    "failed": frozenset(),
    "outcome_unknown": frozenset(),
}
"""The arrows. The database refuses every other one (migration ``cases``)."""

LIVE: Final[frozenset[Status]] = frozenset(status for status, after in TRANSITIONS.items() if after)
"""A binding has at most one case of these."""

RESOLUTIONS: Final[Mapping[Kind, Status]] = {"approve": "approved", "deny": "denied", "answer": "answered"}
"""What a ruling makes of a case, once there are enough of its kind."""

GROUP: Final = "group:"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a notice goes: a mail address, or the *name* of the environment variable that holds a webhook's URL."""

    channel: Literal["email", "slack", "webhook"]
    address: str


@dataclass(frozen=True, slots=True)
class Handling:
    """How the policy wants a case handled; the case keeps it as it was when it was opened.

    ``reviewers`` are names of users or ``group:NAME``; empty: any reviewer of the organisation. ``approvals`` is how
    many distinct reviewers must approve. ``allow_cli``: whether an administrator may rule from the command line.
    """

    route: str
    reviewers: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    due_s: int = 1800
    on_expired: Literal["refuse"] = "refuse"
    on_unreachable: Literal["wait", "refuse"] = "wait"
    approvals: int = 1
    allow_cli: bool = True
    language: Literal["en", "ja"] = "en"


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who rules.

    ``organization`` is None for an administrator at the command line, who stands above the reviewers that a route
    names. ``os_user`` is the operating system's user behind a command.
    """

    name: str
    organization: str | None
    groups: frozenset[str] = frozenset()
    email: str | None = None
    auth: Auth = "console"
    os_user: str | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """One reviewer's act on a case. What was written with it is sealed under the entry ``entry_id``."""

    kind: Kind
    by: str
    auth: str
    at: int
    lesson: Lesson | None
    entry_id: str


@dataclass(frozen=True, slots=True)
class Case:
    """A durable escalation, as it stood when it was read.

    ``endpoint`` is the HTTP path of the request, ``subject`` the pseudonym of the person whom the data is about.
    ``reason`` is a closed word (``due``, ``unreachable``, ``policy_changed``, ``crash`` ...), None where the status
    says it all. ``payload_entry`` and ``answer_entry`` are the entries under which the payloads and the finished answer
    are sealed; the latter is None again once the answer is erased.
    """

    id: str
    organization: str
    status: Status
    stage: Stage
    endpoint: str
    stream: bool
    key_id: str
    owner: str
    subject: str | None
    request_id: str
    decision_id: str
    domain: str | None
    policy: str
    revision: str
    handling: Handling
    binding: str
    reply_digest: str | None
    opened_at: int
    due_at: int
    decided_at: int | None = None
    expires_at: int | None = None
    consumed_at: int | None = None
    finished_at: int | None = None
    replay_until: int | None = None
    reason: str | None = None
    predecessor: str | None = None
    successor: str | None = None
    payload_entry: str = ""
    answer_entry: str | None = None
    rulings: tuple[Ruling, ...] = ()

    @property
    def live(self) -> bool:
        """Whether its status can still change."""
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class Opening:
    """What a case is opened with.

    ``fields`` are those of the entry ``decision``, ``inputs`` the row of what it was made from.
    ``payloads``: ``request`` (the exact bytes that would be forwarded), at the stage response ``reply`` (the reply that
    is held), ``asked`` (JSON of what reviewers see), and ``obligations`` (what is done to the request once approved).
    ``reply_digest`` belongs to the stage response only.

    ``predecessor`` is the case that this one takes the place of. One that is consumed is completed in the same
    transaction (its request was forwarded, and what came back is what this case is about), so that the request always
    has a case that speaks for it.
    """

    principal: Principal
    stage: Stage
    endpoint: str
    stream: bool
    request_id: str
    subject: str | None
    decision: Decision
    fields: Mapping[str, Any]
    payloads: Mapping[str, bytes]
    binding: str
    reply_digest: str | None
    handling: Handling
    predecessor: str | None = None
    inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A finished answer, kept sealed for a client whose connection died."""

    status: int
    media_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def fold(name: str) -> str:
    """Return the form in which names and mail addresses are compared.

    NFKC, case folded, without control and invisible characters, spaces made one.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = "".join(" " if each.isspace() else each for each in folded if each.isspace() or not _invisible(each))
    return " ".join(seen.split())


def _invisible(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs"}
