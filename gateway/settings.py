"""Settings: one YAML file, each value overridden by ``SO8T_<SECTION>_<KEY>``, the common ones by flags."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import yaml

from gateway.errors import SettingsError

PREFIX: Final = "SO8T_"
DEFAULT_FILE: Final = Path("so8t.yaml")
SHORT: Final = {"SO8T_DATA_DIR": "store.data_dir", "SO8T_POLICIES": "policy.directory"}
"""Variables named like their flags."""
RESERVED: Final = {"sender": "from"}
"""Fields whose key in the file and in the environment is a word of Python."""
SWITCH: Final = {"true": "always", "false": "never"}
"""What the words of YAML mean where one of several words is asked for."""


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


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
        return is_loopback(self.host)


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
    keep_inputs_days: float = 90.0
    """How long what decisions were made from (scores and names, no text) is kept for `so8t policy replay`."""


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
    trusted: Literal["yes", "no"] = "no"
    """Whether policies that oblige to a trusted upstream may use this one. The built-in Task head always is."""

    @property
    def is_trusted(self) -> bool:
        """Whether the operator trusts it."""
        return self.url is None or self.trusted == "yes"


@dataclass(frozen=True, slots=True)
class SafetySettings:
    """Which release judges, and how long a verdict may take."""

    release: Path | None = None
    """A release directory. None: the built-in one."""
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The mail server that takes notices."""

    host: str | None = None
    """None: no mail is sent."""
    port: int = 587
    """465 speaks TLS from the first byte; any other port may be upgraded by STARTTLS."""
    sender: str | None = None
    """The address that notices come from; the key is ``from``. None: ``so8t@`` and the name of this machine."""
    starttls: Literal["auto", "always", "never"] = "auto"
    """``auto`` upgrades where the server offers it; ``always`` (or ``true``) refuses to send without."""
    username: str | None = None
    """None: no login. A login needs an encrypted connection, except on this machine."""
    password_env: str = "SMTP_PASSWORD"  # noqa: S105 - the name of a variable
    """Name of the environment variable that holds the password."""


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """How people reach the console."""

    url: str | None = None
    """Its public base URL, such as ``https://so8t.example.org``. None: ``http://`` and where the gateway listens."""


@dataclass(frozen=True, slots=True)
class EscalationSettings:
    """How many wait for a person, and how long what a person decided holds."""

    waiters: int = 2000
    """Requests that may wait at once; one more is told to come back."""
    waiters_per_key: int = 200
    open_per_key: int = 100
    """Cases of one key that may be pending."""
    approval_ttl_s: float = 3600.0
    """From the approval to its use."""
    replay_s: float = 600.0
    """How long a finished answer is kept for a retry."""
    remember_s: float = 86400.0
    """How long a denial or a person's answer holds for the same request."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Each field is a section of the file."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    safety: SafetySettings = field(default_factory=SafetySettings)
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    escalation: EscalationSettings = field(default_factory=EscalationSettings)

    def upstream_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the upstream's own key from the environment."""
        return environment.get(self.upstream.api_key_env) or None

    def smtp_password(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the password for the mail server from the environment."""
        return environment.get(self.smtp.password_env) or None


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
    kinds = {RESERVED.get(known, known): (known, kind) for known, kind in get_type_hints(type(section)).items()}
    if key not in kinds:
        raise SettingsError(f"{source}: unknown key `{path}`; known in `{name}`: {', '.join(kinds)}")
    attribute, kind = kinds[key]
    return replace(settings, **{name: replace(section, **{attribute: _convert(value, kind, path, source)})})


def _convert(value: object, kind: Any, path: str, source: str) -> object:
    text = isinstance(value, str)
    if get_origin(kind) is Literal:
        word = SWITCH.get(str(value).lower(), value)
        if word in get_args(kind):
            return word
        raise SettingsError(f"{source}: `{path}` must be one of {', '.join(get_args(kind))}, not `{value}`")
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
    if not 1 <= settings.smtp.port <= 65535:
        raise SettingsError(f"`smtp.port` must be from 1 to 65535, not {settings.smtp.port}")
    for key, url in {"upstream.url": settings.upstream.url, "console.url": settings.console.url}.items():
        if url is not None and not url.startswith(("http://", "https://")):
            raise SettingsError(f"`{key}` must begin with http:// or https://, not `{url}`")
    sender = settings.smtp.sender
    if sender is not None and not _is_sender(sender):
        raise SettingsError(f"`smtp.from` must be one mail address such as so8t@example.org, not `{sender}`")
    directory = settings.policy.directory
    if directory is not None and not directory.is_dir():
        raise SettingsError(f"`policy.directory` is not a directory: {directory}")
    positive = {"safety.timeout_s": settings.safety.timeout_s, "policy.poll_s": settings.policy.poll_s}
    positive["policy.keep_inputs_days"] = settings.policy.keep_inputs_days
    positive |= {f"escalation.{name}": value for name, value in asdict(settings.escalation).items()}
    for key, value in positive.items():
        if value <= 0:
            raise SettingsError(f"`{key}` must be more than 0, not {value}")


def _is_sender(text: str) -> bool:
    message = EmailMessage()
    try:
        message["From"] = text
    except ValueError:
        return False
    header = message["From"]
    return not header.defects and len(header.addresses) == 1 and bool(header.addresses[0].domain)
