"""The simulated exchange's markets: their books, trades and statistics, as what happened made them."""

from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from exchanges.binance.product import Product

Side = Literal["b", "a"]  # as depth events call them
Levels = list[tuple[str, str]]  # price, quantity

TRADES_MAX = 20_000  # of a market, kept for REST
RECENT_MAX = 600  # depth events that a recorded snapshot may still need: a minute at 100 ms
MS_NS = 1_000_000


class Market:
    """One symbol: its book by price text, its last ids, the trades of late. `known` once the whole book is."""

    __slots__ = (
        "aggregate_id",
        "aggregates",
        "base",
        "bids_asks",
        "high",
        "known",
        "last_price",
        "last_size",
        "listed_ns",
        "low",
        "open",
        "quote",
        "quote_volume",
        "recent",
        "status",
        "step",
        "symbol",
        "tick",
        "trade_id",
        "trades",
        "update_id",
        "volume",
    )

    def __init__(self, symbol: str, listed_ns: int, *, quote: str = "", tick: str = "", step: str = "") -> None:
        self.symbol = symbol
        self.quote = quote or next((q for q in ("USDT", "USDC", "BTC") if symbol.endswith(q)), symbol[-3:])
        self.base = symbol.removesuffix(self.quote)
        self.tick = tick or "0.01000000"
        self.step = step or "0.00001000"
        self.status = "TRADING"
        self.listed_ns = listed_ns
        self.known = False
        self.update_id = 0
        self.bids_asks: dict[Side, dict[str, str]] = {"b": {}, "a": {}}
        self.recent: deque[tuple[int, Levels, Levels]] = deque(maxlen=RECENT_MAX)
        self.trade_id = self.aggregate_id = 0
        self.trades: deque[dict[str, object]] = deque(maxlen=TRADES_MAX)
        self.aggregates: deque[dict[str, object]] = deque(maxlen=TRADES_MAX)
        self.open = self.high = self.low = self.last_price = self.last_size = ""
        self.volume = self.quote_volume = Decimal(0)

    # ----------------------------------------------------------------------------------------------------- the book

    def set(self, side: Side, price: str, quantity: str) -> None:
        """What stands at a level now; a quantity of zero, however written, takes it away."""
        levels = self.bids_asks[side]
        if quantity.strip("0."):
            levels[price] = quantity
        else:
            levels.pop(price, None)

    def update(self, last_id: int, bids: Levels, asks: Levels) -> None:
        """A recorded depth event."""
        self.update_id = last_id
        self.recent.append((last_id, bids, asks))
        self._set_all(bids, asks)

    def _set_all(self, bids: Iterable[tuple[str, str]], asks: Iterable[tuple[str, str]]) -> None:
        for price, quantity in bids:
            self.set("b", price, quantity)
        for price, quantity in asks:
            self.set("a", price, quantity)

    def load(self, last_id: int, bids: Levels, asks: Levels) -> None:
        """A recorded snapshot, which may be older than the last event."""
        self.bids_asks = {"b": {}, "a": {}}
        self._set_all(bids, asks)
        for event_id, more_bids, more_asks in self.recent:
            if event_id > last_id:
                self._set_all(more_bids, more_asks)
        self.update_id = max(self.update_id, last_id)
        self.known = True

    def levels(self, side: Side, count: int) -> Levels:
        """Best first."""
        found = sorted(self.bids_asks[side].items(), key=_price, reverse=side == "b")
        return found[:count]

    def best(self, side: Side) -> tuple[str, str]:
        best = self.levels(side, 1)
        return best[0] if best else ("0.00000000", "0.00000000")

    # ------------------------------------------------------------------------------------------------------- trades

    def trade(self, trade_id: int, price: str, quantity: str, time_ms: int, buyer_is_maker: bool, linked: bool) -> None:
        value = Decimal(price) * Decimal(quantity)
        row: dict[str, object] = {
            "id": trade_id,
            "price": price,
            "qty": quantity,
            "quoteQty": f"{value:.8f}",
            "time": time_ms,
            "isBuyerMaker": buyer_is_maker,
        }
        self.trades.append(row | ({"isRPITrade": False} if linked else {"isBestMatch": True}))
        self.trade_id = trade_id
        self.open = self.open or price
        self.high = price if not self.high or Decimal(price) > Decimal(self.high) else self.high
        self.low = price if not self.low or Decimal(price) < Decimal(self.low) else self.low
        self.last_price, self.last_size = price, quantity
        self.volume += Decimal(quantity)
        self.quote_volume += value

    def aggregate(self, row: dict[str, object]) -> None:
        """As the stream has it, without what only the stream has."""
        self.aggregates.append({key: row[key] for key in ("a", "p", "q", "f", "l", "T", "m") if key in row})

    # --------------------------------------------------------------------------------------------------------- REST

    def depth(self, limit: int, now_ns: int, product: Product) -> dict[str, object]:
        times = {"E": now_ns // MS_NS, "T": now_ns // MS_NS} if product.linked else {}
        bids, asks = self.levels("b", limit), self.levels("a", limit)
        return {"lastUpdateId": self.update_id, **times, "bids": bids, "asks": asks}

    def listing(self, product: Product) -> dict[str, object]:
        """As exchangeInfo shows it."""
        digits = len(self.tick.partition(".")[2].rstrip("0")), len(self.step.partition(".")[2].rstrip("0"))
        filters: list[dict[str, object]] = [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": self.tick,
                "maxPrice": "1000000.00000000",
                "tickSize": self.tick,
            },
            {"filterType": "LOT_SIZE", "minQty": self.step, "maxQty": "9000.00000000", "stepSize": self.step},
        ]
        shared: dict[str, object] = {
            "symbol": self.symbol,
            "status": self.status,
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "baseAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "filters": filters,
        }
        if product.linked:
            return shared | {
                "pair": self.symbol,
                "contractType": "PERPETUAL",
                "deliveryDate": 4133404800000,
                "onboardDate": self.listed_ns // MS_NS,
                "marginAsset": self.quote,
                "pricePrecision": digits[0],
                "quantityPrecision": digits[1],
                "quotePrecision": 8,
                "underlyingType": "COIN",
                "settlePlan": 0,
                "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            }
        return shared | {
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        }


def _price(level: tuple[str, str]) -> Decimal:
    return Decimal(level[0])
