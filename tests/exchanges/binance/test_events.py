"""What frames say: the venue's digits, ids and times, the taker's side; nothing that the venue did not send."""

import gzip
import json
from typing import Any

import pytest

from exchanges.binance import venue
from exchanges.port import Subscription, Unparsable
from ssmd.events import BookDelta, BookSnapshot, Status, Ticker, Trade

from .talk import FIXTURES, USDM_FIXTURE

EVENTS = venue.events("2026-11-20")
MS = 1_000_000


def frame(stream: str, data: object) -> bytes:
    return json.dumps({"stream": stream, "data": data}, ensure_ascii=False).encode()


TRADE: dict[str, Any] = {
    "e": "trade", "E": 1672515782136, "s": "BNBBTC", "t": 12345, "p": "0.00100000", "q": "100.00000000",
    "T": 1672515782135, "m": True, "M": True,
}  # fmt: skip


def test_a_trade_is_the_takers_with_the_time_of_the_match() -> None:
    sold = Trade("BNBBTC", 1672515782135 * MS, "0.00100000", "100.00000000", "sell", "12345")
    assert EVENTS("trade", frame("bnbbtc@trade", TRADE)) == (sold,)
    (bought,) = EVENTS("trade", frame("bnbbtc@trade", {**TRADE, "m": False}))
    assert isinstance(bought, Trade) and bought.side == "buy"


def test_microseconds_are_understood() -> None:
    (trade,) = EVENTS("trade", frame("bnbbtc@trade", {**TRADE, "T": 1672515782135123}))
    assert trade.ts_event == 1672515782135123000


def test_block_trades_do_not_take_the_ids_of_trades() -> None:
    (trade,) = EVENTS("blockTrade", frame("bnbbtc@blockTrade", {**TRADE, "e": "blockTrade"}))
    assert isinstance(trade, Trade) and trade.trade_id == "block-12345"


@pytest.mark.parametrize(("kind", "price"), [("INSURANCE_FUND", "70000"), ("ADL", "1"), ("NA", "0")])
def test_fills_off_the_market_are_no_trades(kind: str, price: str) -> None:
    assert EVENTS("trade", frame("bnbbtc@trade", {**TRADE, "X": kind, "p": price})) == ()


def test_aggregate_trades_have_their_own_ids() -> None:
    data = {"e": "aggTrade", "E": 1, "s": "X", "a": 26129, "p": "0.01", "q": "4.70", "f": 1, "l": 3, "T": 5, "m": False}
    assert EVENTS("aggTrade", frame("x@aggTrade", data)) == (Trade("X", 5 * MS, "0.01", "4.70", "buy", "26129"),)


def test_best_prices_of_spot_have_no_time_and_empty_sides_nothing() -> None:
    data = {"u": 4, "s": "BNBUSDT", "b": "25.35190000", "B": "31.21000000", "a": "0.00000000", "A": "0.00000000"}
    (ticker,) = EVENTS("bookTicker", frame("bnbusdt@bookTicker", data))
    assert ticker == Ticker("BNBUSDT", None, bid="25.35190000", bid_size="31.21000000")
    (timed,) = EVENTS("bookTicker", frame("bnbusdt@bookTicker", {**data, "e": "bookTicker", "T": 7, "E": 8}))
    assert timed.ts_event == 7 * MS


DAY: dict[str, Any] = {
    "e": "24hrTicker", "E": 9, "s": "BNBBTC", "p": "0.0015", "P": "250.00", "w": "0.0018", "x": "0.0009",
    "c": "0.0025", "Q": "10", "b": "0.0024", "B": "10", "a": "0.0026", "A": "100", "o": "0.0010", "h": "0.0025",
    "l": "0.0010", "v": "10000", "q": "18", "O": 0, "C": 86400000, "F": 0, "L": 18150, "n": 18151,
}  # fmt: skip


def test_statistics() -> None:
    whole = Ticker("BNBBTC", 9 * MS, "0.0025", "10", "0.0024", "10", "0.0026", "100", "10000")
    assert EVENTS("ticker", frame("bnbbtc@ticker", DAY)) == (whole,)
    mini = {key: DAY[key] for key in ("E", "s", "c", "o", "h", "l", "v", "q")} | {"e": "24hrMiniTicker"}
    small = Ticker("BNBBTC", 9 * MS, "0.0025", volume="10000")
    assert EVENTS("miniTicker", frame("bnbbtc@miniTicker", mini)) == (small,)
    hour = {key: value for key, value in DAY.items() if key not in "xQbBaA"} | {"e": "1hTicker"}
    assert EVENTS("ticker_1h", frame("bnbbtc@ticker_1h", hour)) == (Ticker("BNBBTC", 9 * MS, "0.0025"),)
    futures = {key: value for key, value in DAY.items() if key not in "xbBaA"}
    (ticker,) = EVENTS("ticker", frame("bnbbtc@ticker", futures))
    assert ticker == Ticker("BNBBTC", 9 * MS, "0.0025", "10", volume="10000")


