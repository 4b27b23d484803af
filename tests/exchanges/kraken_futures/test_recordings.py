"""Recorded futures frames: numbers without holes, books of events never crossed, a tape replays them byte for byte."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from exchanges.kraken_futures import venue
from exchanges.kraken_futures.adapter import KrakenFuturesAdapter
from exchanges.kraken_futures.simulator import KrakenFuturesSimulator
from exchanges.port import Received, Record, Simulation, Subscription, Unparsable
from ssmd.events import BookDelta, BookSnapshot, Event, Ticker, Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kraken_futures" / "fixtures"
FRAMES = FIXTURES / "ws/futures-2021-07.txt"
CHANNELS = ("book", "trade", "ticker_lite")


def _records(path: Path) -> Iterator[Record]:
    simulator = KrakenFuturesSimulator(Simulation())
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            record = simulator.record(line)
            if record is not None:
                yield record


def _events(records: Iterator[Record], counted: Counter[str]) -> list[Event]:
    """Through an adapter that follows all of it, without a notice."""
    found = list(records)
    symbols = tuple({r.symbol for r in found if r.symbol is not None})
    adapter, grammar = KrakenFuturesAdapter(Subscription(CHANNELS, symbols)), venue.events("2021-07-22")
    events: list[Event] = []
    for record in found:
        told = adapter.received(record.wire, record.ts_ns)
        assert told == Received(record.kind, record.symbol), (told, record.wire)
        counted[record.kind] += 1
        events += grammar(told.channel, record.wire)
    return events


def _check_books(events: list[Event]) -> None:
    books: dict[str, dict[str, dict[Decimal, str]]] = {}
    for event in events:
        if isinstance(event, BookSnapshot):
            sides = {"bid": event.bids, "ask": event.asks}
            books[event.symbol] = {side: {Decimal(p): s for p, s in levels} for side, levels in sides.items()}
        elif isinstance(event, BookDelta):
            assert event.size is not None
            side = books[event.symbol][event.side]
            side[Decimal(event.price)] = event.size
            if not Decimal(event.size):
                del side[Decimal(event.price)]
            book = books[event.symbol]
            assert max(book["bid"]) < min(book["ask"])
    assert books


def test_frames_of_2021_are_followed_without_a_notice() -> None:
    counted: Counter[str] = Counter()
    events = _events(_records(FRAMES), counted)
    assert counted == {"book": 99, "book_snapshot": 3, "trade_snapshot": 3, "trade": 1, "ticker_lite": 12}
    _check_books(events)
    (trade,) = [e for e in events if isinstance(e, Trade)]
    assert trade == Trade(
        "FI_BCHUSD_210730",
        1_626_994_933_519_000_000,
        "439.5",
        "50.0",
        "buy",
        "727c154e-9339-4c50-987f-326c42f313a4",
    )
    ticker = next(e for e in events if isinstance(e, Ticker))
    assert ticker == Ticker("FI_BCHUSD_210730", None, bid="439.3", ask="439.6", volume="3413476.0")


def test_the_whole_recording_has_no_hole(shared_data: Path) -> None:
    counted: Counter[str] = Counter()
    events = _events(_records(shared_data / "kraken/futures/KRAKEN_FUTURES.ws.1.0.gz"), counted)
    assert counted["book"] == 7014 and counted["book_snapshot"] == 10 and counted["trade"] == 3
    _check_books(events)


def test_recorded_acknowledgements_settle_what_was_asked() -> None:
    """One for each product, as the venue sent them."""
    products = ("FI_BCHUSD_210730", "FI_BCHUSD_210924", "FI_XRPUSD_210924")
    adapter = KrakenFuturesAdapter(Subscription(CHANNELS, products))
    adapter.opened()
    adapter.received(b'{"event":"subscribed","feed":"heartbeat"}', 0)
    acks = [line.partition(b": ")[2] for line in FRAMES.read_bytes().splitlines() if b'"event":"subscribed"' in line]
    assert len(acks) == 9
    for ack in acks:
        assert adapter.received(ack, 0).notices == ()
    assert adapter.tick(0) is None and adapter.tick(10**12) is None


def test_a_recording_is_replayed_as_it_was() -> None:
    records = list(_records(FRAMES))
    simulator = KrakenFuturesSimulator(Simulation())
    contents = {(r.channel, r.symbol) for r in records}
    simulator.load(contents, 0, 0)
    connection = simulator.connect()
    for feed in CHANNELS:
        products = sorted({r.symbol for r in records if r.symbol})
        command = {"event": "subscribe", "feed": feed, "product_ids": products}
        answers = connection.received(json.dumps(command).encode(), 0)
        assert all(json.loads(a).get("event") in {"info", "subscribed"} for a in answers)
    assert connection.covers(contents)
    for record in records:
        simulator.apply(record)
        assert list(connection.market(record)) == [record.wire]
    late = simulator.connect()
    *_, snapshot = late.received(b'{"event":"subscribe","feed":"book","product_ids":["FI_BCHUSD_210730"]}', 0)
    last = [r for r in records if r.symbol == "FI_BCHUSD_210730" and r.kind == "book"][-1]
    assert json.loads(snapshot)["seq"] == json.loads(last.wire)["seq"]


@pytest.mark.parametrize("line", [b'{"feed":"book","product_id":5}', b'{"feed":"trade","seq":', b'5.5: {"feed":'])
def test_a_damaged_line_is_refused(line: bytes) -> None:
    with pytest.raises(Unparsable):
        KrakenFuturesSimulator(Simulation()).record(line)


@pytest.mark.parametrize(
    "line",
    [
        b"wss://futures.kraken.com/ws/v1 <-> 1626994927.1",
        b'wss://futures.kraken.com/ws/v1 <- 1626994927.5: {"event":"subscribe"}',
        b'1626994927.5: {"event":"info","version":1}',
        b'{"feed":"heartbeat","time":5}',
        b'configuration: {"ticker":[]}',
    ],
)
def test_lines_without_market_data_are_passed_over(line: bytes) -> None:
    assert KrakenFuturesSimulator(Simulation()).record(line) is None
