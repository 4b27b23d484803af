"""The simulated exchange's markets: their books, trades and states, as the frames that happened make them."""

from collections import deque
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from exchanges.port import Unparsable

TRADES_MAX = 200_000  # kept for REST, some 60 MB; the recordings at hand have 2,000
Level = tuple[str, str]  # price in dollars, number of contracts

# What `status=` in a query means, in terms of the states a market object has.
FILTERS = {
    "unopened": {"initialized"},
    "open": {"active"},
    "paused": {"inactive"},
    "closed": {"closed", "determined", "disputed", "amended"},
    "settled": {"finalized"},
}
# The state a market is in after a lifecycle message.
STATES = {"activated": "active", "deactivated": "inactive", "determined": "determined", "settled": "finalized"}


class Book:
    """Bids for YES and for NO: price text -> hundredths of a contract. `known` once it was told anything."""

    __slots__ = ("known", "sides")

    def __init__(self, known: bool = False) -> None:
        self.sides: dict[str, dict[str, int]] = {"yes": {}, "no": {}}
        self.known = known

    def set(self, yes: list[Level] | None, no: list[Level] | None) -> None:
        self.sides["yes"] = {price: hundredths(size) for price, size in yes or ()}
        self.sides["no"] = {price: hundredths(size) for price, size in no or ()}
        self.known = True

    def add(self, side: str, price: str, change: str) -> None:
        levels = self.sides[side]
        size = levels.get(price, 0) + hundredths(change)
        if size > 0:
            levels[price] = size
        else:
            levels.pop(price, None)
        self.known = True

    def levels(self, side: str) -> list[Level]:
        """Worst first, as the venue sends them."""
        return [(price, contracts(size)) for price, size in sorted(self.sides[side].items(), key=_price)]


