"""An adapter and a simulated connection in conversation, without a network; and the book that events make."""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from exchanges.binance import venue
from exchanges.binance.adapter import BinanceAdapter
from exchanges.binance.simulator import BinanceSimulator
from exchanges.port import Notice, Received, Record, Request, Simulation, Subscription, Venue
from ssmd.events import BookDelta, BookSnapshot, Event

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
FIXTURES = Path(__file__).resolve().parents[3] / "exchanges" / "binance" / "fixtures"
USDM_FIXTURE = FIXTURES.parents[1] / "binance_usdm" / "fixtures" / "usdm-2024-07-18.gz"
SPOT_CHANNELS = ("depth@100ms", "trade", "bookTicker")

Line = tuple[str, bytes]  # channel and wire, as archived


class Book:
    """What a reader makes of events who takes each as it comes: last word wins, no ids."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, str]] = {"bid": {}, "ask": {}}
        self.known = False

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, BookSnapshot):
                self.sides = {"bid": dict(event.bids), "ask": dict(event.asks)}
                self.known = True
            elif isinstance(event, BookDelta):
                assert event.size is not None and event.change is None
                if Decimal(event.size):
                    self.sides[event.side][event.price] = event.size
                else:
                    self.sides[event.side].pop(event.price, None)

    def best(self, side: str) -> tuple[str, str]:
        levels = self.sides[side]
        price = (max if side == "bid" else min)(levels, key=Decimal)
        return price, levels[price]

    @property
    def crossed(self) -> bool:
        return bool(self.sides["bid"] and self.sides["ask"]) and (
            Decimal(self.best("bid")[0]) >= Decimal(self.best("ask")[0])
        )


def subscription(symbols: Sequence[str] = ("BTCUSDT",), channels: Sequence[str] = SPOT_CHANNELS) -> Subscription:
    return Subscription(tuple(channels), tuple(symbols))


def recorded(path: Path) -> Iterator[tuple[int, bytes]]:
    """The frames of a recording of hftbacktest's."""
    with gzip.open(path) as file:
        for line in file:
            ts, _, wire = line.rstrip().partition(b" ")
            yield int(ts), wire


class Talk:
    """Carries frames between an adapter and a simulated connection; REST answers arrive when `perform` is called."""

    def __init__(self, simulator: BinanceSimulator, subscription: Subscription, of: Venue = venue) -> None:
        self.simulator = simulator
        self.connection = simulator.connect()
        adapter = of.adapter(subscription)
        assert isinstance(adapter, BinanceAdapter)
        self.adapter = adapter
        self.now = NOW
        self.channels: Counter[str] = Counter()
        self.lines: list[Line] = []
        self.notices: list[Notice] = []
        self.asks: list[Request] = []
        self.immediate = True  # REST answers at once
        self.send(adapter.opened())

    def send(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self.deliver(self.connection.received(text, self.now))

    def deliver(self, wires: Iterable[bytes]) -> None:
        for wire in wires:
            self.heed(self.adapter.received(wire, self.now), wire)

    def heed(self, told: Received, wire: bytes = b"") -> None:
        if wire:
            assert told.bad is None, (wire, told)
            self.channels[told.channel] += 1
            self.lines.append((told.channel, wire))
        self.notices += told.notices
        self.asks += told.asks
        self.send(told.owed)
        if self.immediate:
            self.perform()

    def perform(self) -> None:
        """The venue answers what is asked by REST."""
        asks, self.asks = self.asks, []
        for request in asks:
            answer = self.simulator.answer(request.method, request.target, {}, self.now)
            wire = request.answered(answer.status, answer.body)
            self.heed(self.adapter.received(wire, self.now), wire)

    def market(self, records: Iterable[Record]) -> None:
        for record in records:
            self.deliver(self.connection.market(record))

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Time passes without any frame."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.now += int(step * SECOND)
            told = self.adapter.tick(self.now)
            if told is not None:
                self.heed(told)

    def generate(self, seconds: float, step: float = 0.1) -> None:
        """A made-up market goes on, told to the adapter."""
        end = self.now + int(seconds * SECOND)
        ticked = self.now
        while self.now < end:
            self.now += int(step * SECOND)
            self.market(self.simulator.generate(self.now))
            if self.now - ticked >= SECOND // 2:
                ticked = self.now
                told = self.adapter.tick(self.now)
                if told is not None:
                    self.heed(told)

    def kinds(self) -> list[str]:
        return [n.kind for n in self.notices]


def generated(of: Venue = venue, channels: Sequence[str] = SPOT_CHANNELS, **more: float) -> Talk:
    """A conversation about made-up markets."""
    options = {"seed": 3, "markets": 5, "frames_per_second": 500.0, **more}
    simulator = of.simulator(Simulation(**options))  # type: ignore[arg-type]
    assert isinstance(simulator, BinanceSimulator)
    simulator.generate(NOW)
    return Talk(simulator, subscription(tuple(simulator.markets), channels), of)
