"""The simulated spot exchange's pairs: whole books, trades, day figures, bars, and what REST says of them."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from exchanges.kraken.book import checksum
from exchanges.kraken.digits import rfc3339

Level = tuple[str, str]  # price, size
TRADES_MAX = 50_000  # of a pair, kept for REST
TRADES_ON_SUBSCRIPTION = 50

# Names as REST has them: old assets have an X or Z in front.
_OLD = {"BTC": "XXBT", "DOGE": "XXDG", "ETH": "XETH", "XRP": "XXRP", "LTC": "XLTC", "XMR": "XXMR", "ETC": "XETC"}
_OLD_MONEY = {"USD": "ZUSD", "EUR": "ZEUR", "GBP": "ZGBP", "JPY": "ZJPY", "CAD": "ZCAD", "AUD": "ZAUD"}
_FEES = [[0, 0.4], [10000, 0.35], [50000, 0.24]]
_MAKER_FEES = [[0, 0.25], [10000, 0.2], [50000, 0.14]]


class Change(NamedTuple):
    """A level has this size now; 0: it is gone."""

    side: str  # bids or asks, as the frames have it
    price: str
    size: str


class Trade(NamedTuple):
    """`side` is the taker's: buy or sell."""

    number: int
    ts_ns: int
    side: str
    order_type: str  # market or limit
    price: str
    size: str


