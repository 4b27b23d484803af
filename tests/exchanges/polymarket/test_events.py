"""What frames say."""

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.polymarket.events import Grammar
from exchanges.port import Unparsable
from ssmd.events import BookDelta, BookSnapshot, Status, Ticker, Trade

from .recorded import BOOKS, TRADES, recording

PARSE = Grammar()
TOKEN, OTHER = "1" * 77, "2" * 77
AT = {"timestamp": "1781254836832"}
AT_NS = 1_781_254_836_832_000_000


def events(told: Any, channel: str = "book") -> list[Any]:
    return list(PARSE(channel, json.dumps(told).encode()))


def book(**more: Any) -> dict[str, Any]:
    return {"event_type": "book", "asset_id": TOKEN, "market": "0x1", "bids": [], "asks": [], **AT, **more}


def level(price: str, size: str = "1") -> dict[str, str]:
    return {"price": price, "size": size}


@pytest.mark.parametrize("wire", BOOKS)
def test_recorded_books_are_sorted_whole_and_not_crossed(wire: bytes) -> None:
    told = json.loads(wire)
    (snapshot,) = PARSE("book", wire)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.symbol == told["asset_id"] and snapshot.ts_event == int(told["timestamp"]) * 1_000_000
    bids, asks = [Decimal(p) for p, _ in snapshot.bids], [Decimal(p) for p, _ in snapshot.asks]
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
    assert {tuple(x.values()) for x in told["bids"]} == set(snapshot.bids)
    assert not (bids and asks) or bids[0] < asks[0]


@pytest.mark.parametrize("wire", TRADES)
def test_recorded_trades_keep_every_digit(wire: bytes) -> None:
    told = json.loads(wire)
    (trade,) = PARSE("last_trade_price", wire)
    assert trade == Trade(
        told["asset_id"],
        int(told["timestamp"]) * 1_000_000,
        told["price"],
        told["size"],
        told["side"].lower(),
        told["transaction_hash"],
    )


def test_an_array_with_a_newline_after_it_is_all_its_books() -> None:
    wire = recording("ws/clob_array_books.json").read_bytes().strip() + b"\n"
    found = PARSE("book", wire)
    assert [type(e) for e in found] == [BookSnapshot, BookSnapshot]
    assert [e.symbol for e in found] == [b["asset_id"] for b in json.loads(wire)]


def test_an_array_may_mix_types_and_its_first_names_the_channel() -> None:
    change = {"asset_id": TOKEN, "price": "0.5", "size": "0", "side": "SELL", "best_bid": "", "best_ask": ""}
    both = [book(), {"event_type": "price_change", "market": "0x1", "price_changes": [change], **AT}]
    assert [type(e) for e in events(both)] == [BookSnapshot, BookDelta]


def test_changes_are_totals_of_levels_of_several_tokens() -> None:
    changes = [
        {"asset_id": TOKEN, "price": "0.52", "size": "146.37", "side": "BUY"},
        {"asset_id": OTHER, "price": ".48", "size": "0", "side": "SELL"},
    ]
    assert events({"event_type": "price_change", "market": "0x1", "price_changes": changes, **AT}, "price_change") == [
        BookDelta(TOKEN, AT_NS, "bid", "0.52", "146.37"),
        BookDelta(OTHER, AT_NS, "ask", "0.48", "0"),
    ]


def test_until_september_2025_the_token_stood_outside() -> None:
    old = {
        "event_type": "price_change",
        "asset_id": TOKEN,
        "market": "0x1",
        "changes": [{"price": "0.4", "side": "SELL", "size": "3300"}],
        **AT,
    }
    assert events(old, "price_change") == [BookDelta(TOKEN, AT_NS, "ask", "0.4", "3300")]


