"""What Binance's archived frames say. Prices and sizes keep the venue's digits; times are the venue's, in ns.

A trade's time is the match's (`T`), a depth event's the push's (`E`), or the match's where there is one (USD-M);
spot's best prices, partial books and snapshots carry no time at all. `m` says that the buyer was the maker, so the
taker sold.

Each of `trade` and `aggTrade` tells all trades: who subscribes to both has them twice, under ids of two kinds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Never, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from exchanges.at_once import unsigned
from exchanges.binance.product import symbol_of
from exchanges.port import Bulk, Columns, Unparsable, kinds
from ssmd.events import BookDelta, BookSnapshot, Event, Level, Status, Ticker, Trade
from ssmd.frames import CONTROL, GAP, SESSION

_Parse = Callable[[bytes], Sequence[Event]]
_T = TypeVar("_T")


class Grammar:
    """From a frame of a channel to its events."""

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        parse = _PARSERS.get(channel) or _PARSERS.get(_family(channel))
        if parse is None:
            raise Unparsable(f"Binance has no channel {channel!r}")
        try:
            return parse(wire)
        except msgspec.ValidationError as e:
            raise Unparsable(f"{channel} is not as documented: {e}") from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Unparsable(f"{channel} is not JSON: {e}") from e

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        return {
            f"{channel}_<interval>" if channel in _BY_INTERVAL else channel: kinds(parser)
            for channel, parser in _PARSERS.items()
        }

    def bulk(self, channel: str) -> Bulk | None:
        return _BULKS.get(channel)


def _family(channel: str) -> str:
    """Candles are told by what precedes their interval."""
    family = channel.partition("_")[0]
    return family if family in _BY_INTERVAL else channel


_BY_INTERVAL = frozenset({"kline", "continuousKline"})


# ------------------------------------------------------------------------------------------------------ numbers

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


@lru_cache(1 << 16)  # prices and sizes repeat: 0.06 us instead of 0.5
def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise Unparsable(f"{text[:40]!r} is no decimal number")
    return text


def _quote(price: str, size: str) -> tuple[str | None, str | None]:
    """A side of the best prices; zeros, or empty texts, stand for an empty side."""
    return (_decimal(price), _decimal(size)) if price.strip("0.") else (None, None)


def _ns(time: int | None) -> int | None:
    """Milliseconds, or microseconds on a connection that asked for them (they are told apart until the year 5138)."""
    if time is None:
        return None
    return time * 1_000_000 if time < 100_000_000_000_000 else time * 1000


def _levels(levels: list[Level]) -> list[Level]:
    return [(_decimal(price), _decimal(size)) for price, size in levels]


# ------------------------------------------------------------------------------------------------------- streams


class _Struct(msgspec.Struct, gc=False):
    pass


def _data(kind: type[_T]) -> Callable[[bytes], _T]:
    """A decoder of combined frames that gives their `data`."""
    decode = msgspec.json.Decoder(_frame(kind)).decode

    def data(wire: bytes) -> _T:
        return decode(wire).data  # type: ignore[no-any-return]

    return data


def _frame(kind: type[_T]) -> Any:
    return msgspec.defstruct("_Frame", [("data", kind)], gc=False)


class _Trade(_Struct):
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool
    X: str = "MARKET"


class _AggregateTrade(_Struct):
    s: str
    a: int
    p: str
    q: str
    T: int
    m: bool


_trade_data = _data(_Trade)
_aggregate_data = _data(_AggregateTrade)


def _trade(wire: bytes) -> Sequence[Trade]:
    """USD-M sends fills of the insurance fund and of deleveraging here too, off the market or at price 0."""
    d = _trade_data(wire)
    if d.X != "MARKET":
        return ()
    return (Trade(d.s, _ns(d.T), _decimal(d.p), _decimal(d.q), "sell" if d.m else "buy", str(d.t)),)


def _block_trade(wire: bytes) -> Sequence[Trade]:
    """Block trades have ids of their own, which would else be taken for those of trades."""
    d = _trade_data(wire)
    return (Trade(d.s, _ns(d.T), _decimal(d.p), _decimal(d.q), "sell" if d.m else "buy", f"block-{d.t}"),)


def _aggregate_trade(wire: bytes) -> Sequence[Trade]:
    d = _aggregate_data(wire)
    return (Trade(d.s, _ns(d.T), _decimal(d.p), _decimal(d.q), "sell" if d.m else "buy", str(d.a)),)


class _BookTicker(_Struct):
    s: str
    b: str
    B: str
    a: str
    A: str
    T: int | None = None


_book_ticker_data = _data(_BookTicker)


def _book_ticker(wire: bytes) -> Sequence[Ticker]:
    d = _book_ticker_data(wire)
    bid, bid_size = _quote(d.b, d.B)
    ask, ask_size = _quote(d.a, d.A)
    return (Ticker(d.s, _ns(d.T), bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size),)


class _Ticker(_Struct):
    """24hrTicker (USD-M's has no best prices), 24hrMiniTicker, and those of other windows."""

    E: int
    s: str
    c: str
    v: str
    Q: str | None = None
    b: str = ""
    B: str = ""
    a: str = ""
    A: str = ""

    def event(self, *, day: bool) -> Ticker:
        """Only the 24 h statistics tell the volume: of other windows it is another thing."""
        bid, bid_size = _quote(self.b, self.B)
        ask, ask_size = _quote(self.a, self.A)
        return Ticker(
            self.s,
            _ns(self.E),
            last=_decimal(self.c),
            last_size=None if self.Q is None else _decimal(self.Q),
            bid=bid,
            bid_size=bid_size,
            ask=ask,
            ask_size=ask_size,
            volume=_decimal(self.v) if day else None,
        )


_ticker_data = _data(_Ticker)
_tickers_data = _data(list[_Ticker])


def _ticker(wire: bytes) -> Sequence[Ticker]:
    return (_ticker_data(wire).event(day=True),)


def _window_ticker(wire: bytes) -> Sequence[Ticker]:
    return (_ticker_data(wire).event(day=False),)


def _tickers(wire: bytes) -> Sequence[Ticker]:
    return [d.event(day=True) for d in _tickers_data(wire)]


def _window_tickers(wire: bytes) -> Sequence[Ticker]:
    return [d.event(day=False) for d in _tickers_data(wire)]


class _Depth(_Struct):
    E: int
    s: str
    b: list[Level]
    a: list[Level]
    u: int = 0
    T: int | None = None


_depth_data = _data(_Depth)


def _depth(wire: bytes) -> Sequence[BookDelta]:
    return _deltas(_depth_data(wire))


def _deltas(d: _Depth) -> list[BookDelta]:
    """What stands at each level now; "0.00000000" that nothing does."""
    symbol, ts = d.s, _ns(d.E if d.T is None else d.T)
    bids = [BookDelta(symbol, ts, "bid", _decimal(price), _decimal(size)) for price, size in d.b]
    return bids + [BookDelta(symbol, ts, "ask", _decimal(price), _decimal(size)) for price, size in d.a]


class _PartialDepth(_Struct):
    """Spot's has neither symbol nor time, USD-M's is a depth event."""

    bids: list[Level] | None = None
    asks: list[Level] | None = None
    b: list[Level] | None = None
    a: list[Level] | None = None
    E: int | None = None
    T: int | None = None


class _PartialFrame(_Struct):
    stream: str
    data: _PartialDepth


_partial_frame = msgspec.json.Decoder(_PartialFrame).decode


def _partial_depth(wire: bytes) -> Sequence[BookSnapshot]:
    """The best levels are all there is to such a book; it is not to be mixed with that of `depth`."""
    frame = _partial_frame(wire)
    d = frame.data
    bids, asks = (d.bids, d.asks) if d.b is None else (d.b, d.a)
    if bids is None or asks is None:
        raise Unparsable("a partial book without levels")
    ts = _ns(d.E if d.T is None else d.T)
    return (BookSnapshot(symbol_of(frame.stream), ts, _levels(bids), _levels(asks)),)


class _Contract(_Struct):
    E: int
    s: str
    cs: str


class _RawFrame(_Struct):
    data: msgspec.Raw


_contract_data = _data(_Contract)
_raw_frame = msgspec.json.Decoder(_RawFrame).decode


def _contract(wire: bytes) -> Sequence[Status]:
    d = _contract_data(wire)
    return (Status(d.s, _ns(d.E), d.cs, bytes(_raw_frame(wire).data).decode()),)


# --------------------------------------------------------------------------------------------------------- REST


class _Book(_Struct):
    lastUpdateId: int
    bids: list[Level]
    asks: list[Level]
    T: int | None = None


class _Joined(_Struct):
    data: _Depth


class _Answer(_Struct):
    rest: str
    body: _Book
    meanwhile: list[_Joined] = []


_answer = msgspec.json.Decoder(_Answer).decode


def _snapshot(wire: bytes) -> Sequence[BookSnapshot | BookDelta]:
    """The book, then what has changed since it was taken: only events that it does not hold yet."""
    answer = _answer(wire)
    symbol = parse_qs(urlsplit(answer.rest.partition(" ")[2]).query).get("symbol", [""])[0]
    if not symbol:
        raise Unparsable("a snapshot of no symbol")
    book = answer.body
    events: list[BookSnapshot | BookDelta] = [BookSnapshot(symbol, _ns(book.T), _levels(book.bids), _levels(book.asks))]
    for joined in answer.meanwhile:
        if joined.data.u > book.lastUpdateId:
            events += _deltas(joined.data)
    return events


def _nothing(wire: bytes) -> Sequence[Never]:
    """Archived for what it is; none of our events."""
    return ()


_PARSERS: dict[str, _Parse] = {
    "trade": _trade,
    "blockTrade": _block_trade,
    "aggTrade": _aggregate_trade,
    "bookTicker": _book_ticker,
    "ticker": _ticker,
    "miniTicker": _ticker,
    "ticker@arr": _tickers,
    "miniTicker@arr": _tickers,
    **dict.fromkeys(("ticker_1h", "ticker_4h", "ticker_1d"), _window_ticker),
    **dict.fromkeys(("ticker_1h@arr", "ticker_4h@arr", "ticker_1d@arr"), _window_tickers),
    "depth": _depth,
    "rpiDepth": _nothing,  # another book of the same symbol: its levels must not mix with those of `depth`
    **dict.fromkeys(("depth5", "depth10", "depth20"), _partial_depth),
    "depth_snapshot": _snapshot,
    "contractInfo": _contract,
    **dict.fromkeys(
        (
            "depth_past",
            "rpiDepth_past",
            "rpiDepth_snapshot",
            "kline",
            "continuousKline",
            "avgPrice",
            "referencePrice",
            "markPrice",
            "markPrice@arr",
            "forceOrder",
            "forceOrder@arr",
            "compositeIndex",
            "assetIndex",
            "assetIndex@arr",
            "tradingSession",
            CONTROL,
            SESSION,
            GAP,
        ),
        _nothing,
    ),
}

# ------------------------------------------------------------------------------------------------- many at once


def _trades_at_once(frames: Sequence[Any]) -> Columns:
    trades = [frame.data for frame in frames]
    market = [d for d in trades if d.X == "MARKET"]
    counts = None if len(market) == len(trades) else [int(d.X == "MARKET") for d in trades]
    return _trade_columns(market, [str(d.t) for d in market], counts)


def _aggregate_trades_at_once(frames: Sequence[Any]) -> Columns:
    trades = [frame.data for frame in frames]
    return _trade_columns(trades, [str(d.a) for d in trades])


def _trade_columns(trades: Sequence[Any], ids: list[str], counts: list[int] | None = None) -> Columns:
    values = {
        "symbol": [d.s for d in trades],
        "ts_event": [_ns(d.T) for d in trades],
        "price": unsigned([d.p for d in trades]),
        "size": unsigned([d.q for d in trades]),
        "side": ["sell" if d.m else "buy" for d in trades],
        "trade_id": ids,
    }
    return Columns(values, counts)


def _book_tickers_at_once(frames: Sequence[Any]) -> Columns:
    tickers = [frame.data for frame in frames]
    bid, bid_size = _quotes([d.b for d in tickers], [d.B for d in tickers])
    ask, ask_size = _quotes([d.a for d in tickers], [d.A for d in tickers])
    values = {"symbol": [d.s for d in tickers], "ts_event": [_ns(d.T) for d in tickers]}
    return Columns(values | {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size})


def _quotes(prices: Sequence[str], sizes: Sequence[str]) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """`_quote` of each."""
    nothing = {price for price in set(unsigned(prices)) if not price.strip("0.")}
    unsigned(sizes)
    if not nothing:
        return prices, sizes
    here = [price not in nothing for price in prices]
    return tuple(
        [text if there else None for text, there in zip(texts, here, strict=True)] for texts in (prices, sizes)
    )  # type: ignore[return-value]


def _depths_at_once(frames: Sequence[Any]) -> Columns:
    depths = [frame.data for frame in frames]
    levels = [level for d in depths for side in (d.b, d.a) for level in side]
    counts = [len(d.b) + len(d.a) for d in depths]
    each = list(zip(depths, counts, strict=True))
    times = [(_ns(d.E if d.T is None else d.T), count) for d, count in each]
    values = {
        "symbol": [d.s for d, count in each for _ in range(count)],
        "ts_event": [time for time, count in times for _ in range(count)],
        "side": [side for d in depths for side, of in (("bid", d.b), ("ask", d.a)) for _ in of],
        "price": unsigned([price for price, _ in levels]),
        "size": unsigned([size for _, size in levels]),
    }
    return Columns(values, counts)


_BULKS = {
    "trade": Bulk(_frame(_Trade), Trade, _trades_at_once),
    "aggTrade": Bulk(_frame(_AggregateTrade), Trade, _aggregate_trades_at_once),
    "bookTicker": Bulk(_frame(_BookTicker), Ticker, _book_tickers_at_once),
    "depth": Bulk(_frame(_Depth), BookDelta, _depths_at_once),
}

GRAMMAR = Grammar()
