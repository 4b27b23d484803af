"""One client's line: frames out in batches, each written down before it leaves and remembered for a resume."""

import contextlib
import zlib
from array import array
from collections.abc import Sequence
from struct import Struct

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from exchanges.port import Record, SimulatedConnection
from services.simulator.faults import OVERSIZED_BYTES, Faults, Tongue
from ssmd import frames
from ssmd.durable import Appender
from ssmd.recorded_time import SIZE, ServerRecordedTime, prefix

NO_TAPE = -1
_SHORT = Struct("!BB").pack
_MIDDLE = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack
_TEXT = 0x81  # FIN and opcode 1
_PING = 0x89


def _head(length: int) -> bytes:
    """What precedes the payload of an unmasked text frame (RFC 6455, 5.2)."""
    if length < 126:
        return _SHORT(_TEXT, length)
    return _MIDDLE(_TEXT, 126, length) if length < 65536 else _LONG(_TEXT, 127, length)


_HEADS = [_head(length) for length in range(4096)]


class Sent:
    """What went out on a connection, 12 bytes a frame: its CRC-32 and its place on the tape."""

    def __init__(self, start: int) -> None:
        self.start = start  # the place from which the tape was played to it
        self.crcs = array("I")
        self.places = array("q")

    def after(self, crc: int | None) -> int:
        """The place that follows the last frame with this CRC-32, for a client that has nothing after it.

        None: it has nothing at all. A CRC that never went out is treated alike: sending twice loses nothing.
        """
        last = len(self.crcs) - 1
        while crc is not None and last >= 0 and self.crcs[last] != crc:
            last -= 1
        if crc is None:
            return self.start
        while last >= 0 and self.places[last] == NO_TAPE:  # an acknowledgement: look for the frame before it
            last -= 1
        return self.start if last < 0 else self.places[last] + 1


class Line:
    """A connection: its grammar, its numbering, its batch of frames not yet written."""

    def __init__(
        self,
        ws: ServerConnection,
        grammar: SimulatedConnection,
        name: str,
        start: int,
        truth: Appender | None,
        faults: Faults | None = None,
    ) -> None:
        self.ws = ws
        self.grammar = grammar
        self.name = name
        self.next = start  # the next place on the tape that this client has not been offered
        self.sent = Sent(start)
        self.n = 0
        self.played = 0  # market data among them
        self.subscribed_at: float | None = None
        self.resumed_at: float | None = None  # until it is ready; the tape waits
        self.ready = False
        self._truth = truth
        self._tongue = None if faults is None else Tongue(faults)
        self._recorded = any(isinstance(e, ServerRecordedTime) for e in ws.protocol.extensions)
        self._conn = name.encode()
        self._out: list[bytes] = []
        self._truth_lines: list[bytes] = []

    def market(self, record: Record, ts_ns: int, place: int = NO_TAPE) -> None:
        """Add a record's frames to the batch, if it is subscribed to."""
        if self._tongue is None:
            wires = self.grammar.market(record)
            self.played += len(wires)
            self.put(wires, ts_ns, place)
        elif self._tongue.silent(ts_ns):
            self.grammar.market(record)  # the venue goes on numbering what does not leave it
        else:
            self._market_with_faults(self._tongue, record, ts_ns, place)

    def silent(self, now_ns: int) -> bool:
        """A fault has struck it dumb: no answer and no heartbeat is sent, only the TCP connection and pongs live on."""
        return self._tongue is not None and self._tongue.silent(now_ns)

    def _market_with_faults(self, tongue: Tongue, record: Record, ts_ns: int, place: int) -> None:
        wires = self.grammar.market(record)
        done = tongue.speak(
            record,
            wires,
            ts_ns,
            put=lambda spoken: self.put(spoken, ts_ns, place),
            note=lambda kind, began_ns: self._note(kind, began_ns, record, wires if kind == "skip" else ()),
        )
        if done == "garbage":
            self._note(done, ts_ns, record)
            self.put([tongue.faults.garbage()], ts_ns, json=False)
        elif done == "oversized":
            self._note(done, ts_ns, record)
            self.put(wires, ts_ns, place)
            self._out += (_head(OVERSIZED_BYTES), b'"' + b"x" * (OVERSIZED_BYTES - 2) + b'"')
        elif done == "cut":
            self._note(done, ts_ns, record)
            whole = b"".join((_head(len(wires[0])), wires[0]))
            self._out.append(whole[: len(whole) // 2])
            self.flush()
            self.ws.transport.close()  # sends what was written, then FIN

    def _note(self, kind: str, ts_ns: int, record: Record, lost: Sequence[bytes] = ()) -> None:
        """A fault's line in the truth log: it came after frame `n` of the connection, and `lost` was not sent."""
        told = {"fault": kind, "conn": self.name, "n": self.n, "ts": ts_ns, "channel": record.channel}
        told |= {"symbol": record.symbol, "lost": [wire.decode() for wire in lost]}
        self._truth_lines.append(msgspec.json.encode(told) + b"\n")

    def put(self, wires: Sequence[bytes], ts_ns: int, place: int = NO_TAPE, *, json: bool = True) -> None:
        """Add frames to the batch; `ts_ns` is the venue's time, `json` False says that they are none."""
        for wire in wires:
            self.n += 1
            self.sent.crcs.append(zlib.crc32(wire))
            self.sent.places.append(place)
            if self._truth is not None:
                value = json and wire.lstrip()[:1] in (b"{", b"[")  # some venues also say plain words
                message = frames.message(ts_ns, self._conn, self.n, wire, json=value)
                tape = b"null" if place == NO_TAPE else b"%d" % place
                self._truth_lines.append(b'{"tape":%b,%b\n' % (tape, message[1:]))
            length = len(wire)
            if self._recorded:
                length += SIZE
                self._out += (_HEADS[length] if length < 4096 else _head(length), prefix(ts_ns), wire)
            else:
                self._out += (_HEADS[length] if length < 4096 else _head(length), wire)

    def flush(self) -> None:
        """Write down what is about to be sent, then send it; on a line that has closed neither."""
        open_ = self.ws.protocol.state is State.OPEN and not self.ws.transport.is_closing()
        if open_ and self._truth is not None and self._truth_lines:
            self._truth.append(b"".join(self._truth_lines))
        if open_ and self._out:
            self.ws.transport.write(b"".join(self._out))
        self._truth_lines.clear()
        self._out.clear()

    def ping(self, body: bytes) -> None:
        if self.ws.protocol.state is State.OPEN:
            self.ws.transport.write(_SHORT(_PING, len(body)) + body)

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet."""
        transport = self.ws.transport
        return 0 if transport.is_closing() else transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Wait until the socket has taken most of it, or the connection has ended."""
        with contextlib.suppress(OSError):  # the client is gone: whoever reads from it will notice
            await self.ws.drain()
