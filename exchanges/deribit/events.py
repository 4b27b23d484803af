"""What Deribit's archived frames say.

Prices and amounts are JSON numbers and keep the venue's digits; an exponent (7.8562e-4) is written out. Amounts are
the venue's: US dollars for inverse futures, the base coin for all else. `ts_event` is the frame's `timestamp` in ms;
`starbase_timestamp`, which some trades have beside it since 2026, is finer, but not always there, and is left alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, Never, TypeVar

import msgspec

from exchanges.at_once import digits, digits_if_any, ns
from exchanges.deribit.messages import CHANNELS
from exchanges.port import Bulk, Columns, Unparsable, kinds
from ssmd.events import BookDelta, BookSide, BookSnapshot, Event, Level, Side, Status, Ticker, Trade
from ssmd.frames import CONTROL, GAP, SESSION

_Parse = Callable[[bytes], Sequence[Event]]
_T = TypeVar("_T")
Number = msgspec.Raw  # a JSON number whose digits must survive, or null

_PLAIN = re.compile(rb"-?[0-9]+(\.[0-9]+)?")
_WITH_EXPONENT = re.compile(rb"-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]{1,2}")
_MISSING = frozenset({b"", b"null"})


class Grammar:
    """From a frame of a channel to its events; each channel has its function."""

    def __init__(self, parsers: Mapping[str, _Parse], bulks: Mapping[str, Bulk]) -> None:
        self._parsers = parsers
        self._bulks = bulks

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        parse = self._parsers.get(channel)
        if parse is None:
            raise Unparsable(f"Deribit has no channel {channel!r}")
        try:
            return parse(wire)
        except msgspec.ValidationError as e:
            raise Unparsable(f"{channel} is not as documented: {e}") from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Unparsable(f"{channel} is not JSON: {e}") from e

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        return {channel: kinds(parser) for channel, parser in self._parsers.items()}

    def bulk(self, channel: str) -> Bulk | None:
        return self._bulks.get(channel)


def data_of(kind: type[_T]) -> Callable[[bytes], _T]:
    """A decoder of notifications that gives their `data`."""
    decode = msgspec.json.Decoder(_frame(kind)).decode

    def data(wire: bytes) -> _T:
        return decode(wire).params.data  # type: ignore[no-any-return]

    return data


def _frame(kind: type[_T]) -> Any:
    params = msgspec.defstruct("_Params", [("data", kind)], gc=False)
    return msgspec.defstruct("_Frame", [("params", params)], gc=False)


def decimal(number: Number) -> str:
    """Raises Unparsable if it is no number."""
    return _decimal(bytes(number))


@lru_cache(1 << 16)  # prices and amounts repeat: 0.06 us instead of 0.6
def _decimal(text: bytes) -> str:
    if _PLAIN.fullmatch(text):
        return text.decode()
    if _WITH_EXPONENT.fullmatch(text):
        return f"{Decimal(text.decode()):f}"
    raise Unparsable(f"{text[:40].decode(errors='replace')!r} is no decimal number")


def known(number: Number) -> str | None:
    return None if bytes(number) in _MISSING else decimal(number)


def time_ns(ms: int | None) -> int | None:
    return None if ms is None else ms * 1_000_000


# --------------------------------------------------------------------------------------------------------- trades


class TradeMessage(msgspec.Struct, gc=False):
    """A trade, as the WebSocket and REST have it. `direction` is the taker's."""

    instrument_name: str
    trade_seq: int
    timestamp: int
    price: Number
    amount: Number
    direction: Side
    trade_id: str | int

    def event(self) -> Trade:
        """The legs of a combo are trades of their own, on their own instruments' tapes."""
        return Trade(
            self.instrument_name,
            time_ns(self.timestamp),
            decimal(self.price),
            decimal(self.amount),
            self.direction,
            str(self.trade_id),
        )


_trades_of = data_of(list[TradeMessage])


def _trades(wire: bytes) -> Sequence[Trade]:
    return [trade.event() for trade in _trades_of(wire)]


# ---------------------------------------------------------------------------------------------------------- books

_Change = tuple[Literal["new", "change", "delete"], Number, Number]


class _Book(msgspec.Struct, gc=False):
    """The first message of older captures has no `type`; it is known by its missing `prev_change_id`."""

    instrument_name: str
    bids: list[_Change]
    asks: list[_Change]
    timestamp: int | None = None
    prev_change_id: int | None = None
    type: Literal["snapshot", "change"] | None = None


class _Window(msgspec.Struct, gc=False):
    """The best levels, complete each time, maybe rounded to a price step."""

    instrument_name: str
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]
    timestamp: int | None = None


