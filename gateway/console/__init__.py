"""The reviewers' web pages: sign in, see what waits, decide. Plain HTML; nothing here needs a script."""

from gateway.console.app import create_console

__all__ = ["create_console"]
