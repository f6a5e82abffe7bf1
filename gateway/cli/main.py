"""The command ``so8t``. A command's module is imported when it runs, so that help and completion are fast."""

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command


class Entry(NamedTuple):
    """Where a command lives: a module, the attribute in it (a Typer application or a function), and what help says."""

    module: str
    attribute: str
    help: str


COMMANDS: Final = {
    "serve": Entry("gateway.cli.serve", "serve", "Run the gateway."),
    "doctor": Entry("gateway.cli.doctor", "doctor", "Say what is configured, reachable and missing."),
    "check": Entry("gateway.cli.judge", "check", "Judge one text."),
    "judge": Entry("gateway.cli.judge", "judge", "Judge a file of chat bodies or texts, one a line."),
    "policy": Entry("gateway.cli.policy", "app", "Check, test and explain policies."),
    "cases": Entry("gateway.cli.cases", "app", "See and decide what waits for a person."),
    "keys": Entry("gateway.cli.keys", "app", "Create, list and revoke keys."),
    "users": Entry("gateway.cli.users", "app", "Add, list and disable the people who decide."),
    "audit": Entry("gateway.cli.audit", "app", "Verify, show, prove and export the audit log."),
}


def load(name: str) -> Any:
    """Import the command ``name``."""
    entry = COMMANDS[name]
    found = getattr(import_module(entry.module), entry.attribute)
    if isinstance(found, typer.Typer):
        command = get_command(found)
        command.name = name
        return command
    return _single(name, found, None)


def _single(name: str, function: Any, text: str | None) -> Any:
    wrapper = typer.Typer(add_completion=False)
    wrapper.command(name, help=text)(function)
    return get_command(wrapper)


def _nothing() -> None:
    """Stand in for a command that is listed and not run."""


class LazyGroup(TyperGroup):
    """Lists its commands from the table and imports only the one that runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in with the command's help: enough to list it."""
        return _single(cmd_name, _nothing, COMMANDS[cmd_name].help) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that runs."""
        if args and args[0] in COMMANDS:
            return args[0], load(args[0]), args[1:]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run; an error that we raise on purpose becomes a line and an exit code."""
        from gateway.errors import GatewayError, SettingsError

        try:
            return super().invoke(ctx)
        except GatewayError as error:
            typer.echo(f"so8t: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    help="A governance gateway for tool-using agents: judge, decide, record, enforce.",
)


@app.callback()
def _main() -> None:
    pass
