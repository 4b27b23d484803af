"""The connector with another reader of its WebSocket, everything behind it the same.

python -m bench.shells SHELL MODULE ARGUMENT ... runs a service so: `picows`, whose frames are cut out in C, or
`websockets`, whose parser then gets each read as a whole.
"""

import asyncio
import runpy
import sys
from collections.abc import Callable, Sequence

import picows

import services.connector.carrier
from services.connector.link import Link, OnFrames, OnOpen, Target
from ssmd.clock import Clock
from ssmd.errors import Transient

CLOSED = "the connection has ended"


class PicowsLink(picows.WSListener):  # type: ignore[misc]
    """What the connector asks of a `Link`, by picows: all frames of one read of the socket are handed on together."""

    def __init__(self, clock: Clock, on_open: OnOpen, on_frames: OnFrames) -> None:
        self._clock = clock
        self._on_open = on_open
        self._on_frames = on_frames
        self._wires: list[bytes] = []
        self._ts_recv = 0
        self._loop = asyncio.get_running_loop()
        self._transport: picows.WSTransport
        self.last_heard = self._loop.time()
        self.ended: asyncio.Future[str] = self._loop.create_future()

    @classmethod
    async def connect(
        cls, target: Target, clock: Clock, on_open: OnOpen, on_frames: OnFrames, timeout_seconds: float
    ) -> "PicowsLink":
        async with asyncio.timeout(timeout_seconds):
            try:
                _, link = await picows.ws_connect(
                    lambda: cls(clock, on_open, on_frames),
                    target.url,
                    ssl_context=target.tls,
                    extra_headers=dict(target.headers),
                    max_frame_size=target.frame_bytes_max,
                )
            except (OSError, picows.WSError) as e:
                raise Transient(f"cannot connect to {target.url}: {e}") from e
        assert isinstance(link, cls)
        return link

    @property
    def local_address(self) -> str:
        host, port = self._transport.underlying_transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self.send(self._on_open(self))  # type: ignore[arg-type]

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        wires = self._wires
        if not wires:
            self._ts_recv = self._clock.now_ns()
        if frame.msg_type == picows.WSMsgType.TEXT:
            wires.append(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        if frame.last_in_buffer and wires:
            self._wires = []
            self.last_heard = self._loop.time()
            self.send(self._on_frames(wires, self._ts_recv))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if not self.ended.done():
            self.ended.set_result(CLOSED)

    def send(self, texts: Sequence[bytes]) -> None:
        for text in texts:
            self._transport.send(picows.WSMsgType.TEXT, text)

    def ping(self) -> None:
        self._transport.send_ping()

    def close(self) -> None:
        self._transport.send_close()

    def abort(self) -> None:
        self._transport.disconnect(graceful=False)

    def fail(self, error: Exception) -> None:
        self.ended.set_exception(error)
        self.abort()


def by_picows() -> None:
    services.connector.carrier.Link = PicowsLink  # type: ignore[assignment,misc]


def by_websockets() -> None:
    Link._cutting = property(lambda link: False, lambda link, value: None)  # type: ignore[assignment]


SHELLS: dict[str, Callable[[], None]] = {"picows": by_picows, "websockets": by_websockets}


if __name__ == "__main__":
    _, shell, module, *arguments = sys.argv
    SHELLS[shell]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
