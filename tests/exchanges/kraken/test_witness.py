"""A client that nobody here wrote understands the simulated venue: ccxt lists it, follows its books and its trades."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import structlog

from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Simulation
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer

ccxt = pytest.importorskip("ccxt.pro", reason="the independent witness ccxt is not installed: pip install ccxt")


class _Clock:
    """Real time, until it is stopped: then nothing more happens at the venue."""

    def __init__(self) -> None:
        self.stopped: int | None = None

    def now_ns(self) -> int:
        return self.stopped or time.time_ns()


@pytest.fixture
async def venue() -> AsyncIterator[tuple[KrakenSimulator, str, _Clock]]:
    clock = _Clock()
    simulator = KrakenSimulator(Simulation(seed=4, markets=8, frames_per_second=600))
    server = SimulatorServer(
        simulator,
        lambda lines: MarketPlayer(simulator, lines, clock.now_ns),
        None,
        clock.now_ns,
        False,
        structlog.get_logger(),
    )
    port = await server.start(0)
    yield simulator, f"127.0.0.1:{port}", clock
    await server.close()


@pytest.mark.parametrize("depth", [10, 25])
async def test_ccxt_builds_the_books_that_the_simulator_has(
    venue: tuple[KrakenSimulator, str, _Clock], depth: int
) -> None:
    """Levels fall out of depth 10 unsaid and come back: whoever does not cut as the venue does has others."""
    simulator, address, clock = venue
    witness = ccxt.kraken({"newUpdates": True})
    witness.urls["api"] |= {"public": f"http://{address}", "private": f"http://{address}"}
    witness.urls["api"]["ws"] |= {"publicV2": f"ws://{address}/v2"}
    try:
        async with asyncio.timeout(60):
            markets = await witness.load_markets()
            assert set(markets) == set(simulator.markets)
            trades = []
            for symbol in markets:
                await witness.watch_order_book(symbol, depth)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                trades += await witness.watch_trades("BTC/USD")
            assert len(trades) > 10 and {t["side"] for t in trades} == {"buy", "sell"}
            ids = [int(t["id"]) for t in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            clock.stopped = time.time_ns()
            await asyncio.sleep(1.0)
            for symbol in markets:
                sides = simulator.markets[symbol].book.sides
                for side in ("bids", "asks"):
                    expected = [(Decimal(p), Decimal(s)) for p, s in sides[side].best(depth)]
                    seen = [(Decimal(str(p)), Decimal(str(s))) for p, s, *_ in witness.orderbooks[symbol][side]]
                    assert seen == expected, (symbol, side)
    finally:
        await witness.close()
