"""Signing in: who gets a session, how it looks, and how it ends."""

import pytest

from tests.gateway.console.world import PASSWORD, ROOT, World


def test_without_a_session_every_page_leads_to_the_sign_in(world: World) -> None:
    visitor = world.visitor()
    assert visitor.get("/").headers["location"] == "/console/sign-in"
    case = world.open()
    page = visitor.get(f"/cases/{case.id}")
    assert page.status_code == 303
    assert page.headers["location"].startswith("/console/sign-in?next=")
    answer = visitor.sign_in("sato", after=f"/cases/{case.id}")
    assert answer.headers["location"] == f"/console/cases/{case.id}"
    assert visitor.get(f"/cases/{case.id}").status_code == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(world: World) -> None:
    cookie = world.visitor().sign_in("Sato").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/console" in cookie
    assert "Secure" not in cookie  # plain http on loopback
    token = cookie.split("=", 1)[1].split(";")[0]
    with world.store.reader.connect() as conn:
        stored = conn.exec_driver_sql("SELECT token_sha256 FROM console_session").scalar_one()
    assert token.encode() not in stored


def test_nobody_learns_whether_the_name_or_the_password_was_wrong(world: World) -> None:
    pages = [world.visitor().sign_in(name, password) for name, password in (("sato", "x" * 12), ("nobody", PASSWORD))]
    assert [page.status_code for page in pages] == [401, 401]
    assert pages[0].text.replace('"sato"', "") == pages[1].text.replace('"nobody"', "")
    failed = [each for log in ("acme", "operator") for each in world.entries(log) if each["ev"] == "sign_in_failed"]
    assert [each["ground"] for each in failed] == ["refused", "refused"]
    assert all(each["user"].startswith("h1:") for each in failed)
    assert PASSWORD not in str(failed)


def test_signing_in_and_out_leaves_an_entry_and_no_session(world: World) -> None:
    visitor = world.visitor("sato")
    assert [each["auth"] for each in world.entries() if each["ev"] == "user_signed_in"] == ["console"]
    assert visitor.post("/sign-out", {"csrf": "wrong"}).status_code == 403
    assert visitor.get("/").status_code == 200
    kept = visitor.http.cookies.copy()
    assert visitor.post("/sign-out", {"csrf": visitor.token()}).status_code == 303
    visitor.http.cookies.update(kept)
    assert visitor.get("/").status_code == 303


def test_too_many_tries_are_refused_before_the_password_is_looked_at(world: World) -> None:
    visitor = world.visitor()
    for _ in range(10):
        assert visitor.sign_in("sato", "wrong password").status_code == 401
    refused = visitor.sign_in("sato")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    grounds = [each["ground"] for each in world.entries() if each["ev"] == "sign_in_failed"]
    assert grounds == ["refused"] * 9 + ["throttled"]


def test_a_disabled_user_is_out_at_once(world: World) -> None:
    visitor = world.visitor("sato")
    world.run(world.users.disable("sato", ROOT))
    assert visitor.get("/").status_code == 303
    assert visitor.sign_in("sato").status_code == 401


def test_another_password_ends_the_sessions(world: World) -> None:
    visitor = world.visitor("sato")
    world.run(world.users.set_password("sato", "another battery horse", ROOT))
    assert visitor.get("/").status_code == 303
    assert visitor.sign_in("sato").status_code == 401
    assert visitor.sign_in("sato", "another battery horse").status_code == 303


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example", "/../x", "/a\r\nb: c"])
def test_signing_in_never_leads_elsewhere(world: World, after: str) -> None:
    assert world.visitor().sign_in("sato", after=after).headers["location"] == "/console/"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_another_sites_page_signs_nobody_in(world: World, origin: str | None) -> None:
    answer = world.visitor().post("/sign-in", {"name": "sato", "password": PASSWORD}, origin)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_page_speaks_the_browsers_language(world: World) -> None:
    visitor = world.visitor()
    assert "サインイン" in visitor.get("/sign-in", headers={"accept-language": "ja,en;q=0.8"}).text
    assert "Password" in visitor.get("/sign-in", headers={"accept-language": "fr"}).text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"name=\xff", "application/x-www-form-urlencoded"),
        (b"name=a&name=b", "application/x-www-form-urlencoded"),
        (b"a=" + b"x" * 300_000, "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"&".join(b"f%d=1" % number for number in range(99)), "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form_is_refused(world: World, data: bytes, kind: str) -> None:
    visitor = world.visitor()
    headers = {"content-type": kind, "origin": world.url.removesuffix("/console")}
    answer = visitor.http.post(world.url + "/sign-in", data=data, headers=headers, timeout=60)
    assert answer.status_code in (400, 413, 415)