_book_of = data_of(_Book)
_window_of = data_of(_Window)


def _book(wire: bytes) -> Sequence[BookSnapshot | BookDelta]:
    m = _book_of(wire)
    ts = time_ns(m.timestamp)
    if m.type == "snapshot" or (m.type is None and m.prev_change_id is None):
        levels = [[(decimal(price), decimal(amount)) for _, price, amount in side] for side in (m.bids, m.asks)]
        return (_snapshot(m.instrument_name, ts, *levels),)
    sides: tuple[tuple[BookSide, list[_Change]], ...] = (("bid", m.bids), ("ask", m.asks))
    return [
        BookDelta(m.instrument_name, ts, side, decimal(price), decimal(amount))
        for side, changes in sides
        for _, price, amount in changes
    ]


def _grouped(wire: bytes) -> Sequence[BookSnapshot]:
    m = _window_of(wire)
    levels = [[(decimal(price), decimal(amount)) for price, amount in side] for side in (m.bids, m.asks)]
    return (_snapshot(m.instrument_name, time_ns(m.timestamp), *levels),)


def _snapshot(symbol: str, ts_event: int | None, bids: list[Level], asks: list[Level]) -> BookSnapshot:
    """Best first; that the venue sends them so is seen, not documented."""
    return BookSnapshot(symbol, ts_event, sorted(bids, key=_price, reverse=True), sorted(asks, key=_price))


def _price(level: Level) -> Decimal:
    return Decimal(level[0])


# -------------------------------------------------------------------------------------------------------- tickers

_NONE = msgspec.Raw(b"")


class _Stats(msgspec.Struct, frozen=True, gc=False):
    volume: Number = _NONE


class _Quote(msgspec.Struct, gc=False):
    instrument_name: str
    timestamp: int | None = None
    best_bid_price: Number = _NONE
    best_bid_amount: Number = _NONE
    best_ask_price: Number = _NONE
    best_ask_amount: Number = _NONE


class _Ticker(_Quote, gc=False):
    """All of it, or (incremental_ticker) what has changed."""

    last_price: Number = _NONE
    open_interest: Number = _NONE
    stats: _Stats = _Stats()


_quote_of = data_of(_Quote)
_ticker_of = data_of(_Ticker)


def _quote(wire: bytes) -> Sequence[Ticker]:
    m = _quote_of(wire)
    bid, bid_size = _best(m.best_bid_price, m.best_bid_amount)
    ask, ask_size = _best(m.best_ask_price, m.best_ask_amount)
    return (Ticker(m.instrument_name, time_ns(m.timestamp), bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size),)


def _ticker(wire: bytes) -> Sequence[Ticker]:
    m = _ticker_of(wire)
    bid, bid_size = _best(m.best_bid_price, m.best_bid_amount)
    ask, ask_size = _best(m.best_ask_price, m.best_ask_amount)
    return (
        Ticker(
            m.instrument_name,
            time_ns(m.timestamp),
            last=known(m.last_price),
            bid=bid,
            bid_size=bid_size,
            ask=ask,
            ask_size=ask_size,
            volume=known(m.stats.volume),
            open_interest=known(m.open_interest),
        ),
    )


def _best(price: Number, amount: Number) -> tuple[str | None, str | None]:
    """An empty side has no price, or 0, with an amount of 0. A price of 0 with an amount is one: of a combo."""
    best, size = known(price), known(amount)
    if best is not None and size is not None and not Decimal(best) and not Decimal(size):
        return None, None
    return best, None if best is None and size is not None and not Decimal(size) else size


# --------------------------------------------------------------------------------------------------------- status


class _State(msgspec.Struct):
    instrument_name: str
    state: str
    timestamp: int | None = None


class _Creation(msgspec.Struct):
    instrument_name: str
    creation_timestamp: int | None = None


class _Platform(msgspec.Struct):
    price_index: str | None = None


_raw_of = data_of(msgspec.Raw)
_decode_state = msgspec.json.Decoder(_State).decode
_decode_creation = msgspec.json.Decoder(_Creation).decode
_decode_platform = msgspec.json.Decoder(_Platform).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _state(wire: bytes) -> Sequence[Status]:
    raw = bytes(_raw_of(wire))
    m = _decode_state(raw)
    return (Status(m.instrument_name, time_ns(m.timestamp), m.state, raw.decode()),)


def _creation(wire: bytes) -> Sequence[Status]:
    raw = bytes(_raw_of(wire))
    m = _decode_creation(raw)
    return (Status(m.instrument_name, time_ns(m.creation_timestamp), "creation", raw.decode()),)


