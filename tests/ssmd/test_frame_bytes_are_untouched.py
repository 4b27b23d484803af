"""Whatever a venue sends, its exact bytes can be rebuilt from the archive line, which is one line of JSON."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd import frames


@given(st.binary(max_size=200))
def test_any_bytes_come_back(wire: bytes) -> None:
    message = frames.message(5, b"c-1", 7, wire, bad="not JSON", json=False)
    assert b"\n" not in message
    line = frames.parse(frames.line(3, message))
    assert (line.wire(), line.seq, line.ts_recv, line.conn, line.n, line.reason) == (wire, 3, 5, "c-1", 7, "not JSON")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(
    json_values,
    st.sampled_from([b"", b" ", b"\n", b"\t\r\n"]),
    st.sampled_from([b"", b"\n"]),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_any_json_text_comes_back_and_stays_json(
    value: object, head: bytes, tail: bytes, indent: int | None, ascii_only: bool
) -> None:
    wire = head + json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode() + tail
    message = frames.message(5, b"c-1", 7, wire)
    assert b"\n" not in message
    line = frames.parse(message)
    assert line.wire() == wire
    if line.text is None:
        assert json.loads(bytes(line.frame)) == value


def test_the_common_frame_is_embedded_verbatim() -> None:
    wire = b'{"type":"trade",  "p":1.10}'
    assert frames.line(9, frames.message(5, b"c", 2, wire)) == (
        b'{"seq":9,"ts_recv":5,"conn":"c","n":2,"frame":{"type":"trade",  "p":1.10}}'
    )


def test_a_line_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        frames.parse(b'{"seq":1}')


@given(json_values, st.lists(st.sampled_from([b"{}", b'{"u":1}']), max_size=3))
def test_an_answer_to_a_request_is_a_frame_with_its_body_verbatim(value: object, meanwhile: list[bytes]) -> None:
    body = json.dumps(value).encode()
    wire = frames.rest("GET /a?b=c", 200, body, meanwhile)
    assert frames.is_rest(wire) and body in wire
    told = json.loads(wire)
    assert (told["rest"], told["status"], told["body"]) == ("GET /a?b=c", 200, value)
    assert [json.dumps(frame).replace(" ", "").encode() for frame in told.get("meanwhile", [])] == meanwhile


@given(st.binary(max_size=50))
def test_an_answer_that_is_no_json_is_still_a_frame(body: bytes) -> None:
    json.loads(frames.rest("GET /", 0, body))
