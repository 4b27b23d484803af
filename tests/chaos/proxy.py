"""A TCP proxy that can be told to cut, reset, half-close, slow down, or swallow what passes through it."""

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any

HOST = "127.0.0.1"
CHUNK_BYTES = 64 << 10
SLOW_SECONDS = 1.0  # per byte
FAULTS = ("cut", "reset", "half-close", "black-hole", "slow")


class _Pair:
    """A client's connection and ours to the server."""

    def __init__(self, *ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.ends = ends

    def close(self, *, reset: bool = False) -> None:
        for _, writer in self.ends:
            if reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                writer.transport.abort() if reset else writer.close()

    def half_close(self) -> None:
        """The server's side says that it is done; the client may go on talking."""
        _, to_client = self.ends[0]
        with contextlib.suppress(OSError):
            to_client.write_eof()


class Proxy:
    """Between a client and the server on `target`; runs in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.passed = 0
        self._mode = ""
        self._pairs: list[_Pair] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._flowing: asyncio.Event
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def fault(self, kind: str) -> None:
        """Something happens to every connection now; black-hole and slow last until `mend`, for new ones too."""
        assert kind in FAULTS
        self._loop.call_soon_threadsafe(self._fault, kind)

    def mend(self) -> None:
        """Bytes pass again; what was held back comes after all."""
        self._loop.call_soon_threadsafe(self._set, "")

    # ------------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flowing = asyncio.Event()
        self._flowing.set()
        server: Any = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def _set(self, mode: str) -> None:
        self._mode = mode
        if mode == "black-hole":
            self._flowing.clear()
        else:
            self._flowing.set()

    def _fault(self, kind: str) -> None:
        pairs, self._pairs = (self._pairs, []) if kind in {"cut", "reset"} else (list(self._pairs), self._pairs)
        for pair in pairs:
            if kind == "half-close":
                pair.half_close()
            elif kind in {"cut", "reset"}:
                pair.close(reset=kind == "reset")
        if kind in {"black-hole", "slow"}:
            self._set(kind)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair((reader, writer), far)
        self._pairs.append(pair)
        try:
            await asyncio.gather(self._pump(reader, far[1]), self._pump(far[0], writer))
        except (OSError, RuntimeError):
            pass
        finally:
            pair.close()
            if pair in self._pairs:
                self._pairs.remove(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            while data:
                await self._flowing.wait()
                some = data
                if self._mode == "slow":
                    some = data[:1]
                    await asyncio.sleep(SLOW_SECONDS)
                writer.write(some)
                data = data[len(some) :]
                self.passed += len(some)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
