"""Settings: each value has one way to be set per layer, and nothing unknown is ignored."""

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_hold_without_anything() -> None:
    settings = load_settings(environment={})
    assert settings == Settings()
    assert (settings.server.host, settings.server.port, settings.server.loopback) == ("127.0.0.1", 8080, True)
    assert settings.store.data_dir == Path("var")
    assert settings.policy.directory is None


def test_the_policies_folder_counts_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    assert load_settings(environment={}).policy.directory == Path("policies")


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    (tmp_path / "so8t.yaml").write_text("server: {host: 0.0.0.0, port: 1}\nsafety: {timeout_s: 3}\nupstream:\n")
    environment = {"SO8T_SERVER_PORT": "2", "SO8T_UPSTREAM_API_KEY_ENV": "MY_KEY", "MY_KEY": "secret", "HOME": "/"}
    settings = load_settings(environment=environment, overrides={"server.port": 3, "upstream.url": None})
    assert (settings.server.host, settings.server.port, settings.server.loopback) == ("0.0.0.0", 3, False)  # noqa: S104
    assert settings.safety.timeout_s == 3.0
    assert settings.upstream_key(environment) == "secret"


@pytest.mark.parametrize(
    ("file", "environment", "message"),
    [
        ("sever: {host: x}", {}, "unknown section `sever`"),
        ("server: {hots: x}", {}, "unknown key `server.hots`"),
        ("server: [x]", {}, "must be a mapping"),
        ("[x]", {}, "mapping of sections"),
        ("server: {port: x}", {}, "`server.port` must be of type int"),
        ("server: {port: true}", {}, "`server.port` must be of type int"),
        ("server: {host: 5}", {}, "`server.host` must be of type str"),
        ("server: {port: 70000}", {}, "from 0 to 65535"),
        ("upstream: {url: ftp://x}", {}, "http:// or https://"),
        ("policy: {directory: nowhere}", {}, "not a directory"),
        ("safety: {timeout_s: 0}", {}, "more than 0"),
        ("smtp: {sender: a@b.c}", {}, "unknown key `smtp.sender`; known in `smtp`: host, port, from"),
        ("smtp: {password: secret}", {}, "unknown key `smtp.password`.*password_env"),
        ("smtp: {from: nobody}", {}, "`smtp.from` must be one mail address"),
        ("smtp: {from: 'a@b.c, d@e.f'}", {}, "`smtp.from` must be one mail address"),
        ('smtp: {from: "a@b.c\nBcc: d@e.f"}', {}, "`smtp.from` must be one mail address"),
        ("smtp: {starttls: perhaps}", {}, "`smtp.starttls` must be one of auto, always, never, not `perhaps`"),
        ("smtp: {port: 0}", {}, "`smtp.port` must be from 1 to 65535"),
        ("console: {url: so8t.example.org}", {}, "`console.url` must begin with http:// or https://"),
        ("escalation: {waiters: 0}", {}, "`escalation.waiters` must be more than 0"),
        ("a: b: c", {}, "so8t.yaml"),
        ("", {"SO8T_SERVER_PROT": "1"}, "SO8T_SERVER_PROT: unknown key"),
        ("", {"SO8T_NONSENSE": "1"}, "SO8T_NONSENSE: unknown section"),
    ],
)
def test_a_mistake_is_told_with_its_source(
    tmp_path: Path, file: str, environment: dict[str, str], message: str
) -> None:
    (tmp_path / "so8t.yaml").write_text(file)
    with pytest.raises(SettingsError, match=message):
        load_settings(environment=environment)


def test_variables_named_like_flags_count_too() -> None:
    assert load_settings(environment={"SO8T_DATA_DIR": "/x"}).store.data_dir == Path("/x")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.yaml"):
        load_settings(tmp_path / "missing.yaml", environment={})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("::1", True), ("127.0.0.9", True), ("::", False), ("example.org", False)],
)
def test_only_loopback_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert load_settings(environment={"SO8T_SERVER_HOST": host}).server.loopback is loopback


def test_the_mail_server_is_set_under_the_names_that_are_documented(tmp_path: Path) -> None:
    (tmp_path / "so8t.yaml").write_text(
        "smtp: {host: mail.example.org, from: SO8T <so8t@example.org>, starttls: true, username: so8t}\n"
        "console: {url: https://so8t.example.org}\nescalation: {waiters: 5, replay_s: 30}\n"
    )
    environment = {"SO8T_SMTP_PORT": "465", "SMTP_PASSWORD": "secret"}
    settings = load_settings(environment=environment)
    smtp = settings.smtp
    assert (smtp.host, smtp.port, smtp.sender) == ("mail.example.org", 465, "SO8T <so8t@example.org>")
    assert (smtp.starttls, smtp.username, settings.smtp_password(environment)) == ("always", "so8t", "secret")
    assert settings.console.url == "https://so8t.example.org"
    assert (settings.escalation.waiters, settings.escalation.replay_s) == (5, 30.0)
    assert (settings.escalation.waiters_per_key, settings.escalation.remember_s) == (200, 86400.0)


def test_the_environment_overrides_the_sender(tmp_path: Path) -> None:
    (tmp_path / "so8t.yaml").write_text("smtp: {from: a@example.org, starttls: never}\n")
    environment = {"SO8T_SMTP_FROM": "b@example.org", "SO8T_SMTP_STARTTLS": "auto"}
    assert load_settings(environment=environment).smtp.sender == "b@example.org"
    assert load_settings(environment=environment).smtp.starttls == "auto"
