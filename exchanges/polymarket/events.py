"""What Polymarket's archived frames say. A frame is one message or an array of them; every value is a text.

A change gives the new total of a level. There is no trade id: the settling transaction's hash stands for it, which
several fills may share. Both tokens of a market have books of their own, each the other's mirror.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import msgspec

from exchanges.polymarket.messages import KINDS, Change, Item, OldChange, Price
from exchanges.port import Bulk, Columns, Unparsable, kinds
from ssmd.events import BookDelta, BookSide, BookSnapshot, Event, Level, Side, Status, Ticker, Trade
from ssmd.frames import CONTROL, GAP, SESSION

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item = msgspec.json.Decoder(Item).decode
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?|\.[0-9]+")
_SILENT = frozenset({CONTROL, SESSION, GAP})
_BOOK_SIDES: Mapping[str, BookSide] = {"BUY": "bid", "SELL": "ask"}
_SIDES: Mapping[str, Side] = {"BUY": "buy", "SELL": "sell"}


class Grammar:
    """One grammar for all dates: what was different until September 2025 is told by the message itself."""

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        if channel in _SILENT:
            return ()
        if channel not in KINDS:
            raise Unparsable(f"Polymarket has no channel {channel!r}")
        try:
            parts = _decode_items(wire) if wire.lstrip()[:1] == b"[" else [wire]
            return [event for part in parts for event in _events(_decode_item(part), part)]
        except msgspec.ValidationError as e:
            raise Unparsable(f"{channel} is not as Polymarket writes it: {e}") from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Unparsable(f"{channel} is not JSON: {e}") from e

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        return {**dict.fromkeys(_SILENT, ()), **{kind: kinds(parser) for kind, parser in _PARSERS.items()}}

    def bulk(self, channel: str) -> Bulk | None:
        return _BULKS.get(channel)


def _events(item: Item, raw: bytes | msgspec.Raw) -> Iterator[Event]:
    parse = _PARSERS.get(item.kind)
    if parse is None:
        raise Unparsable(f"Polymarket has no message {item.kind[:80]!r}")
    return parse(item, raw)


def _book(item: Item, raw: bytes | msgspec.Raw) -> Iterator[BookSnapshot]:
    """The order of levels is not dependable: they are sorted."""
    bids = _levels(item.bids if item.bids is not None else item.buys)
    asks = _levels(item.asks if item.asks is not None else item.sells)
    yield BookSnapshot(_token(item), _time_ns(item), sorted(bids, key=_price, reverse=True), sorted(asks, key=_price))


def _price_change(item: Item, raw: bytes | msgspec.Raw) -> Iterator[BookDelta]:
    ts_event = _time_ns(item)
    if item.price_changes is None and item.changes is None:
        raise Unparsable("a price_change names no changes")
    for change in item.price_changes or ():
        if not change.asset_id:
            raise Unparsable("a change names no token")
        yield _delta(change.asset_id, ts_event, change.side, change.price, change.size)
    for old in item.changes or ():
        yield _old_delta(item, ts_event, old)


def _old_delta(item: Item, ts_event: int | None, change: OldChange) -> BookDelta:
    return _delta(_token(item), ts_event, change.side, change.price, change.size)


def _delta(token: str, ts_event: int | None, side: str, price: str, size: str) -> BookDelta:
    if side not in _BOOK_SIDES:
        raise Unparsable(f"a change has the side {side[:20]!r}")
    return BookDelta(token, ts_event, _BOOK_SIDES[side], _decimal(price), _decimal(size))


def _trade(item: Item, raw: bytes | msgspec.Raw) -> Iterator[Trade]:
    side = _SIDES.get(item.side)
    yield Trade(
        _token(item), _time_ns(item), _decimal(item.price), _decimal(item.size), side, item.transaction_hash or None
    )


def _best_bid_ask(item: Item, raw: bytes | msgspec.Raw) -> Iterator[Ticker]:
    """A bid of 0 or an offer of 1 stands for an empty side."""
    yield Ticker(_token(item), _time_ns(item), bid=_quote(item.best_bid, "0"), ask=_quote(item.best_ask, "1"))


def _status(item: Item, raw: bytes | msgspec.Raw) -> Iterator[Status]:
    """Of one token, or of each token of a market."""
    detail = bytes(raw).decode()
    for symbol in item.assets_ids or [item.symbol()]:
        if not symbol:
            raise Unparsable(f"{item.kind} names neither token nor market")
        yield Status(symbol, _time_ns(item), item.kind, detail)


_PARSERS: Mapping[str, Callable[[Item, bytes | msgspec.Raw], Iterator[Event]]] = {
    "book": _book,
    "price_change": _price_change,
    "last_trade_price": _trade,
    "best_bid_ask": _best_bid_ask,
    "tick_size_change": _status,
    "new_market": _status,
    "market_resolved": _status,
}


def _token(item: Item) -> str:
    if not item.asset_id:
        raise Unparsable(f"{item.kind} names no token")
    return item.asset_id


def _time_ns(item: Item) -> int | None:
    """Milliseconds in a text."""
    if not item.timestamp:
        return None
    if not (item.timestamp.isascii() and item.timestamp.isdigit() and len(item.timestamp) < 16):
        raise Unparsable(f"{item.timestamp[:40]!r} is no time in milliseconds")
    return int(item.timestamp) * 1_000_000


@lru_cache(1 << 16)  # a market has few prices and sizes repeat
def _decimal(text: str) -> str:
    """The zero before the point may be missing, so it is put there: a level has one name."""
    if not _DECIMAL.fullmatch(text):
        raise Unparsable(f"{text[:40]!r} is no decimal number")
    return f"0{text}" if text[0] == "." else text


@lru_cache(1 << 14)
def _quote(price: str, nothing: str) -> str | None:
    return None if not price or Decimal(_decimal(price)) == Decimal(nothing) else _decimal(price)


def _levels(levels: list[Price] | None) -> list[Level]:
    return [(_decimal(level.price), _decimal(level.size)) for level in levels or ()]


def _price(level: Level) -> Decimal:
    return Decimal(level[0])


# --------------------------------------------------------------------------------------- many at once, none an array


class _Changes(Item, kw_only=True):
    event_type: Literal["price_change"]
    price_changes: list[Change]
    changes: None = None


class _Fill(Item, kw_only=True):
    event_type: Literal["last_trade_price"]


class _Best(Item, kw_only=True):
    event_type: Literal["best_bid_ask"]


def _changes_at_once(items: Sequence[_Changes]) -> Columns:
    changes = [change for item in items for change in item.price_changes]
    sides = {side: _BOOK_SIDES.get(side) for side in {change.side for change in changes}}
    if None in sides.values() or not all(change.asset_id for change in changes):
        raise Unparsable("a change without a token or a side")
    values: dict[str, Sequence[Any]] = {
        "symbol": [change.asset_id for change in changes],
        "ts_event": [time for item in items for time in [_time_ns(item)] * len(item.price_changes)],
        "side": [sides[change.side] for change in changes],
        "price": [change.price for change in changes],
        "size": [change.size for change in changes],
    }
    return Columns(values, [len(item.price_changes) for item in items])


def _fills_at_once(items: Sequence[_Fill]) -> Columns:
    values: dict[str, Sequence[Any]] = {
        "symbol": [_token(item) for item in items],
        "ts_event": [_time_ns(item) for item in items],
        "price": [item.price for item in items],
        "size": [item.size for item in items],
        "side": [_SIDES.get(item.side) for item in items],
        "trade_id": [item.transaction_hash or None for item in items],
    }
    return Columns(values)


def _best_at_once(items: Sequence[_Best]) -> Columns:
    values: dict[str, Sequence[Any]] = {
        "symbol": [_token(item) for item in items],
        "ts_event": [_time_ns(item) for item in items],
        "bid": [_quote(item.best_bid, "0") for item in items],
        "ask": [_quote(item.best_ask, "1") for item in items],
    }
    return Columns(values)


_BULKS = {
    "price_change": Bulk(_Changes, BookDelta, _changes_at_once),
    "last_trade_price": Bulk(_Fill, Trade, _fills_at_once),
    "best_bid_ask": Bulk(_Best, Ticker, _best_at_once),
}
