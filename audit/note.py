"""C2SP signed notes (c2sp.org/signed-note, Ed25519 only) and checkpoints (c2sp.org/tlog-checkpoint)."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import FormatError, ProofError
from audit.merkle import HASH_SIZE

ED25519: Final = b"\x01"
MAX_NOTE_BYTES: Final = 1 << 20
_PRIVATE: Final = "PRIVATE+KEY+"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,19}")
_DASH: Final = "\N{EM DASH} "


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard base64 in its one canonical form, else raise FormatError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"not base64: `{text[:60]}`") from None
    if base64.b64encode(data).decode() != text:
        raise FormatError(f"not canonical base64: `{text[:60]}`")
    return data


def encode_base64(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode()


def decode_decimal(text: str) -> int:
    """Return the number written in ASCII decimal without leading zeros, else raise FormatError."""
    if not _DECIMAL.fullmatch(text):
        raise FormatError(f"not a number: `{text[:60]}`")
    return int(text)


def _check_name(name: str) -> str:
    if not name or "+" in name or any(each.isspace() or ord(each) < 0x20 for each in name):
        raise FormatError(f"a key name must be non-empty, without spaces and `+`: `{name[:60]}`")
    return name


@dataclass(frozen=True, slots=True)
class Verifier:
    """A name and an Ed25519 public key (32 bytes)."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Return the verifier of a key string ``name+hash+base64``; FormatError when it is none."""
        name, _, rest = text.strip().partition("+")
        key_id, _, key = rest.partition("+")
        data = decode_base64(key)
        if len(data) != 33 or data[:1] != ED25519:
            raise FormatError("only Ed25519 keys are known here")
        verifier = cls(_check_name(name), data[1:])
        if verifier.key_id.hex() != key_id:
            raise FormatError(f"the key `{name}` has the id {verifier.key_id.hex()}, not {key_id[:16]}")
        return verifier

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` is this key's signature of ``text``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Signer:
    """An Ed25519 private key with a name. Its string form is Go's ``PRIVATE+KEY+name+hash+base64``."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.verifier = Verifier(_check_name(name), self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> "Signer":
        """Return a new key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> "Signer":
        """Return the signer of a private key string; FormatError when it is none."""
        if not text.startswith(_PRIVATE):
            raise FormatError("not a private key string")
        name, _, rest = text.strip().removeprefix(_PRIVATE).partition("+")
        key_id, _, key = rest.partition("+")
        data = decode_base64(key)
        if len(data) != 33 or data[:1] != ED25519:
            raise FormatError("only Ed25519 keys are known here")
        signer = cls(name, data[1:])
        if signer.verifier.key_id.hex() != key_id:
            raise FormatError("the private key string contradicts itself")
        return signer

    def export(self) -> str:
        """Return the private key string. Whoever reads it can sign as this log."""
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{encode_base64(ED25519 + self._seed)}"

    def sign(self, text: str) -> bytes:
        """Return the signed note of ``text``, which ends in a newline."""
        if not text.endswith("\n"):
            raise FormatError("the text of a note must end in a newline")
        signature = self.verifier.key_id + self._key.sign(text.encode())
        return f"{text}\n{_DASH}{self.verifier.name} {encode_base64(signature)}\n".encode()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature line: unverified."""

    name: str
    key_id: bytes
    value: bytes


def split_note(note: bytes) -> tuple[str, list[Signature]]:
    """Return the text and the signature lines of a note, unverified; FormatError when it is none."""
    if len(note) > MAX_NOTE_BYTES:
        raise FormatError("the note is too long")
    try:
        content = note.decode()
    except UnicodeDecodeError:
        raise FormatError("a note must be UTF-8") from None
    if any(ord(each) < 0x20 and each != "\n" for each in content):
        raise FormatError("a note must not contain control characters")
    text, separator, lines = content.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise FormatError("a note is a text, an empty line, and signature lines")
    signatures = []
    for line in lines[:-1].split("\n"):
        name, _, value = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not value:
            raise FormatError("not a signature line")
        data = decode_base64(value)
        if len(data) < 5:
            raise FormatError("a signature line is too short")
        signatures.append(Signature(_check_name(name), data[:4], data[4:]))
    return text + "\n", signatures


def open_note(note: bytes, verifiers: Iterable[Verifier]) -> str:
    """Return the text of ``note`` if a known key signed it.

    Signatures of unknown keys are ignored; a wrong one of a known key, or none of a known key, is a ProofError.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified = False
    for signature in signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            continue
        if not verifier.verifies(text.encode(), signature.value):
            raise ProofError(f"the signature of `{signature.name}` is wrong")
        verified = True
    if not verified:
        raise ProofError("no known key signed it")
    return text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: its origin, the number of entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Return the checkpoint of a note's text; extension lines are ignored. FormatError when it is none."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise FormatError("a checkpoint has an origin, a size and a root, each on a line")
        root = decode_base64(lines[2])
        if len(root) != HASH_SIZE:
            raise FormatError(f"the root hash must have {HASH_SIZE} bytes")
        return cls(lines[0], decode_decimal(lines[1]), root)

    @classmethod
    def open(cls, note: bytes, verifiers: Iterable[Verifier], origin: str | None = None) -> "Checkpoint":
        """Return the checkpoint in ``note`` if a known key signed it and it is of ``origin``.

        FormatError when it is no checkpoint, ProofError when it is not signed by a known key or of another log.
        """
        checkpoint = cls.parse(open_note(note, verifiers))
        if origin is not None and checkpoint.origin != origin:
            raise ProofError(f"the checkpoint is of the log `{checkpoint.origin}`, not `{origin}`")
        return checkpoint
