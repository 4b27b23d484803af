"""Frames say the same to live and to past: each grammar gives exact values, in the venue's digits."""

import json
from pathlib import Path

import pytest

from exchanges.kalshi import venue
from exchanges.kalshi.events import CENTS, DOLLARS
from exchanges.port import Unparsable
from ssmd.events import BookDelta, BookSnapshot, Status, Ticker, Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kalshi" / "fixtures" / "ws"


def _lines(name: str) -> list[bytes]:
    return (FIXTURES / name).read_bytes().splitlines()


def _frame(kind: str, message: object) -> bytes:
    return json.dumps({"type": kind, "sid": 1, "seq": 1, "msg": message}).encode()


def test_the_grammar_is_chosen_by_date() -> None:
    assert venue.events("2026-03-11") is CENTS
    assert venue.events("2026-03-12") is DOLLARS
    assert venue.events("2025-10-01") is CENTS
    assert venue.events("2026-11-20") is DOLLARS


@pytest.mark.parametrize("date", ["2026-02-12", "2026-08-11"])
def test_frames_of_the_overlap_say_the_same_in_both_grammars(date: str) -> None:
    """In February 2026 both kinds of fields were there; the dollars win."""
    grammar = venue.events(date)
    ticker = _lines("ticker-2026-02.jsonl")
    assert list(grammar("ticker", ticker[0])) == [
        Ticker(
            symbol="KXXRP-26FEB1317-B1.3899500",
            ts_event=1_770_897_976_000_000_000,
            last="0.1400",
            last_size=None,
            bid="0.0400",
            bid_size="14.00",
            ask="0.9500",
            ask_size="84.00",
            volume="13446.00",
            open_interest="892.00",
        )
    ]
    (nobody_sells,) = grammar("ticker", ticker[2])
    assert nobody_sells == Ticker(
        symbol="KXETHD-26FEB1217-T1779.99",
        ts_event=1_770_897_976_000_000_000,
        bid="0.9700",
        bid_size="5000.00",
        volume="0.00",
        open_interest="0.00",
    )
    trades = [grammar("trade", line)[0] for line in _lines("trade-2026-02.jsonl")]
    assert trades[0] == Trade(
        "KXSOLD-26FEB1217-T79.9999",
        1_770_897_981_000_000_000,
        "0.7700",
        "75.00",
        "buy",
        "f851595a-6d92-424e-09f8-0d2669de70ae",
    )
    assert trades[1] == Trade(
        "KXBTCD-26FEB1217-T67749.99",
        1_770_897_984_000_000_000,
        "0.5700",
        "90.00",
        "sell",
        "d6af7817-8764-6afb-f5b7-ced5fda2581c",
    )
    assert len(trades) == 10 and len(ticker) == 10


def test_integer_cents_become_dollars() -> None:
    early, late = _lines("mixed-2025-11-and-2026-03.jsonl")
    assert list(CENTS("ticker", early)) == [  # price_dollars is empty: never traded
        Ticker(
            "KXBRASILEIROGAME-25NOV29CEACRU-CRU",
            1_732_579_880_000_000_000,
            bid="0.3700",
            ask="0.4300",
            volume="0",
            open_interest="0",
        )
    ]
    assert list(DOLLARS("trade", late)) == [
        Trade(
            "KXBTCD-26MAR1213-T69499.99",
            1_773_331_880_000_000_000,
            "0.8900",
            "3.00",
            "buy",
            "5d937db7-0c71-43cb-0b60-b56a4387af64",
        )
    ]
    trade = {"market_ticker": "M", "yes_price": 7, "no_price": 93, "count": 12, "taker_side": "no", "ts": 1_700_000_000}
    assert list(CENTS("trade", _frame("trade", trade))) == [
        Trade("M", 1_700_000_000_000_000_000, "0.07", "12", "sell", None)
    ]
    book = {"market_ticker": "M", "yes": [[8, 300], [22, 333]], "no": [[54, 20], [56, 146]]}
    assert list(CENTS("orderbook_snapshot", _frame("orderbook_snapshot", book))) == [
        BookSnapshot("M", None, [("0.22", "333"), ("0.08", "300")], [("0.44", "146"), ("0.46", "20")])
    ]
    delta = b'{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"M","price":96,"delta":-54,"side":"no"}}'
    assert list(CENTS("orderbook_delta", delta)) == [BookDelta("M", None, "ask", "0.04", None, "-54")]


