"""The simulated futures exchange's products: whole books, numbering, trades, and what REST says of them."""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from exchanges.kraken.digits import rfc3339

Level = tuple[str, str]  # price, size
TRADES_MAX = 50_000  # of a product, kept for REST
TRADES_ON_SUBSCRIPTION = 100
CONTRACT_KINDS = {
    "PF": "flexible_futures",
    "FF": "flexible_futures",
    "PI": "futures_inverse",
    "FI": "futures_inverse",
}


class Trade:
    """A trade as the venue counts it; `side` is the taker's, prices and sizes are text as sent."""

    __slots__ = ("kind", "number", "price", "side", "size", "time_ms", "uid")

    def __init__(self, uid: str, side: str, kind: str, number: int, time_ms: int, size: str, price: str) -> None:
        self.uid = uid
        self.side = side
        self.kind = kind
        self.number = number
        self.time_ms = time_ms
        self.size = size
        self.price = price


class Market:
    """One product. Books and trades are numbered for all who listen alike."""

    def __init__(
        self, product: str, *, price_decimals: int = 1, size_decimals: int = 0, last: int = 0, known: bool = True
    ) -> None:
        self.product = product
        self.price_decimals = price_decimals
        self.size_decimals = size_decimals
        self.tradeable = True
        self.known = known  # once its book was told of
        self.sides: dict[str, dict[Decimal, Level]] = {"buy": {}, "sell": {}}
        self.book_seq = 0
        self.trade_seq = 0
        self.timestamp_ms = 0  # of the book
        self.trades: deque[Trade] = deque(maxlen=TRADES_MAX)
        self.last = self.price(last)
        self.volume = Decimal()
        self.ticker: dict[str, bytes] = {}  # by feed, the last one said

    def price(self, ticks: int) -> str:
        return double(Decimal(ticks).scaleb(-self.price_decimals))

    def size(self, lots: int) -> str:
        return double(Decimal(lots).scaleb(-self.size_decimals))

    @property
    def perpetual(self) -> bool:
        return self.product[:2] in {"PF", "PI"}

    @property
    def pair(self) -> str:
        """As a ticker has it: XBT:USD."""
        name = self.product.split("_")[1]
        return f"{name[:-3]}:{name[-3:]}"

    # -------------------------------------------------------------------------------------------- what happens

    def set(self, bids: Iterable[Level], asks: Iterable[Level], seq: int, timestamp_ms: int) -> None:
        for side, levels in (("buy", bids), ("sell", asks)):
            self.sides[side] = {Decimal(price): (price, size) for price, size in levels if Decimal(size)}
        self._told(seq, timestamp_ms)

    def change(self, side: str, price: str, size: str, seq: int, timestamp_ms: int) -> None:
        """Absolute; 0 deletes."""
        if Decimal(size):
            self.sides[side][Decimal(price)] = (price, size)
        else:
            self.sides[side].pop(Decimal(price), None)
        self._told(seq, timestamp_ms)

    def _told(self, seq: int, timestamp_ms: int) -> None:
        self.known = True
        self.book_seq = seq
        self.timestamp_ms = timestamp_ms

    def add(self, trade: Trade) -> None:
        self.trades.append(trade)
        self.trade_seq = trade.number
        self.last = trade.price
        self.volume += Decimal(trade.size)

    def best_first(self, side: str) -> list[Level]:
        levels = self.sides[side]
        return [levels[price] for price in sorted(levels, reverse=side == "buy")]

    def quote(self, side: str) -> Level | None:
        levels = self.sides[side]
        return levels[max(levels) if side == "buy" else min(levels)] if levels else None

    # ---------------------------------------------------------------------------------------------------- frames

    def snapshot(self) -> bytes:
        sides = ",".join(
            f'"{name}":[{",".join(f"""{{"price":{price},"qty":{size}}}""" for price, size in self.best_first(side))}]'
            for name, side in (("bids", "buy"), ("asks", "sell"))
        )
        return (
            f'{{"feed":"book_snapshot","product_id":"{self.product}","timestamp":{self.timestamp_ms},'
            f'"seq":{self.book_seq},"tickSize":null,{sides}}}'
        ).encode()

    def delta(self, side: str, price: str, size: str, timestamp_ms: int) -> bytes:
        """The next one."""
        return (
            f'{{"feed":"book","product_id":"{self.product}","side":"{side}","seq":{self.book_seq + 1},"price":{price},'
            f'"qty":{size},"timestamp":{timestamp_ms}}}'
        ).encode()

    def traded(self, trade: Trade) -> bytes:
        return (
            f'{{"feed":"trade","product_id":"{self.product}","uid":"{trade.uid}","side":"{trade.side}",'
            f'"type":"{trade.kind}","seq":{trade.number},"time":{trade.time_ms},"qty":{trade.size},'
            f'"price":{trade.price}}}'
        ).encode()

    def trade_snapshot(self) -> bytes:
        """Newest first."""
        trades = [self.traded(trade) for trade in list(self.trades)[-TRADES_ON_SUBSCRIPTION:]][::-1]
        return b'{"feed":"trade_snapshot","product_id":"%b","trades":[%b]}' % (
            self.product.encode(),
            b",".join(trades),
        )

    def tick(self, feed: str, ts_ns: int) -> bytes:
        """A ticker of either feed, as recorded (ticker_lite) or documented (ticker)."""
        bid, ask = (self.quote(side) or ("0.0", "0.0") for side in ("buy", "sell"))
        time_ms = ts_ns // 1_000_000
        tag = "perpetual" if self.perpetual else "quarter"
        maturity_ms = 0 if self.perpetual else self.maturity_ms
        days = 0 if self.perpetual else max(0, (maturity_ms - time_ms) // 86_400_000)
        contract = f'"tag":"{tag}","pair":"{self.pair}"'
        if feed == "ticker_lite":
            return (
                f'{{"feed":"ticker_lite","product_id":"{self.product}","bid":{bid[0]},"ask":{ask[0]},"change":0.0,'
                f'"premium":0.0,"volume":{double(self.volume)},{contract},"dtm":{days},"maturityTime":{maturity_ms}}}'
            ).encode()
        next_funding_ms = -(-time_ms // 3_600_000) * 3_600_000
        funding = (
            '"funding_rate":-6.26e-11,"funding_rate_prediction":-4.1e-11,"relative_funding_rate":-2.1e-6,'
            f'"relative_funding_rate_prediction":-1.4e-6,"next_funding_rate_time":{next_funding_ms},'
            if self.perpetual
            else ""
        )
        return (
            f'{{"time":{time_ms},"product_id":"{self.product}",{funding}"feed":"ticker","bid":{bid[0]},"ask":{ask[0]},'
            f'"bid_size":{bid[1]},"ask_size":{ask[1]},"volume":{double(self.volume)},"dtm":{days},"leverage":"50x",'
            f'"index":{self.last},"premium":0.0,"last":{self.last},"change":0.0,"suspended":false,{contract},'
            f'"openInterest":{double(self.volume / 2)},"markPrice":{self.last},"maturityTime":{maturity_ms},'
            f'"post_only":false,"volumeQuote":{double(self.volume)}}}'
        ).encode()

    # ------------------------------------------------------------------------------------------ reference data

    @property
    def maturity_ms(self) -> int:
        """The last day of trading is in the name of a dated contract: FI_XBTUSD_260327."""
        date = self.product.rpartition("_")[2]
        at = datetime.strptime(date, "%y%m%d").replace(tzinfo=UTC) + timedelta(hours=15)
        return int(at.timestamp()) * 1000

    def instrument(self) -> dict[str, object]:
        """As REST shows it."""
        name = self.product.split("_")[1].replace("XBT", "BTC")
        dated = {} if self.perpetual else {"lastTradingTime": rfc3339(self.maturity_ms * 1_000_000)[:19] + ".000Z"}
        return {
            "symbol": self.product,
            "type": CONTRACT_KINDS[self.product[:2]],
            **dated,
            "tickSize": float(self.price(1)),
            "contractSize": 1,
            "tradeable": self.tradeable,
            "impactMidSize": 1.0,
            "maxPositionSize": 1_000_000.0,
            "openingDate": "2022-01-01T00:00:00.000Z",
            "marginLevels": [{"numNonContractUnits": 0.0, "initialMargin": 0.02, "maintenanceMargin": 0.01}],
            "fundingRateCoefficient": 24,
            "maxRelativeFundingRate": 0.0025,
            "isin": "GB00J62YGL67",
            "contractValueTradePrecision": self.size_decimals,
            "postOnly": False,
            "mtf": False,
            "base": name[:-3],
            "quote": name[-3:],
            "pair": f"{name[:-3]}:{name[-3:]}",
            "category": "",
            "tags": [],
            "tradfi": False,
        }

    def rest_ticker(self, ts_ns: int) -> dict[str, object]:
        bid, ask = (self.quote(side) or ("0.0", "0.0") for side in ("buy", "sell"))
        return {
            "tag": "perpetual" if self.perpetual else "quarter",
            "pair": self.pair,
            "symbol": self.product,
            "markPrice": float(self.last),
            "bid": float(bid[0]),
            "bidSize": float(bid[1]),
            "ask": float(ask[0]),
            "askSize": float(ask[1]),
            "vol24h": float(self.volume),
            "openInterest": float(self.volume / 2),
            "last": float(self.last),
            "lastTime": rfc3339(ts_ns),
            "suspended": False,
        }


def double(value: Decimal) -> str:
    """As the venue writes it: at least one decimal, no zeros after it, an exponent for what is tiny."""
    if value and abs(value) < Decimal("0.001"):
        digits = "".join(map(str, value.normalize().as_tuple().digits))
        return f"{'-' if value < 0 else ''}{digits[0]}.{digits[1:] or '0'}e{value.adjusted()}"
    text = format(value.normalize(), "f")
    return text if "." in text else f"{text}.0"


def levels(found: Sequence[Level]) -> list[list[float]]:
    """As REST shows a side."""
    return [[float(price), float(size)] for price, size in found]
