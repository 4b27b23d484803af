"""The simulated venue over a real network: it beats in text frames, and hangs up on who does not answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from exchanges.deribit.adapter import DeribitAdapter
from exchanges.deribit.simulator import DeribitSimulator
from exchanges.port import Simulation, Subscription
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer

FASTER = 20  # time runs for the venue


def _fast_ns() -> int:
    return time.monotonic_ns() * FASTER


@pytest.fixture
async def url() -> AsyncIterator[str]:
    simulator = DeribitSimulator(Simulation(markets=3, frames_per_second=20))
    server = SimulatorServer(
        simulator,
        lambda lines: MarketPlayer(simulator, lines, _fast_ns),
        None,
        _fast_ns,
        False,
        structlog.get_logger(),
    )
    port = await server.start(0)
    yield f"ws://127.0.0.1:{port}/ws/api/v2"
    await server.close()


async def test_a_client_that_does_not_answer_is_closed_with_4000(url: str) -> None:
    async with connect(url, compression=None) as ws:
        await ws.send('{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":10}}')
        heard = []
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(20):
                while True:
                    heard.append(json.loads(await ws.recv()))
    assert heard[0]["result"] == "ok"
    assert {h["params"]["type"] for h in heard[1:]} == {"heartbeat", "test_request"}
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "heartbeat close")


async def test_a_client_that_answers_goes_on_for_minutes(url: str) -> None:
    adapter = DeribitAdapter(Subscription(("book.{instrument_name}.100ms", "trades.any.any.100ms"), ("BTC-PERPETUAL",)))
    end = _fast_ns() + 90 * 1_000_000_000
    channels = []
    async with connect(url, compression=None) as ws:
        for text in adapter.opened():
            await ws.send(text, text=True)
        while _fast_ns() < end:
            async with asyncio.timeout(10):
                told = adapter.received(await ws.recv(decode=False), _fast_ns())
            assert told.bad is None and told.notices == ()
            channels.append(told.channel)
            for text in told.owed:
                await ws.send(text, text=True)
    assert {"control", "book", "trades"} <= set(channels) and channels.count("control") > 8


async def test_an_idle_socket_is_dropped_without_a_word(url: str) -> None:
    async with connect(url, compression=None) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(20):
                await ws.recv()
    assert closed.value.rcvd is None


async def test_who_asks_too_much_is_told_before_it_is_thrown_out(url: str) -> None:
    async with connect(url, compression=None) as ws:
        answers = []
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(20):
                for _ in range(400):
                    await ws.send('{"jsonrpc":"2.0","id":1,"method":"public/subscribe","params":{"channels":[]}}')
                while True:
                    answers.append(json.loads(await ws.recv()))
    assert answers[-1]["error"] == {"code": 10028, "message": "too_many_requests"}
