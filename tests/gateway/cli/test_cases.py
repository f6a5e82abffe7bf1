"""``so8t users``, ``so8t cases`` and ``so8t audit show --case``: beside a gateway that runs, and without one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import audit, cases, users
from gateway.escalation.case import Handling, StoredAnswer
from gateway.http.case_commands import CaseCommands
from gateway.http.control import Control
from gateway.store.directory import DataDirectory
from tests.gateway.console.hostile import HOSTILE
from tests.gateway.console.world import World, held_reply

ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1"}


def run(module: object, *arguments: object, text: str | None = None) -> Result:
    app = module.app  # type: ignore[attr-defined]
    return CliRunner().invoke(app, [str(each) for each in arguments], input=text, env=ENVIRONMENT)


class Running(World):
    """A console with a control socket."""

    @contextmanager
    def control(self) -> Iterator[None]:
        """Serve the socket."""
        commands = CaseCommands(self.cases)

        async def refuse(_body: object) -> dict[str, object]:
            raise AssertionError

        control = Control(self.store.directory.socket, refuse, list, users=self.users.command, cases=commands.command)
        self.run(control.start())
        try:
            yield
        finally:
            self.run(control.close())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "data") as world, world.control():
        yield world


def directory(world: World) -> Path:
    return world.store.directory.path


def test_users_are_added_to_a_stopped_gateway(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = run(users, "add", "sato", "--org", "acme", "--group", "medical", "--group", "night", "--data-dir", data)
    assert made.exit_code == 0, made.output
    assert len(made.stdout.splitlines()[-1]) == 23
    named = run(users, "add", "kato", "--org", "acme", "--password-stdin", "--data-dir", data, text="a good password\n")
    assert named.exit_code == 0, named.output
    assert "password" not in named.stdout
    assert run(users, "add", "x", "--org", "acme", "--password-stdin", "--data-dir", data, text="").exit_code == 2
    assert run(users, "add", "SATO", "--org", "acme", "--data-dir", data).exit_code == 1
    listed = json.loads(run(users, "list", "--data-dir", data, "--json").stdout)
    assert [(each["name"], each["groups"]) for each in listed] == [("kato", []), ("sato", ["medical", "night"])]
    assert "password" not in str(listed)
    assert run(users, "disable", "kato", "--data-dir", data).exit_code == 0
    assert run(users, "disable", "nobody", "--data-dir", data).exit_code == 1
    assert "medical night" in run(users, "list", "--data-dir", data).stdout
    changed = json.loads(run(users, "password", "sato", "--data-dir", data, "--json").stdout)
    assert changed["password"]


def test_users_are_added_to_a_running_gateway(running: Running) -> None:
    made = json.loads(run(users, "add", "ito", "--org", "acme", "--data-dir", directory(running), "--json").stdout)
    assert running.visitor().sign_in("ito", made["password"]).status_code == 303
    assert run(users, "disable", "ito", "--data-dir", directory(running)).exit_code == 0
    assert running.visitor().sign_in("ito", made["password"]).status_code == 401


def test_without_a_running_gateway_cases_are_not_decided(tmp_path: Path) -> None:
    result = run(cases, "list", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "no gateway runs" in result.output
    assert "is not a data directory" in run(cases, "list", "--data-dir", tmp_path / "none").output
    assert DataDirectory(tmp_path).socket.exists() is False


def test_an_administrator_sees_and_decides(running: Running) -> None:
    case = running.open(reply=held_reply(("send_email", '{"to":"bob@example.com"}')))
    data = directory(running)
    assert case.id in run(cases, "list", "--data-dir", data).stdout
    listed = json.loads(run(cases, "list", "--status", "pending", "--org", "acme", "--data-dir", data, "--json").stdout)
    assert [each["id"] for each in listed] == [case.id]
    assert "binding" not in listed[0]
    shown = run(cases, "show", case.id, "--data-dir", data).stdout
    assert "call of send_email" in shown
    assert "bob@example.com" in shown
    done = run(cases, "approve", case.id, "--as", "kato", "--data-dir", data, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["status"] == "approved"
    ruled = [each for each in running.entries() if each["ev"] == "case_ruled"]
    assert [each["auth"] for each in ruled] == ["cli"]
    assert ruled[0]["os_user"] != ruled[0]["actor"]
    again = run(cases, "deny", case.id, "--as", "kato", "--data-dir", data)
    assert again.exit_code == 1
    assert "approved" in again.output


def test_denials_and_answers(running: Running) -> None:
    denied, answered, own = running.open(), running.open(), running.open(owner="kato")
    data = directory(running)
    assert "denied" in run(cases, "deny", denied.id, "--as", "kato", "--should-be-refused", "--data-dir", data).output
    assert running.case(denied).rulings[0].lesson == "refuse"
    run(cases, "answer", answered.id, "--as", "kato", "--data-dir", data, text="いいえ\n")
    assert running.run(running.cases.payload(running.case(answered), "answer")) == "いいえ\n".encode()
    assert "いいえ" in run(cases, "show", answered.id, "--data-dir", data).stdout
    refused = run(cases, "approve", own.id, "--as", "Kato", "--data-dir", data)
    assert refused.exit_code == 1
    assert "owns the key" in refused.output
    closed = running.open(handling=Handling("desk", allow_cli=False))
    assert "use the console" in run(cases, "approve", closed.id, "--as", "kato", "--data-dir", data).output
    assert run(cases, "approve", "nonsense", "--as", "kato", "--data-dir", data).exit_code == 1
    assert run(cases, "list", "--status", "odd", "--data-dir", data).exit_code == 1


def test_a_terminal_obeys_nothing_of_what_a_case_says(running: Running) -> None:
    running.open(owner=HOSTILE[-9], domain="other", handling=Handling("\x1b[2J"))
    case = running.open(owner="\x1b]0;x\x07", messages=[{"role": each, "content": each} for each in HOSTILE])
    data = directory(running)
    for output in (
        run(cases, "list", "--data-dir", data).stdout,
        run(cases, "show", case.id, "--data-dir", data).stdout,
    ):
        assert not any(each in output for each in ("\x1b", "\x07", "\u202e", "\x9b", "\x00"))
    assert "<U+001B>" in run(cases, "list", "--data-dir", data).stdout


def test_the_log_tells_the_whole_story_of_a_case(running: Running) -> None:
    case, other = running.open(), running.open()
    running.visitor("sato").decide(case, "approve")
    running.run(running.cases.consume(case.id, case.revision))
    running.run(running.cases.complete(case.id, StoredAnswer(200, "application/json", (), b"{}")))
    data = directory(running)
    told = json.loads(run(audit, "show", "--case", case.id, "--data-dir", data, "--json").stdout)
    events = [(each["entry"]["ev"], each["entry"].get("status")) for each in told]
    assert events == [
        ("decision", None),
        ("case_opened", None),
        ("case_ruled", None),
        ("case", "approved"),
        ("case", "consumed"),
        ("case", "completed"),
    ]
    assert [each["index"] for each in told] == sorted(each["index"] for each in told)
    assert other.id not in str(told)
    table = run(audit, "show", "--case", case.id, "--data-dir", data).stdout
    assert "pending → approved" in table
    assert run(audit, "show", "--case", "nonsense", "--data-dir", data).exit_code == 1
    assert run(audit, "show", case.id, "--case", case.id, "--data-dir", data).exit_code == 2
