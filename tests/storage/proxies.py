"""A store that does not know some headers, made of one that does."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stripping(port: int, target: str, headers: tuple[bytes, ...]) -> Iterator[str]:
    """A proxy that leaves out headers, as a store that does not know them would."""
    host, _, target_port = target.removeprefix("http://").partition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, strip: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if strip:
                    for name in headers:  # another name of the same length, so nothing else changes
                        data = data.replace(name, b"x" * len(name))
                writer.write(data)
                await writer.drain()
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(target_port))
        await asyncio.gather(pump(reader, there[1], True), pump(there[0], writer, False))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(meet, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
