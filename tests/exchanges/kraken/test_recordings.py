"""Recorded spot frames: every checksum agrees, books of events are right and never crossed, a tape replays them."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from exchanges.kraken import venue
from exchanges.kraken.adapter import KrakenAdapter
from exchanges.kraken.book import checksum
from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Received, Record, Simulation, Subscription, Unparsable
from ssmd.events import BookDelta, BookSnapshot, Level, Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kraken" / "fixtures"
BOOKS, TRADES = FIXTURES / "ws/v1-books-2021-04.txt", FIXTURES / "ws/v1-trades-2021-04.txt"
V2 = ("btcusd_snapshot_20260527.jsonl", "WillySeahh_gsrTest_20241003.jsonl", "samples_20261003_and_trade.jsonl")
DEPTH = 1000


def _records(path: Path) -> Iterator[Record]:
    simulator = KrakenSimulator(Simulation())
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            record = simulator.record(line)
            if record is not None:
                yield record


class _Sides:
    """A book made of events alone, cut to its depth as the events' documentation says."""

    def __init__(self, snapshot: BookSnapshot) -> None:
        self.sides = {"bid": dict(snapshot.bids), "ask": dict(snapshot.asks)}

    def best(self, side: str) -> list[Level]:
        return sorted(self.sides[side].items(), key=lambda level: Decimal(level[0]), reverse=side == "bid")

    def apply(self, delta: BookDelta) -> None:
        assert delta.size is not None
        self.sides[delta.side][delta.price] = delta.size
        if not Decimal(delta.size):
            del self.sides[delta.side][delta.price]

    def cut(self) -> None:
        for side in self.sides:
            self.sides[side] = dict(self.best(side)[:DEPTH])

    @property
    def crossed(self) -> bool:
        bids, asks = self.best("bid"), self.best("ask")
        return bool(bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]))


def _rebuilt(records: Iterator[Record]) -> Counter[str]:
    """Build the books from events and hold them against the checksum of each frame."""
    books: dict[str, _Sides] = {}
    counted: Counter[str] = Counter()
    for record in records:
        if record.channel != "book":
            continue
        for event in venue.events("2026-08-11")("book", record.wire):
            if isinstance(event, BookSnapshot):
                books[event.symbol] = _Sides(event)
            elif isinstance(event, BookDelta):
                books[event.symbol].apply(event)
        assert record.symbol is not None
        book = books[record.symbol]
        book.cut()
        assert checksum(book.best("ask"), book.best("bid")) == json.loads(record.wire)["data"][0]["checksum"]
        assert not book.crossed
        counted[record.symbol] += 1
    return counted


def _followed(records: Iterator[Record], channels: tuple[str, ...], symbols: tuple[str, ...]) -> Counter[str]:
    adapter = KrakenAdapter(Subscription(channels, symbols))
    counted: Counter[str] = Counter()
    for record in records:
        told = adapter.received(record.wire, record.ts_ns)
        assert told == Received(record.channel, record.symbol), (told, record.wire)
        counted[record.channel] += 1
    return counted


SYMBOLS = ("KSM/BTC", "GRT/ETH", "OCEAN/BTC")


def test_books_of_2021_have_the_checksums_that_the_venue_sent() -> None:
    assert _rebuilt(_records(BOOKS)) == {"KSM/BTC": 336, "OCEAN/BTC": 149, "GRT/ETH": 21}
    assert _followed(_records(BOOKS), ("book.1000",), SYMBOLS)["book"] == 506


def test_every_checksum_of_the_whole_recording_agrees(shared_data: Path) -> None:
    path = shared_data / "kraken/ws/KRAKEN.ws.50.0.gz"
    counted = _rebuilt(_records(path))
    assert sum(counted.values()) == 4279 and len(counted) == 10  # ten of them are snapshots
    assert _followed(_records(path), ("book.1000",), tuple(counted))["book"] == 4279