class Side:
    """All levels of one side; prices as integers without the point, bids negative, so that the best comes first."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}

    def set(self, levels: Iterable[Level]) -> None:
        self.levels = {self.key(price): (price, size) for price, size in levels}
        self.keys = sorted(self.levels)

    def key(self, price: str) -> int:
        return self.sign * int(price.replace(".", ""))

    def best(self, depth: int) -> list[Level]:
        return [self.levels[key] for key in self.keys[:depth]]


class Book:
    """A pair's book: what each depth is told of a change is worked out here, as the venue does it."""

    def __init__(self, levels_max: int, known: bool) -> None:
        self.known = known  # once it was told anything
        self._levels_max = levels_max
        self.sides = {"bids": Side(-1), "asks": Side(1)}

    def set(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        self.sides["bids"].set(bids)
        self.sides["asks"].set(asks)
        self.known = True

    def change(self, changes: Iterable[Change], depths: Iterable[int]) -> dict[int, list[Change]]:
        """Apply changes in order; what subscribers of each depth are told.

        A level that rises into the depth because one above it went is told of, one that falls out is not.
        """
        told: dict[int, list[Change]] = {depth: [] for depth in depths}
        self.known = True
        for change in changes:
            side = self.sides[change.side]
            keys, levels = side.keys, side.levels
            key = side.key(change.price)
            at = bisect_left(keys, key)
            if change.size.strip("0."):
                if key not in levels:
                    keys.insert(at, key)
                levels[key] = (change.price, change.size)
                for depth, news in told.items():
                    if at < depth:
                        news.append(change)
            elif levels.pop(key, None) is not None:
                del keys[at]
                for depth, news in told.items():
                    if at < depth:
                        news.append(change)
                        if len(keys) >= depth:
                            news.append(Change(change.side, *levels[keys[depth - 1]]))
            for fallen in keys[self._levels_max :]:
                del levels[fallen]
            del keys[self._levels_max :]
        return told

    def checksum(self) -> int:
        return checksum(self.sides["asks"].best(10), self.sides["bids"].best(10))


class Bar:
    """One interval's bar of a pair."""

    def __init__(self, begin_ns: int, price: str) -> None:
        self.begin_ns = begin_ns
        self.open = self.high = self.low = self.close = price
        self.volume = Decimal()
        self.value = Decimal()
        self.trades = 0

    def add(self, trade: Trade) -> None:
        self.close = trade.price
        self.high = max(self.high, trade.price, key=Decimal)
        self.low = min(self.low, trade.price, key=Decimal)
        self.volume += Decimal(trade.size)
        self.value += Decimal(trade.size) * Decimal(trade.price)
        self.trades += 1


class Market:
    """One pair."""

    def __init__(
        self,
        symbol: str,
        price_decimals: int = 5,
        size_decimals: int = 8,
        *,
        levels_max: int = 5000,
        known: bool = True,
    ) -> None:
        self.symbol = symbol
        self.price_decimals = price_decimals
        self.size_decimals = size_decimals
        self.status = "online"
        self.book = Book(levels_max, known)
        self.trades: deque[Trade] = deque(maxlen=TRADES_MAX)
        self.traded = 0  # the number of the last trade
        self.day = Bar(0, self.price(0))  # open, high, low and sums of all trades so far
        self.bars: dict[int, Bar] = {}  # by interval in minutes

    @property
    def base(self) -> str:
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        return self.symbol.partition("/")[2]

    def price(self, ticks: int) -> str:
        """An integer price in the pair's smallest step, as text."""
        return decimal(ticks, self.price_decimals)

    def size(self, lots: int) -> str:
        return decimal(lots, self.size_decimals)

    def add(self, trade: Trade, intervals: Iterable[int]) -> None:
        """A trade counts into the day and into the bars of these intervals (minutes)."""
        self.trades.append(trade)
        self.traded = trade.number
        if not self.day.trades and not Decimal(self.day.open):
            self.day = Bar(trade.ts_ns, trade.price)
        self.day.add(trade)
        for minutes in intervals:
            length = minutes * 60_000_000_000
            begin = trade.ts_ns // length * length
            bar = self.bars.get(minutes)
            if bar is None or bar.begin_ns != begin:
                bar = self.bars[minutes] = Bar(begin, trade.price)
            bar.add(trade)

    # ------------------------------------------------------------------------------------- entries of `data`

    def book_entry(self, bids: Sequence[Level], asks: Sequence[Level], timestamp: str) -> str:
        return (
            f'{{"symbol":"{self.symbol}","bids":[{_levels(bids)}],"asks":[{_levels(asks)}],'
            f'"checksum":{self.book.checksum()},"timestamp":"{timestamp}"}}'
        )

    def snapshot(self, depth: int, timestamp: str) -> bytes:
        sides = self.book.sides
        entry = self.book_entry(sides["bids"].best(depth), sides["asks"].best(depth), timestamp)
        return frame("book", "snapshot", [entry])

    def trade_entry(self, trade: Trade) -> str:
        return (
            f'{{"symbol":"{self.symbol}","side":"{trade.side}","price":{trade.price},"qty":{trade.size},'
            f'"ord_type":"{trade.order_type}","trade_id":{trade.number},"timestamp":"{rfc3339(trade.ts_ns)}"}}'
        )

    def ticker_entry(self, ts_ns: int) -> str:
        (bid, bid_size), (ask, ask_size) = (
            (self.book.sides[side].best(1) or [(self.price(0), self.size(0))])[0] for side in ("bids", "asks")
        )
        day = self.day
        change = Decimal(day.close) - Decimal(day.open)
        percent = 100 * change / Decimal(day.open) if Decimal(day.open) else Decimal()
        return (
            f'{{"symbol":"{self.symbol}","bid":{bid},"bid_qty":{bid_size},"ask":{ask},"ask_qty":{ask_size},'
            f'"last":{day.close},"volume":{self._sized(day.volume)},"vwap":{self.average(day)},"low":{day.low},'
            f'"high":{day.high},"change":{change:f},"change_pct":{percent:.2f},"trades":{day.trades},'
            f'"timestamp":"{rfc3339(ts_ns)}"}}'
        )

    def bar_entry(self, minutes: int, ts_ns: int) -> str:
        bar = self.bars[minutes]
        return (
            f'{{"symbol":"{self.symbol}","open":{bar.open},"high":{bar.high},"low":{bar.low},"close":{bar.close},'
            f'"trades":{bar.trades},"volume":{self._sized(bar.volume)},"vwap":{self.average(bar)},'
            f'"interval_begin":"{rfc3339(bar.begin_ns)}","interval":{minutes},"timestamp":"{rfc3339(ts_ns)}"}}'
        )

    def _sized(self, volume: Decimal) -> str:
        return f"{volume:.{self.size_decimals}f}"

    def average(self, bar: Bar) -> str:
        return f"{bar.value / bar.volume if bar.volume else Decimal():.{self.price_decimals}f}"

    # ------------------------------------------------------------------------------------------ reference data

    def pair(self) -> dict[str, object]:
        """As the instrument channel shows it."""
        return {
            "symbol": self.symbol,
            "base": self.base,
            "quote": self.quote,
            "status": self.status,
            "qty_precision": self.size_decimals,
            "qty_increment": float(self.size(1)),
            "price_precision": self.price_decimals,
            "cost_precision": 5,
            "marginable": False,
            "has_index": False,
            "cost_min": 0.5,
            "tick_size": float(self.price(1)),
            "price_increment": float(self.price(1)),
            "qty_min": float(self.size(1)),
        }

    @property
    def names(self) -> tuple[str, str, str]:
        """REST's key, `altname` and `wsname`."""
        short = [{"BTC": "XBT", "DOGE": "XDG"}.get(name, name) for name in (self.base, self.quote)]
        old = [_OLD.get(self.base), _OLD_MONEY.get(self.quote) or _OLD.get(self.quote)]
        key = f"{old[0]}{old[1]}" if all(old) else "".join(short)
        return key, "".join(short), "/".join(short)

    def asset_pair(self) -> dict[str, object]:
        """As REST shows it."""
        _, altname, wsname = self.names
        return {
            "altname": altname,
            "wsname": wsname,
            "aclass_base": "currency",
            "base": _OLD.get(self.base, self.base),
            "aclass_quote": "currency",
            "quote": _OLD_MONEY.get(self.quote) or _OLD.get(self.quote, self.quote),
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": self.price_decimals,
            "lot_decimals": self.size_decimals,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": _FEES,
            "fees_maker": _MAKER_FEES,
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": self.size(1),
            "costmin": "0.5",
            "tick_size": self.price(1),
            "status": self.status,
        }


def frame(channel: str, kind: str, entries: Sequence[str]) -> bytes:
    return f'{{"channel":"{channel}","type":"{kind}","data":[{",".join(entries)}]}}'.encode()


def decimal(number: int, decimals: int) -> str:
    """`number` of the last decimal's units, with all decimals written."""
    if not decimals:
        return str(number)
    whole, rest = divmod(abs(number), 10**decimals)
    return f"{'-' if number < 0 else ''}{whole}.{rest:0{decimals}d}"


def _levels(levels: Sequence[Level]) -> str:
    return ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in levels)
