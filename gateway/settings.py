"""Settings: one YAML file, each value overridden by ``SO8T_<SECTION>_<KEY>``, the common ones by flags."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, get_type_hints

import yaml

from gateway.errors import SettingsError

PREFIX: Final = "SO8T_"
DEFAULT_FILE: Final = Path("so8t.yaml")
SHORT: Final = {"SO8T_DATA_DIR": "store.data_dir", "SO8T_POLICIES": "policy.directory"}
"""Variables named like their flags."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the gateway listens and what it accepts."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free port."""
    body_limit: int = 1024 * 1024
    """Bytes of a request body."""
    header_timeout_s: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_timeout_s: float = 30.0
    log_level: str = "info"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the gateway keeps its state."""

    data_dir: Path = Path("var")


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Where the organisations' policy bundles are."""

    directory: Path | None = None
    """None: ``./policies`` if it exists, else only the built-in base holds."""
    poll_s: float = 1.0
    """Time between two looks for changed files."""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Where allowed requests go."""

    url: str | None = None
    """Base URL, such as ``https://api.openai.com/v1``. None: the release's own Task head answers."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the upstream's key."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 300.0
    """Longest silence of the upstream."""


@dataclass(frozen=True, slots=True)
class SafetySettings:
    """Which release judges, and how long a verdict may take."""

    release: Path | None = None
    """A release directory. None: the built-in one."""
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Each field is a section of the file."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    safety: SafetySettings = field(default_factory=SafetySettings)

    def upstream_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the upstream's own key from the environment."""
        return environment.get(self.upstream.api_key_env) or None


def load_settings(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings: defaults, then the file, then ``SO8T_`` variables, then ``overrides`` (``section.key``).

    Without ``file``, ``so8t.yaml`` of the working directory counts where it exists. An unknown section, key or variable
    and a value of the wrong type are errors.
    """
    values = _from_file(file) | _from_environment(environment)
    values |= {key: (value, "the command line") for key, value in (overrides or {}).items() if value is not None}
    settings = Settings()
    for key, (value, source) in values.items():
        settings = _set(settings, key, value, source)
    if settings.policy.directory is None and Path("policies").is_dir():
        settings = replace(settings, policy=replace(settings.policy, directory=Path("policies")))
    _check(settings)
    return settings


Values = dict[str, tuple[object, str]]


def _from_file(file: Path | None) -> Values:
    if file is None:
        if not DEFAULT_FILE.is_file():
            return {}
        file = DEFAULT_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: must be a mapping of sections")
    values: Values = {}
    for section, written in content.items():
        keys = {} if written is None else written
        if not isinstance(keys, dict):
            raise SettingsError(f"{file}: the section `{section}` must be a mapping")
        values |= {f"{section}.{key}": (value, str(file)) for key, value in keys.items() if value is not None}
    return values


def _from_environment(environment: Mapping[str, str]) -> Values:
    values: Values = {}
    for name, value in environment.items():
        if name in SHORT:
            values[SHORT[name]] = (value, name)
        elif name.startswith(PREFIX):
            section, _, key = name.removeprefix(PREFIX).lower().partition("_")
            values[f"{section}.{key}"] = (value, name)
    return values


def _set(settings: Settings, path: str, value: object, source: str) -> Settings:
    name, _, key = path.partition(".")
    if name not in (item.name for item in fields(Settings)):
        raise SettingsError(f"{source}: unknown section `{name}`; known: {', '.join(i.name for i in fields(Settings))}")
    section = getattr(settings, name)
    kinds = get_type_hints(type(section))
    if key not in kinds:
        raise SettingsError(f"{source}: unknown key `{path}`; known in `{name}`: {', '.join(kinds)}")
    return replace(settings, **{name: replace(section, **{key: _convert(value, kinds[key], path, source)})})


def _convert(value: object, kind: Any, path: str, source: str) -> object:
    text = isinstance(value, str)
    try:
        if kind is int and (text or (isinstance(value, int) and not isinstance(value, bool))):
            return int(str(value))
        if kind is float and (text or (isinstance(value, int | float) and not isinstance(value, bool))):
            return float(str(value))
        if kind in (Path, Path | None) and isinstance(value, str | Path):
            return Path(value).expanduser()
        if kind in (str, str | None) and text:
            return value
    except ValueError:
        pass
    expected = getattr(kind, "__name__", str(kind)).lower()
    raise SettingsError(f"{source}: `{path}` must be of type {expected}, not `{value}`")


def _check(settings: Settings) -> None:
    if not 0 <= settings.server.port <= 65535:
        raise SettingsError(f"`server.port` must be from 0 to 65535, not {settings.server.port}")
    url = settings.upstream.url
    if url is not None and not url.startswith(("http://", "https://")):
        raise SettingsError(f"`upstream.url` must begin with http:// or https://, not `{url}`")
    directory = settings.policy.directory
    if directory is not None and not directory.is_dir():
        raise SettingsError(f"`policy.directory` is not a directory: {directory}")
    positive = {"safety.timeout_s": settings.safety.timeout_s, "policy.poll_s": settings.policy.poll_s}
    for key, value in positive.items():
        if value <= 0:
            raise SettingsError(f"`{key}` must be more than 0, not {value}")
