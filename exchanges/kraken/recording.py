"""Lines of recordings as frames of WebSocket v2: v2 frames as they are, v1's arrays put into v2's words.

The recordings at hand that are long enough for a replay are of v1 (2021). Its books carry the same checksum over the
same digits, so a translated book is as good a test as a recorded one; its trades have no ids and get consecutive ones.
"""

from collections import Counter
from typing import NamedTuple

import msgspec

from exchanges.kraken.book import checksum
from exchanges.kraken.digits import rfc3339, rfc3339_ns, seconds_ns
from exchanges.kraken.markets import Change, Level, Trade
from exchanges.kraken.rest import symbol_of
from exchanges.port import Unparsable

_V1_LEVELS = {"as": "asks", "a": "asks", "bs": "bids", "b": "bids"}
_SIDES = {"b": "buy", "s": "sell"}
_TYPES = {"l": "limit", "m": "market"}


class Snapshot(NamedTuple):
    symbol: str
    timestamp: str
    bids: list[Level]
    asks: list[Level]


class Update(NamedTuple):
    symbol: str
    timestamp: str
    changes: list[Change]


class Trades(NamedTuple):
    symbol: str
    trades: list[Trade]


class Other(NamedTuple):
    """A frame that changes no state of the simulator's: tickers, bars, instruments."""

    channel: str
    symbol: str | None


Content = Snapshot | Update | Trades | Other


class Played(NamedTuple):
    """A frame of a recording: when it came, its kind, v2's text of it, and what it says."""

    ts_ns: int
    kind: str
    wire: bytes
    content: Content


class _Item(msgspec.Struct):
    symbol: str = ""
    timestamp: str | None = None


class _Frame(msgspec.Struct):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class _BookItem(msgspec.Struct):
    symbol: str
    bids: list["_Level"] = []
    asks: list["_Level"] = []


class _Level(msgspec.Struct):
    price: msgspec.Raw
    qty: msgspec.Raw


class _TradeItem(msgspec.Struct):
    symbol: str
    side: str
    price: msgspec.Raw
    qty: msgspec.Raw
    ord_type: str
    trade_id: int
    timestamp: str


