"""What the commands about policies share: their flags, and the files that they name."""

from pathlib import Path
from typing import Annotated

import typer

BaseFlag = Annotated[Path | None, typer.Option("--base", help="A base file in place of the packaged one.")]
DataFlag = Annotated[
    Path | None, typer.Option("--data-dir", help="The gateway's data directory [default: $SO8T_DATA_DIR, else ./var]")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object for scripts.")]


def existing(paths: list[Path], base: Path | None = None) -> list[Path]:
    """Return ``paths``; exit code 2 when one of them, or ``base``, is not there."""
    for path in [*paths, *([base] if base else [])]:
        if not path.exists():
            typer.echo(f"so8t: no such file or directory: {path}", err=True)
            raise typer.Exit(2)
    return paths
