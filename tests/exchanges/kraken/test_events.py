"""Spot frames say the same to live and to past: exact values in the venue's digits."""

import json

import pytest

from exchanges.kraken import venue
from exchanges.port import Unparsable
from ssmd.events import BookDelta, BookSnapshot, Status, Ticker, Trade

GRAMMAR = venue.events("2026-11-20")
AT = 1_696_613_755_440_295_000


def test_trades_are_the_takers_with_the_venues_ids() -> None:
    wire = (
        b'{"channel":"trade","type":"update","data":['
        b'{"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027625,"ord_type":"limit","trade_id":10218208,'
        b'"timestamp":"2023-10-06T17:35:55.440295Z"},'
        b'{"symbol":"BTC/USD","side":"sell","price":105944.2,"qty":1e-8,"ord_type":"market","trade_id":10218207,'
        b'"timestamp":"2023-10-06T17:35:55.440295123Z"}]}'
    )
    assert list(GRAMMAR("trade", wire)) == [  # order and ids as they came, even backwards
        Trade("BTC/USD", AT, "105944.20", "0.00027625", "buy", "10218208"),
        Trade("BTC/USD", AT + 123, "105944.2", "0.00000001", "sell", "10218207"),
    ]


def test_books_are_snapshots_and_absolute_sizes() -> None:
    entry = '{"symbol":"A/B","bids":[%s],"asks":[%s],"checksum":5%s}'
    stamp = ',"timestamp":"2023-10-06T17:35:55.440295Z"'
    bids = '{"price":1.10,"qty":5.00},{"price":1.20,"qty":6.00},{"price":1.15,"qty":0.00}'
    snapshot = '{"channel":"book","type":"snapshot","data":[%s]}' % (entry % (bids, '{"price":1.30,"qty":7.0}', ""))
    assert list(GRAMMAR("book", snapshot.encode())) == [
        BookSnapshot("A/B", None, [("1.20", "6.00"), ("1.10", "5.00")], [("1.30", "7.0")])
    ]
    update = '{"channel":"book","type":"update","data":[%s]}' % (
        entry % ('{"price":1.10,"qty":0.00},{"price":1.10,"qty":2.00}', '{"price":1.30,"qty":0.0}', stamp)
    )
    assert list(GRAMMAR("book", update.encode())) == [
        BookDelta("A/B", AT, "bid", "1.10", "0.00"),
        BookDelta("A/B", AT, "bid", "1.10", "2.00"),
        BookDelta("A/B", AT, "ask", "1.30", "0.0"),
    ]
    nothing = '{"channel":"book","type":"update","data":[%s]}' % (entry % ("", "", stamp))
    assert list(GRAMMAR("book", nothing.encode())) == []


def test_tickers_have_what_was_sent() -> None:
    entry = {"symbol": "ALGO/USD", "bid": 0.5, "bid_qty": 740.0, "ask": 0.75, "ask_qty": None, "last": 0.5}
    wire = json.dumps({"channel": "ticker", "type": "snapshot", "data": [{**entry, "volume": 997038.25}]}).encode()
    assert list(GRAMMAR("ticker", wire)) == [
        Ticker("ALGO/USD", None, last="0.5", bid="0.5", bid_size="740.0", ask="0.75", volume="997038.25")
    ]


def test_the_state_of_pairs_and_of_the_venue_is_status() -> None:
    pair = '{"symbol":"A/B","status":"cancel_only","qty_min": 0.50}'
    wire = b'{"channel":"instrument","type":"update","data":{"assets":[{"id":"A"}],"pairs":[%b]}}' % pair.encode()
    assert list(GRAMMAR("instrument", wire)) == [Status("A/B", None, "cancel_only", pair)]
    system = '{"system":"maintenance","version":"2.0.10"}'
    wire = b'{"channel":"status","type":"update","data":[%b]}' % system.encode()
    assert list(GRAMMAR("status", wire)) == [Status("all", None, "maintenance", system)]


@pytest.mark.parametrize("channel", ["control", "_session", "_gap", "ohlc"])
def test_channels_without_events_give_none(channel: str) -> None:
    assert list(GRAMMAR(channel, b'{"channel":"heartbeat"}')) == []


_TRADE = {"symbol": "A/B", "side": "buy", "price": 1.5, "qty": 2.5, "trade_id": 1}


@pytest.mark.parametrize(
    ("channel", "wire", "reason"),
    [
        ("trade", b"not json", "not JSON"),
        ("trade", b'{"channel":"trade"', "not JSON"),
        ("trade", b'{"channel":"trade"}', "data"),
        ("trade", b'{"channel":"book","data":[]}', "book"),
        ("trade", {**_TRADE, "side": "b"}, "side"),
        ("trade", {**_TRADE, "price": "1.5"}, "is no number"),
        ("trade", {**_TRADE, "price": None}, "is no number"),
        ("trade", {**_TRADE, "price": 1e300}, "proportion"),
        ("trade", {**_TRADE, "timestamp": "2023-10-06 17:35:55"}, "no time"),
        ("trade", {**_TRADE, "timestamp": "2023-13-06T17:35:55Z"}, "no time"),
        ("trade", {k: v for k, v in _TRADE.items() if k != "price"}, "price"),
        ("book", b'{"channel":"book","type":"other","data":[]}', "other"),
        ("instrument", b'{"channel":"instrument","data":{"pairs":[{"symbol":"A/B"}]}}', "status"),
        ("no_such_channel", b"{}", "no channel 'no_such_channel'"),
    ],
)
def test_what_the_grammar_does_not_know_is_unparsable_with_a_reason(channel: str, wire: object, reason: str) -> None:
    if isinstance(wire, dict):
        wire = json.dumps({"channel": "trade", "type": "update", "data": [wire]}).encode()
    assert isinstance(wire, bytes)
    with pytest.raises(Unparsable, match=reason):
        GRAMMAR(channel, wire)
