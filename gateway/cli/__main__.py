"""``python -m gateway.cli`` is ``so8t``."""

from gateway.cli.main import app

if __name__ == "__main__":
    app(prog_name="so8t")
