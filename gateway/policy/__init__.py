"""The policy decision point: an organisation's YAML and a verdict become a decision. Pure after loading, no clock."""

from gateway.policy.bundle import Bundle, load_bundle
from gateway.policy.document import Policy, read_policy
from gateway.policy.engine import Facts, decide
from gateway.policy.merge import EffectivePolicy, merge
from gateway.policy.reload import PolicyStore

__all__ = [
    "Bundle",
    "EffectivePolicy",
    "Facts",
    "Policy",
    "PolicyStore",
    "decide",
    "load_bundle",
    "merge",
    "read_policy",
]