def _platform(wire: bytes) -> Sequence[Status]:
    """What is said of an index, or of the whole platform: `locked=true`, `maintenance=true` in the venue's words."""
    raw = bytes(_raw_of(wire))
    symbol = _decode_platform(raw).price_index or "platform_state"
    flags = [f"{name}={bytes(value).decode()}" for name, value in _decode_parts(raw).items() if name != "price_index"]
    return (Status(symbol, None, " ".join(flags), raw.decode()),)


def _nothing(wire: bytes) -> Sequence[Never]:
    """Nothing that our tables have a place for: indices, marks, candles, announcements; and our own rows."""
    return ()


# ------------------------------------------------------------------------------------------------- many at once


def _trades_at_once(frames: Sequence[Any]) -> Columns:
    trades = [trade for frame in frames for trade in frame.params.data]
    values = {
        "symbol": [t.instrument_name for t in trades],
        "ts_event": ns(t.timestamp for t in trades),
        "price": digits((t.price for t in trades), decimal),
        "size": digits((t.amount for t in trades), decimal),
        "side": [t.direction for t in trades],
        "trade_id": [str(t.trade_id) for t in trades],
    }
    return Columns(values, [len(frame.params.data) for frame in frames])


def _changes_at_once(frames: Sequence[Any]) -> Columns:
    books = [frame.params.data for frame in frames]
    if any(m.type == "snapshot" or (m.type is None and m.prev_change_id is None) for m in books):
        raise Unparsable("a snapshot is no change")
    counts = [len(m.bids) + len(m.asks) for m in books]
    levels = [level for m in books for side in (m.bids, m.asks) for level in side]
    each = list(zip(books, ns(m.timestamp for m in books), counts, strict=True))
    values = {
        "symbol": [m.instrument_name for m, _, count in each for _ in range(count)],
        "ts_event": [time for _, time, count in each for _ in range(count)],
        "side": [side for m in books for side, of in (("bid", m.bids), ("ask", m.asks)) for _ in of],
        "price": digits((price for _, price, _ in levels), decimal),
        "size": digits((amount for _, _, amount in levels), decimal),
    }
    return Columns(values, counts)


def _tickers_at_once(frames: Sequence[Any]) -> Columns:
    tickers = [frame.params.data for frame in frames]
    bid, bid_size = _all_best(
        digits_if_any((m.best_bid_price for m in tickers), decimal),
        digits_if_any((m.best_bid_amount for m in tickers), decimal),
    )
    ask, ask_size = _all_best(
        digits_if_any((m.best_ask_price for m in tickers), decimal),
        digits_if_any((m.best_ask_amount for m in tickers), decimal),
    )
    values = {
        "symbol": [m.instrument_name for m in tickers],
        "ts_event": ns(m.timestamp for m in tickers),
        "last": digits_if_any((m.last_price for m in tickers), decimal),
        "bid": bid,
        "bid_size": bid_size,
        "ask": ask,
        "ask_size": ask_size,
        "volume": digits_if_any((m.stats.volume for m in tickers), decimal),
        "open_interest": digits_if_any((m.open_interest for m in tickers), decimal),
    }
    return Columns(values)


def _all_best(prices: list[str | None], sizes: list[str | None]) -> tuple[list[str | None], list[str | None]]:
    """`_best` of each, which is asked only where an amount is 0."""
    nothing = {size for size in set(sizes) if size is not None and not size.strip("-0.")}
    if nothing:
        for i, size in enumerate(sizes):
            if size in nothing:
                price = prices[i]
                prices[i], sizes[i] = _best(
                    msgspec.Raw(b"" if price is None else price.encode()), msgspec.Raw(size.encode())
                )
    return prices, sizes


GRAMMAR = Grammar(
    {
        **dict.fromkeys((*CHANNELS.values(), CONTROL, SESSION, GAP), _nothing),
        "trades": _trades,
        "book": _book,
        "book_grouped": _grouped,
        "ticker": _ticker,
        "incremental_ticker": _ticker,
        "quote": _quote,
        "instrument_state": _state,
        "instrument_creation": _creation,
        "platform_state": _platform,
        "platform_state_public_methods_state": _platform,
    },
    {
        "trades": Bulk(_frame(list[TradeMessage]), Trade, _trades_at_once),
        "book": Bulk(_frame(_Book), BookDelta, _changes_at_once),
        **dict.fromkeys(("ticker", "incremental_ticker"), Bulk(_frame(_Ticker), Ticker, _tickers_at_once)),
    },
)


def grammar(date: str) -> Grammar:
    """The grammar in force on a UTC date (YYYY-MM-DD): that of API v2 has only grown since 2019."""
    return GRAMMAR