def test_dollars_win_over_cents_unless_empty() -> None:
    delta = {
        "market_ticker": "M",
        "price": 96,
        "price_dollars": "0.9650",
        "delta": -54,
        "delta_fp": "-54.20",
        "side": "yes",
    }
    (event,) = CENTS("orderbook_delta", _frame("orderbook_delta", delta))
    assert event == BookDelta("M", None, "bid", "0.9650", None, "-54.20")
    (event,) = CENTS("orderbook_delta", _frame("orderbook_delta", {**delta, "price_dollars": "", "delta_fp": ""}))
    assert event == BookDelta("M", None, "bid", "0.96", None, "-54")
    book = {"market_ticker": "M", "yes": [[8, 300]], "yes_dollars": [["0.0800", 300]], "no": None}
    (event,) = CENTS("orderbook_snapshot", _frame("orderbook_snapshot", book))
    assert event == BookSnapshot("M", None, [("0.0800", "300")], [])


def test_books_come_out_on_the_yes_scale_best_first() -> None:
    snapshot = (
        b'{"type":"orderbook_snapshot","sid":2,"seq":2,"msg":{"market_ticker":"FED-23DEC-T3.00","market_id":"u",'
        b'"yes_dollars_fp":[["0.0800","300.00"],["0.2200","333.00"]],"no_dollars_fp":[["0.5400","20.00"],["0.1000","5.50"]]}}'
    )
    assert list(DOLLARS("orderbook_snapshot", snapshot)) == [
        BookSnapshot(
            "FED-23DEC-T3.00",
            None,
            [("0.2200", "333.00"), ("0.0800", "300.00")],
            [("0.4600", "20.00"), ("0.9000", "5.50")],
        )
    ]
    closed = b'{"type":"orderbook_snapshot","sid":2,"seq":2,"msg":{"market_ticker":"M","market_id":"u"}}'
    assert list(DOLLARS("orderbook_snapshot", closed)) == [BookSnapshot("M", None, [], [])]
    delta = (
        b'{"type":"orderbook_delta","sid":2,"seq":3,"msg":{"market_ticker":"M","market_id":"u","price_dollars":"0.9600",'
        b'"delta_fp":"-54.00","side":"%b","ts":"2026-08-05T03:45:40.722003Z","ts_ms":1785901540722}}'
    )
    at = 1_785_901_540_722_003_000
    assert DOLLARS("orderbook_delta", delta % b"yes")[0] == BookDelta("M", at, "bid", "0.9600", None, "-54.00")
    assert DOLLARS("orderbook_delta", delta % b"no")[0] == BookDelta("M", at, "ask", "0.0400", None, "-54.00")


def test_a_ticker_without_quotes_has_none() -> None:
    dollars = _lines("mixed-2026-01-to-07.jsonl")[1]
    assert list(DOLLARS("ticker", dollars)) == [
        Ticker(
            "KXBTC15M-26JUL191145-45",
            1_784_475_900_544_000_000,
            last="0.9990",
            last_size="0.11",
            volume="2233487.48",
            open_interest="618700.14",
        )
    ]


def test_lifecycle_keeps_the_venues_words() -> None:
    determined = _lines("mixed-2026-01-to-07.jsonl")[2]
    (event,) = DOLLARS("market_lifecycle_v2", determined)
    assert event == Status(
        "KXMLBSPREAD-26JUL191605WSHATH-ATH4",
        None,
        "determined",
        '{"market_ticker":"KXMLBSPREAD-26JUL191605WSHATH-ATH4","determination_ts":1784501722,"result":"no",'
        '"settlement_value":"0.0000","event_type":"determined"}',
    )
    words = '{"event_ticker":"KXA-26","title":"Café?","strike_date": 5}'
    made = b'{"type":"event_lifecycle","sid":1,"seq":3,"msg":%b}' % words.encode()
    assert DOLLARS("event_lifecycle", made)[0] == Status("KXA-26", None, "event_lifecycle", words)


