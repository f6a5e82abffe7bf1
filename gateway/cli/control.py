"""What a command asks of the running gateway, over the Unix socket in its data directory."""

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.errors import AuditUnavailable, SettingsError
from gateway.store.directory import DataDirectory
from gateway.store.lock import DirectoryInUse, DirectoryLock

TIMEOUT_S: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask_running(directory: DataDirectory, path: str, body: Mapping[str, Any], *, otherwise: str) -> dict[str, Any]:
    """Like ``ask``; SettingsError with ``otherwise`` when no gateway runs on the directory."""
    if not directory.path.is_dir():
        raise SettingsError(f"{directory.path} is not a data directory: name the gateway's with --data-dir")
    try:
        DirectoryLock(directory).close()
    except DirectoryInUse:
        return ask(directory, path, body)
    raise SettingsError(f"no gateway runs on {directory.path}: {otherwise}")


def ask(directory: DataDirectory, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Post a command and return its answer; AuditUnavailable when the gateway does not answer or refuses, with why."""
    connection = _UnixConnection(directory.socket)
    try:
        connection.request("POST", path, orjson.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        answer = orjson.loads(response.read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise AuditUnavailable(f"the running gateway does not answer on {directory.socket}: {error}") from None
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        told = answer.get("error") if isinstance(answer, dict) else None
        message = told.get("message") if isinstance(told, dict) else f"status {response.status}"
        raise AuditUnavailable(f"the running gateway refused: {message}")
    return answer
