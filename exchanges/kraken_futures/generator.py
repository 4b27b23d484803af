"""Made-up products that behave: books that never cross, trades at their best prices, a contract that ends, a new one.

The same seed and start give the same events. Prices are whole ticks, sizes whole lots.
"""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from exchanges.kraken_futures.markets import Market

SECOND_NS = 1_000_000_000
TURNOVER_NS = 60 * SECOND_NS  # so often a dated contract is listed, and the oldest one ends
TICKER_NS = SECOND_NS  # of one product: not more often
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 16  # on each side of a book
OTHER = {"buy": "sell", "sell": "buy"}

_PRODUCTS = (  # id, decimals of price and size, price in ticks, typical size in lots
    ("PF_XBTUSD", 0, 4, 77_120, 250),
    ("PI_XBTUSD", 1, 0, 771_205, 4_000),
    ("PF_ETHUSD", 1, 3, 31_205, 700),
    ("PF_PEPEUSD", 10, -3, 78_931, 400),  # prices with an exponent, lots of a thousand
    ("PF_AAPLxUSD", 2, 2, 23_117, 900),
    ("PI_ETHUSD", 2, 0, 312_055, 900),
)


class Changed(NamedTuple):
    """A level has this size now."""

    market: Market
    side: str
    price: str
    size: str


class Traded(NamedTuple):
    market: Market
    uid: str
    side: str
    kind: str
    price: str
    size: str


class Quoted(NamedTuple):
    market: Market


Happening = Changed | Traded | Quoted


class _Maker:
    """One product's levels: ticks -> lots."""

    def __init__(self, market: Market, middle: int, typical: int) -> None:
        self.market = market
        self.middle = middle
        self.typical = typical
        self.sides: dict[str, dict[int, int]] = {"buy": {}, "sell": {}}
        self.ticked_ns = 0

    def best(self, side: str) -> int | None:
        levels = self.sides[side]
        if not levels:
            return None
        return max(levels) if side == "buy" else min(levels)

    def nearest(self, side: str) -> int:
        """The best price that a new level may have: it does not cross, and leaves the spread narrow."""
        sign = 1 if side == "buy" else -1
        own, other = self.best(side), self.best(OTHER[side])
        if other is None:
            return self.middle - sign
        if own is not None and abs(other - own) > 5:
            return own + sign
        return other - sign


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
        self._makers = [self._list(start_ns) for _ in range(markets)]

    def until(self, now_ns: int) -> Iterator[tuple[int, Happening]]:
        self._now_ns = max(self._now_ns, now_ns - CATCH_UP_NS)
        while self._now_ns + self._per_frame_ns <= now_ns:
            for happening in self._step(int(self._now_ns)):
                self._now_ns += self._per_frame_ns
                yield int(self._now_ns), happening

    def _step(self, ts_ns: int) -> Iterator[Happening]:
        if ts_ns >= self._next_turnover_ns:
            self._next_turnover_ns = ts_ns + TURNOVER_NS
            self._makers.pop(0).market.tradeable = False
            self._makers.append(self._list(ts_ns))
        rng = self._rng
        maker = rng.choice(self._makers)
        side = rng.choice(("buy", "sell"))
        count = len(maker.sides[side])
        draw = rng.random()
        if draw < 0.08 and count > 2:
            yield from self._trade(maker, side)
        elif draw < 0.5 * count / LEVELS_WANTED:
            yield self._cancel(maker, side)
        else:
            yield self._quote(maker, side)
        if ts_ns - maker.ticked_ns >= TICKER_NS:
            maker.ticked_ns = ts_ns
            yield Quoted(maker.market)

    def _quote(self, maker: _Maker, side: str) -> Changed:
        sign = 1 if side == "buy" else -1
        price = max(1, maker.nearest(side) - sign * int(self._rng.expovariate(0.3)))
        return self._change(maker, side, price, self._rng.randint(1, 2 * maker.typical))

    def _cancel(self, maker: _Maker, side: str) -> Changed:
        price = self._rng.choice(list(maker.sides[side]))
        lots = maker.sides[side][price]
        return self._change(maker, side, price, 0 if self._rng.random() < 0.7 else self._rng.randint(1, lots))

    def _trade(self, maker: _Maker, side: str) -> Iterator[Happening]:
        """Somebody takes from the best of `side`; now and then that is a liquidation."""
        price = maker.best(side)
        assert price is not None
        lots = maker.sides[side][price]
        taken = lots if self._rng.random() < 0.4 else self._rng.randint(1, lots)
        kind = "liquidation" if self._rng.random() < 0.02 else "fill"
        market = maker.market
        yield Traded(market, self._uuid(), OTHER[side], kind, market.price(price), market.size(taken))
        yield self._change(maker, side, price, lots - taken)

    def _change(self, maker: _Maker, side: str, price: int, lots: int) -> Changed:
        levels = maker.sides[side]
        if lots:
            levels[price] = lots
        else:
            levels.pop(price, None)
        return Changed(maker.market, side, maker.market.price(price), maker.market.size(lots))

    def _list(self, ts_ns: int) -> _Maker:
        """First the perpetual ones, then contracts of later and later quarters."""
        number, self._listed = self._listed, self._listed + 1
        product, price_decimals, size_decimals, middle, typical = _PRODUCTS[number % len(_PRODUCTS)]
        if number >= len(_PRODUCTS):
            ends = datetime.fromtimestamp(ts_ns // SECOND_NS, UTC) + timedelta(days=90 * (number // len(_PRODUCTS)))
            product = f"F{product[1:]}_{ends:%y%m%d}"
        market = self._exchange[product] = Market(
            product, price_decimals=price_decimals, size_decimals=size_decimals, last=middle
        )
        market.book_seq, market.trade_seq = self._rng.randint(1, 400_000_000), self._rng.randint(1, 900_000)
        maker = _Maker(market, middle, typical)
        for _ in range(LEVELS_WANTED):
            for side in ("buy", "sell"):
                change = self._quote(maker, side)
                market.change(*change[1:], market.book_seq + 1, ts_ns // 1_000_000)
        return maker

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
