"""The catalogue: complete in each language, and used."""

import re
from pathlib import Path

import pytest

from gateway import console
from gateway.console.texts import TEXTS, choose_language, speak, word

FOLDER = Path(console.__file__).parent


def test_each_language_has_every_text_with_the_same_values() -> None:
    english, japanese = TEXTS["en"], TEXTS["ja"]
    assert english.keys() == japanese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", japanese[key])), key


def test_every_text_that_a_page_names_exists() -> None:
    pattern = re.compile(r"""\bsay\(\s*f?["']([a-z][\w.-]*\w)["']""")
    sources = [*FOLDER.rglob("*.html"), *FOLDER.rglob("*.py")]
    named = {key for path in sources for key in pattern.findall(path.read_text("utf-8"))}
    assert len(named) > 50
    known = TEXTS["en"].keys()
    assert [key for key in named if key not in known and not any(each.startswith(f"{key}.") for each in known)] == []


def test_a_word_of_an_open_set_stands_for_itself() -> None:
    assert word(speak("ja"), "domain", "medical") == "医療"
    assert word(speak("ja"), "domain", "{0}<b>") == "{0}<b>"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("ja", "ja"), ("fr,ja;q=0.5", "ja"), ("en-GB,ja;q=0.9", "en"), ("", "en"), ("ja;q=x,en;q=0.1", "en"), ("*", "en")],
)
def test_the_browser_chooses_the_language(accepted: str, language: str) -> None:
    assert choose_language(accepted) == language