_TRADE = {"market_ticker": "M", "trade_id": "t", "yes_price_dollars": "0.5000", "count_fp": "1.00", "taker_side": "yes"}


@pytest.mark.parametrize(
    ("times", "ts_event"),
    [
        ({"ts": 1_786_410_916, "ts_ms": 1_786_410_916_130}, 1_786_410_916_130_000_000),
        ({"ts": 1_786_410_916}, 1_786_410_916_000_000_000),
        ({"ts": "2026-08-11T01:15:15.566273Z", "ts_ms": 1_786_410_915_566}, 1_786_410_915_566_273_000),
        ({}, None),
    ],
)
def test_time_is_the_venues_finest(times: dict[str, object], ts_event: int | None) -> None:
    assert DOLLARS("trade", _frame("trade", {**_TRADE, **times}))[0].ts_event == ts_event


def test_the_taker_is_named_by_the_newer_field_first() -> None:
    (trade,) = DOLLARS("trade", _frame("trade", {**_TRADE, "taker_outcome_side": "no"}))
    assert isinstance(trade, Trade) and trade.side == "sell"
    (trade,) = DOLLARS("trade", _frame("trade", {**_TRADE, "taker_side": ""}))
    assert isinstance(trade, Trade) and trade.side is None


@pytest.mark.parametrize("channel", ["control", "_session", "_gap"])
def test_channels_without_events_give_none(channel: str) -> None:
    assert list(DOLLARS(channel, b'{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":1}}')) == []


@pytest.mark.parametrize(
    ("channel", "wire", "reason"),
    [
        ("trade", b"not json", "not JSON"),
        ("trade", b'{"type":"trade"', "not JSON"),
        ("trade", b'{"type":"trade","x":' + b"[" * 100_000, "not JSON"),
        ("trade", b'{"type":"trade"}', "msg"),
        ("trade", b'{"type":"ticker","msg":{}}', "type"),
        (
            "trade",
            b'{"type":"trade","msg":{"market_ticker":"M","trade_id":"t","count_fp":"1.00"}}',
            "yes_price_dollars",
        ),
        (
            "trade",
            b'{"type":"trade","msg":{"market_ticker":"M","trade_id":"t","yes_price_dollars":"NaN","count_fp":"1.00"}}',
            "'NaN' is no decimal number",
        ),
        (
            "orderbook_delta",
            b'{"type":"orderbook_delta","msg":{"market_ticker":"M","price_dollars":"0.5","delta_fp":"1","side":"maybe"}}',
            "maybe",
        ),
        (
            "orderbook_snapshot",
            b'{"type":"orderbook_snapshot","msg":{"market_ticker":"M","yes_dollars_fp":[["0.5"]]}}',
            "length 2",
        ),
        ("market_lifecycle_v2", b'{"type":"market_lifecycle_v2","msg":{}}', "neither a market nor an event"),
        ("no_such_channel", b"{}", "no channel 'no_such_channel'"),
    ],
)
def test_what_the_grammar_does_not_know_is_unparsable_with_a_reason(channel: str, wire: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason.replace("(", r"\(")):
        DOLLARS(channel, wire)


def test_a_frame_of_the_other_era_is_unparsable_not_guessed() -> None:
    cents = b'{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"M","price":96,"delta":-54,"side":"no"}}'
    with pytest.raises(Unparsable, match="price_dollars"):
        DOLLARS("orderbook_delta", cents)
    with pytest.raises(Unparsable, match="neither in dollars nor in cents"):
        CENTS("orderbook_delta", b'{"type":"orderbook_delta","msg":{"market_ticker":"M","side":"no"}}')
