"""An exchange behind the port: numbers its frames on each connection, skips some, drops connections.

Every frame it sends is noted with its time and connection: what the archive and its ledger are compared with.
The far side of the WebSocket is websockets' own server protocol; only the wire between is simulated.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from exchanges.port import Instruments, Key, Notice, Number, Received, Request, Subscription
from ssmd import frames
from tests.chaos.simulation.scheduler import Loop, Scheduler


@dataclass
class Sent:
    """One frame of the venue, and what became of it on its way."""

    id: int
    line: int  # which connection of the venue
    at: float
    wire: bytes
    taken_at: float | None = None  # when our code had returned from taking it


@dataclass
class Skip:
    """A frame that the venue numbered and did not send."""

    line: int
    at: float
    told_by: int = 0  # the frame whose number shows it


class _Market(msgspec.Struct):
    type: str
    id: int
    seq: int
    symbol: str = "S"


class Adapter:
    """The client's grammar: one number for the whole connection; a snapshot mends what a skip broke."""

    def __init__(self, subscription: Subscription) -> None:
        self._expected = 1

    brings_all = False

    def opened(self) -> Sequence[bytes]:
        return [b'{"cmd":"subscribe"}']

    def received(self, wire: bytes, ts_recv: int) -> Received:
        try:
            market = msgspec.json.decode(wire, type=_Market)
        except msgspec.DecodeError as e:
            return Received(frames.BAD, None, bad=str(e), json=False)
        notices: list[Notice] = []
        owed: list[bytes] = []
        if market.seq != self._expected:
            notices.append(Notice("break", (), "sequence", f"seq {market.seq} after {self._expected - 1}"))
            owed.append(b'{"cmd":"snapshot"}')
        elif market.type == "snapshot":
            notices.append(Notice("mended", (), "sequence"))
        if market.type == "snapshot":
            notices.append(Notice("explained", channels=("trade", "book")))
        self._expected = market.seq + 1
        return Received(market.type, market.symbol, owed=tuple(owed), notices=tuple(notices))

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return []

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return []

    def tick(self, now_ns: int) -> Received | None:
        return None

    def probe(self) -> Sequence[bytes]:
        return [b'{"cmd":"snapshot"}']

    standing = True

    def numbers(self) -> Mapping[str, Number]:
        return {}


class ClientVenue:
    """`exchanges.port.Venue` of it."""

    def adapter(self, subscription: Subscription) -> Adapter:
        return Adapter(subscription)

    def key(self, key_id: str, secret: bytes) -> Key:
        raise NotImplementedError

    def events(self, date: str) -> Any:
        raise NotImplementedError

    def instruments(self, series: Sequence[str]) -> Sequence[Request]:
        return []

    def instruments_page(self, request: Request, body: bytes) -> Instruments:
        raise NotImplementedError

    def schedule(self) -> Request | None:
        return None


class Transport:
    """Our end of a TCP connection to the venue."""

    def __init__(self, line: "Line") -> None:
        self._line = line

    def write(self, data: bytes) -> None:
        self._line.to_venue(bytes(data))

    def write_eof(self) -> None:
        self._line.half_close()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._line.closed_by_us()

    abort = close

    def is_closing(self) -> bool:
        return self._line.over

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.1", 40000 + self._line.number) if name in {"sockname", "peername"} else default


