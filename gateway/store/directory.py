"""The data directory: where each thing lies, and the secrets that are made on first use."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.errors import AuditError
from audit.note import Signer, Verifier
from audit.publish import signer_name
from audit.tiles import sync_directory
from audit.vault import KEY_SIZE, MasterKey
from gateway.errors import SettingsError
from gateway.settings import load_settings

DEFAULT_NAME: Final = "so8t"
"""The gateway's name in the origin of its logs, fixed when the signing key is made."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A gateway's state: a database, the published logs, and two secret keys (files of mode 0600)."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "gateway.db"

    @property
    def lock(self) -> Path:
        """Held by whoever may write."""
        return self.path / "gateway.lock"

    @property
    def socket(self) -> Path:
        """Where a running gateway takes commands."""
        return self.path / "gateway.sock"

    @property
    def published(self) -> Path:
        """The published logs: one directory an organisation."""
        return self.path / "audit"

    @property
    def audit_key(self) -> Path:
        """The key that signs checkpoints."""
        return self.path / "keys" / "audit.key"

    @property
    def master_key(self) -> Path:
        """The key that wraps the organisations' vault keys."""
        return self.path / "keys" / "master.key"

    def create(self) -> None:
        """Make the directory, readable by its owner only, unless it is there."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def signer(self, name: str = DEFAULT_NAME) -> Signer:
        """Return the signing key; made on first use, then with the gateway's ``name``. SettingsError when unusable."""
        text = _secret(self.audit_key, lambda: Signer.generate(signer_name(name)).export().encode() + b"\n")
        try:
            return Signer.parse(text.decode().strip())
        except (AuditError, ValueError) as error:
            raise SettingsError(f"{self.audit_key}: {error}") from None

    def verifier(self) -> Verifier:
        """Return the public key that outsiders check the logs with. SettingsError when there is no key yet."""
        if not self.audit_key.is_file():
            raise SettingsError(f"{self.audit_key} does not exist: no gateway ran on {self.path} yet")
        return self.signer().verifier

    def vault_key(self) -> MasterKey:
        """Return the master key of the vault; made on first use. SettingsError when unusable."""
        if not self.master_key.is_file() and self.database.is_file():
            raise SettingsError(f"{self.master_key} is missing: the payloads in {self.database} cannot be opened")
        try:
            return MasterKey(_secret(self.master_key, lambda: os.urandom(KEY_SIZE)))
        except AuditError as error:
            raise SettingsError(f"{self.master_key}: {error}") from None


def locate(path: Path | None) -> DataDirectory:
    """Return the data directory: ``path``, else ``SO8T_DATA_DIR``, else what the settings say (``./var``)."""
    if path is None:
        environment = dict(os.environ)
        variable = environment.pop("SO8T_DATA_DIR", None)
        path = Path(variable) if variable else load_settings(environment=environment).store.data_dir
    return DataDirectory(path)


def _secret(file: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of a secret file that only its owner can read; made durably on first use."""
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                target.write(make())
                target.flush()
                os.fsync(target.fileno())
            os.link(aside, file)
            aside.unlink()
            sync_directory(file.parent)
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"{file} can be read by others: run `chmod 600 {file}`")
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
