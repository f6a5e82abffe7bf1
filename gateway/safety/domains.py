"""The domains that the packaged releases know, by the label that they belong to. The set belongs to the release."""

from typing import Final

ESCALATE_DOMAINS: Final = (
    "medical",
    "legal",
    "pii",
    "compliance",
    "harassment",
    "hr",
    "finance",
    "security",
    "self_harm",
    "other",
)
REFUSE_DOMAINS: Final = (
    "violence",
    "weapons",
    "drugs",
    "cyber",
    "fraud",
    "privacy_attack",
    "child_safety",
    "hate",
    "sexual",
    "injection",
    "evasion",
    "other",
)
