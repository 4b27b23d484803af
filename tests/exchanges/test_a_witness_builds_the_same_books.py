"""A client that nobody here wrote understands the simulated venues: ccxt lists them, follows their books and trades."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import structlog

from exchanges import deribit, kraken, kraken_futures
from exchanges.port import Simulation, Venue
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer

ccxt = pytest.importorskip("ccxt.pro", reason="the independent witness ccxt is not installed: pip install ccxt")

FOLLOW_SECONDS = 4.0
SETTLE_SECONDS = 10.0
Levels = list[tuple[Decimal, Decimal]]


class Clock:
    """Real time, until it is stopped: then nothing more happens at the venue."""

    def __init__(self) -> None:
        self.stopped: int | None = None

    def now_ns(self) -> int:
        return self.stopped or time.time_ns()


@dataclass(frozen=True)
class Case:
    """A venue, ccxt's name for it, its addresses in ccxt's terms, and the simulator's own book of an instrument."""

    venue: Venue
    name: str
    urls: Callable[[str], dict[str, Any]]
    levels: Callable[[Any, str, str], Iterable[tuple[Any, Any]]]
    traded: str
    depth: int | None = None
    kinds: frozenset[str] = frozenset({"spot", "swap", "future", "option"})
    numbered: bool = False  # trades have numbers without holes


def _side(side: str, bid: str, ask: str) -> str:
    return bid if side == "bids" else ask


def _kraken(depth: int) -> Case:
    """Levels fall out of depth 10 unsaid and come back: whoever does not cut as the venue does has others."""
    return Case(
        kraken.venue,
        "kraken",
        lambda at: {"public": f"http://{at}", "private": f"http://{at}", "ws": {"publicV2": f"ws://{at}/v2"}},
        lambda simulator, symbol, side: simulator.markets[symbol].book.sides[side].best(depth),
        "BTC/USD",
        depth,
        numbered=True,
    )


CASES = {
    "deribit": Case(
        deribit.venue,
        "deribit",
        lambda at: {"rest": f"http://{at}", "ws": f"ws://{at}/ws/api/v2"},
        lambda simulator, name, side: (
            (price.decode(), size.decode()) for price, size in simulator.exchange.instruments[name].book.levels(side)
        ),
        "BTC-PERPETUAL",
        kinds=frozenset({"swap", "future", "option"}),
    ),
    "kraken-10": _kraken(10),
    "kraken-25": _kraken(25),
    "kraken-futures": Case(
        kraken_futures.venue,
        "krakenfutures",
        lambda at: {"public": f"http://{at}/derivatives/api/", "ws": f"ws://{at}/ws/v1"},
        lambda simulator, name, side: simulator.markets[name].best_first(_side(side, "buy", "sell")),
        "PF_XBTUSD",
    ),
}


@asynccontextmanager
async def simulated(case: Case, clock: Clock) -> AsyncIterator[tuple[Any, str]]:
    simulator = case.venue.simulator(Simulation(seed=4, markets=8, frames_per_second=600))
    log = structlog.get_logger()
    server = SimulatorServer(
        simulator, lambda lines: MarketPlayer(simulator, lines, clock.now_ns), None, clock.now_ns, False, log
    )
    port = await server.start(0)
    yield simulator, f"127.0.0.1:{port}"
    await server.close()


@asynccontextmanager
async def witness(case: Case, address: str) -> AsyncIterator[Any]:
    client = getattr(ccxt, case.name)({"newUpdates": True})
    for name, url in case.urls(address).items():
        if isinstance(url, dict):
            client.urls["api"][name] |= url
        else:
            client.urls["api"][name] = url
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_ccxt_builds_the_books_that_the_simulator_has(case: Case) -> None:
    clock = Clock()
    async with asyncio.timeout(90), simulated(case, clock) as (simulator, address), witness(case, address) as client:
        markets = await client.load_markets()
        names = {m["id"]: symbol for symbol, m in markets.items() if m["type"] in case.kinds}
        if case.name == "kraken":
            names = {symbol: symbol for symbol in names.values()}
        assert len(names) >= 7 and case.traded in names
        for symbol in names.values():
            await client.watch_order_book(symbol, case.depth)
        trades = []
        end = time.monotonic() + FOLLOW_SECONDS
        while time.monotonic() < end:
            trades += await client.watch_trades(names[case.traded])
        assert len(trades) > 10 and {t["side"] for t in trades} == {"buy", "sell"}
        if case.numbered:
            ids = [int(t["id"]) for t in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
        clock.stopped = time.time_ns()

        def differing() -> list[tuple[str, str]]:
            return [
                (name, side)
                for name, symbol in names.items()
                for side in ("bids", "asks")
                if _numbers(client.orderbooks[symbol][side]) != _numbers(case.levels(simulator, name, side))
            ]

        end = time.monotonic() + SETTLE_SECONDS
        while differing() and time.monotonic() < end:
            await asyncio.sleep(0.1)
        assert differing() == []
        print(f"{case.name}: {2 * len(names)} sides of {len(names)} books alike, {len(trades)} trades")


def _numbers(levels: Iterable[Any]) -> Levels:
    return [(Decimal(str(price)), Decimal(str(size))) for price, size, *_ in levels]
