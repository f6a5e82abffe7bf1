"""A release on disk: a manifest that names every file by its SHA-256, the trunk, and the head.

``manifest.json`` holds ``schema``, ``id``, ``template``, ``window``, ``labels``, ``domains``, ``temperature``,
``thresholds`` and ``files`` (name to SHA-256 and size). ``head.json`` holds the Safety head's weights as numbers.
The digest of a release is the SHA-256 of its manifest's bytes. Nothing is loaded before every file was verified.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.errors import ReleaseError
from gateway.safety.template import TEMPLATE_VERSION
from gateway.verdict import Label, Thresholds

SCHEMA: Final = 1
BUILTIN: Final = "so8t-nano"
BUILTIN_FOLDER: Final = Path(__file__).parent / "builtin"


@dataclass(frozen=True, slots=True)
class Release:
    """A verified release."""

    id: str
    digest: str
    folder: Path
    window: int
    domains: tuple[tuple[Label, str], ...]
    temperature: float
    thresholds: Thresholds

    @property
    def trunk(self) -> Path:
        """The GGUF file of the trunk."""
        return self.folder / "trunk.gguf"

    @property
    def head(self) -> Path:
        """The weights of the Safety head."""
        return self.folder / "head.json"


def builtin_release() -> Path:
    """Return the folder of the release that ships inside the package."""
    return BUILTIN_FOLDER / BUILTIN


def open_release(folder: Path) -> Release:
    """Verify every file of a release and return it.

    Raises:
        ReleaseError: a file is missing or altered, or the manifest is for another schema or template.
    """
    path = folder / "manifest.json"
    try:
        raw = path.read_bytes()
        manifest: dict[str, Any] = orjson.loads(raw)
    except OSError as error:
        raise ReleaseError(
            f"{path}: cannot be read ({error.strerror}); reinstall the package or rebuild it by `make nano`"
        ) from None
    except orjson.JSONDecodeError as error:
        raise ReleaseError(f"{path}: not JSON ({error}); the release is damaged, reinstall it") from None
    try:
        if manifest["schema"] != SCHEMA or manifest["template"] != TEMPLATE_VERSION:
            raise ReleaseError(
                f"{path}: made for schema {manifest['schema']} and template {manifest['template']}; this gateway "
                f"reads schema {SCHEMA} and template {TEMPLATE_VERSION}: export the release anew"
            )
        for name, expected in manifest["files"].items():
            _verify(folder / name, expected["sha256"], expected["size"])
        for name in ("trunk.gguf", "head.json"):
            if name not in manifest["files"]:
                raise ReleaseError(f"{path}: files: {name!r} is missing; export the release anew")
        return Release(
            id=manifest["id"],
            digest="sha256:" + hashlib.sha256(raw).hexdigest(),
            folder=folder,
            window=manifest["window"],
            domains=tuple((Label(d["label"]), d["name"]) for d in manifest["domains"]),
            temperature=float(manifest["temperature"]),
            thresholds=Thresholds(**manifest["thresholds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"{path}: {error!r} is missing or wrong; export the release anew") from None


def _verify(path: Path, sha256: str, size: int) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
            if file.tell() != size:
                raise ReleaseError(f"{path}: {file.tell()} bytes, the manifest says {size}; reinstall the release")
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read ({error.strerror}); reinstall the release") from None
    if digest.hexdigest() != sha256:
        raise ReleaseError(f"{path}: altered (SHA-256 is not the manifest's); reinstall the release")
