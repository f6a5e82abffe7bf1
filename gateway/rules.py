"""How the pipeline asks the policies in force."""

from gateway.decision import Decision
from gateway.enforcement import Manners
from gateway.parts import Conversation
from gateway.policy import Facts, PolicyStore, decide
from gateway.principal import Principal
from gateway.verdict import Stage, Thresholds, Verdict


class PolicyRules:
    """The organisations' policies over the thresholds of the release that judges."""

    def __init__(self, policies: PolicyStore, thresholds: Thresholds) -> None:
        self._policies = policies
        self._thresholds = thresholds

    def manners(self, organization: str) -> Manners:
        """Return how the organisation wants its stops told."""
        policy = self._policies.current.policy(organization)
        return Manners(policy.language, policy.shape)

    def decide(
        self, principal: Principal, stage: Stage, conversation: Conversation, verdict: Verdict, decision_id: str
    ) -> Decision:
        """Return the decision; at the stage response, the last message's calls are what is decided about."""
        calls = conversation.messages[-1].tool_calls if stage == "response" else ()
        facts = Facts(stage, verdict, calls, self._thresholds)
        return decide(self._policies.current.policy(principal.organization), facts, decision_id=decision_id)
