"""Text of others: every character is there, and none acts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.legible import count_hidden, markup, plain, runs
from tests.gateway.console.hostile import HOSTILE


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_is_lost_and_nothing_acts(text: str) -> None:
    found = list(runs(text))
    back = "".join(run.text if run.name is None else chr(int(run.text[2:], 16)) for run in found)
    assert back == text.replace("\r\n", "\n")
    for run in found:
        if run.name is None:
            assert all(each.isprintable() or each in "\n\t\u3000\u200d" for each in run.text)
    shown = str(markup(text))
    assert shown.replace('<span class="hidden-character" title="', "").replace("</span>", "").count("<") == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_escaped(text: str) -> None:
    shown = str(markup(text))
    assert "<script" not in shown.lower()
    assert "\x1b" not in plain(text)
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    "text",
    ["日本語のテキスト。\n二行目", "naïve café", "Zürich\t1", "❤️ 👩‍👩‍👧 👍🏽", "한국어", "العربية", "全角　空白"],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert count_hidden(text) == 0
    assert plain(text) == text


def test_marks_say_what_they_are() -> None:
    assert 'title="RIGHT-TO-LEFT OVERRIDE">U+202E</span>' in markup("a\u202eb")
    assert plain("\x1b[2J") == "<U+001B>[2J"
    assert count_hidden("Z" + "\u0301" * 10) == 7
