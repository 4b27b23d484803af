"""Futures frames say the same to live and to past: exact values, exponents written out."""

import json

import pytest

from exchanges.kraken_futures import venue
from exchanges.port import Unparsable
from ssmd.events import BookDelta, BookSnapshot, Ticker, Trade

GRAMMAR = venue.events("2026-11-20")


def test_documented_frames_mean_what_they_say() -> None:
    trade = (
        b'{"feed":"trade","product_id":"PI_XBTUSD","uid":"05af78ac-a774-478c-a50c-8b9c234e071e","side":"sell",'
        b'"type":"liquidation","seq":653355,"time":1612266317519,"qty":15000,"price":34969.5}'
    )
    uid = "05af78ac-a774-478c-a50c-8b9c234e071e"
    expected = Trade("PI_XBTUSD", 1_612_266_317_519_000_000, "34969.5", "15000", "sell", uid)
    assert list(GRAMMAR("trade", trade)) == [expected]
    delta = (
        b'{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":326094134,"price":34981,"qty":0,'
        b'"timestamp":1612269953629}'
    )
    assert list(GRAMMAR("book", delta)) == [BookDelta("PI_XBTUSD", 1_612_269_953_629_000_000, "ask", "34981", "0")]
    snapshot = (
        b'{"feed":"book_snapshot","product_id":"PF_X","timestamp":1612269825817,"seq":326072249,"tickSize":null,'
        b'"bids":[{"price":7.89e-06,"qty":6385.0},{"price":7.9e-06,"qty":10},{"price":8e-6,"qty":0.0}],"asks":[]}'
    )
    bids = [("0.0000079", "10"), ("0.00000789", "6385.0")]
    assert list(GRAMMAR("book_snapshot", snapshot)) == [BookSnapshot("PF_X", 1_612_269_825_817_000_000, bids, [])]


def test_tickers_of_both_kinds() -> None:
    full = {
        "time": 1612270825253,
        "product_id": "PI_XBTUSD",
        "funding_rate": -6.26e-11,
        "feed": "ticker",
        "bid": 34832.5,
        "ask": 34847.5,
        "bid_size": 42864,
        "ask_size": 2300,
        "volume": 262306237,
        "leverage": "50x",
        "last": 34852,
        "openInterest": 107706940,
        "markPrice": 34844.25,
    }
    assert list(GRAMMAR("ticker", json.dumps(full).encode())) == [
        Ticker(
            "PI_XBTUSD",
            1_612_270_825_253_000_000,
            last="34852",
            bid="34832.5",
            bid_size="42864",
            ask="34847.5",
            ask_size="2300",
            volume="262306237",
            open_interest="107706940",
        )
    ]
    assert list(GRAMMAR("ticker_lite", b'{"feed":"ticker_lite","product_id":"A","bid":null,"ask":1.50}')) == [
        Ticker("A", None, ask="1.50")
    ]


def test_trades_of_before_the_subscription_are_no_events() -> None:
    assert list(GRAMMAR("trade_snapshot", b'{"feed":"trade_snapshot","product_id":"A","trades":[{}]}')) == []


@pytest.mark.parametrize("channel", ["control", "_session", "_gap"])
def test_channels_without_events_give_none(channel: str) -> None:
    assert list(GRAMMAR(channel, b'{"event":"info","version":1}')) == []


@pytest.mark.parametrize(
    ("channel", "wire", "reason"),
    [
        ("trade", b"not json", "not JSON"),
        ("trade", b'{"feed":"trade"}', "missing"),
        ("trade", b'{"feed":"book"}', "book"),
        ("book", b'{"feed":"book","product_id":"A","side":"x","price":1,"qty":1,"timestamp":1}', "side"),
        ("book", b'{"feed":"book","product_id":"A","side":"buy","price":"1","qty":1,"timestamp":1}', "is no number"),
        ("book", b'{"feed":"book","product_id":"A","side":"buy","price":1,"qty":1,"timestamp":"1"}', "timestamp"),
        ("ticker", b'{"feed":"ticker","product_id":"A","bid":"x"}', "is no number"),
        ("no_such_channel", b"{}", "no channel 'no_such_channel'"),
    ],
)
def test_what_the_grammar_does_not_know_is_unparsable_with_a_reason(channel: str, wire: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        GRAMMAR(channel, wire)
