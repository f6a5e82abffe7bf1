"""The policy decision point: an organisation's YAML and a verdict become a decision. Pure after loading, no clock."""

from gateway.policy.bundle import Bundle, load_bundle
from gateway.policy.document import Policy, read_policy
from gateway.policy.engine import Facts, decide
from gateway.policy.merge import EffectivePolicy, Escalation, merge
from gateway.policy.reload import PolicyStore
from gateway.policy.trace import Step, Trace

__all__ = [
    "Bundle",
    "EffectivePolicy",
    "Escalation",
    "Facts",
    "Policy",
    "PolicyStore",
    "Step",
    "Trace",
    "decide",
    "load_bundle",
    "merge",
    "read_policy",
]
