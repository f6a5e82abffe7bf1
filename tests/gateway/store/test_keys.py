"""Keys: only their digest is kept, and each change has an entry."""

import hashlib
import re

import pytest

from audit.log import latest_entries
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.keys import KeyCommandError, Keyring, find_key, list_keys
from gateway.store.records import Administrator
from gateway.store.store import Store

ADMIN = Administrator("root")


async def test_a_key_opens_for_its_organisation_and_only_whole(store: Store) -> None:
    made = await store.keys.create("acme", "Hanako", ADMIN)
    assert re.fullmatch(r"so8t_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", made.key)
    assert await store.keys.find(made.key) == Principal("acme", made.id, "Hanako")
    other = await store.keys.create("beta", "Jiro", ADMIN)
    swapped = f"so8t_{made.id}_{other.key.rpartition('_')[2] if other.key.count('_') == 2 else other.key[14:]}"
    for wrong in (
        "",
        "so8t_",
        made.key[:-1],
        made.key + "A",
        made.key.upper(),
        swapped,
        f"so8t_zzzzzzzz_{made.key[14:]}",
        "' OR '1'='1",
        "so8t_' OR 1=1_" + "a" * 43,
        "\udc80\x00",
        "鍵",
    ):
        assert await store.keys.find(wrong) is None


async def test_the_secret_is_nowhere_in_the_data_directory(directory: DataDirectory, store: Store) -> None:
    made = await store.keys.create("acme", "Hanako", ADMIN)
    content = b"".join(each.read_bytes() for each in directory.path.rglob("*") if each.is_file())
    secret = made.key[14:].encode()
    assert secret not in content
    assert hashlib.sha256(secret).digest() in content


async def test_a_revoked_key_opens_nothing_at_once_and_stays_listed(store: Store) -> None:
    made = await store.keys.create("acme", "Hanako", ADMIN)
    assert await store.keys.find(made.key) is not None
    revoked = await store.keys.revoke(made.id, ADMIN)
    assert revoked.revoked_at is not None
    assert await store.keys.find(made.key) is None
    assert (await store.keys.revoke(made.id, ADMIN)).revoked_at == revoked.revoked_at
    with store.reader.connect() as conn:
        assert [key.id for key in list_keys(conn, "acme")] == [made.id]
        assert list_keys(conn, "beta") == []
        assert find_key(conn, made.key) is None


async def test_another_process_that_revokes_is_noticed(store: Store) -> None:
    keys = Keyring(store.reader, store.writer, store.trail, ttl_s=0.0)
    made = await keys.create("acme", "Hanako", ADMIN)
    assert await keys.find(made.key) is not None
    await store.keys.revoke(made.id, ADMIN)
    assert await keys.find(made.key) is None


async def test_empty_means_that_no_key_was_ever_made(store: Store) -> None:
    assert store.keys.empty()
    made = await store.keys.create("acme", "Hanako", ADMIN)
    assert not store.keys.empty()
    await store.keys.revoke(made.id, ADMIN)
    assert not store.keys.empty()


async def test_each_change_has_an_entry_without_the_persons_name(store: Store) -> None:
    made = await store.keys.create("acme", "Hanako", ADMIN)
    await store.keys.revoke(made.id, ADMIN)
    await store.keys.revoke(made.id, ADMIN)
    with store.reader.connect() as conn:
        leaves = [leaf for _, leaf in latest_entries(conn, "acme", 10)]
    assert len(leaves) == 2
    assert b'"ev":"key_revoked"' in leaves[0]
    assert b'"ev":"key_created"' in leaves[1]
    for leaf in leaves:
        assert made.id.encode() in leaf
        assert b'"auth":"cli"' in leaf
        assert b"Hanako" not in leaf
        assert b"root" not in leaf


@pytest.mark.parametrize(
    ("organization", "owner"),
    [("", "a"), ("Acme", "a"), ("-a", "a"), ("a" * 64, "a"), ("a/..", "a"), ("operator", "a"),
     ("acme", ""), ("acme", " "), ("acme", "a\nb"), ("acme", "a" * 201)],
)  # fmt: skip
async def test_impossible_names_are_refused_and_leave_nothing(store: Store, organization: str, owner: str) -> None:
    with pytest.raises(KeyCommandError):
        await store.keys.create(organization, owner, ADMIN)
    assert store.keys.empty()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "delete", "id": "x", "actor": "root"},
        {"action": "create", "organization": "acme", "actor": "root"},
        {"action": "create", "organization": "acme", "owner": 7, "actor": "root"},
        {"action": "revoke", "id": "x", "actor": "root", "more": "x"},
        {"action": "revoke", "id": "nobody", "actor": "root"},
    ],
)
async def test_a_wrong_command_is_refused(store: Store, body: dict[str, object]) -> None:
    with pytest.raises(KeyCommandError):
        await store.keys.command(body)


async def test_commands_make_and_revoke_keys(store: Store) -> None:
    made = await store.keys.command({"action": "create", "organization": "acme", "owner": "Hanako", "actor": "root"})
    assert await store.keys.find(made["key"]) is not None
    revoked = await store.keys.command({"action": "revoke", "id": made["id"], "actor": "root"})
    assert revoked == {"id": made["id"], "revoked_at": revoked["revoked_at"]}
    assert await store.keys.find(made["key"]) is None
