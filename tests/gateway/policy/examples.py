"""Policies and verdicts for the tests of this folder."""

from gateway.parts import ToolCall, Unjudged
from gateway.policy import EffectivePolicy, merge, read_policy
from gateway.policy.bundle import read_files
from gateway.verdict import Label, Reading, Scores, Verdict

BASE = read_policy(read_files([]).base[1], "base.yaml", base=True)
HEADER = "version: 1\norganization: acme\n"

SCORES = {
    Label.ALLOW: Scores(0.96, 0.02, 0.02),
    Label.ESCALATE: Scores(0.02, 0.02, 0.96),
    Label.REFUSE: Scores(0.02, 0.96, 0.02),
}
DOMAIN = {Label.ALLOW: None, Label.ESCALATE: "medical", Label.REFUSE: "weapons"}


def effective(text: str = "", base: str | None = None) -> EffectivePolicy:
    """Return the policy of ``acme`` with ``text`` as its file, over the packaged base or another."""
    under = BASE if base is None else read_policy(base.encode(), "own-base.yaml", base=True)
    return merge(under, read_policy((HEADER + text).encode(), "acme.yaml"))


def verdict(
    label: Label = Label.ALLOW,
    *,
    scores: Scores | None = None,
    domain: str | None = None,
    domains: dict[str, float] | None = None,
    readings: tuple[Reading, ...] = (),
    unjudged: tuple[Unjudged, ...] = (),
) -> Verdict:
    """Return a verdict of ``label``."""
    return Verdict(
        label=label,
        scores=scores or SCORES[label],
        domain=domain or DOMAIN[label],
        domains=domains or {},
        pointer="/messages/0",
        release="scripted",
        release_digest="0" * 64,
        template=1,
        judged_bytes=10,
        readings=readings,
        unjudged=unjudged,
    )


def call(name: str, arguments: str = "{}") -> ToolCall:
    """Return a proposed call."""
    return ToolCall(name, arguments, "/choices/0/message/tool_calls/0")
