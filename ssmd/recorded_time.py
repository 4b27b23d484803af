"""The recording's receive times over a WebSocket: an extension by which a replay keeps its own clock.

Offered by a client that runs under the recorded clock, accepted by a simulator that replays a tape under it. Then
the payload of every data frame from server to client is preceded by 8 bytes: the time at which the recorder
received that frame, ns since the epoch, big-endian. Control frames and the client's own frames stay as they are.
"""

import struct
from collections import deque
from collections.abc import Sequence

from websockets.exceptions import NegotiationError, ProtocolError
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.typing import ExtensionName, ExtensionParameter

NAME = ExtensionName("x-ssmd-recorded-time")
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY})
_TIME = struct.Struct(">q")
SIZE = _TIME.size
prefix = _TIME.pack  # time in ns -> what precedes the payload


class ClientRecordedTime(Extension):
    """Strips the times; `times` holds one for each data message, in the order they were decoded."""

    name = NAME

    def __init__(self) -> None:
        self.times: deque[int] = deque()

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if frame.opcode in _DATA:
            data = bytes(frame.data)
            if len(data) < SIZE:
                raise ProtocolError(f"a frame of {len(data)} bytes cannot hold its recorded time")
            self.times.append(_TIME.unpack_from(data)[0])
            frame.data = data[SIZE:]
        return frame

    def encode(self, frame: Frame) -> Frame:
        return frame


class ServerRecordedTime(Extension):
    """Puts `now_ns` before each data frame that is sent; the sender sets it."""

    name = NAME

    def __init__(self) -> None:
        self.now_ns = 0

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return frame

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode in _DATA:
            return Frame(frame.opcode, prefix(self.now_ns) + bytes(frame.data), frame.fin)
        return frame


class ClientRecordedTimeFactory(ClientExtensionFactory):
    """Offers the extension; if the server does not know it, frames come without times."""

    name = NAME

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return []

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> ClientRecordedTime:
        _no_parameters(params)
        return ClientRecordedTime()


class ServerRecordedTimeFactory(ServerExtensionFactory):
    """Accepts the extension."""

    name = NAME

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], ServerRecordedTime]:
        _no_parameters(params)
        return [], ServerRecordedTime()


def _no_parameters(params: Sequence[ExtensionParameter]) -> None:
    if params:
        raise NegotiationError(f"{NAME} takes no parameters, not {params}")
