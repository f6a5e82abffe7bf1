"""What is recognised, that redaction gives back exactly what it took, and that both take linear time."""

import random
import time

import orjson
import pytest

from gateway.decision import Redact
from gateway.policy.recognisers import BUILT_IN, recognise
from gateway.policy.redaction import Restoration, redact, restore

ALL = Redact(BUILT_IN, True)


def found(text: str) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.kind) for span in recognise(text, BUILT_IN)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail taro.yamada+x@example.co.jp.", [("taro.yamada+x@example.co.jp", "email")]),
        ("宛先はtaro@例え.jpです、", [("taro@例え.jp", "email")]),
        ("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", [("ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", "email")]),
        ("4111 1111 1111 1111 4111-1111-1111-1111", [("4111 1111 1111 1111", "card"), ("4111-1111-1111-1111", "card")]),
        ("4111111111111112", []),
        ("a4111111111111111", []),
        ("GB82 WEST 1234 5698 7654 32 IS MINE", [("GB82 WEST 1234 5698 7654 32", "iban")]),
        ("GB83 WEST 1234 5698 7654 32", []),
        ("番号１２３４ ５６７８ ９０１８です", [("１２３４ ５６７８ ９０１８", "my_number")]),
        ("123456789012", []),
        ("SSN 536-90-4399, 000-12-3456", [("536-90-4399", "ssn")]),
        ("電話０３－１２３４－５６７８", [("０３－１２３４－５６７８", "phone")]),
        ("+1 650-253-0000, (650) 253-0000", [("+1 650-253-0000", "phone"), ("(650) 253-0000", "phone")]),
        ("09012345678 and 2026-11-24 12:00", [("09012345678", "phone")]),
        ("nothing here 12 34", []),
    ],
)
def test_what_is_recognised(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_a_kind_of_ones_own() -> None:
    own = Redact(("patient",), True, (("patient", "P[0-9]{6}"),))
    redacted = redact("患者 P123456 と P654321、P123456", own)
    assert redacted.text == "患者 [PATIENT_1] と [PATIENT_2]、[PATIENT_1]"
    with pytest.raises(KeyError):
        redact("x", Redact(("unheard",)))


def test_the_same_value_has_one_placeholder_in_all_texts() -> None:
    first = redact("a@b.co", ALL, avoid="a@b.co [EMAIL_2] c@d.co")
    second = redact("[EMAIL_2] c@d.co a@b.co", ALL, first.originals)
    assert second.text == "[EMAIL_2] [EMAIL_3] [EMAIL_1]"
    assert restore(second.text, second.originals) == "[EMAIL_2] c@d.co a@b.co"


PIECES = (
    "a@b.co",
    "x.y@例え.jp",
    "090-1234-5678",
    "4111 1111 1111 1111",
    "[EMAIL_1]",
    "[CARD_",
    "]",
    "[",
    "日本",
    " ",
    "7",
)


def test_restoring_is_the_inverse_of_redacting() -> None:
    order = random.Random(7)
    for _ in range(300):
        text = "".join(order.choice(PIECES) for _ in range(order.randrange(12)))
        redacted = redact(text, ALL)
        assert restore(redacted.text, redacted.originals) == text
        stream, rest, pieces = Restoration(redacted.originals), redacted.text, []
        while rest:
            size = order.randrange(1, 6)
            pieces.append(stream.feed(rest[:size]))
            rest = rest[size:]
        assert "".join([*pieces, stream.finish()]) == text


def test_what_is_put_back_is_escaped_where_it_stands_in_json() -> None:
    own = Redact(("code",), True, (("code", '"[a-z]+"'),))
    redacted = redact('say "no"', own)
    arguments = orjson.dumps({"text": redacted.text}).decode()
    put_back = restore(arguments, redacted.originals, lambda text: orjson.dumps(text).decode()[1:-1])
    assert orjson.loads(put_back) == {"text": 'say "no"'}


@pytest.mark.parametrize("piece", ["1 ", "1234 ", "a@", "a.", "GB82 ", "+1 ", "(09) ", "["])
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        begun = time.thread_time()
        recognise(piece * (length // len(piece)), BUILT_IN)
        return time.thread_time() - begun

    seconds(1000)
    assert seconds(40_000) < 0.1 + 8 * seconds(10_000)
