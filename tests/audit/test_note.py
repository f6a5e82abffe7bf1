"""Signed notes and checkpoints, against the specification and its published example."""

import pytest

from audit.errors import FormatError, ProofError
from audit.note import Checkpoint, Signer, Verifier, encode_base64, open_note, split_note

# Published with golang.org/x/mod/sumdb/note (BSD-3-Clause): key, text and signature of another implementation.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "\N{EM DASH} PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_of_another_implementation_is_verified() -> None:
    verifier = Verifier.parse(PETER)
    assert str(verifier) == PETER
    assert open_note((PETER_TEXT + "\n" + PETER_LINE).encode(), [verifier]) == PETER_TEXT


def test_a_key_survives_export_and_its_notes_are_verified() -> None:
    signer = Signer.parse(Signer.generate("so8t/audit").export())
    verifier = Verifier.parse(str(signer.verifier))
    note = signer.sign("text\n\nwith an empty line\n")
    assert open_note(note, [verifier]) == "text\n\nwith an empty line\n"


def test_signatures_of_unknown_keys_are_ignored_and_one_known_is_needed() -> None:
    signer, stranger = Signer.generate("log"), Signer.generate("log")
    note = signer.sign("text\n")
    both = note + stranger.sign("text\n").split(b"\n\n")[1]
    assert open_note(both, [signer.verifier]) == open_note(both, [stranger.verifier]) == "text\n"
    with pytest.raises(ProofError, match="no known key"):
        open_note(note, [stranger.verifier])
    with pytest.raises(ProofError, match="no known key"):
        open_note(note, [Verifier("another name", signer.verifier.public_key)])
    with pytest.raises(ProofError, match="no known key"):
        open_note(note, [])


def test_a_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    signer, other = Signer.generate("log"), Signer.generate("other")
    wrong = signer.sign("text\n").replace(b"text", b"next") + other.sign("next\n").split(b"\n\n")[1]
    with pytest.raises(ProofError, match="`log` is wrong"):
        open_note(wrong, [signer.verifier, other.verifier])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 log AAAA\n",
        b"text\n\n\xe2\x80\x94 log !!!\n",
        b"text\n\n\xe2\x80\x94 log+x AAAAAAAA\n",
        b"text\n\n- log AAAAAAAA\n",
        b"te\x01xt\n\n\xe2\x80\x94 log AAAAAAAA\n",
        b"te\rxt\n\n\xe2\x80\x94 log AAAAAAAA\n",
        b"\xff\n\n\xe2\x80\x94 log AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 log AAAAAAAA",
        b"text\n\n\xe2\x80\x94 log AAAAAAB=\n",
        b"x" * (1 << 20) + b"\n\n\xe2\x80\x94 log AAAAAAAA\n",
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(FormatError):
        split_note(note)


def test_every_byte_flip_of_a_checkpoint_is_detected() -> None:
    signer = Signer.generate("so8t/audit")
    note = signer.sign(Checkpoint("so8t/audit/acme", 20852163, bytes(range(32))).text())
    assert Checkpoint.open(note, [signer.verifier], "so8t/audit/acme").size == 20852163
    for at in range(len(note)):
        for bit in range(8):
            flipped = bytearray(note)
            flipped[at] ^= 1 << bit
            with pytest.raises((FormatError, ProofError)):
                Checkpoint.open(bytes(flipped), [signer.verifier], "so8t/audit/acme")


def test_a_checkpoint_of_another_log_is_refused() -> None:
    signer = Signer.generate("so8t/audit")
    note = signer.sign(Checkpoint("so8t/audit/acme", 1, bytes(32)).text())
    with pytest.raises(ProofError, match="of the log"):
        Checkpoint.open(note, [signer.verifier], "so8t/audit/other")


ROOT = encode_base64(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n",
        f"origin\n01\n{ROOT}\n",
        f"origin\n-1\n{ROOT}\n",
        f"origin\n٣\n{ROOT}\n",
        f"origin\n1\n{ROOT[:-4]}\n",
        f"origin\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"origin\n1\n{ROOT}\n\nextension\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Checkpoint.parse(text)


def test_extension_lines_are_ignored() -> None:
    assert Checkpoint.parse(f"origin\n0\n{ROOT}\nextension\n").size == 0


@pytest.mark.parametrize(
    "key", ["", "name", "name+00000000+AAAA", PETER.replace("c74f", "c74e"), PETER.replace("Peter", ""), f"+{PETER}"]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(FormatError):
        Verifier.parse(key)
    with pytest.raises(FormatError):
        Signer.parse(f"PRIVATE+KEY+{key}")


def test_names_with_spaces_or_plus_are_refused() -> None:
    for name in ("", "a b", "a+b", "a\nb", "a\u3000b"):
        with pytest.raises(FormatError):
            Signer.generate(name)
