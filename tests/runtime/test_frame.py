"""The frames of the bus: what goes in comes out, however the bytes are cut, and garbage is a `FrameError`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.runtime.frame import MAX_BODY_BYTES, FrameError, FrameReader, Header, Kind, encode

headers = st.builds(Header, st.sampled_from(Kind), st.integers(min_value=0, max_value=2**63 - 1), st.text(max_size=50))
messages = st.lists(st.tuples(headers, st.binary(max_size=300)), max_size=10)


@given(messages, st.integers(min_value=1, max_value=50))
def test_messages_survive_any_cut(sent: list[tuple[Header, bytes]], piece: int) -> None:
    stream = b"".join(encode(header, body) for header, body in sent)
    reader = FrameReader()
    received = [
        message for start in range(0, len(stream), piece) for message in reader.feed(stream[start : start + piece])
    ]
    assert received == sent


@given(st.binary(min_size=1, max_size=200))
def test_garbage_is_an_incomplete_frame_or_a_frame_error(garbage: bytes) -> None:
    reader = FrameReader()
    try:
        for header, _ in reader.feed(garbage):
            assert isinstance(header, Header)
    except FrameError:
        pass


def test_an_http_request_is_refused_at_its_first_bytes() -> None:
    with pytest.raises(FrameError, match="not the bus"):
        list(FrameReader().feed(b"GET / HTTP/1.1\r\n"))


def test_a_message_beyond_the_limit_is_refused_where_it_is_sent() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_BODY_BYTES + 1

    with pytest.raises(FrameError, match="at most"):
        encode(Header(Kind.NOTICE, 0, "topic"), Huge())


def test_what_was_read_is_not_kept() -> None:
    reader = FrameReader()
    frame = encode(Header(Kind.NOTICE, 0, "a"), b"x" * 100)
    for _ in range(1000):
        assert len(list(reader.feed(frame))) == 1
    assert len(reader._buffer) == 0
