"""``so8t serve``."""

import asyncio
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from starlette.applications import Starlette

from gateway.app import Gateway, create_app
from gateway.errors import GatewayError
from gateway.http.protocol import protocol
from gateway.settings import Settings, load_settings
from gateway.telemetry import configure, logger

ConfigFlag = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./so8t.yaml if it exists)")]
DataFlag = Annotated[Path | None, typer.Option("--data-dir", help="Where the gateway keeps its state (default: ./var)")]


def serve(
    config: ConfigFlag = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one (default: 8080)")] = None,
    data_dir: DataFlag = None,
    policies: Annotated[Path | None, typer.Option(help="Policy directory (default: ./policies if it exists)")] = None,
    upstream_url: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server")] = None,
) -> None:
    """Run the gateway until it is told to stop."""
    overrides = {
        "server.host": host,
        "server.port": port,
        "store.data_dir": data_dir,
        "policy.directory": policies,
        "upstream.url": upstream_url,
    }
    settings = load_settings(config, overrides=overrides)
    configure(settings.server.log_level)
    run(settings, create_app(settings))


def run(settings: Settings, app: Starlette) -> None:
    """Serve ``app``; the exit code is 1 when it does not start."""
    server = settings.server
    config = uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        loop="uvloop",
        http=protocol(server.header_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=30,
    )
    running = _Server(config, app.state.gateway)
    running.run()
    if running.refused is not None:
        raise running.refused
    if not running.started:
        raise typer.Exit(1)


class _Server(uvicorn.Server):
    """Starts the gateway before it listens, and says what holds once it does. ``refused``: why it did not start."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self.refused: GatewayError | None = None
        self._reloads: set[asyncio.Future[None]] = set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Run until told to stop."""
        with self._reload_on_hangup():
            try:
                await self._gateway.start()
            except GatewayError as error:
                self.refused = error
                return
            try:
                await super().serve(sockets)
            finally:
                await asyncio.gather(*self._reloads)
                await self._gateway.close()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop on SIGINT and SIGTERM. Unlike uvicorn's own, it does not raise them again: there is more to close."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _reload_on_hangup(self) -> Generator[None]:
        """Let SIGHUP reload the policies, and end the process at no moment."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _hang_up(self) -> None:
        if self._gateway.running:
            task = asyncio.ensure_future(self._reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            await self._gateway.reload_policies("signal")
        except Exception:  # noqa: BLE001 - what was in force stays
            logger.exception("the policies could not be reloaded")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Send away who waits for people to decide, then wait for the connections to end."""
        self._gateway.dismiss()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            greet(self._gateway, self.servers[0].sockets[0].getsockname()[1])


def greet(gateway: Gateway, port: int) -> None:
    """Print what holds."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold]so8t[/bold] listens on http://{gateway.settings.server.host}:{port}/v1")
    for name, text in gateway.summary().items():
        console.print(f"  [dim]{name:13}[/dim] {text}")
