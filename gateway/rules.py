"""How the pipeline asks the policies in force."""

from collections.abc import Callable
from time import time_ns

from gateway.decision import Decision, RequireUpstream
from gateway.enforcement import Manners
from gateway.escalation.case import Handling, Target
from gateway.holding import Patience
from gateway.obliging import ENFORCED
from gateway.parts import Conversation
from gateway.policy import Facts, PolicyStore, decide
from gateway.policy.document import EmailNotice, Notice, SlackNotice
from gateway.policy.inputs import input_row
from gateway.policy.shadow import ShadowStore, decide_both
from gateway.ports import Decided
from gateway.principal import Principal
from gateway.verdict import Stage, Thresholds, Verdict


class PolicyRules:
    """The organisations' policies over the thresholds of the release that judges.

    ``shadow`` decides beside them. ``trusted``: whether the operator trusts the upstream. A decision that obliges to
    what cannot be done here refuses.
    """

    def __init__(
        self,
        policies: PolicyStore,
        thresholds: Thresholds,
        *,
        shadow: ShadowStore | None = None,
        trusted: bool = False,
        clock: Callable[[], int] = lambda: time_ns() // 1_000_000,
    ) -> None:
        self._policies = policies
        self._thresholds = thresholds
        self._shadow = shadow
        self._enforces = ENFORCED | {RequireUpstream.name} if trusted else ENFORCED
        self._clock = clock

    def manners(self, organization: str) -> Manners:
        """Return how the organisation wants its stops told."""
        policy = self._policies.current.policy(organization)
        return Manners(policy.language, policy.shape)

    def patience(self, organization: str) -> Patience:
        """Return how long the organisation lets a client wait for people."""
        escalation = self._policies.current.policy(organization).escalation
        return Patience(escalation.hold_s, escalation.stream_hold_s, escalation.after_hold)

    def revision(self, organization: str) -> str:
        """Return the revision of the policy in force."""
        return self._policies.current.policy(organization).revision

    def handling(self, organization: str, decision: Decision) -> Handling:
        """Return how a case is to be handled: by the decision's route, or the default one if that has just gone."""
        policy = self._policies.current.policy(organization)
        name = decision.route or policy.default_route
        name = name if name in policy.routes else policy.default_route
        route = policy.routes[name]
        return Handling(
            route=name,
            reviewers=tuple(each.removeprefix("user:") for each in route.reviewers),
            targets=tuple(target for notice in route.notify for target in _targets(notice)),
            due_s=route.due_s,
            on_unreachable=route.on_unreachable,
            approvals=decision.approvals,
            allow_cli=route.cli,
            language=policy.language,
        )

    def decide(
        self, principal: Principal, stage: Stage, conversation: Conversation, verdict: Verdict, decision_id: str
    ) -> Decided:
        """Return the decision; at the stage response, the last message's calls are what is decided about."""
        calls = conversation.messages[-1].tool_calls if stage == "response" else ()
        now = self._clock()
        facts = Facts(
            stage,
            verdict,
            calls,
            self._thresholds,
            principal=principal,
            kinds=_kinds(conversation),
            tools=tuple(tool.name for tool in conversation.tools),
            turns=sum(message.role == "user" for message in conversation.messages),
            now=now,
            enforces=self._enforces,
        )
        shadow = self._shadow.current if self._shadow is not None else None
        if self._shadow is None or shadow is None:
            decision = decide(self._policies.current.policy(principal.organization), facts, decision_id=decision_id)
            return Decided(decision, input_row(facts, decision, now))
        both = decide_both(self._policies.current, shadow, self._shadow.percent, facts, decision_id=decision_id)
        return Decided(both.decision, input_row(facts, both.current, now, shadow=both.shadow, acted=both.acted))


def _kinds(conversation: Conversation) -> tuple[str, ...]:
    """Return the kinds of parts that stand in the conversation, A to Z."""
    kinds: set[str] = {message.role for message in conversation.messages}
    if conversation.tools:
        kinds.add("tool_definition")
    if any(message.tool_calls for message in conversation.messages):
        kinds.add("tool_call")
    if conversation.unjudged:
        kinds.add("unjudged")
    return tuple(sorted(kinds))


def _targets(notice: Notice) -> tuple[Target, ...]:
    if isinstance(notice, EmailNotice):
        return tuple(Target("email", address) for address in notice.to)
    return (Target("slack" if isinstance(notice, SlackNotice) else "webhook", notice.variable),)
