"""Made-up pairs that behave: books that never cross, trades at their best prices, a pair that comes and one that goes.

The same seed and start give the same events. Prices are whole steps of a pair, sizes whole lots.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from exchanges.kraken.markets import Bar, Change, Market, Side, Trade

SECOND_NS = 1_000_000_000
TURNOVER_NS = 60 * SECOND_NS  # so often a pair is listed, and the oldest one closes
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 24  # on each side of a book: more than a checksum sees, and than depth 10 shows
OTHER = {"bids": "asks", "asks": "bids"}

_PAIRS = (  # symbol, decimals of price and size, price and typical size in units of the last decimal
    ("BTC/USD", 1, 8, 771_200, 2_000_000),
    ("ETH/USD", 2, 8, 312_050, 50_000_000),
    ("DOGE/USD", 7, 8, 1_632_001, 100_000_000_000),
    ("ALGO/EUR", 5, 8, 13_108, 1_700_000_000_000),
    ("PEPE/USD", 10, 5, 78_931, 9_000_000_000_000),
    ("XRP/BTC", 8, 8, 2_612, 40_000_000_000),
    ("SOL/USDT", 2, 8, 14_055, 1_500_000_000),
    ("ADA/GBP", 6, 8, 512_340, 60_000_000_000),
)


class Booked(NamedTuple):
    market: Market
    changes: list[Change]


class Traded(NamedTuple):
    market: Market
    trades: list[Trade]


class Quoted(NamedTuple):
    """What the ticker tells changed, because of a trade or of the best prices."""

    market: Market
    triggers: frozenset[str]


class Listed(NamedTuple):
    """A pair is new, or in another state."""

    market: Market


Happening = Booked | Traded | Quoted | Listed

_BBO = frozenset({"bbo"})
_TRADES = frozenset({"trades"})


class Generator:
    """Makes things up until a given time. Whoever takes a happening applies it before taking the next."""

    def __init__(
        self, seed: int, markets: int, frames_per_second: float, start_ns: int, exchange: dict[str, Market]
    ) -> None:
        self._rng = Random(seed)  # noqa: S311  # a market, not a secret
        self._exchange = exchange
        self._per_frame_ns = SECOND_NS / frames_per_second
        self._now_ns = float(start_ns)
        self._listed = 0
        self._next_turnover_ns = start_ns + TURNOVER_NS
        self._closing: Market | None = None
        self._typical: dict[str, tuple[int, int]] = {}
        self._live = [self._list() for _ in range(markets)]
        for market in self._live:
            self._fill(market)

    def until(self, now_ns: int) -> Iterator[tuple[int, Happening]]:
        self._now_ns = max(self._now_ns, now_ns - CATCH_UP_NS)
        while self._now_ns + self._per_frame_ns <= now_ns:
            for happening in self._step(int(self._now_ns)):
                self._now_ns += self._per_frame_ns
                yield int(self._now_ns), happening

    def _step(self, ts_ns: int) -> Iterator[Happening]:
        if ts_ns >= self._next_turnover_ns:
            self._next_turnover_ns = ts_ns + TURNOVER_NS
            yield from self._turn_over()
            return
        rng = self._rng
        market = rng.choice(self._live)
        name = rng.choice(("bids", "asks"))
        side = market.book.sides[name]
        before = _top(market)
        draw = rng.random()
        if draw < 0.1 and len(side.keys) > 3:
            yield from self._trade(ts_ns, market, name)
        elif draw < 0.5 * len(side.keys) / LEVELS_WANTED:
            yield Booked(market, [self._cancel(market, name)])
        else:
            changes = [self._quote(market, name)]
            if rng.random() < 0.1:
                changes.append(self._quote(market, name))
            yield Booked(market, changes)
        if _top(market) != before:
            yield Quoted(market, _BBO)

    # --------------------------------------------------------------------------------------------------- the book

    def _quote(self, market: Market, name: str) -> Change:
        """A new or larger level near the best; it never crosses the other side."""
        price = self._nearest(market, name) - _sign(name) * int(self._rng.expovariate(0.3))
        return Change(name, market.price(max(1, price)), market.size(self._lots(market)))

    def _nearest(self, market: Market, name: str) -> int:
        """The best price at which a new level would not cross: a step or a few inside the spread."""
        own, other = market.book.sides[name], market.book.sides[OTHER[name]]
        middle = self._typical[market.symbol][0]
        if not other.keys:
            return middle - _sign(name)
        limit = _ticks(other, 0) - _sign(name)
        if own.keys and abs(limit - _ticks(own, 0)) > 4:
            return _ticks(own, 0) + _sign(name)
        return limit

    def _cancel(self, market: Market, name: str) -> Change:
        """One of the levels, the best more often: all of it, or some."""
        side = market.book.sides[name]
        at = min(len(side.keys) - 1, int(self._rng.expovariate(0.15)))
        price, size = side.levels[side.keys[at]]
        if self._rng.random() < 0.7:
            return Change(name, price, market.size(0))
        return Change(name, price, market.size(max(1, _units(size) * self._rng.randint(1, 99) // 100)))

    def _trade(self, ts_ns: int, market: Market, name: str) -> Iterator[Happening]:
        """Somebody takes from the best of `name`, now and then from several levels at once."""
        side = market.book.sides[name]
        depth = 1 if self._rng.random() < 0.8 else self._rng.randint(2, 3)
        order_type = self._rng.choice(("market", "limit"))
        changes, trades = [], []
        for i, (price, size) in enumerate(side.best(depth)):
            all_of_it = i < depth - 1 or self._rng.random() < 0.3
            taken = _units(size) if all_of_it else self._rng.randint(1, _units(size))
            changes.append(Change(name, price, market.size(_units(size) - taken)))
            taker = "sell" if name == "bids" else "buy"
            at_ns = ts_ns + 1000 * i  # no two trades of a pair have the same time
            trades.append(Trade(market.traded + 1 + i, at_ns, taker, order_type, price, market.size(taken)))
        yield Traded(market, trades)
        yield Booked(market, changes)
        yield Quoted(market, _TRADES)

    def _lots(self, market: Market) -> int:
        """Mostly round."""
        typical = self._typical[market.symbol][1]
        if self._rng.random() < 0.4:
            return typical * self._rng.randint(1, 9)
        return self._rng.randint(1, typical * 4)

    # ---------------------------------------------------------------------------------------------- coming, going

    def _turn_over(self) -> Iterator[Happening]:
        """A pair is listed; the oldest one takes no more orders, and is gone the next time."""
        if self._closing is not None:
            self._closing.status = "delisted"
            yield Listed(self._closing)
        self._closing = self._live.pop(0)
        self._closing.status = "cancel_only"
        yield Listed(self._closing)
        market = self._list()
        yield Listed(market)
        self._fill(market)
        self._live.append(market)

    def _list(self) -> Market:
        number, self._listed = self._listed, self._listed + 1
        symbol, price_decimals, size_decimals, price, lots = _PAIRS[number % len(_PAIRS)]
        if number >= len(_PAIRS):
            symbol = f"T{number}/{symbol.partition('/')[2]}"
        market = self._exchange[symbol] = Market(symbol, price_decimals, size_decimals)
        market.traded = self._rng.randint(0, 90_000_000)
        market.day = Bar(int(self._now_ns), market.price(price))
        self._typical[symbol] = price, lots
        return market

    def _fill(self, market: Market) -> None:
        """The book that stands there before anybody looks."""
        for _ in range(LEVELS_WANTED):
            for name in ("bids", "asks"):
                market.book.change([self._quote(market, name)], ())


def _top(market: Market) -> tuple[object, ...]:
    return tuple(market.book.sides[name].best(1)[:1] for name in ("bids", "asks"))


def _sign(name: str) -> int:
    """The direction in which prices of this side get better."""
    return 1 if name == "bids" else -1


def _ticks(side: Side, at: int) -> int:
    return abs(side.keys[at])


def _units(text: str) -> int:
    return int(text.replace(".", ""))
