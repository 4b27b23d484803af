"""What Kraken's archived spot frames say. Numbers keep the venue's digits; `side` of a trade is the taker's already.

Books come with the depth they were subscribed at: what falls below it is not deleted by the venue, so whoever builds
a book from these events must cut it to that depth after each frame (`book.1000` in the session's channels).
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Never

import msgspec

from exchanges.at_once import digits, digits_if_any, utc
from exchanges.kraken.digits import ABSENT, known, number, rfc3339_ns
from exchanges.port import Bulk, Columns, Unparsable, kinds
from ssmd.events import BookDelta, BookSide, BookSnapshot, Event, Level, Side, Status, Ticker, Trade
from ssmd.frames import ALL, CONTROL, GAP, SESSION

_Parse = Callable[[bytes], Sequence[Event]]


class Grammar:
    """From a frame of a channel to its events; each channel has its function."""

    def __init__(self, venue: str, parsers: Mapping[str, _Parse], bulks: Mapping[str, Bulk]) -> None:
        self._venue = venue
        self._parsers = parsers
        self._bulks = bulks

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        parse = self._parsers.get(channel)
        if parse is None:
            raise Unparsable(f"{self._venue} has no channel {channel!r}")
        try:
            return parse(wire)
        except msgspec.ValidationError as e:
            raise Unparsable(f"{channel} is not as {self._venue} documents it: {e}") from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Unparsable(f"{channel} is not JSON: {e}") from e

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        return {channel: kinds(parser) for channel, parser in self._parsers.items()}

    def bulk(self, channel: str) -> Bulk | None:
        return self._bulks.get(channel)

    def __repr__(self) -> str:
        return f"Grammar({self._venue!r})"


def nothing(wire: bytes) -> Sequence[Never]:
    return ()


class BookLevel(msgspec.Struct, gc=False):
    """A level's numbers, as sent."""

    price: msgspec.Raw
    qty: msgspec.Raw


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: int | None = None
    timestamp: str | None = None


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[BookLevel] = []
    asks: list[BookLevel] = []
    timestamp: str | None = None


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: msgspec.Raw = ABSENT
    bid_qty: msgspec.Raw = ABSENT
    ask: msgspec.Raw = ABSENT
    ask_qty: msgspec.Raw = ABSENT
    last: msgspec.Raw = ABSENT
    volume: msgspec.Raw = ABSENT
    timestamp: str | None = None


class _System(msgspec.Struct):
    system: str = ""


class _Pair(msgspec.Struct):
    symbol: str
    status: str


class _Instruments(msgspec.Struct):
    pairs: list[msgspec.Raw] = []


class _Trades(msgspec.Struct):
    channel: Literal["trade"]
    data: list[_Trade]


class _Books(msgspec.Struct):
    channel: Literal["book"]
    type: Literal["snapshot", "update"]
    data: list[_Book]


class _Updates(msgspec.Struct, gc=False):
    """What nearly all frames of `book` are."""

    channel: Literal["book"]
    type: Literal["update"]
    data: list[_Book]


class _Tickers(msgspec.Struct):
    channel: Literal["ticker"]
    data: list[_Ticker]


class _Systems(msgspec.Struct):
    channel: Literal["status"]
    data: list[msgspec.Raw]


class _InstrumentFrame(msgspec.Struct):
    channel: Literal["instrument"]
    data: _Instruments


_decode_trades = msgspec.json.Decoder(_Trades).decode
_decode_books = msgspec.json.Decoder(_Books).decode
_decode_tickers = msgspec.json.Decoder(_Tickers).decode
_decode_systems = msgspec.json.Decoder(_Systems).decode
_decode_system = msgspec.json.Decoder(_System).decode
_decode_instruments = msgspec.json.Decoder(_InstrumentFrame).decode
_decode_pair = msgspec.json.Decoder(_Pair).decode


def _time_ns(timestamp: str | None) -> int | None:
    return None if timestamp is None else rfc3339_ns(timestamp)


def _trades(wire: bytes) -> Sequence[Trade]:
    return [
        Trade(
            t.symbol,
            _time_ns(t.timestamp),
            number(t.price),
            number(t.qty),
            t.side,
            None if t.trade_id is None else str(t.trade_id),
        )
        for t in _decode_trades(wire).data
    ]


