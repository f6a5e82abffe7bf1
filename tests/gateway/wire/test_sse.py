"""Server-sent events survive any split of their bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.wire.sse import MAX_EVENT, EventParser, write_comment, write_event


@given(
    st.lists(st.sampled_from(['{"a":1}', "x y", "日本語", "[DONE]", '{"b":\n2}']), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_any_split_and_any_line_end_give_the_same_events(items: list[str], end: str, steps: list[int]) -> None:
    wire = "".join(write_comment("alive").decode() + write_event(item.encode()).decode() for item in items)
    data = wire.replace("\n", end).encode()
    parser, events, position = EventParser(), list[bytes](), 0
    while position < len(data):
        for step in steps:
            events += parser.feed(data[position : position + step])
            position += step
    events += parser.close()
    assert events == [item.encode() for item in items]


def test_an_event_that_the_end_cuts_short_is_not_lost() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\n\ndata:b") == [b"a"]
    assert parser.close() == [b"b"]
    assert parser.close() == []


def test_other_fields_say_nothing() -> None:
    assert EventParser().feed(b"event: x\nid: 1\nretry: 5\ndata: a\n\nevent: y\n\n") == [b"a"]


def test_an_endless_event_is_refused() -> None:
    parser = EventParser()
    half = b"x" * (MAX_EVENT // 2)
    assert parser.feed(b"data: " + half) == []
    with pytest.raises(UpstreamError):
        parser.feed(half)
