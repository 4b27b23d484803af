"""The simulated exchange: tokens with their books, markets of two tokens, what was traded."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exchanges.polymarket.messages import LIKELY, book_hash

CONSTANTS = LIKELY[0]
NANOSECONDS = 1_000_000_000


class Token:
    """One outcome's book: price -> size, as texts; `known` False: its first book has not been played yet."""

    def __init__(self, token: str, market: str, *, known: bool) -> None:
        self.token = token
        self.market = market
        self.known = known
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.timestamp = "0"
        self.tick_size = "0.01"
        self.last_price = ""

    def set(self, side: str, price: str, size: str) -> None:
        """`size` is the level's new total."""
        levels = self.bids if side == "BUY" else self.asks
        if size == "0":
            levels.pop(price, None)
        else:
            levels[price] = size

    def best(self) -> tuple[str, str]:
        """Bid and ask; 0 and 1 where there is none."""
        return max(self.bids, key=float, default="0"), min(self.asks, key=float, default="1")

    def hash(self) -> str:
        return book_hash(
            self.market,
            self.token,
            self.timestamp,
            self.bids,
            self.asks,
            self.tick_size,
            self.last_price,
            CONSTANTS,
        )

    def summary(self) -> dict[str, object]:
        """What `book` and REST have in common, best levels last."""
        return {
            "market": self.market,
            "asset_id": self.token,
            "timestamp": self.timestamp,
            "hash": self.hash(),
            "bids": [{"price": p, "size": self.bids[p]} for p in sorted(self.bids, key=float)],
            "asks": [{"price": p, "size": self.asks[p]} for p in sorted(self.asks, key=float, reverse=True)],
        }

    def rest(self) -> dict[str, object]:
        return {
            **self.summary(),
            "min_order_size": CONSTANTS.min_order_size,
            "tick_size": self.tick_size,
            "neg_risk": CONSTANTS.neg_risk,
            "last_trade_price": self.last_price,
        }

    def book(self) -> bytes:
        """The message."""
        more = {"tick_size": self.tick_size, "event_type": "book", "last_trade_price": self.last_price}
        return json.dumps({**self.summary(), **more}, separators=(",", ":")).encode()


@dataclass
class Market:
    """A question and its two tokens; times in ns."""

    number: int
    condition: str
    tokens: tuple[str, ...]
    question: str
    open_ns: int
    close_ns: int
    closed: bool = False
    winner: int = 0
    outcomes: tuple[str, ...] = ("Up", "Down")
    slug: str = field(init=False)

    def __post_init__(self) -> None:
        self.slug = f"simulated-{self.number}"

    def gamma(self) -> dict[str, object]:
        """As Gamma lists it: some arrays are JSON in a text."""
        prices = ["0.5", "0.5"] if not self.closed else ["1", "0"] if self.winner == 0 else ["0", "1"]
        return {
            "id": str(self.number),
            "question": self.question,
            "conditionId": self.condition,
            "slug": self.slug,
            "startDate": _iso(self.open_ns),
            "endDate": _iso(self.close_ns),
            "outcomes": json.dumps(self.outcomes),
            "outcomePrices": json.dumps(prices),
            "clobTokenIds": json.dumps(self.tokens),
            "active": True,
            "closed": self.closed,
            "archived": False,
            "acceptingOrders": not self.closed,
            "enableOrderBook": True,
            "volume": "0",
            "liquidity": "0",
            "volumeNum": 0,
            "liquidityNum": 0,
            "orderPriceMinTickSize": 0.01,
            "orderMinSize": 5,
            "negRisk": CONSTANTS.neg_risk,
            "feesEnabled": True,
            "feeType": "crypto_fees_v2",
            "feeSchedule": {"rate": 0.07, "exponent": 1, "takerOnly": True, "rebateRate": 0.2},
            "makerBaseFee": 1000,
            "takerBaseFee": 1000,
        }

    def clob(self) -> dict[str, object]:
        """As the order book's own API lists it."""
        won = [self.closed and i == self.winner for i in range(len(self.tokens))]
        return {
            "enable_order_book": True,
            "active": True,
            "closed": self.closed,
            "archived": False,
            "accepting_orders": not self.closed,
            "minimum_order_size": 5,
            "minimum_tick_size": 0.01,
            "condition_id": self.condition,
            "question": self.question,
            "market_slug": self.slug,
            "end_date_iso": _iso(self.close_ns),
            "neg_risk": CONSTANTS.neg_risk,
            "maker_base_fee": 1000,
            "taker_base_fee": 1000,
            "tokens": [
                {"token_id": t, "outcome": o, "price": 0.5, "winner": w}
                for t, o, w in zip(self.tokens, self.outcomes, won, strict=False)
            ],
        }


@dataclass(frozen=True)
class Fill:
    """A trade as the data API tells it: in seconds, with numbers where the WebSocket has texts."""

    token: str
    market: str
    side: str
    price: str
    size: str
    ts_ns: int
    transaction: str

    def object(self, market: Market | None) -> dict[str, object]:
        outcome = market.tokens.index(self.token) if market is not None and self.token in market.tokens else 0
        return {
            "proxyWallet": "0x" + "0" * 40,
            "side": self.side,
            "asset": self.token,
            "conditionId": self.market,
            "size": float(self.size),
            "price": float(self.price),
            "timestamp": self.ts_ns // NANOSECONDS,
            "title": market.question if market is not None else "",
            "slug": market.slug if market is not None else "",
            "icon": "",
            "eventSlug": "",
            "outcome": market.outcomes[outcome] if market is not None else "",
            "outcomeIndex": outcome,
            "name": "",
            "pseudonym": "",
            "bio": "",
            "profileImage": "",
            "profileImageOptimized": "",
            "transactionHash": self.transaction,
        }


class Exchange:
    """All there is; trades of the recent past alone."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.markets: dict[str, Market] = {}
        self.fills: list[Fill] = []

    def open(self, market: Market, *, known: bool = True) -> None:
        self.markets[market.condition] = market
        for token in market.tokens:
            self.tokens.setdefault(token, Token(token, market.condition, known=known))

    def trade(self, fill: Fill) -> None:
        self.fills.append(fill)
        if len(self.fills) > 200_000:
            del self.fills[:100_000]


def milliseconds(ts_ns: int) -> str:
    return str(ts_ns // 1_000_000)


def _iso(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NANOSECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
