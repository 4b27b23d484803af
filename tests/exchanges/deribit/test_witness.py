"""A client that nobody here wrote understands the simulated venue: ccxt lists it, follows its books and its trades."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import structlog

from exchanges.deribit.simulator import DeribitSimulator
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
async def venue() -> AsyncIterator[tuple[DeribitSimulator, str, _Clock]]:
    clock = _Clock()
    simulator = DeribitSimulator(Simulation(seed=4, markets=9, frames_per_second=600))
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


async def test_ccxt_builds_the_books_that_the_simulator_has(venue: tuple[DeribitSimulator, str, _Clock]) -> None:
    simulator, address, clock = venue
    witness = ccxt.deribit({"newUpdates": True})
    witness.urls["api"] |= {"rest": f"http://{address}", "ws": f"ws://{address}/ws/api/v2"}
    try:
        async with asyncio.timeout(60):
            markets = await witness.load_markets()
            names = {m["id"]: symbol for symbol, m in markets.items() if m["type"] in {"swap", "future", "option"}}
            assert names.keys() >= {"BTC-PERPETUAL", "ETH-PERPETUAL", "SOL_USDC-PERPETUAL"}
            trades = 0
            for symbol in names.values():
                await witness.watch_order_book(symbol)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                trades += len(await witness.watch_trades(names["BTC-PERPETUAL"]))
            assert trades > 10
            clock.stopped = time.time_ns()
            await asyncio.sleep(1.0)
            for name, symbol in names.items():
                book = simulator.exchange.instruments[name].book
                for side in ("bids", "asks"):
                    expected = [(Decimal(p.decode()), Decimal(a.decode())) for p, a in book.levels(side)]
                    seen = [(Decimal(str(p)), Decimal(str(a))) for p, a, *_ in witness.orderbooks[symbol][side]]
                    assert seen == expected, (name, side)
    finally:
        await witness.close()
