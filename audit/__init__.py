"""The audit log: entries in a Merkle tree that outsiders can check, and the vault with what the entries are about.

This package knows nothing of the gateway. ``README.md`` beside it is the format, precise enough for a second verifier.
"""