@pytest.mark.parametrize("name", V2)
def test_frames_of_v2_are_followed_and_understood(shared_data: Path, name: str) -> None:
    symbols = ("BTC/USD", "ALGO/USD")
    adapter = KrakenAdapter(Subscription(("book.10", "trade", "ticker"), symbols))
    events = 0
    for wire in (shared_data / "kraken/ws" / name).read_bytes().splitlines():
        told = adapter.received(wire, 0)
        assert told.bad is None and told.notices == () and told.owed == ()
        events += len(venue.events("2026-10-03")(told.channel, wire))
    assert events >= 1


def test_trades_of_2021_get_consecutive_ids() -> None:
    grammar = venue.events("2026-08-11")
    trades = [e for r in _records(TRADES) for e in grammar(r.channel, r.wire)]
    assert len(trades) == 10 and all(isinstance(t, Trade) for t in trades)
    assert trades[0] == Trade("XMR/USD", 1618678142557535000, "354.11000000", "0.89594024", "sell", "1")
    assert _followed(_records(TRADES), ("trade",), ("XMR/USD", "SC/EUR"))["trade"] == 8


@pytest.mark.parametrize("depth", [10, 25, 100, 1000])
def test_a_replayed_recording_is_right_at_every_depth(depth: int) -> None:
    """The venue side works out what a subscriber of this depth is told; his checksums agree all the way."""
    simulator = KrakenSimulator(Simulation())
    simulator.load({("book", s) for s in SYMBOLS}, 0, 0)
    connection, adapter = simulator.connect(), KrakenAdapter(Subscription((f"book.{depth}",), SYMBOLS))
    for text in adapter.opened():
        for wire in connection.received(text, 0):
            assert adapter.received(wire, 0).notices == ()
    assert connection.covers([("book", s) for s in SYMBOLS])
    frames = 0
    for line in BOOKS.read_bytes().splitlines():
        record = simulator.record(line)
        assert record is not None
        simulator.apply(record)
        for wire in connection.market(record):
            told = adapter.received(wire, record.ts_ns)
            assert (told.channel, told.symbol, told.notices, told.owed) == ("book", record.symbol, (), ())
            frames += 1
    assert frames > 150 if depth < DEPTH else frames == 506


def test_a_recording_at_its_own_depth_is_replayed_as_it_was() -> None:
    simulator = KrakenSimulator(Simulation())
    simulator.load({("book", s) for s in SYMBOLS}, 0, 0)
    simulator.depths.add(DEPTH)
    connection = simulator.connect()
    params = {"channel": "book", "symbol": list(SYMBOLS), "depth": DEPTH}
    connection.received(json.dumps({"method": "subscribe", "params": params}).encode(), 0)
    for line in BOOKS.read_bytes().splitlines():
        record = simulator.record(line)
        assert record is not None
        simulator.apply(record)
        (sent,) = connection.market(record)
        assert sent == record.wire


@pytest.mark.parametrize("line", [b"5.0: [1,2", b"hello", b'7.5: [1,{"b":[["x"]]},"book-10","A/B"]', b"5.0: []"])
def test_a_damaged_line_is_refused(line: bytes) -> None:
    if line == b"hello":
        assert KrakenSimulator(Simulation()).record(line) is None
        return
    with pytest.raises(Unparsable):
        KrakenSimulator(Simulation()).record(line)


@pytest.mark.parametrize(
    "line",
    [
        b"wss://ws.kraken.com <-> 1618678132.38",
        b'wss://ws.kraken.com <- 1618678132.8: {"event":"subscribe"}',
        b'1618678132.8: {"event":"heartbeat"}',
        b'{"method":"subscribe","success":true}',
        b'{"channel":"heartbeat"}',
        b'configuration: {"ticker":[]}',
    ],
)
def test_lines_without_market_data_are_passed_over(line: bytes) -> None:
    assert KrakenSimulator(Simulation()).record(line) is None
