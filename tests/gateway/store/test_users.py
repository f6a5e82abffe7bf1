"""Users and their sessions."""

import pytest

from audit.entry import read_entry
from audit.log import latest_entries
from gateway.store.records import Administrator
from gateway.store.sessions import Sessions
from gateway.store.store import Store
from gateway.store.users import NewUser, UserCommandError, Users, make_password
from tests.gateway.console.world import CHEAP, PASSWORD, ROOT


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store.reader, store.writer, store.trail, hasher=CHEAP)


def entries(store: Store) -> list[dict[str, object]]:
    with store.reader.connect() as conn:
        return [read_entry(leaf) for _, leaf in sorted(latest_entries(conn, "acme", 100))]


async def test_a_user_signs_in_by_any_spelling_of_the_name(users: Users, store: Store) -> None:
    await users.create(NewUser("Satō", "acme", ("medical",), "sato@acme.example", "ja"), PASSWORD, ROOT)
    for name in ("Satō", "SATŌ", "Ｓａｔō"):
        user = await users.authenticate(name, PASSWORD)
        assert user is not None
        assert (user.name, user.groups, user.language) == ("Satō", ("medical",), "ja")
    assert await users.authenticate("Satō", PASSWORD + "x") is None
    with pytest.raises(UserCommandError, match="already"):
        await users.create(NewUser("sATō", "other"), PASSWORD, ROOT)
    with store.reader.connect() as conn:
        raw = conn.exec_driver_sql("SELECT * FROM console_user").fetchall()
    assert PASSWORD not in str(raw)
    assert "$argon2id$" in str(raw)


async def test_each_change_has_its_entry_without_names(users: Users, store: Store) -> None:
    await users.create(NewUser("sato", "acme"), PASSWORD, Administrator("root"))
    await users.set_password("sato", make_password(), ROOT)
    await users.disable("sato", ROOT)
    await users.disable("sato", ROOT)
    found = entries(store)
    assert [entry["ev"] for entry in found] == ["user_created", "user_password_set", "user_disabled"]
    assert len({entry["user"] for entry in found}) == 1
    assert "sato" not in str(found)
    assert await users.authenticate("sato", PASSWORD) is None
    with pytest.raises(UserCommandError, match="disabled"):
        await users.set_password("sato", make_password(), ROOT)


@pytest.mark.parametrize(
    ("new", "password", "reason"),
    [
        (NewUser("", "acme"), PASSWORD, "printable"),
        (NewUser(" sato", "acme"), PASSWORD, "space"),
        (NewUser("sa\u202eto", "acme"), PASSWORD, "printable"),
        (NewUser("x" * 101, "acme"), PASSWORD, "printable"),
        (NewUser("sato", "Acme Inc"), PASSWORD, "lower-case"),
        (NewUser("sato", "operator"), PASSWORD, "operator"),
        (NewUser("sato", "acme", ("a b",)), PASSWORD, "group"),
        (NewUser("sato", "acme", (), "no mail"), PASSWORD, "mail address"),
        (NewUser("sato", "acme"), "short", "12 to"),
        (NewUser("hanako.sato", "acme"), "Hanako.Sato1", "guess"),
        (NewUser("sato", "acme"), "aaaaaaaaaaaaaa", "guess"),
    ],
)
async def test_what_cannot_be_a_user_is_refused(users: Users, new: NewUser, password: str, reason: str) -> None:
    with pytest.raises(UserCommandError, match=reason):
        await users.create(new, password, ROOT)
    assert users.listing() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "create", "name": "x"},
        {"action": "disable", "name": 1, "actor": "root"},
        {"action": "disable", "name": "nobody", "actor": "root"},
        {"action": "password", "name": None, "password": None, "actor": "root"},
    ],
)
async def test_a_wrong_command_is_refused(users: Users, body: dict[str, object]) -> None:
    with pytest.raises(UserCommandError):
        await users.command(body)


async def test_a_session_ends_unused_and_in_any_case(users: Users, store: Store) -> None:
    user = await users.create(NewUser("sato", "acme"), PASSWORD, ROOT)
    now = 1_000_000_000_000
    sessions = Sessions(store.reader, store.writer, clock=lambda: now)
    token = await sessions.open(user)
    now += 29 * 60_000
    assert (await sessions.find(token)) is not None
    now += 29 * 60_000
    assert (await sessions.find(token)) is not None  # used in between
    now += 31 * 60_000
    assert (await sessions.find(token)) is None
    token = await sessions.open(user)
    for _ in range(12 * 3):
        now += 20 * 60_000 - 1
        found = await sessions.find(token)
        assert found is not None
    now += 60_000
    assert (await sessions.find(token)) is None
    assert (await sessions.find("A" * 43)) is None
    assert (await sessions.find("")) is None


async def test_each_session_has_a_token_of_its_own(users: Users, store: Store) -> None:
    user = await users.create(NewUser("sato", "acme"), PASSWORD, ROOT)
    one, two = [await store.sessions.find(await store.sessions.open(user)) for _ in range(2)]
    assert one is not None
    assert two is not None
    assert one.csrf != two.csrf
    await store.sessions.end(one)
    with store.reader.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM console_session").scalar_one() == 1
