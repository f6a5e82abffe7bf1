"""The vault: sealed payloads open only where they belong, and what the entry says proves what they were."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import VaultError
from audit.vault import MasterKey, OrganizationKey, commit

MASTER = MasterKey(bytes(range(32)))


def organization(name: str = "acme") -> OrganizationKey:
    key, wrapped = MASTER.create(name)
    assert MASTER.unwrap(name, wrapped).pseudonym("a", "b") == key.pseudonym("a", "b")
    return key


@given(st.binary(max_size=4096))
def test_a_payload_comes_back_and_salt_and_payload_give_the_commitment(payload: bytes) -> None:
    key = organization()
    sealed = key.seal("entry", "request", payload)
    opened = key.open(sealed)
    assert opened.payload == payload
    assert sealed.commitment == "c1:sha256:" + hashlib.sha256(opened.salt + payload).hexdigest()
    assert len(opened.salt) == 32


def test_equal_payloads_have_nothing_in_common() -> None:
    key = organization()
    first, second = (key.seal("entry", "request", b"yes") for _ in range(2))
    for name in ("nonce", "wrapped", "ciphertext", "commitment"):
        assert getattr(first, name) != getattr(second, name)


def test_neither_payload_nor_salt_nor_key_is_in_the_row() -> None:
    key = organization()
    payload = b"the patient's name is in here"
    sealed = key.seal("entry", "request", payload)
    row = sealed.nonce + sealed.wrapped + sealed.ciphertext + sealed.commitment.encode()
    assert payload not in row
    assert key.open(sealed).salt not in row


@pytest.mark.parametrize("name", ["nonce", "wrapped", "ciphertext"])
def test_every_altered_bit_is_found(name: str) -> None:
    key = organization()
    sealed = key.seal("entry", "request", b"payload")
    data = getattr(sealed, name)
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(VaultError):
            key.open(replace(sealed, **{name: altered}))


def test_a_payload_opens_only_in_its_place() -> None:
    key, other = organization(), organization("other")
    sealed = key.seal("entry", "request", b"payload")
    for moved in (
        replace(sealed, entry_id="another"),
        replace(sealed, name="reply"),
        replace(sealed, organization="other"),
        replace(sealed, commitment=commit(bytes(32), b"payload")),
    ):
        with pytest.raises(VaultError):
            key.open(moved)
    with pytest.raises(VaultError):
        other.open(sealed)


def test_an_organisations_key_opens_only_under_its_master_and_name() -> None:
    _, wrapped = MASTER.create("acme")
    with pytest.raises(VaultError):
        MASTER.unwrap("other", wrapped)
    with pytest.raises(VaultError):
        MasterKey(bytes(32)).unwrap("acme", wrapped)
    with pytest.raises(VaultError):
        MasterKey(b"short")


def test_pseudonyms_are_equal_within_an_organisation_only() -> None:
    key = organization()
    assert key.pseudonym("subject", "taro") == key.pseudonym("subject", "taro")
    assert (
        len({key.pseudonym("subject", "taro"), key.pseudonym("owner", "taro"), key.pseudonym("subject", "jiro")}) == 3
    )
    assert organization("other").pseudonym("subject", "taro") != key.pseudonym("subject", "taro")
