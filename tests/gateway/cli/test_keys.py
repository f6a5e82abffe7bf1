"""``so8t keys``: on the directory itself, or through the gateway that holds it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from gateway.cli.keys import app
from gateway.errors import RequestError
from gateway.store.directory import DataDirectory
from gateway.store.store import Store
from tests.gateway.store.entries import verify


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "data")


class Control(UnixStreamServer):
    """Serves ``POST /control/keys`` of a store as a running gateway does."""

    def __init__(self, store: Store) -> None:
        super().__init__(str(store.directory.socket), Handler)
        self.store = store
        self.commands: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Control

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/control/keys"
        self.server.commands.append(body)
        try:
            status, answer = 200, self.server.store.command(body)
        except RequestError as error:
            status, answer = error.status, {"error": {"message": error.message}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(orjson.dumps(answer))

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def running(directory: DataDirectory) -> Iterator[Control]:
    with Store(directory) as store:
        control = Control(store)
        yield control
        control.close()


def find(directory: DataDirectory, key: str) -> bool:
    with Store(directory) as store:
        return asyncio.run(store.keys.find(key)) is not None


def test_the_key_is_the_last_line_and_opens_the_gateway(directory: DataDirectory) -> None:
    result = run("create", "--org", "acme", "--owner", "Hanako", "--data-dir", directory.path)
    assert result.exit_code == 0, result.output
    key = result.stdout.splitlines()[-1]
    assert key.startswith("so8t_")
    assert find(directory, key)
    assert verify(directory, "acme").size == 1


def test_a_revoked_key_opens_nothing(directory: DataDirectory) -> None:
    made = json.loads(
        run("create", "--org", "acme", "--owner", "Hanako", "--data-dir", directory.path, "--json").stdout
    )
    assert run("revoke", made["id"], "--data-dir", directory.path).exit_code == 0
    assert not find(directory, made["key"])
    assert run("revoke", "nobody", "--data-dir", directory.path).exit_code == 1


def test_keys_are_listed_without_their_secrets(directory: DataDirectory) -> None:
    assert "no keys" in run("list", "--data-dir", directory.path).output
    key = run("create", "--org", "acme", "--owner", "Hanako", "--data-dir", directory.path).stdout.splitlines()[-1]
    run("create", "--org", "beta", "--owner", "Jiro", "--data-dir", directory.path)
    table = run("list", "--data-dir", directory.path).output
    assert "Hanako" in table
    assert "Jiro" in table
    assert key[14:] not in table
    listed = json.loads(run("list", "--data-dir", directory.path, "--org", "acme", "--json").output)
    assert [(each["owner"], each["revoked_at"]) for each in listed] == [("Hanako", None)]


def test_impossible_names_give_exit_code_1_and_a_reason(directory: DataDirectory) -> None:
    result = run("create", "--org", "Acme Inc", "--owner", "Hanako", "--data-dir", directory.path)
    assert result.exit_code == 1
    assert "lower-case" in result.output


def test_a_running_gateway_does_it_through_its_socket(directory: DataDirectory, running: Control) -> None:
    made = json.loads(
        run("create", "--org", "acme", "--owner", "Hanako", "--data-dir", directory.path, "--json").stdout
    )
    assert asyncio.run(running.store.keys.find(made["key"])) is not None
    assert len(json.loads(run("list", "--data-dir", directory.path, "--json").output)) == 1
    result = run("revoke", made["id"], "--data-dir", directory.path)
    assert result.exit_code == 0, result.output
    assert asyncio.run(running.store.keys.find(made["key"])) is None
    assert [command["action"] for command in running.commands] == ["create", "revoke"]
    assert all(command["actor"] for command in running.commands)


def test_a_running_gateways_refusal_is_told(directory: DataDirectory, running: Control) -> None:
    result = run("revoke", "nobody", "--data-dir", directory.path)
    assert result.exit_code == 1
    assert "no key `nobody`" in result.output


def test_a_gateway_without_a_socket_is_told(directory: DataDirectory) -> None:
    with Store(directory):
        result = run("create", "--org", "acme", "--owner", "Hanako", "--data-dir", directory.path)
    assert result.exit_code == 1
    assert "does not answer" in result.output
