"""Cutting whole text frames out ourselves changes nothing: same frames, same answers, same end, however TCP cuts."""

import asyncio
import itertools
import struct
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from services.connector.framing import frame_end
from services.connector.link import Link, Target
from ssmd.clock import SystemClock

LIMIT = 300


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.over = False

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<eof>"

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        self.over = True

    abort = close


def frame(head: int, payload: bytes, *, masked: bool = False, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    mask = 0x80 if masked else 0
    if size < 126:
        return bytes([head, mask | size]) + payload
    if size < 65536:
        return bytes([head, mask | 126]) + struct.pack(">H", size) + payload
    return bytes([head, mask | 127]) + struct.pack(">Q", size) + payload


texts = st.binary(max_size=140).map(lambda b: frame(0x81, b)) | st.sampled_from(
    [frame(0x81, b"x" * n) for n in (125, 126, 127, 255, 256, LIMIT, LIMIT + 1)]
)
fragmented = st.lists(st.binary(max_size=40), min_size=2, max_size=4).map(
    lambda parts: (
        frame(0x01, parts[0])
        + b"".join(frame(0x00, p) + frame(0x89, b"between") for p in parts[1:-1])
        + frame(0x80, parts[-1])
    )
)
others = st.one_of(
    st.binary(max_size=140).map(lambda b: frame(0x82, b)),
    st.binary(max_size=130).map(lambda b: frame(0x89, b)),
    st.binary(max_size=20).map(lambda b: frame(0x8A, b)),
    st.just(frame(0x88, struct.pack(">H", 1001) + b"going")),
    st.just(frame(0x88, b"")),
    fragmented,
    st.just(frame(0x80, b"continues nothing")),
    st.just(frame(0x01, b"begins, and")),
    st.just(frame(0xC1, b"compressed?")),
    st.just(frame(0x83, b"unknown")),
    st.just(frame(0x81, b"masked", masked=True)),
    st.just(frame(0x81, b"", length=1 << 40)),
    st.just(bytes([0x81, 127]) + struct.pack(">Q", 5) + b"short"),
    st.binary(max_size=30),
)
streams = st.lists(texts | texts | texts | others, max_size=12).map(b"".join)


def all_to_websockets(link: Link, data: bytes, ts_recv: int) -> None:
    link._ws.receive_data(data)
    link._take(ts_recv)


async def outcome(stream: bytes, cuts: Sequence[int], send: bool) -> tuple[list[bytes], int, bytes, str]:
    """What a link makes of a server's stream, cut at these places from the handshake's end on."""
    got: list[bytes] = []

    def on_frames(wires: Sequence[bytes], ts_recv: int) -> Sequence[bytes]:
        got.extend(wires)
        return [b"owed"] if send and len(got) % 5 == 4 else []

    subject = Link(Target("ws://venue/ws", {}, False, LIMIT), SystemClock(), lambda _: [b"hello"], on_frames)
    wire = Wire()
    subject.connection_made(wire)  # type: ignore[arg-type]
    server = ServerProtocol()
    server.receive_data(bytes(wire.written))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    answer = b"".join(server.data_to_send())
    wire.written.clear()
    data = answer + stream
    places = sorted({0, *(len(answer) + cut for cut in cuts if cut < len(stream)), len(data)})
    for a, b in itertools.pairwise(places):
        piece = data[a:b]
        if subject.ended.done():
            break
        subject.get_buffer(-1)[: len(piece)] = piece
        subject.buffer_updated(len(piece))
    at_once = len(got)
    if not subject.ended.done():
        subject.eof_received()
        subject.connection_lost(None)
    return got, at_once, unmasked(bytes(wire.written)), subject.ended.result()


def unmasked(written: bytes) -> bytes:
    """The client's frames without their random masks."""
    peer = ServerProtocol()
    peer.state = State.OPEN
    told = b""
    body = written.removesuffix(b"<eof>")
    peer.receive_data(body)
    for event in peer.events_received():
        told += bytes([event.opcode]) + bytes(event.data)  # type: ignore[union-attr]
    return told + written[len(body) :]


@settings(max_examples=600)
@given(stream=streams, cuts=st.lists(st.integers(-5, 20) | st.integers(0, 900), max_size=8), send=st.booleans())
def test_the_same_comes_out(stream: bytes, cuts: list[int], send: bool) -> None:
    ours = asyncio.run(outcome(stream, cuts, send))
    with mock.patch.object(Link, "_read", all_to_websockets):
        assert ours == asyncio.run(outcome(stream, cuts, send))


@pytest.mark.parametrize(
    "data",
    [
        frame(0x81, b"", length=LIMIT + 1),
        frame(0x82, b"", length=1 << 63),
        frame(0x81, b"", masked=True, length=9),
        b"\x87\x09",
    ],
)
def test_a_frame_that_will_be_refused_is_not_waited_for(data: bytes) -> None:
    assert frame_end(data, 0, LIMIT) <= len(data)


def test_no_more_is_waited_for_than_the_frame() -> None:
    whole = frame(0x82, b"x" * LIMIT)
    for size in range(len(whole)):
        assert size < frame_end(whole[:size], 0, LIMIT) <= len(whole)
    assert frame_end(whole + b"more", 0, LIMIT) == len(whole)
