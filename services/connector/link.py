"""One WebSocket connection: websockets' sans-I/O protocol under the thinnest asyncio shell.

Frames come out in batches, one for each read of the socket, stamped before they are parsed. Owning the shell
(instead of `connect()` and `recv()`) saves a future and a task switch per frame, and lets the end of a
connection be read to its last byte. Whole text frames are cut out here; all others go through websockets, each by
itself, so that its parser always stands between two frames.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from services.connector.framing import frame_end, whole_texts
from ssmd.clock import Clock, RecordedClock
from ssmd.errors import Transient
from ssmd.recorded_time import ClientRecordedTime, ClientRecordedTimeFactory

READ_BYTES = 32 << 10  # 1 ms of work at most before others get their turn, on a busy socket too
HEAD_BYTES_MAX = 64 << 10
PING_SECONDS = 15.0  # Kraken Futures hangs up after a minute without one; no venue minds

OnOpen = Callable[["Link"], Sequence[bytes]]  # -> text frames to send first
OnFrames = Callable[[Sequence[bytes], int], Sequence[bytes]]  # frames, ts_recv -> text frames owed to the venue


class Refused(Transient):
    """The venue answered the handshake with an HTTP error; `status` and the start of its body."""

    def __init__(self, url: str, status: int, body: str) -> None:
        super().__init__(f"{url} refused the connection with HTTP {status}: {body}")
        self.status = status


@dataclass(frozen=True)
class Target:
    """What to connect to, and how."""

    url: str
    headers: Mapping[str, str]
    compression: bool
    frame_bytes_max: int
    tls: ssl.SSLContext | None = None  # for wss; making one takes 60 ms, without a frame


class Link(asyncio.BufferedProtocol):
    """Calls `on_open` once, then `on_frames` for every read, until the connection ends; `ended` then tells why.

    Both are called from within the read that brought them: a venue may send its first frames together with
    its answer to the handshake.
    """

    def __init__(self, target: Target, clock: Clock, on_open: OnOpen, on_frames: OnFrames) -> None:
        self._target = target
        self._clock = clock
        self._on_open = on_open
        self._on_frames = on_frames
        uri = parse_uri(target.url)
        self._recorded = ClientRecordedTimeFactory() if isinstance(clock, RecordedClock) else None
        extensions = [
            *([self._recorded] if self._recorded else []),
            *([ClientPerMessageDeflateFactory(compress_settings={"memLevel": 5})] if target.compression else []),
        ]
        self._ws = ClientProtocol(uri, extensions=extensions or None, max_size=target.frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._unread = bytearray()  # a frame that is not here to its end, or an unfinished answer to the handshake
        self._needed = 0  # so many bytes of it must be there before another look is worth it
        self._headed = False  # the answer's head was read
        self._cutting = False  # frames may be cut here: the connection is open, and its frames are what they seem
        self._parts: list[bytes] = []
        self._answered = False
        self._ended = False
        loop = asyncio.get_running_loop()
        self.last_heard = loop.time()
        self._loop = loop
        self._opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()

    @classmethod
    async def connect(
        cls, target: Target, clock: Clock, on_open: OnOpen, on_frames: OnFrames, timeout_seconds: float
    ) -> "Link":
        """Raises Transient if the venue cannot be reached, Refused if it answers with an HTTP error."""
        link = cls(target, clock, on_open, on_frames)
        uri = parse_uri(target.url)
        tls = target.tls
        assert tls is not None or not uri.secure
        try:
            async with asyncio.timeout(timeout_seconds):
                await link._loop.create_connection(
                    lambda: link, uri.host, uri.port, ssl=tls, server_hostname=uri.host if tls else None
                )
                await link._opened
        except (OSError, InvalidHandshake) as e:
            link.abort()
            raise Transient(f"cannot connect to {target.url}: {e or type(e).__name__}") from e
        except BaseException:
            link.abort()
            raise
        return link

    @property
    def local_address(self) -> str:
        host, port = self._transport.get_extra_info("sockname")[:2] if self._transport else ("", 0)
        return f"{host}:{port}"

    # ---------------------------------------------------------------------------------- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit asyncio's
        request = self._ws.connect()
        request.headers.update(self._target.headers)
        self._ws.send_request(request)
        self._flush()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        ts_recv = self._clock.now_ns()
        self.last_heard = self._loop.time()
        if nbytes == READ_BYTES:  # more is waiting, of which uvloop would read 32 buffers before anything else
            self._yield()
        self._unread += self._view[:nbytes]
        if len(self._unread) >= self._needed:
            data = bytes(self._unread)
            self._unread.clear()
            self._needed = 0
            self._guarded(self._read, data, ts_recv)

    def _yield(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
        self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        self._end_of_stream()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end_of_stream()
        reason = self._reason(error)
        if not self._opened.done():
            self._opened.set_exception(self._ws.handshake_exc or ConnectionError(reason))
            self._opened.exception()
        if not self.ended.done():
            self.ended.set_result(reason)

    def _end_of_stream(self) -> None:
        if not self._ended:
            self._ended = True
            self._ws.receive_eof()
            self._guarded(self._take, self._clock.now_ns())

    def _guarded(self, call: Callable[..., None], *args: object) -> None:
        """Errors of ours, a full disk say: asyncio would log them and go on."""
        try:
            call(*args)
        except Exception as e:
            self.fail(e)

    def fail(self, error: Exception) -> None:
        """End the connection because we have failed: whoever waits for its end gets the error."""
        for future in (self._opened, self.ended):
            if not future.done():
                future.set_exception(error)
        self.abort()

    def _read(self, data: bytes, ts_recv: int) -> None:
        limit = self._target.frame_bytes_max
        at = 0
        while at < len(data):
            if self._cutting and not self._parts:
                wires, at = whole_texts(data, at, limit)
                if wires:
                    self._hand_on(wires, ts_recv)
                if at == len(data):
                    break
            end = self._next_end(data, at)
            if end > len(data):
                self._unread += data[at:]
                self._needed = end - at
                break
            self._ws.receive_data(data[at:end])
            self._take(ts_recv)
            at = end

    def _next_end(self, data: bytes, at: int) -> int:
        """Up to where websockets gets `data` next: one frame, the head of the answer to the handshake, or the rest."""
        if self._cutting:
            return frame_end(data, at, self._target.frame_bytes_max)
        if self._headed:
            return len(data)
        head = data.find(b"\r\n\r\n", at)
        if head >= 0:
            self._headed = True
            return head + 4
        if len(data) > HEAD_BYTES_MAX:
            raise Transient(f"{self._target.url} answers the handshake with {HEAD_BYTES_MAX} bytes without an end")
        return len(data) + 1

    def _take(self, ts_recv: int) -> None:
        events = self._ws.events_received()
        if events and not self._answered:
            self._answer(events.pop(0))
        if events:
            self._deliver(events, ts_recv)
        self._flush()
        ws = self._ws
        self._cutting = (
            ws.state in {State.OPEN, State.CLOSING}
            and not ws.extensions
            and ws.close_rcvd is None
            and ws.parser_exc is None
        )

    def _answer(self, event: object) -> None:
        self._answered = True
        error = self._ws.handshake_exc
        if error is None:
            self._opened.set_result(None)
            self.send(self._on_open(self))
            self._loop.call_later(PING_SECONDS, self._keep_pinging)
        elif not self._opened.done():
            if isinstance(error, InvalidStatus) and isinstance(event, Response):
                body = (event.body or b"")[:500].decode(errors="replace")
                self._opened.set_exception(Refused(self._target.url, event.status_code, body))
            else:
                self._opened.set_exception(error)

    def _deliver(self, events: Sequence[object], ts_recv: int) -> None:
        wires = []
        for event in events:
            assert isinstance(event, Frame)
            if event.opcode in {Opcode.TEXT, Opcode.BINARY}:
                if event.fin:
                    wires.append(bytes(event.data))
                else:
                    self._parts = [bytes(event.data)]
            elif event.opcode is Opcode.CONT:
                self._parts.append(bytes(event.data))
                if event.fin:
                    wires.append(b"".join(self._parts))
                    self._parts = []
        if wires:
            self._hand_on(wires, ts_recv)

    def _hand_on(self, wires: Sequence[bytes], ts_recv: int) -> None:
        recorded = self._recorded_time()
        if recorded is None:
            self.send(self._on_frames(wires, ts_recv))
            return
        assert isinstance(self._clock, RecordedClock)
        for wire in wires:
            self._clock.tell(recorded.times.popleft())
            self.send(self._on_frames([wire], self._clock.now_ns()))

    def _recorded_time(self) -> ClientRecordedTime | None:
        if self._recorded is None:
            return None
        return next((e for e in self._ws.extensions if isinstance(e, ClientRecordedTime)), None)

    # -------------------------------------------------------------------------------------------------- sending

    def send(self, texts: Sequence[bytes]) -> None:
        """Send text frames; silently nothing once the connection is closing."""
        if texts and self._ws.state is State.OPEN:
            for text in texts:
                self._ws.send_text(text)
            self._flush()

    def ping(self) -> None:
        if self._ws.state is State.OPEN:
            self._ws.send_ping(b"ssmd")
            self._flush()

    def _keep_pinging(self) -> None:
        if self._ws.state is State.OPEN:
            self.ping()
            self._loop.call_later(PING_SECONDS, self._keep_pinging)

    def close(self) -> None:
        """Begin the closing handshake; frames go on arriving until `ended`."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(1000)
            self._flush()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                with contextlib.suppress(OSError):  # the other side is gone already
                    self._transport.write_eof()
            else:  # TLS
                self._transport.close()
        if self._ws.state is State.CLOSED or self._ws.close_expected():
            # As RFC 6455 7.1.1 has it the server closes TCP first; do not wait for ever.
            self._loop.call_later(1.0, self._transport.close)

    def _reason(self, error: Exception | None) -> str:
        if self._ws.close_rcvd is not None:
            return f"closed by the venue: {self._ws.close_rcvd}"
        if error is not None:
            return f"connection lost: {error or type(error).__name__}"
        if self._ws.parser_exc is not None and not isinstance(self._ws.parser_exc, EOFError):
            return f"protocol error: {self._ws.parser_exc}"
        return "connection lost without a closing handshake"