class Market:
    """One market: `key` orders it for paging."""

    __slots__ = (
        "book",
        "close_ns",
        "created_ns",
        "event_ticker",
        "market_id",
        "open_ns",
        "quotes",
        "result",
        "series_ticker",
        "settled_ns",
        "state",
        "strike",
        "ticker",
        "title",
        "volume",
    )

    def __init__(self, ticker: str, open_ns: int, close_ns: int, *, title: str = "", known: bool = False) -> None:
        self.ticker = ticker
        self.event_ticker = ticker.rpartition("-")[0] or ticker
        self.series_ticker = ticker.partition("-")[0]
        self.market_id = ""
        self.title = title or ticker
        self.state = "active"
        self.result = ""
        self.settled_ns = 0
        self.strike = ""
        self.created_ns = open_ns
        self.open_ns = open_ns
        self.close_ns = close_ns
        self.book = Book(known)
        self.quotes: bytes | None = None  # the last ticker message
        self.volume = 0  # hundredths of a contract

    @property
    def over_ns(self) -> int | None:
        """When it was settled; None if it is not."""
        return (self.settled_ns or self.close_ns) if self.state == "finalized" else None

    def object(self) -> dict[str, object]:
        """As REST shows it."""
        yes, no = self.book.levels("yes"), self.book.levels("no")
        bid, ask = yes[-1] if yes else ("0.0000", "0.00"), no[-1] if no else ("0.0000", "0.00")
        final: dict[str, object] = {}
        if self.over_ns is not None:
            final["settlement_value_dollars"] = "1.0000" if self.result == "yes" else "0.0000"
            final["settlement_ts"] = rfc3339(self.over_ns)
        if self.strike:
            final |= {"strike_type": "greater", "floor_strike": float(self.strike)}
        return {
            "ticker": self.ticker,
            "event_ticker": self.event_ticker,
            "market_type": "binary",
            "title": self.title,
            "yes_sub_title": self.title,
            "no_sub_title": self.title,
            "status": self.state,
            "created_time": rfc3339(self.created_ns),
            "updated_time": rfc3339(self.created_ns),
            "open_time": rfc3339(self.open_ns),
            "close_time": rfc3339(self.close_ns),
            "expected_expiration_time": rfc3339(self.close_ns),
            "latest_expiration_time": rfc3339(self.close_ns + 7 * 86_400 * 1_000_000_000),
            "settlement_timer_seconds": 1,
            "can_close_early": True,
            "notional_value_dollars": "1.0000",
            "price_level_structure": "linear_cent",
            "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
            "result": self.result,
            "yes_bid_dollars": bid[0],
            "yes_bid_size_fp": bid[1],
            "yes_ask_dollars": complement(ask[0]),
            "yes_ask_size_fp": ask[1],
            "no_bid_dollars": ask[0],
            "no_ask_dollars": complement(bid[0]),
            "volume_fp": contracts(self.volume),
            "liquidity_dollars": "0.0000",
            "exchange_index": 0,
            **final,
        }


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A trade message as the WebSocket has it."""

    trade_id: str
    market_ticker: str
    yes_price_dollars: str
    no_price_dollars: str
    count_fp: str
    taker_side: str = ""
    taker_outcome_side: str = ""
    taker_book_side: str = ""
    ts: int = 0
    ts_ms: int = 0

    @property
    def time_ms(self) -> int:
        return self.ts_ms or self.ts * 1000

    def object(self) -> dict[str, object]:
        """As REST shows it."""
        outcome = self.taker_outcome_side or self.taker_side
        return {
            "trade_id": self.trade_id,
            "ticker": self.market_ticker,
            "count_fp": self.count_fp,
            "yes_price_dollars": self.yes_price_dollars,
            "no_price_dollars": self.no_price_dollars,
            "taker_side": outcome,
            "taker_outcome_side": outcome,
            "taker_book_side": self.taker_book_side or {"yes": "bid", "no": "ask"}.get(outcome, ""),
            "is_block_trade": False,
            "created_time": rfc3339(self.time_ms * 1_000_000),
        }


class Exchange:
    """All markets and the trades of late."""

    def __init__(self) -> None:
        self.markets: dict[str, Market] = {}
        self.events: dict[str, dict[str, object]] = {}
        self.trades: deque[tuple[int, Trade]] = deque(maxlen=TRADES_MAX)  # with a running number, the cursor
        self.traded = 0

    def open(self, market: Market) -> None:
        self.markets[market.ticker] = market
        self.events.setdefault(
            market.event_ticker,
            {
                "event_ticker": market.event_ticker,
                "series_ticker": market.series_ticker,
                "title": market.title,
                "sub_title": "",
                "category": "Simulated",
                "mutually_exclusive": False,
                "collateral_return_type": "",
                "strike_period": "",
                "available_on_brokers": False,
                "product_metadata": None,
                "exchange_index": 0,
                "last_updated_ts": "0001-01-01T00:00:00Z",
            },
        )

    def trade(self, trade: Trade) -> None:
        self.traded += 1
        self.trades.append((self.traded, trade))
        market = self.markets.get(trade.market_ticker)
        if market is not None:
            market.volume += hundredths(trade.count_fp)


def hundredths(size: str) -> int:
    """A number of contracts in hundredths; the wire has two decimals. Raises Unparsable."""
    try:
        if size[-3:-2] == ".":
            return int(size[:-3] + size[-2:])
        whole = Decimal(size) * 100
        if whole == whole.to_integral_value():
            return int(whole)
    except (ArithmeticError, ValueError):
        pass
    raise Unparsable(f"{size[:40]!r} is no number of contracts with up to two decimals")


def contracts(size: int) -> str:
    sign = "-" if size < 0 else ""
    return f"{sign}{abs(size) // 100}.{abs(size) % 100:02d}"


def complement(price: str) -> str:
    """The other side's price: together they cost a dollar."""
    return str(1 - Decimal(price))


def rfc3339(ts_ns: int) -> str:
    """UTC with microseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _price(level: tuple[str, int]) -> Decimal:
    return Decimal(level[0])
