"""A client that nobody here wrote understands the simulated venue: ccxt lists it, follows its books and its trades."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import structlog

from exchanges.kraken_futures.simulator import KrakenFuturesSimulator
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
async def venue() -> AsyncIterator[tuple[KrakenFuturesSimulator, str, _Clock]]:
    clock = _Clock()
    simulator = KrakenFuturesSimulator(Simulation(seed=4, markets=8, frames_per_second=600))
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


async def test_ccxt_builds_the_books_that_the_simulator_has(
    venue: tuple[KrakenFuturesSimulator, str, _Clock],
) -> None:
    simulator, address, clock = venue
    witness = ccxt.krakenfutures({"newUpdates": True})
    witness.urls["api"] |= {"public": f"http://{address}/derivatives/api/", "ws": f"ws://{address}/ws/v1"}
    try:
        async with asyncio.timeout(60):
            markets = await witness.load_markets()
            names = {m["id"]: symbol for symbol, m in markets.items()}
            assert names.keys() == simulator.markets.keys()
            for symbol in names.values():
                await witness.watch_order_book(symbol)
            trades = []
            end = time.monotonic() + 5
            while time.monotonic() < end:
                trades += await witness.watch_trades(names["PF_XBTUSD"])
            assert len(trades) > 10 and {t["side"] for t in trades} == {"buy", "sell"}
            clock.stopped = time.time_ns()
            await asyncio.sleep(1.0)
            for name, symbol in names.items():
                for side, ours in (("bids", "buy"), ("asks", "sell")):
                    expected = [(Decimal(p), Decimal(s)) for p, s in simulator.markets[name].best_first(ours)]
                    seen = [(Decimal(str(p)), Decimal(str(s))) for p, s, *_ in witness.orderbooks[symbol][side]]
                    assert seen == expected, (name, side)
    finally:
        await witness.close()
