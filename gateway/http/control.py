"""The control socket: what an administrator's commands ask of a running gateway.

Only the owner of the data directory can open it, and it is not reachable over a network.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.enforcement import failure
from gateway.errors import GatewayError, RequestError
from gateway.store.keys import KeyInfo
from gateway.telemetry import logger
from gateway.wire.strict import StrictJsonError, loads

MAX_BODY: Final = 1024 * 1024


Command = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Does what a JSON object asks for and returns the answer; GatewayError when it is wrong or refused."""


class Control:
    """Serves the Unix socket ``path`` from ``start`` to ``close``.

    ``command`` creates or revokes a key; ``listed`` returns every key without its secret. ``users``, ``cases`` and
    ``policy`` do what is posted to ``/control/users``, ``/control/cases`` and ``/control/policy``.
    """

    def __init__(
        self,
        path: Path,
        command: Command,
        listed: Callable[[], list[KeyInfo]],
        *,
        users: Command | None = None,
        cases: Command | None = None,
        policy: Command | None = None,
    ) -> None:
        self._path = path
        self._command_keys = command
        self._listed = listed
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/control/keys", self._list)
        app.router.add_post("/control/keys", self._command)
        app.router.add_post("/control/keys/revoke", self._revoke)
        for noun, given in (("users", users), ("cases", cases), ("policy", policy)):
            if given is not None:
                app.router.add_post(f"/control/{noun}", partial(self._run, given))
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen; a socket that a killed gateway left behind is replaced."""
        self._path.unlink(missing_ok=True)
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _list(self, _request: web.Request) -> web.Response:
        return _answer({"keys": [asdict(key) for key in self._listed()]})

    async def _command(self, request: web.Request) -> web.Response:
        return await self._run(self._command_keys, request)

    async def _revoke(self, request: web.Request) -> web.Response:
        return await self._run(lambda body: self._command_keys(dict(body) | {"action": "revoke"}), request)

    async def _run(self, command: Command, request: web.Request) -> web.Response:
        try:
            body = loads(await request.read())
            if not isinstance(body, dict):
                raise RequestError("a command is a JSON object")
            return _answer(await command(body))
        except StrictJsonError as error:
            return _refusal(RequestError(error.message))
        except GatewayError as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - it is logged, and the caller is told
            logger.exception("a command failed")
            return _refusal(error)


def _answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _refusal(error: Exception) -> web.Response:
    told = failure(error)
    return web.Response(body=told.object(), status=told.status, content_type="application/json")