def _books(wire: bytes) -> Sequence[BookSnapshot | BookDelta]:
    """Several changes of one price in a frame stay in their order."""
    frame = _decode_books(wire)
    if frame.type == "snapshot":
        return [
            BookSnapshot(b.symbol, _time_ns(b.timestamp), best_first(b.bids, highest=True), best_first(b.asks))
            for b in frame.data
        ]
    found: list[BookDelta] = []
    for book in frame.data:
        symbol, ts_event = book.symbol, _time_ns(book.timestamp)
        sides: tuple[tuple[BookSide, list[BookLevel]], ...] = (("bid", book.bids), ("ask", book.asks))
        found += [
            BookDelta(symbol, ts_event, side, number(level.price), number(level.qty))
            for side, levels in sides
            for level in levels
        ]
    return found


def best_first(levels: Sequence[BookLevel], *, highest: bool = False) -> list[Level]:
    """A side of a snapshot, without levels of size 0."""
    found = [(number(level.price), number(level.qty)) for level in levels]
    return sorted((level for level in found if Decimal(level[1])), key=_price, reverse=highest)


def _price(level: Level) -> Decimal:
    return Decimal(level[0])


def _tickers(wire: bytes) -> Sequence[Ticker]:
    return [
        Ticker(
            t.symbol,
            _time_ns(t.timestamp),
            last=known(t.last),
            bid=known(t.bid),
            bid_size=known(t.bid_qty),
            ask=known(t.ask),
            ask_size=known(t.ask_qty),
            volume=known(t.volume),
        )
        for t in _decode_tickers(wire).data
    ]


def _instruments(wire: bytes) -> Sequence[Status]:
    """The state of each pair that the frame tells of. Assets are no instruments: they stay in the frame."""
    found = []
    for raw in _decode_instruments(wire).data.pairs:
        pair = _decode_pair(raw)
        found.append(Status(pair.symbol, None, pair.status, bytes(raw).decode()))
    return found


def _systems(wire: bytes) -> Sequence[Status]:
    """The state of the whole venue concerns every instrument."""
    return [Status(ALL, None, _decode_system(raw).system, bytes(raw).decode()) for raw in _decode_systems(wire).data]


def _trades_at_once(frames: Sequence[_Trades]) -> Columns:
    trades = [t for frame in frames for t in frame.data]
    values = {
        "symbol": [t.symbol for t in trades],
        "ts_event": utc([t.timestamp for t in trades]),
        "price": digits((t.price for t in trades), number),
        "size": digits((t.qty for t in trades), number),
        "side": [t.side for t in trades],
        "trade_id": [None if t.trade_id is None else str(t.trade_id) for t in trades],
    }
    return Columns(values, [len(frame.data) for frame in frames])


def _updates_at_once(frames: Sequence[_Updates]) -> Columns:
    books = [book for frame in frames for book in frame.data]
    levels = [level for book in books for side in (book.bids, book.asks) for level in side]
    times = utc([book.timestamp for book in books])
    each = [(book, time, len(book.bids) + len(book.asks)) for book, time in zip(books, times, strict=True)]
    values: dict[str, Sequence[Any]] = {
        "symbol": [book.symbol for book, _, count in each for _ in range(count)],
        "ts_event": [time for _, time, count in each for _ in range(count)],
        "side": [side for book in books for side, of in (("bid", book.bids), ("ask", book.asks)) for _ in of],
        "price": digits((level.price for level in levels), number),
        "size": digits((level.qty for level in levels), number),
    }
    return Columns(values, [sum(len(book.bids) + len(book.asks) for book in frame.data) for frame in frames])


def _tickers_at_once(frames: Sequence[_Tickers]) -> Columns:
    tickers = [t for frame in frames for t in frame.data]
    values = {
        "symbol": [t.symbol for t in tickers],
        "ts_event": utc([t.timestamp for t in tickers]),
        "last": digits_if_any((t.last for t in tickers), number),
        "bid": digits_if_any((t.bid for t in tickers), number),
        "bid_size": digits_if_any((t.bid_qty for t in tickers), number),
        "ask": digits_if_any((t.ask for t in tickers), number),
        "ask_size": digits_if_any((t.ask_qty for t in tickers), number),
        "volume": digits_if_any((t.volume for t in tickers), number),
    }
    return Columns(values, [len(frame.data) for frame in frames])


GRAMMAR = Grammar(
    "Kraken",
    {
        "trade": _trades,
        "book": _books,
        "ticker": _tickers,
        "ohlc": nothing,  # bars say nothing that their trades do not
        "instrument": _instruments,
        "status": _systems,
        CONTROL: nothing,
        SESSION: nothing,
        GAP: nothing,
    },
    {
        "trade": Bulk(_Trades, Trade, _trades_at_once),
        "book": Bulk(_Updates, BookDelta, _updates_at_once),
        "ticker": Bulk(_Tickers, Ticker, _tickers_at_once),
    },
)


def grammar(date: str) -> Grammar:
    """WebSocket v2 has had one grammar so far."""
    return GRAMMAR
