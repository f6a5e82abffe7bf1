"""``so8t check`` and ``so8t judge`` with the shipped release: shapes, order, and errors that say where."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app

runner = CliRunner()


def judge(path: Path, *options: str) -> tuple[int, list[dict[str, object]], str]:
    result = runner.invoke(app, ["judge", str(path), *options])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_check_prints_label_scores_and_release() -> None:
    result = runner.invoke(app, ["check", "Please book a meeting room for Tuesday."])
    assert result.exit_code == 0
    assert any(label in result.stdout for label in ("ALLOW", "REFUSE", "ESCALATE"))
    assert "so8t-nano" in result.stdout


def test_check_as_json_is_the_object_of_judge() -> None:
    result = runner.invoke(app, ["check", "--json", "会議室を予約してください。"])
    answer = json.loads(result.stdout)
    assert set(answer) == {"id", "label", "scores", "domain", "rationale", "unjudged"}
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["rationale"]


def test_texts_and_bodies_are_judged_in_order_and_ids_are_echoed(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "wipe", "arguments": '{"all": true}'}}
    user = {"role": "user", "content": "tidy up"}
    proposed = {"role": "assistant", "content": None, "tool_calls": [call]}
    code, answers, _ = judge(
        write(
            tmp_path / "in.jsonl",
            {"id": "a", "text": "hello"},
            {"id": 2, "messages": [user], "verdict": "ALLOW"},
            {"messages": [user, proposed]},
            {"id": None, "messages": [user, proposed, {"role": "tool", "tool_call_id": "c", "content": "done"}]},
        ),
        "--no-rationale",
    )
    assert code == 0
    assert [answer["id"] for answer in answers] == ["a", 2, None, None]
    assert all(answer["rationale"] == "" for answer in answers)


def test_what_cannot_be_read_is_listed_as_unjudged(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    content = [{"type": "text", "text": "what is this?"}, picture]
    path = write(tmp_path / "in.jsonl", {"id": 1, "messages": [{"role": "user", "content": content}]})
    _, answers, _ = judge(path, "--no-rationale")
    unjudged = answers[0]["unjudged"]
    assert isinstance(unjudged, list)
    assert [part["pointer"] for part in unjudged] == ["/messages/0/content/1"]


def test_a_bad_line_is_named_and_the_others_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "text": "hello"}\n{"id": 2, "text": \n{"id": 3}\n{"id":4,"id":5,"text":"x"}\n')
    code, answers, errors = judge(path, "--no-rationale")
    assert code == 1
    assert "label" in answers[0]
    assert all("error" in answer for answer in answers[1:])
    assert f"{path}:2: not valid JSON" in errors
    assert f"{path}:3: neither" in errors
    assert f"{path}:4: the key" in errors


def test_the_decision_of_an_organisation_is_added_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", {"id": 1, "text": "hello"})
    code, answers, _ = judge(path, "--no-rationale", "--org", "acme-clinic", "--policies", "policies")
    assert code == 0
    decision = answers[0]["decision"]
    assert isinstance(decision, dict)
    assert set(decision) == {"effect", "domain", "route", "reasons", "revision"}


def test_a_missing_file_and_a_missing_release_are_clear_errors(tmp_path: Path) -> None:
    missing = runner.invoke(app, ["judge", str(tmp_path / "none.jsonl")])
    assert missing.exit_code == 2
    assert "none.jsonl: No such file" in missing.stderr
    release = runner.invoke(app, ["check", "hello", "--release", str(tmp_path / "nowhere")])
    assert release.exit_code == 1
    assert "no such release folder" in release.stderr