def test_arrays_have_an_event_each_in_order() -> None:
    rows = [{**DAY, "s": s} for s in ("ETHBTC", "BNBBTC", "ETHBTC")]
    events = EVENTS("miniTicker@arr", frame("!miniTicker@arr", rows))
    assert [e.symbol for e in events] == ["ETHBTC", "BNBBTC", "ETHBTC"]
    assert EVENTS("miniTicker@arr", frame("!miniTicker@arr", [])) == []


def test_depth_says_what_stands_at_each_level() -> None:
    data = {"e": "depthUpdate", "E": 5, "s": "X", "U": 1, "u": 2, "b": [["1.10", "0.00000000"]], "a": [["1.30", "7.5"]]}
    assert EVENTS("depth", frame("x@depth", data)) == [
        BookDelta("X", 5 * MS, "bid", "1.10", "0.00000000"),
        BookDelta("X", 5 * MS, "ask", "1.30", "7.5"),
    ]
    assert EVENTS("depth", frame("x@depth", {**data, "T": 4, "pu": 0}))[0].ts_event == 4 * MS
    assert EVENTS("depth_past", frame("x@depth", data)) == ()


def test_partial_books_of_both_products() -> None:
    spot = {"lastUpdateId": 160, "bids": [["1", "2"]], "asks": [["3", "4"]]}
    expected = BookSnapshot("BTCUSDT", None, [("1", "2")], [("3", "4")])
    assert EVENTS("depth5", frame("btcusdt@depth5@100ms", spot)) == (expected,)
    usdm = {"e": "depthUpdate", "E": 6, "T": 5, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0, "b": [["1", "2"]], "a": []}
    (book,) = EVENTS("depth5", frame("btcusdt@depth5", usdm))
    assert book == BookSnapshot("BTCUSDT", 5 * MS, [("1", "2")], [])
    with pytest.raises(Unparsable, match="without levels"):
        EVENTS("depth5", frame("btcusdt@depth5", {}))


def test_a_book_by_rest_with_what_came_meanwhile() -> None:
    after = {"e": "depthUpdate", "E": 8, "s": "X", "U": 3, "u": 9, "b": [], "a": [["3", "0"]]}
    before = {**after, "u": 7}
    answer = {
        "rest": "GET /api/v3/depth?symbol=%E5%B8%81USDT&limit=5000",
        "status": 200,
        "body": {"lastUpdateId": 7, "bids": [["1", "2"]], "asks": [["3", "4"]]},
        "meanwhile": [{"stream": "x@depth", "data": before}, {"stream": "x@depth", "data": after}],
    }
    assert EVENTS("depth_snapshot", json.dumps(answer).encode()) == [
        BookSnapshot("币USDT", None, [("1", "2")], [("3", "4")]),
        BookDelta("X", 8 * MS, "ask", "3", "0"),
    ]


def test_listings_are_states() -> None:
    data = {"e": "contractInfo", "E": 3, "s": "IOTAUSDT", "cs": "TRADING", "bks": [{"bs": 1}]}
    (status,) = EVENTS("contractInfo", frame("!contractInfo", data))
    assert isinstance(status, Status) and (status.symbol, status.status) == ("IOTAUSDT", "TRADING")
    assert json.loads(status.detail) == data


@pytest.mark.parametrize("channel", ["kline_1m", "kline_1d@+08:00", "continuousKline_5m", "avgPrice", "markPrice@arr"])
def test_what_is_none_of_our_events_says_nothing(channel: str) -> None:
    assert EVENTS(channel, b"{}") == ()


@pytest.mark.parametrize(
    ("channel", "wire", "reason"),
    [
        ("nonsense", b"{}", "no channel"),
        ("ticker_2h", b"{}", "no channel"),
        ("trade", b"{", "not JSON"),
        ("trade", b"{}", "not as documented"),
        ("trade", frame("x@trade", {**TRADE, "p": "1e3"}), "no decimal number"),
        ("trade", frame("x@trade", {**TRADE, "q": "-1"}), "no decimal number"),
        ("trade", frame("x@trade", {**TRADE, "t": "7"}), "not as documented"),
        ("depth", frame("x@depth", {"E": 1, "s": "X", "b": [["1"]], "a": []}), "not as documented"),
        ("depth_snapshot", b'{"rest":"GET /x","body":{"lastUpdateId":1,"bids":[],"asks":[]}}', "no symbol"),
    ],
)
def test_what_is_not_understood_has_a_reason(channel: str, wire: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        EVENTS(channel, wire)


def test_every_recorded_frame_is_understood() -> None:
    adapter = venue.adapter(Subscription((), ()))
    counts: dict[str, int] = {}
    for path in (FIXTURES / "spot-2024-08-08.gz", USDM_FIXTURE, FIXTURES / "spot-2021-08-14.gz"):
        with gzip.open(path) as file:
            for line in file:
                wire = line[line.index(b"{") :].rstrip() if b'{"stream"' in line else b""
                if wire:
                    route = adapter.received(wire, 0)
                    assert route.bad is None
                    counts[route.channel] = counts.get(route.channel, 0) + 1
                    EVENTS(route.channel, wire)
    assert set(counts) - {"depth_past"} == {"depth", "trade", "bookTicker", "aggTrade", "kline_1m"}
