"""The composed gateway: real store, real policies, real sockets; only the judge is scripted."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest
import requests
from sqlalchemy import update
from typer.testing import CliRunner

from audit.entry import read_entry
from audit.log import latest_entries
from gateway.app import create_app
from gateway.cli.policy import app as policy_app
from gateway.errors import AuditUnavailable, GatewayError, PolicyError, SettingsError
from gateway.settings import Settings, load_settings
from gateway.store.directory import DataDirectory
from gateway.store.engine import open_reader
from gateway.store.inputs import find_input
from gateway.store.records import Administrator
from gateway.store.schema import policy_input
from gateway.store.store import Store
from tests.doubles import ScriptedSafetyModel, Served, UpstreamDouble, script

POLICY = "version: 1\norganization: acme\nlanguage: ja\ntools: {default: judge, 'drop_*': {effect: refuse}}\n"
TOOL: Any = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}


@pytest.fixture
def settings(tmp_path: Path, double: UpstreamDouble) -> Settings:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "acme.yaml").write_text(POLICY)
    return load_settings(
        environment={},
        overrides={
            "store.data_dir": tmp_path / "var",
            "policy.directory": tmp_path / "policies",
            "policy.poll_s": 0.1,
            "upstream.url": double.url,
            "safety.timeout_s": 2,
        },
    )


@pytest.fixture
def judge() -> ScriptedSafetyModel:
    return ScriptedSafetyModel()


@pytest.fixture
def gateway(settings: Settings, judge: ScriptedSafetyModel) -> Iterator[Served]:
    with Served(create_app(settings, engine=judge)) as served:
        yield served


def chat(url: str, text: str, key: str | None = None, **fields: object) -> requests.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return requests.post(url + "/v1/chat/completions", data=orjson.dumps(body), headers=headers, timeout=10)


def entries(settings: Settings, organization: str) -> list[dict[str, Any]]:
    reader = open_reader(settings.store.data_dir / "gateway.db")
    try:
        with reader.connect() as connection:
            return [read_entry(leaf) for _, leaf in sorted(latest_entries(connection, organization, 100))]
    finally:
        reader.dispose()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def _control(settings: Settings, method: str, path: str, body: object) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(str(settings.store.data_dir / "gateway.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://gateway{path}", data=orjson.dumps(body)) as response,
    ):
        return response.status, orjson.loads(await response.read())


def control(settings: Settings, method: str, path: str, body: object = None) -> tuple[int, Any]:
    return asyncio.run(_control(settings, method, path, body))


def test_the_whole_line_leaves_its_entries(gateway: Served, settings: Settings) -> None:
    allowed = chat(gateway.url, script(tools=[["send", '{"to":"bob"}']]), tools=[TOOL])
    assert allowed.json()["choices"][0]["message"]["tool_calls"]
    refused = chat(gateway.url, "REFUSE")
    assert refused.json()["governance"]["policy"] == "base"
    until(lambda: len(entries(settings, "default")) == 5)
    found = entries(settings, "default")
    calls = [
        [(entry["ev"], entry.get("stage")) for entry in found if entry["request"] == request]
        for request in dict.fromkeys(entry["request"] for entry in found)
    ]
    assert calls == [
        [("decision", "request"), ("decision", "response"), ("enforcement", None)],
        [("decision", "request"), ("enforcement", None)],
    ]
    assert found[1]["decision"] == allowed.headers["x-so8t-decision-id"]
    assert [entry["ev"] for entry in entries(settings, "operator")] == ["started"]


def test_keys_are_made_and_revoked_through_the_control_socket(gateway: Served, settings: Settings) -> None:
    assert (settings.store.data_dir / "gateway.sock").stat().st_mode & 0o077 == 0
    command = {"action": "create", "organization": "acme", "owner": "ann", "actor": "root"}
    status, made = control(settings, "POST", "/control/keys", command)
    assert status == 200
    assert chat(gateway.url, "hi").status_code == 401
    answer = chat(gateway.url, script(tools=[["drop_tables", "{}"]]), made["key"], tools=[TOOL])
    assert answer.json()["governance"] | {"decision_id": "", "revision": ""} == {
        "decision": "refuse",
        "decision_id": "",
        "domain": None,
        "policy": "acme",
        "revision": "",
    }
    assert "拒否" in answer.json()["choices"][0]["message"]["content"]
    _, listed = control(settings, "GET", "/control/keys")
    assert [key["owner"] for key in listed["keys"]] == ["ann"]
    status, _ = control(settings, "POST", "/control/keys/revoke", {"id": made["id"], "actor": "root"})
    assert status == 200
    assert "tool:drop_*" in str(entries(settings, "acme"))


@pytest.mark.parametrize("body", [[], {"action": "create"}, {"action": "create", "organization": "A B", "owner": "x"}])
def test_a_wrong_command_is_told(gateway: Served, settings: Settings, body: object) -> None:
    status, answer = control(settings, "POST", "/control/keys", body)
    assert status == 400
    assert answer["error"]["message"]


def test_a_changed_policy_comes_into_force_with_its_entry(gateway: Served, settings: Settings, tmp_path: Path) -> None:
    command = {"action": "create", "organization": "acme", "owner": "ann", "actor": "root"}
    key = control(settings, "POST", "/control/keys", command)[1]["key"]
    file = tmp_path / "policies" / "acme.yaml"
    file.write_text(POLICY + "nonsense: 1\n")
    time.sleep(0.4)
    assert chat(gateway.url, "REFUSE", key).status_code == 200
    file.write_text(POLICY + "refusal: {shape: error}\n")
    until(lambda: chat(gateway.url, "REFUSE", key).status_code == 400)
    until(lambda: [each["policy"] for each in entries(settings, "acme") if each["ev"] == "policy_loaded"] == ["acme"])


def test_a_reload_is_commanded_and_its_entry_tells_by_whom(gateway: Served, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "policies" / "default.yaml"
    command = {"action": "reload", "actor": "root"}
    before = control(settings, "POST", "/control/policy", command)[1]
    assert before["ok"]
    file.write_text("version: 1\norganization: default\nlanguage: ja\n")
    status, after = control(settings, "POST", "/control/policy", command)
    assert (status, after["ok"]) == (200, True)
    assert after["revision"] != before["revision"]
    loaded = [entry for entry in entries(settings, "default") if entry["ev"] == "policy_loaded"]
    assert [entry["policy"] for entry in loaded] == ["default"]
    assert loaded[0]["auth"] in ("cli", "file")
    assert len(loaded[0]["previous"]) == len(loaded[0]["revision"]) == 64
    assert loaded[0]["previous"] != loaded[0]["revision"]
    file.write_text("nonsense: 1")
    _, kept = control(settings, "POST", "/control/policy", command)
    assert (kept["ok"], kept["revision"]) == (False, after["revision"])
    assert "nonsense" in str(kept["problems"])
    assert "policies" in requests.get(gateway.url + "/readyz", timeout=5).json()["warnings"]
    assert control(settings, "POST", "/control/policy", {"action": "reload"})[0] == 400
    reload = ["reload", "--data-dir", str(settings.store.data_dir)]
    told = CliRunner().invoke(policy_app, reload)
    assert (told.exit_code, "unknown key `nonsense`" in told.output) == (1, True)
    file.unlink()
    told = CliRunner().invoke(policy_app, reload)
    assert (told.exit_code, told.output) == (0, f"ok, in force: {before['revision']}\n")


async def test_without_its_entry_a_policy_does_not_come_into_force(settings: Settings, tmp_path: Path) -> None:
    gateway = create_app(settings, engine=ScriptedSafetyModel()).state.gateway
    await gateway.start()
    try:
        before = gateway.policies.current
        (tmp_path / "policies" / "acme.yaml").write_text(POLICY + "refusal: {shape: error}\n")
        gateway.store.writer.close()
        with pytest.raises(AuditUnavailable):
            await gateway.reload_policies("signal")
        assert gateway.policies.current is before
        assert gateway.policies.changed()
    finally:
        await gateway.close()


def test_old_policy_inputs_are_erased(settings: Settings, judge: ScriptedSafetyModel) -> None:
    day = 86_400_000
    with Served(create_app(settings, engine=judge)) as served:
        old = chat(served.url, "hi").headers["x-so8t-decision-id"]
        new = chat(served.url, "hi").headers["x-so8t-decision-id"]
    with Store(DataDirectory(settings.store.data_dir)) as store:
        late = update(policy_input).where(policy_input.c.decision_id == old).values(at=policy_input.c.at - 91 * day)
        store.writer.run(lambda conn: conn.execute(late))

    def kept() -> list[bool]:
        reader = open_reader(settings.store.data_dir / "gateway.db")
        try:
            with reader.connect() as connection:
                return [find_input(connection, each) is not None for each in (old, new)]
        finally:
            reader.dispose()

    assert kept() == [True, True]
    with Served(create_app(settings, engine=judge)):
        until(lambda: kept() == [False, True])


def test_the_policy_input_of_an_erased_decision_is_erased(settings: Settings, judge: ScriptedSafetyModel) -> None:
    with Served(create_app(settings, engine=judge)) as served:
        decisions = [chat(served.url, "hi").headers["x-so8t-decision-id"] for _ in range(2)]
    found = {entry.get("decision"): entry["id"] for entry in entries(settings, "default") if entry["ev"] == "decision"}
    with Store(DataDirectory(settings.store.data_dir)) as store:
        command = store.trail.erase("default", [found[decisions[0]]], ground="request", by=Administrator("root"))
        asyncio.run(command)
        with store.reader.connect() as connection:
            kept = [find_input(connection, each) is not None for each in decisions]
    assert kept == [False, True]


def test_the_real_client_streams(gateway: Served) -> None:
    client = openai.OpenAI(api_key="none", base_url=f"{gateway.url}/v1", max_retries=0)
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "echo:hi"
    refused = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "REFUSE"}], stream=True)
    assert list(refused)[-1].choices[0].finish_reason == "content_filter"
    stopped = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": script(tools=[["send", "REFUSE"]])}], tools=[TOOL]
    )
    assert stopped.choices[0].finish_reason == "content_filter"
    assert stopped.choices[0].message.tool_calls is None
    assert [model.id for model in client.models.list()] == ["double"]


def test_readiness_follows_the_judge(gateway: Served, judge: ScriptedSafetyModel) -> None:
    assert requests.get(gateway.url + "/readyz", timeout=5).status_code == 200
    judge.state = "starting"
    assert requests.get(gateway.url + "/readyz", timeout=5).json()["problems"] == {"judge": "starting"}


async def test_everybody_needs_a_key_where_others_can_connect(settings: Settings) -> None:
    open_to_all = load_settings(
        environment={"SO8T_SERVER_HOST": "0.0.0.0", "SO8T_STORE_DATA_DIR": str(settings.store.data_dir)}  # noqa: S104
    )
    gateway = create_app(open_to_all, engine=ScriptedSafetyModel()).state.gateway
    with pytest.raises(SettingsError, match="so8t keys create"):
        await gateway.start()
    assert not gateway.running


async def test_one_gateway_a_directory(settings: Settings) -> None:
    first = create_app(settings, engine=ScriptedSafetyModel()).state.gateway
    second = create_app(settings, engine=ScriptedSafetyModel()).state.gateway
    await first.start()
    try:
        with pytest.raises(GatewayError, match="in use"):
            await second.start()
    finally:
        await first.close()
    await second.start()
    assert "default" in second.summary()["callers"]
    await second.close()


def test_wrong_policies_do_not_start(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "policies" / "acme.yaml").write_text("nonsense: 1")
    with pytest.raises(PolicyError):
        create_app(settings, engine=ScriptedSafetyModel())


def test_a_socket_that_a_killed_gateway_left_is_replaced(settings: Settings) -> None:
    settings.store.data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(settings.store.data_dir / "gateway.sock"))
    with Served(create_app(settings, engine=ScriptedSafetyModel())):
        assert control(settings, "GET", "/control/keys") == (200, {"keys": []})
    assert not (settings.store.data_dir / "gateway.sock").exists()