class Recording:
    """Reads lines in order; `begin` forgets what came before."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._trade_ids: Counter[str] = Counter()
        self._last_ns = 0

    def read(self, line: bytes) -> Played | None:
        """One line; None if it holds no market data. Raises Unparsable."""
        line = line.strip()
        try:
            if line.startswith(b"{"):
                return self._v2(line)
            when, _, text = line.partition(b": ")
            if not when[:1].isdigit():
                return None  # what the recorder connected to, sent, or had from REST
            self._last_ns = seconds_ns(when.decode())
            if text.startswith(b"{"):
                return self._v2(text) if text.startswith(b'{"channel"') else None
            return self._v1(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, KeyError, IndexError) as e:
            raise Unparsable(f"it is neither a frame of v2 nor `SECONDS: FRAME` of v1: {e}") from e

    def archived(self, ts_ns: int, wire: bytes) -> Played | None:
        """A frame that a connector received then; None if it holds no market data. Raises Unparsable."""
        self._last_ns = ts_ns
        try:
            played = self._v2(wire)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, KeyError, IndexError) as e:
            raise Unparsable(f"it is no frame of v2: {e}") from e
        return None if played is None else played._replace(ts_ns=ts_ns)

    # -------------------------------------------------------------------------------------------------------- v2

    def _v2(self, wire: bytes) -> Played | None:
        frame = msgspec.json.decode(wire, type=_Frame)
        if frame.channel == "instrument":
            return Played(self._last_ns, "instrument", wire, Other("instrument", None))
        if frame.channel not in {"book", "trade", "ticker", "ohlc"}:
            return None
        items = msgspec.json.decode(frame.data, type=list[_Item])
        if not items:
            return None
        symbol = items[0].symbol
        if items[-1].timestamp is not None:
            self._last_ns = max(self._last_ns, rfc3339_ns(items[-1].timestamp))
        content: Content = Other(frame.channel, symbol)
        if frame.channel == "book":
            (book,) = msgspec.json.decode(frame.data, type=list[_BookItem])
            bids, asks = _texts(book.bids), _texts(book.asks)
            stamp = items[0].timestamp or rfc3339(self._last_ns)
            content = (
                Snapshot(symbol, stamp, bids, asks)
                if frame.type == "snapshot"
                else Update(symbol, stamp, _changes(bids, asks))
            )
        elif frame.channel == "trade" and frame.type == "update":
            content = Trades(symbol, [_trade(t) for t in msgspec.json.decode(frame.data, type=list[_TradeItem])])
        return Played(self._last_ns, frame.type, wire, content)

    # -------------------------------------------------------------------------------------------------------- v1

    def _v1(self, text: bytes) -> Played | None:
        found = msgspec.json.decode(text)
        if not isinstance(found, list):
            return None
        symbol, name = symbol_of(found[-1]), found[-2]
        if name == "trade":
            return self._v1_trades(symbol, found[1])
        if not name.startswith("book"):
            return None
        sides: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        given: str | None = None
        for part in found[1:-2]:
            for key, value in part.items():
                if key in _V1_LEVELS:
                    sides[_V1_LEVELS[key]] += value
                elif key == "c":
                    given = value
        bids: list[Level] = [(price, size) for price, size, *_ in sides["bids"]]
        asks: list[Level] = [(price, size) for price, size, *_ in sides["asks"]]
        stamps = [seconds_ns(level[2]) for side in sides.values() for level in side]
        crc = checksum(asks, bids) if given is None else int(given)
        kind = "snapshot" if given is None else "update"
        entry = {"symbol": symbol, "bids": _objects(bids), "asks": _objects(asks), "checksum": crc}
        stamp = rfc3339(max(stamps, default=self._last_ns))
        wire = _wire("book", kind, [entry | {"timestamp": stamp}])
        content = Snapshot(symbol, stamp, bids, asks) if given is None else Update(symbol, stamp, _changes(bids, asks))
        return Played(self._last_ns, kind, wire, content)

    def _v1_trades(self, symbol: str, rows: list[list[str]]) -> Played:
        trades = []
        for price, size, seconds, side, order_type, _ in rows:
            self._trade_ids[symbol] += 1
            number = self._trade_ids[symbol]
            trades.append(Trade(number, seconds_ns(seconds), _SIDES[side], _TYPES[order_type], price, size))
        entries = [
            {
                "symbol": symbol,
                "side": t.side,
                "price": msgspec.Raw(t.price.encode()),
                "qty": msgspec.Raw(t.size.encode()),
                "ord_type": t.order_type,
                "trade_id": t.number,
                "timestamp": rfc3339(t.ts_ns),
            }
            for t in trades
        ]
        return Played(self._last_ns, "update", _wire("trade", "update", entries), Trades(symbol, trades))


def _wire(channel: str, kind: str, data: list[dict[str, object]]) -> bytes:
    return msgspec.json.encode({"channel": channel, "type": kind, "data": data})


def _objects(levels: list[Level]) -> list[dict[str, object]]:
    return [{"price": msgspec.Raw(price.encode()), "qty": msgspec.Raw(size.encode())} for price, size in levels]


def _texts(levels: list[_Level]) -> list[Level]:
    return [(bytes(level.price).decode(), bytes(level.qty).decode()) for level in levels]


def _changes(bids: list[Level], asks: list[Level]) -> list[Change]:
    return [Change("bids", *level) for level in bids] + [Change("asks", *level) for level in asks]


def _trade(t: _TradeItem) -> Trade:
    price, size = bytes(t.price).decode(), bytes(t.qty).decode()
    return Trade(t.trade_id, rfc3339_ns(t.timestamp), t.side, t.ord_type, price, size)
