"""Every error that the audit log raises on purpose.

AuditError
├── EntryError     an entry has an unknown, missing or malformed field, or is too long
├── FormatError    bytes are no checkpoint, tile, entry bundle or proof
├── ProofError     a proof or a signature does not hold
├── VaultError     a sealed payload cannot be opened: altered, or another organisation's
└── MismatchError  the database, the published log and the checkpoints contradict each other
"""


class AuditError(Exception):
    """Base of all errors below."""


class EntryError(AuditError):
    """An entry has an unknown, missing or malformed field, or is too long."""


class FormatError(AuditError):
    """The bytes are not what the format says."""


class ProofError(AuditError):
    """A proof or a signature does not hold."""


class VaultError(AuditError):
    """A sealed payload cannot be opened."""


class MismatchError(AuditError):
    """The database, the published log and the checkpoints contradict each other."""
