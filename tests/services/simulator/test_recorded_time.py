"""The extension carries a time before each data frame, and touches nothing else."""

import pytest
from websockets.exceptions import NegotiationError, ProtocolError
from websockets.frames import Frame, Opcode

from ssmd.recorded_time import (
    ClientRecordedTime,
    ClientRecordedTimeFactory,
    ServerRecordedTime,
    ServerRecordedTimeFactory,
    prefix,
)

NOW = 1_786_410_915_579_000_123


def test_what_one_half_adds_the_other_takes_off() -> None:
    server, client = ServerRecordedTime(), ClientRecordedTime()
    for k, payload in enumerate([b"{}", b"", b"x" * 100_000]):
        server.now_ns = NOW + k
        sent = server.encode(Frame(Opcode.TEXT, payload))
        assert bytes(sent.data) == prefix(NOW + k) + payload
        assert bytes(client.decode(sent).data) == payload
    assert list(client.times) == [NOW, NOW + 1, NOW + 2]


def test_control_frames_and_the_clients_own_stay_as_they_are() -> None:
    server, client = ServerRecordedTime(), ClientRecordedTime()
    for opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE, Opcode.CONT):
        assert bytes(server.encode(Frame(opcode, b"ab")).data) == b"ab"
        assert bytes(client.decode(Frame(opcode, b"ab")).data) == b"ab"
    assert bytes(client.encode(Frame(Opcode.TEXT, b"ab")).data) == b"ab"
    assert bytes(server.decode(Frame(Opcode.TEXT, b"ab")).data) == b"ab"
    assert not client.times


def test_a_frame_too_short_for_its_time_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="7 bytes"):
        ClientRecordedTime().decode(Frame(Opcode.TEXT, b"1234567"))


def test_parameters_are_not_negotiated() -> None:
    assert ClientRecordedTimeFactory().get_request_params() == []
    with pytest.raises(NegotiationError):
        ClientRecordedTimeFactory().process_response_params([("a", None)], [])
    with pytest.raises(NegotiationError):
        ServerRecordedTimeFactory().process_request_params([("a", None)], [])
