"""The connector pings a venue even while frames come, and a simulated venue that minds hears it."""

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection, serve

from services.connector import link as link_module
from services.connector.link import Link, Target
from services.simulator.server import _Connection
from ssmd.clock import SystemClock


async def test_a_busy_connection_is_pinged_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "PING_SECONDS", 0.05)
    pings = 0

    async def talk(ws: ServerConnection) -> None:
        def count() -> None:
            nonlocal pings
            pings += 1

        assert isinstance(ws, _Connection)
        ws.on_ping = count
        for _ in range(100):
            await ws.send('{"busy":true}')
            await asyncio.sleep(0.01)

    async with serve(talk, "127.0.0.1", 0, create_connection=_Connection) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        target = Target(f"ws://127.0.0.1:{port}/", {}, compression=False, frame_bytes_max=1000)
        link = await Link.connect(target, SystemClock(), lambda _: (), lambda wires, ts_recv: (), 5)
        await link.ended
    assert 5 <= pings <= 40
