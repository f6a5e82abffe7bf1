"""Who may rule: refused rulings are recorded and change nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CaseStateError, NotReviewerError, RulingError
from gateway.escalation.case import Handling, Reviewer
from gateway.principal import Principal
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.escalation.desk import ADMIN, HANAKO, OTHER, REVIEWER, Desk, opening


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path: Path = tmp_path_factory.mktemp("reviewing")
    with Store(DataDirectory(path / "data")) as store:
        yield Desk(store, options={"open_per_key": 10_000})


@pytest.fixture
def binding(request: pytest.FixtureRequest) -> str:
    return request.node.name[:67]  # type: ignore[no-any-return]


def owned(owner: str) -> Principal:
    return replace(HANAKO, owner=owner)


async def refused(desk: Desk, by: Reviewer, ground: str, **changes: Any) -> None:
    case = await desk.beside().open(opening(**changes))
    for kind in ("approve", "deny", "answer"):
        with pytest.raises(NotReviewerError) as error:
            await desk.cases.rule(case.id, by, kind, text="text")
        assert error.value.ground == ground
        assert error.value.status == 403
        assert desk.events(case.id)[-1] == "ruling_refused"
        last = desk.story(case.id)[-1]
        assert (last["ground"], last["kind"], last["auth"]) == (ground, kind, by.auth)
    assert await desk.cases.get(case.id) == case


@pytest.mark.parametrize(
    ("owner", "name", "email"),
    [
        ("Hanako", "hanako", None),
        ("Hanako", "ＨＡＮＡＫＯ", None),
        ("H\u200banako", "Hanako", None),
        ("hanako@acme.example", "Sato", "Hanako@ACME.example"),
        ("hanako@acme.example", "hanako@acme.example", None),
        ("Hanako <hanako@acme.example>", "Sato", "hanako@acme.example"),
        ("Hanako <hanako@acme.example>", "Hanako", None),
        ("Hanako", "Hanako <h@acme.example>", None),
    ],
)
async def test_nobody_rules_on_what_they_asked_for(
    desk: Desk, binding: str, owner: str, name: str, email: str | None
) -> None:
    by = Reviewer(name, "acme", frozenset({"medical"}), email)
    await refused(desk, by, "owner", binding=binding, principal=owned(owner))
    await refused(desk, Reviewer(name, None, email=email, auth="cli"), "owner", binding=binding)


async def test_a_name_that_only_resembles_the_owners_may(desk: Desk, binding: str) -> None:
    case = await desk.cases.open(opening(binding, principal=owned("Hanako")))
    assert (await desk.cases.rule(case.id, Reviewer("Hanako2", "acme"), "approve")).status == "approved"


async def test_other_organisations_are_refused(desk: Desk, binding: str) -> None:
    await refused(desk, replace(REVIEWER, organization="beta"), "other_organization", binding=binding)
    await refused(desk, replace(REVIEWER, organization=None), "other_organization", binding=binding)
    await refused(desk, replace(REVIEWER, organization="beta", auth="cli"), "other_organization", binding=binding)


async def test_only_those_whom_the_route_names(desk: Desk, binding: str) -> None:
    for reviewers in (("group:legal",), ("someone", "group:legal"), ("medical",), ("group:dr sato",)):
        await refused(desk, REVIEWER, "not_named", binding=binding, handling=Handling("desk", reviewers))
        case = await desk.cases.find("acme", binding)
        assert case is not None
        await desk.cases.withdraw(case.id, "test")
    for number, named in enumerate(("group:MEDICAL", "dr sato", "SATO@acme.example")):
        handling = Handling("desk", ("x", named))
        case = await desk.cases.open(opening(f"{binding[:50]}{number}", handling=handling))
        assert (await desk.cases.rule(case.id, REVIEWER, "approve")).status == "approved"


async def test_a_group_cannot_be_claimed_by_a_name(desk: Desk, binding: str) -> None:
    by = Reviewer("group:medical", "acme")
    handling = Handling("desk", ("group:medical",))
    await refused(desk, by, "not_named", binding=binding, handling=handling)


async def test_an_administrator_stands_above_the_named_unless_the_route_forbids(desk: Desk, binding: str) -> None:
    case = await desk.cases.open(opening(binding, handling=Handling("desk", ("group:legal",))))
    done = await desk.cases.rule(case.id, ADMIN, "approve")
    assert done.status == "approved"
    assert done.rulings[0].auth == "cli"
    ruled = desk.story(case.id)[-2]
    assert ruled["ev"] == "case_ruled"
    assert ruled["os_user"] != ruled["actor"]
    await desk.cases.withdraw(case.id, "test")
    await refused(desk, ADMIN, "cli_forbidden", binding=binding, handling=Handling("desk", allow_cli=False))


async def test_one_person_is_not_two(desk: Desk, binding: str) -> None:
    case = await desk.cases.open(opening(binding, handling=Handling("desk", approvals=2)))
    await desk.cases.rule(case.id, REVIEWER, "approve")
    for again in (REVIEWER, replace(REVIEWER, name="DR SATO"), replace(ADMIN, name="ｄｒ　ｓａｔｏ")):
        with pytest.raises(NotReviewerError) as error:
            await desk.cases.rule(case.id, again, "approve")
        assert error.value.ground == "ruled_already"
    assert (await desk.cases.rule(case.id, OTHER, "approve")).status == "approved"


async def test_any_denial_wins(desk: Desk, binding: str) -> None:
    case = await desk.cases.open(opening(binding, handling=Handling("desk", approvals=3)))
    await desk.cases.rule(case.id, REVIEWER, "approve")
    denied = await desk.cases.rule(case.id, OTHER, "deny")
    assert denied.status == "denied"
    assert [each.kind for each in denied.rulings] == ["approve", "deny"]


@pytest.mark.parametrize("first", ["approve", "deny", "answer"])
async def test_a_decided_case_is_not_decided_again(desk: Desk, binding: str, first: Any) -> None:
    case = await desk.cases.open(opening(binding))
    await desk.cases.rule(case.id, REVIEWER, first, text="text")
    entries = len(desk.story(case.id))
    for by in (REVIEWER, OTHER):
        with pytest.raises(CaseStateError) as error:
            await desk.cases.rule(case.id, by, "deny")
        assert error.value.status == 409
    assert len(desk.story(case.id)) == entries


@pytest.mark.parametrize(
    ("kind", "text", "lesson", "name"),
    [
        ("approved", None, None, "Sato"),
        ("answer", None, None, "Sato"),
        ("answer", " \n", None, "Sato"),
        ("answer", "text", "allow", "Sato"),
        ("approve", None, "refuse", "Sato"),
        ("deny", None, "allow", "Sato"),
        ("deny", "x" * 65537, None, "Sato"),
        ("deny", "\ud800", None, "Sato"),
        ("deny", None, None, ""),
        ("deny", None, None, "\u200b"),
        ("deny", None, None, "a\nb"),
        ("deny", None, None, "x" * 201),
    ],
)
async def test_a_ruling_that_nobody_could_give(
    desk: Desk, binding: str, kind: Any, text: str | None, lesson: Any, name: str
) -> None:
    case = await desk.cases.open(opening(binding))
    entries = len(desk.story(case.id))
    with pytest.raises(RulingError) as error:
        await desk.cases.rule(case.id, replace(REVIEWER, name=name), kind, text=text, lesson=lesson)
    assert error.value.status == 400
    assert len(desk.story(case.id)) == entries
    assert await desk.cases.get(case.id) == case