class Line:
    """One WebSocket connection, seen from the venue."""

    def __init__(self, exchange: "Exchange", number: int, protocol: asyncio.BufferedProtocol, loop: Loop) -> None:
        self.exchange, self.number, self._protocol, self._loop = exchange, number, protocol, loop
        self._ws = ServerProtocol(max_size=1 << 20)
        self._scheduler = exchange.scheduler
        self._in_at = 0.0
        self._out_at = 0.0
        self._cut = False  # nothing arrives any more, in either direction
        self._closing = False  # it sends no more
        self.over = False  # our process knows
        self.subscribed = False
        self.seq = 0

    @property
    def usable(self) -> bool:
        return (
            self.subscribed and not self._cut and not self._closing and not self.over and self._ws.state is State.OPEN
        )

    def _delay(self) -> float:
        return self._scheduler.rng.random() * 0.01

    # ------------------------------------------------------------------------------------------------ to the venue

    def to_venue(self, data: bytes) -> None:
        if not self.over:
            self._out_at = max(self._out_at, self._scheduler.now + self._delay())
            self._scheduler.at(self._out_at, self._at_venue, data)

    def _at_venue(self, data: bytes) -> None:
        if self._cut:
            return
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Handshake):
                self._ws.send_response(self._ws.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.subscribed = True
                self._flush([])
                self.exchange.market(self, "snapshot")
        self._flush([])
        if self._ws.state is State.CLOSED or self._ws.close_expected():
            self._scheduler.after(self._delay(), self.drop, None)

    def half_close(self) -> None:
        self._scheduler.at(max(self._out_at, self._scheduler.now + self._delay()), self.drop, None)

    def closed_by_us(self) -> None:
        """The rest of what was on its way will never be read."""
        if not self.over:
            self._cut = True
            self._scheduler.after(0.0, self._ended, None, loop=self._loop)

    # ------------------------------------------------------------------------------------------------ from the venue

    def send(self, sent: Sequence[Sent], split: bool) -> None:
        for frame in sent:
            self._ws.send_text(frame.wire)
        self._flush(sent, split)

    def _flush(self, sent: Sequence[Sent], split: bool = False) -> None:
        data = b"".join(self._ws.data_to_send())
        if not data or self._cut:
            return
        pieces = [(data, sent)]
        if split and len(data) > 2:  # TCP cuts where it likes
            at = self._scheduler.rng.randrange(1, len(data))
            pieces = [(data[:at], []), (data[at:], sent)]
        for piece, completed in pieces:
            self._in_at = max(self._in_at, self._scheduler.now + self._delay())
            self._scheduler.at(self._in_at, self._arrive, piece, completed, loop=self._loop)

    def _arrive(self, data: bytes, sent: Sequence[Sent]) -> None:
        if self.over or self._cut:
            return
        buffer = self._protocol.get_buffer(-1)
        assert len(data) < len(buffer)  # else it would ask for a pause, which nobody here knows of
        buffer[: len(data)] = data
        self._protocol.buffer_updated(len(data))
        if not (self._cut or self.over or self._loop.dead):  # aborted: a full disk say
            for frame in sent:
                frame.taken_at = self._scheduler.now

    def drop(self, error: Exception | None) -> None:
        """The connection ends from the venue's side; what is on its way still arrives, unless it breaks."""
        if self.over or self._cut or self._closing:
            return
        self._closing = True
        if error is not None:
            self._cut = True
            self._scheduler.after(self._delay(), self._ended, error, loop=self._loop)
        else:
            at = max(self._in_at, self._scheduler.now + self._delay())
            self._scheduler.at(at, self._eof, loop=self._loop)

    def fall_silent(self) -> None:
        """A black hole: neither data nor a close ever arrives."""
        self._cut = True

    def _eof(self) -> None:
        if not self.over:
            self._protocol.eof_received()
            self._ended(None)

    def _ended(self, error: Exception | None) -> None:
        if not self.over:
            self.over = True
            self._protocol.connection_lost(error)


class Exchange:
    """The venue: takes connections, sends what the market does, notes all of it."""

    def __init__(self, scheduler: Scheduler, trace: Callable[[str], None]) -> None:
        self.scheduler = scheduler
        self.trace = trace
        self.up = True
        self.lines: list[Line] = []
        self.sent: list[Sent] = []
        self.skips: list[Skip] = []
        self._silent = False

    async def accept(
        self, factory: Callable[[], asyncio.BufferedProtocol], loop: Loop
    ) -> tuple[Transport, asyncio.BufferedProtocol]:
        await asyncio.sleep(self.scheduler.rng.random() * 0.05)
        if not self.up:
            raise ConnectionRefusedError("connection refused")
        protocol = factory()
        line = Line(self, len(self.lines), protocol, loop)
        self.lines.append(line)
        transport = Transport(line)
        protocol.connection_made(transport)  # type: ignore[arg-type]
        return transport, protocol

    @property
    def line(self) -> Line | None:
        return next((line for line in reversed(self.lines) if line.usable and not line._loop.dead), None)

    def market(self, line: Line, kind: str) -> None:
        """Send one frame of a kind on a connection."""
        line.send([self._frame(line, kind)], split=False)

    def burst(self, count: int) -> None:
        """The market moves: up to `count` frames at once, if anybody listens."""
        line, rng = self.line, self.scheduler.rng
        if line is None:
            return
        kinds = rng.choices(("trade", "book", "bad"), (10, 10, 1), k=count)
        line.send([self._frame(line, kind) for kind in kinds], split=rng.random() < 0.2)

    def skip(self) -> None:
        """Lose a frame within a live connection."""
        line = self.line
        if line is not None:
            line.seq += 1
            self.skips.append(Skip(line.number, self.scheduler.now, len(self.sent)))
            self.trace(f"venue skips seq {line.seq} on its connection {line.number}")
            self.market(line, "trade")

    def _frame(self, line: Line, kind: str) -> Sent:
        number, rng = len(self.sent), self.scheduler.rng
        if kind == "bad":
            wire = (
                rng.choice((b"no json at all %d", b'{"type":"trade",\n"id":%d', b'[%d,"\\ud800"]', b'{"id":%d}'))
                % number
            )
        else:
            line.seq += 1
            padding = b"x" * rng.randrange(120)
            wire = b'{"type":"%s","id":%d,"seq":%d,"symbol":"S%d","pad":"%s"}%s' % (
                kind.encode(), number, line.seq, rng.randrange(3), padding, rng.choice((b"", b"", b" \n")),
            )  # fmt: skip
        sent = Sent(number, line.number, self.scheduler.now, wire)
        self.sent.append(sent)
        return sent
