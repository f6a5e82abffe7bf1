"""The principal: who calls."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """An organisation, the key that spoke for it, and the person who owns the key.

    ``key_id`` is the public id of the key, or ``loopback`` for the keyless default organisation.
    """

    organization: str
    key_id: str
    owner: str
