"""What Kraken's archived futures frames say. Numbers keep the venue's digits; exponents are written out.

Sizes are what the venue counts in: base units for PF_ and FF_, contracts of a dollar for PI_ and FI_. `trade_snapshot`
has no events: it repeats up to 100 trades of before the subscription, of which all or most are in the archive already;
a gap is filled from REST, which has them in full.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from exchanges.at_once import digits, digits_if_any, ns
from exchanges.kraken.digits import ABSENT, known, number
from exchanges.kraken.events import BookLevel, Grammar, best_first, nothing
from exchanges.port import Bulk, Columns
from ssmd.events import BookDelta, BookSide, BookSnapshot, Side, Ticker, Trade
from ssmd.frames import CONTROL, GAP, SESSION

_BOOK_SIDES: dict[Side, BookSide] = {"buy": "bid", "sell": "ask"}


class _Trade(msgspec.Struct, gc=False):
    feed: Literal["trade"]
    product_id: str
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    time: int
    uid: str


class _Snapshot(msgspec.Struct, gc=False):
    feed: Literal["book_snapshot"]
    product_id: str
    timestamp: int
    bids: list[BookLevel]
    asks: list[BookLevel]


class _Delta(msgspec.Struct, gc=False):
    feed: Literal["book"]
    product_id: str
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    timestamp: int


class _Ticker(msgspec.Struct, gc=False):
    feed: Literal["ticker", "ticker_lite"]
    product_id: str
    time: int | None = None
    last: msgspec.Raw = ABSENT
    bid: msgspec.Raw = ABSENT
    bid_size: msgspec.Raw = ABSENT
    ask: msgspec.Raw = ABSENT
    ask_size: msgspec.Raw = ABSENT
    volume: msgspec.Raw = ABSENT
    open_interest: msgspec.Raw = msgspec.field(default=ABSENT, name="openInterest")


_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_delta = msgspec.json.Decoder(_Delta).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode


def _trade(wire: bytes) -> Sequence[Trade]:
    """Fills, liquidations, blocks and all other types; `uid` tells them apart."""
    t = _decode_trade(wire)
    return (Trade(t.product_id, ms_ns(t.time), number(t.price), number(t.qty), t.side, t.uid),)


def _snapshot(wire: bytes) -> Sequence[BookSnapshot]:
    s = _decode_snapshot(wire)
    return (BookSnapshot(s.product_id, ms_ns(s.timestamp), best_first(s.bids, highest=True), best_first(s.asks)),)


def _delta(wire: bytes) -> Sequence[BookDelta]:
    d = _decode_delta(wire)
    return (BookDelta(d.product_id, ms_ns(d.timestamp), _BOOK_SIDES[d.side], number(d.price), number(d.qty)),)


def _ticker(wire: bytes) -> Sequence[Ticker]:
    t = _decode_ticker(wire)
    return (
        Ticker(
            t.product_id,
            None if t.time is None else ms_ns(t.time),
            last=known(t.last),
            bid=known(t.bid),
            bid_size=known(t.bid_size),
            ask=known(t.ask),
            ask_size=known(t.ask_size),
            volume=known(t.volume),
            open_interest=known(t.open_interest),
        ),
    )


def _trades_at_once(trades: Sequence[_Trade]) -> Columns:
    values: dict[str, Sequence[Any]] = {
        "symbol": [t.product_id for t in trades],
        "ts_event": ns(t.time for t in trades),
        "price": digits((t.price for t in trades), number),
        "size": digits((t.qty for t in trades), number),
        "side": [t.side for t in trades],
        "trade_id": [t.uid for t in trades],
    }
    return Columns(values)


def _deltas_at_once(deltas: Sequence[_Delta]) -> Columns:
    values: dict[str, Sequence[Any]] = {
        "symbol": [d.product_id for d in deltas],
        "ts_event": ns(d.timestamp for d in deltas),
        "side": [_BOOK_SIDES[d.side] for d in deltas],
        "price": digits((d.price for d in deltas), number),
        "size": digits((d.qty for d in deltas), number),
    }
    return Columns(values)


def _tickers_at_once(tickers: Sequence[_Ticker]) -> Columns:
    values: dict[str, Sequence[Any]] = {
        "symbol": [t.product_id for t in tickers],
        "ts_event": ns(t.time for t in tickers),
        "last": digits_if_any((t.last for t in tickers), number),
        "bid": digits_if_any((t.bid for t in tickers), number),
        "bid_size": digits_if_any((t.bid_size for t in tickers), number),
        "ask": digits_if_any((t.ask for t in tickers), number),
        "ask_size": digits_if_any((t.ask_size for t in tickers), number),
        "volume": digits_if_any((t.volume for t in tickers), number),
        "open_interest": digits_if_any((t.open_interest for t in tickers), number),
    }
    return Columns(values)


def ms_ns(milliseconds: int) -> int:
    return milliseconds * 1_000_000


GRAMMAR = Grammar(
    "Kraken Futures",
    {
        "trade": _trade,
        "trade_snapshot": nothing,
        "book_snapshot": _snapshot,
        "book": _delta,
        "ticker": _ticker,
        "ticker_lite": _ticker,
        CONTROL: nothing,
        SESSION: nothing,
        GAP: nothing,
    },
    {
        "trade": Bulk(_Trade, Trade, _trades_at_once),
        "book": Bulk(_Delta, BookDelta, _deltas_at_once),
        **dict.fromkeys(("ticker", "ticker_lite"), Bulk(_Ticker, Ticker, _tickers_at_once)),
    },
)


def grammar(date: str) -> Grammar:
    """WebSocket v1 has had one grammar so far."""
    return GRAMMAR