def test_books_without_type_and_with_the_older_names() -> None:
    plain = book(bids=[level(".48", "30"), level("0.49", "20")])
    del plain["event_type"]
    assert events(plain) == [BookSnapshot(TOKEN, AT_NS, [("0.49", "20"), ("0.48", "30")], [])]
    old = {"event_type": "book", "asset_id": TOKEN, "market": "0x1", "buys": [level("0.1")], "sells": [level("0.2")]}
    assert events(old) == [BookSnapshot(TOKEN, None, [("0.1", "1")], [("0.2", "1")])]


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        ("0.45", "0.46", ("0.45", "0.46")),
        ("0", "1", (None, None)),
        ("", "", (None, None)),
        ("0.99", "1", ("0.99", None)),
    ],
)
def test_a_quote_of_nothing_is_none(bid: str, ask: str, expected: tuple[str | None, str | None]) -> None:
    told = {"event_type": "best_bid_ask", "asset_id": TOKEN, "best_bid": bid, "best_ask": ask, "spread": "", **AT}
    assert events(told, "best_bid_ask") == [Ticker(TOKEN, AT_NS, bid=expected[0], ask=expected[1])]


@pytest.mark.parametrize("name", ["new_market", "market_resolved"])
def test_what_befalls_a_market_befalls_each_of_its_tokens(name: str) -> None:
    wire = recording(f"ws/clob_{name}.json").read_bytes().strip()
    told = json.loads(wire)
    found = PARSE(name, wire)
    assert [e.symbol for e in found] == told["assets_ids"]
    assert all(isinstance(e, Status) and e.status == name and json.loads(e.detail) == told for e in found)


def test_a_market_without_tokens_is_named_itself_and_a_tick_size_is_a_status() -> None:
    (status,) = events({"event_type": "new_market", "market": "0xabc", "assets_ids": [], **AT}, "new_market")
    assert (status.symbol, status.status) == ("0xabc", "new_market")
    wire = recording("ws/tick_size_change.json").read_bytes()
    (status,) = PARSE("tick_size_change", wire)
    assert json.loads(status.detail)["new_tick_size"] == "0.001" and status.symbol.startswith("11547")


@pytest.mark.parametrize("channel", ["control", "_session", "_gap"])
def test_answers_and_our_own_frames_say_nothing(channel: str) -> None:
    assert PARSE(channel, b"PONG") == ()


@pytest.mark.parametrize(
    ("channel", "wire"),
    [
        ("nonsense", b"{}"),
        ("book", b"PONG"),
        ("book", b"{}"),
        ("book", b"[" * 100_000),
        ("book", b'{"event_type":"book","asset_id":"","bids":[],"asks":[]}'),
        ("book", b'{"event_type":"book","asset_id":"1","bids":[{"price":"","size":"1"}]}'),
        ("book", b'{"event_type":"book","asset_id":"1","bids":[{"price":"1e3","size":"1"}]}'),
        ("book", b'{"event_type":"book","asset_id":"1","bids":[],"timestamp":"now"}'),
        ("book", b'{"event_type":"book","asset_id":"1","bids":[{"price":0.5,"size":"1"}]}'),
        ("price_change", b'{"event_type":"price_change","market":"0x1"}'),
        (
            "price_change",
            b'{"event_type":"price_change","price_changes":[{"asset_id":"1","price":"1","size":"1","side":"x"}]}',
        ),
        ("last_trade_price", b'{"event_type":"last_trade_price","asset_id":"1","price":"","size":"1"}'),
        ("market_resolved", b'{"event_type":"market_resolved"}'),
        ("book", b"\xff"),
    ],
)
def test_what_cannot_be_understood_says_so(channel: str, wire: bytes) -> None:
    with pytest.raises(Unparsable):
        PARSE(channel, wire)


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["event_type", "asset_id", "bids", "price_changes", "price", "size", "timestamp"]), x
)).map(lambda x: json.dumps(x).encode()))  # fmt: skip
def test_any_bytes_are_events_or_unparsable(wire: bytes) -> None:
    for channel in ("book", "price_change", "new_market"):
        with contextlib.suppress(Unparsable):
            PARSE(channel, wire)
