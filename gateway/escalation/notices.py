"""What people are told about a case: names, words and numbers of the operator's own, nothing that a client wrote.

English and Japanese. Each channel gives a notice its own form.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal, cast

from gateway.escalation.case import Case
from gateway.escalation.outbox import Due

Language = Literal["en", "ja"]
Kind = Literal["opened", "decided"]
JAPAN: Final = timezone(timedelta(hours=9), "JST")

_TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "opened.request": "A request waits for a decision",
        "opened.response": "A reply waits for a decision",
        "decided.approved": "Approved: nothing more to do",
        "decided.denied": "Denied: nothing more to do",
        "decided.answered": "Answered: nothing more to do",
        "decided.expired": "Expired: nobody decided in time, so it was refused",
        "decided.withdrawn": "Withdrawn: nothing more to do",
        "organization": "Organisation",
        "domain": "Domain",
        "route": "Route",
        "stage": "What waits",
        "key": "Asked with key",
        "due": "Decide by",
        "case": "Case",
        "stage.request": "a request, before it is forwarded",
        "stage.response": "a reply, before it is released",
        "explain": "Nothing moves until somebody decides. If nobody does in time, it is refused.",
        "open": "Open the case",
        "footer": "Opening the link decides nothing: deciding needs a sign-in. This notice has no text of the request.",
    },
    "ja": {
        "opened.request": "判断待ちのリクエストがあります",
        "opened.response": "判断待ちの応答があります",
        "decided.approved": "承認されました（対応は不要です）",
        "decided.denied": "却下されました（対応は不要です）",
        "decided.answered": "担当者が回答しました（対応は不要です）",
        "decided.expired": "期限までに判断がなかったため、拒否されました",
        "decided.withdrawn": "取り下げられました（対応は不要です）",
        "organization": "組織",
        "domain": "分野",
        "route": "ルート",
        "stage": "対象",
        "key": "依頼元のキー",
        "due": "期限",
        "case": "ケース",
        "stage.request": "リクエスト（転送前）",
        "stage.response": "応答（送出前）",
        "explain": "判断されるまで何も進みません。期限までに判断がなければ拒否されます。",
        "open": "ケースを開く",
        "footer": "リンクを開いても何も決まりません。判断にはサインインが必要です。この通知に本文は含まれません。",
    },
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice for one target.

    ``id`` stays the same however often it is sent; ``at`` is when it happened. ``link`` only opens a page.
    """

    id: str
    kind: Kind
    target: str
    case_id: str
    organization: str
    domain: str | None
    route: str
    stage: str
    outcome: str | None
    key_id: str
    at: int
    due_at: int
    language: Language
    link: str

    def text(self, name: str) -> str:
        """Return a text of the catalogue in the notice's language."""
        return _TEXTS[self.language][name]

    @property
    def headline(self) -> str:
        """What it is about, in a line."""
        return self.text(f"opened.{self.stage}" if self.outcome is None else f"decided.{self.outcome}")

    @property
    def subject(self) -> str:
        """The headline with the organisation and the domain, for lists of notices."""
        about = self.organization if self.domain is None else f"{self.organization}/{self.domain}"
        return f"[SO8T] {about}: {self.headline}"

    @property
    def explanation(self) -> str | None:
        """What happens next; None where nothing does."""
        return self.text("explain") if self.outcome is None else None

    @property
    def due(self) -> str:
        """The due time in words; in Japanese in Japan's time too."""
        moment = datetime.fromtimestamp(self.due_at / 1000, UTC)
        if self.language == "ja":
            return f"{moment.astimezone(JAPAN):%Y年%-m月%-d日 %H:%M} JST（{moment:%H:%M} UTC）"
        return f"{moment:%Y-%m-%d %H:%M} UTC"

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What is known, as pairs of a label and a value."""
        facts = {
            "organization": self.organization,
            "domain": self.domain,
            "route": self.route,
            "stage": self.text(f"stage.{self.stage}"),
            "key": self.key_id,
            "due": self.due if self.outcome is None else None,
            "case": self.case_id,
        }
        return tuple((self.text(name), value) for name, value in facts.items() if value)


def compose_notice(due: Due, case: Case, console_url: str) -> Notice:
    """Return what ``due`` tells of ``case``; ``console_url`` is the public base of the console."""
    kind = cast("Kind", due.kind)
    return Notice(
        id=due.id,
        kind=kind,
        target=due.target,
        case_id=case.id,
        organization=case.organization,
        domain=case.domain,
        route=case.handling.route,
        stage=case.stage,
        outcome=None if kind == "opened" else _outcome(case),
        key_id=case.key_id,
        at=case.opened_at if kind == "opened" else case.decided_at or case.finished_at or case.due_at,
        due_at=case.due_at,
        language=case.handling.language,
        link=f"{console_url.rstrip('/')}/console/cases/{case.id}",
    )


def _outcome(case: Case) -> str:
    """Return what was decided: an approval remains one, whatever became of it."""
    return "approved" if case.expires_at is not None else case.status
