"""The vault: what entries are about, sealed so that it can be erased while every proof still holds.

    master key (file) ─AES-256-GCM─► organisation key ─AES-256-GCM─► record key ‖ salt ─AES-256-GCM─► payload

The entry carries only ``c1:sha256:`` SHA-256(salt ‖ payload) in hex, with 32 random bytes of salt. Without the master
key the database tells neither payload nor salt; without the row nobody can test a guess against the commitment.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from audit.errors import VaultError

KEY_SIZE: Final = 32
SALT_SIZE: Final = 32
NONCE_SIZE: Final = 12
COMMITMENT: Final = "c1:sha256:"
PSEUDONYM: Final = "h1:"


def commit(salt: bytes, payload: bytes) -> str:
    """Return the commitment to ``payload``: ``c1:sha256:`` and SHA-256(salt ‖ payload) in hex."""
    digest = hashlib.sha256(salt)
    digest.update(payload)
    return COMMITMENT + digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A payload as it is stored. ``wrapped`` holds the record's key and salt under the organisation's key."""

    organization: str
    entry_id: str
    name: str
    nonce: bytes
    wrapped: bytes
    ciphertext: bytes
    commitment: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload and the salt that together give the commitment in the entry."""

    payload: bytes
    salt: bytes


def _context(kind: str, *names: str) -> bytes:
    """Return the additional authenticated data: a sealed value cannot be moved to another place."""
    return "\0".join(("so8t-vault-1", kind, *names)).encode()


class OrganizationKey:
    """Seals and opens the payloads of one organisation, and makes its pseudonyms.

    One key seals fewer than 2**32 payloads (random nonces, NIST SP 800-38D).
    """

    def __init__(self, organization: str, key: bytes) -> None:
        self.organization = organization
        self._wrap = AESGCM(key)
        self._mac = HKDFExpand(SHA256(), KEY_SIZE, b"so8t-vault-1 pseudonym").derive(key)

    def seal(self, entry_id: str, name: str, payload: bytes) -> Sealed:
        """Return ``payload`` sealed under a key of its own, bound to its organisation, entry and name."""
        random = os.urandom(KEY_SIZE + SALT_SIZE + NONCE_SIZE)
        key, salt, nonce = random[:KEY_SIZE], random[KEY_SIZE:-NONCE_SIZE], random[-NONCE_SIZE:]
        place = (self.organization, entry_id, name)
        wrapped = self._wrap.encrypt(nonce, key + salt, _context("record", *place))
        ciphertext = AESGCM(key).encrypt(nonce, payload, _context("payload", *place))
        return Sealed(*place, nonce, wrapped, ciphertext, commit(salt, payload))

    def open(self, sealed: Sealed) -> Opened:
        """Return the payload; VaultError when anything was altered, moved, or is another organisation's."""
        place = (sealed.organization, sealed.entry_id, sealed.name)
        try:
            secret = self._wrap.decrypt(sealed.nonce, sealed.wrapped, _context("record", *place))
            payload = AESGCM(secret[:KEY_SIZE]).decrypt(sealed.nonce, sealed.ciphertext, _context("payload", *place))
        except InvalidTag:
            raise VaultError(f"the payload `{sealed.name}` of entry {sealed.entry_id} cannot be opened") from None
        opened = Opened(payload, secret[KEY_SIZE:])
        if commit(opened.salt, payload) != sealed.commitment:
            raise VaultError(f"the payload `{sealed.name}` of entry {sealed.entry_id} is not what was committed to")
        return opened

    def pseudonym(self, kind: str, text: str) -> str:
        """Return ``h1:`` and the HMAC of somebody's string: equal within an organisation, else unlinkable."""
        return PSEUDONYM + hmac.new(self._mac, f"{kind}\0{text}".encode(), hashlib.sha256).hexdigest()


class MasterKey:
    """Wraps the organisations' keys."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise VaultError(f"a master key has {KEY_SIZE} bytes, not {len(key)}")
        self._key = AESGCM(key)

    def create(self, organization: str) -> tuple[OrganizationKey, bytes]:
        """Return a new organisation key and its wrapped form for the database."""
        key, nonce = os.urandom(KEY_SIZE), os.urandom(NONCE_SIZE)
        wrapped = nonce + self._key.encrypt(nonce, key, _context("organization", organization))
        return OrganizationKey(organization, key), wrapped

    def unwrap(self, organization: str, wrapped: bytes) -> OrganizationKey:
        """Return the organisation's key; VaultError when it was altered or wrapped by another master key."""
        nonce, ciphertext = wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:]
        try:
            key = self._key.decrypt(nonce, ciphertext, _context("organization", organization))
        except InvalidTag:
            raise VaultError(f"the key of organisation `{organization}` is not wrapped by this master key") from None
        return OrganizationKey(organization, key)
