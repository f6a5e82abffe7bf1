"""Readers of the training data: open text, instruction pairs, labelled requests.

Formats are described in the data folder's MANIFEST: ``lm/*.jsonl.gz`` (``text`` or ``prompt``/``response``),
``train/*.jsonl`` (``text``, ``suggest``, ``domain``, ``conf``) and ``authored/*.jsonl`` (``messages``, ``verdict``).
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class DataError(ValueError):
    """A row cannot be used; the message names the file, the line and the field."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, gzip-compressed when its name ends in ``.gz``.

    Raises:
        DataError: a line is not a JSON object.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: a JSON object was expected")
            yield row


def open_text(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield each row of an ``lm/`` file as ``(text,)`` or as ``(prompt, response)``."""
    for row in read_rows(path):
        if "text" in row:
            yield (row["text"],)
        else:
            yield (row["prompt"], row["response"])
