"""Made-up markets that behave: books that never cross, trades at their best prices, ids as the product has them.

The same seed and start give the same sequence of orders. What of it is told depends on what is subscribed to, so
that nobody pays for frames that nobody gets.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random

from exchanges.binance.markets import MS_NS, Levels, Market, Side
from exchanges.binance.product import Product, stream_name

Happening = tuple[int, str, str | None, object]  # time in ns, channel, symbol, payload

SECOND_NS = 1_000_000_000
SLOW_NS = SECOND_NS
FAST_NS = SECOND_NS // 10
FUNDING_MS = 8 * 3600 * 1000
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 40  # on each side of a book
PARTIAL = (5, 10, 20)
OTHER: dict[Side, Side] = {"b": "a", "a": "b"}
WINDOWS = {"ticker_1h": "1hTicker", "ticker_4h": "4hTicker", "ticker_1d": "1dTicker"}
FORCED_EVERY = 50  # aggregate trades
OFF_MARKET_EVERY = 200  # trades; USD-M tells of those of the insurance fund, and of none at all

_SPECS = (  # base, quote, price in ticks, digits of tick and step
    ("BTC", "USDT", 6_183_764, 2, 5),
    ("ETH", "USDT", 268_412, 2, 4),
    ("SOL", "USDT", 15_327, 2, 3),
    ("BNB", "BTC", 8_361, 6, 3),
    ("币安人生", "USDT", 1_204, 4, 0),
    ("XRP", "USDC", 6_112, 4, 1),
    ("DOGE", "USDT", 10_283, 5, 0),
    ("ADA", "BTC", 559, 8, 1),
)


class _Batch:
    """What a depth stream has not told yet."""

    __slots__ = ("first", "last", "previous", "sides")

    def __init__(self, previous: int) -> None:
        self.previous = previous  # the last id that was told
        self.first = 0
        self.last = 0
        self.sides: dict[Side, dict[str, str]] = {"b": {}, "a": {}}


class _Maker:
    """One market's orders: ticks -> steps, for each side."""

    def __init__(self, market: Market, spec: tuple[str, str, int, int, int], product: Product) -> None:
        self.market = market
        self.middle = spec[2]
        self.sides: dict[Side, dict[int, int]] = {"b": {}, "a": {}}
        # Spot writes eight decimals whatever the tick is, USD-M as many as the tick and the step have.
        self._digits = (spec[3], spec[4])
        self._zeros = (0, 0) if product.linked else (8 - spec[3], 8 - spec[4])

    def price(self, ticks: int) -> str:
        return _text(ticks, self._digits[0], self._zeros[0])

    def size(self, steps: int) -> str:
        return _text(steps, self._digits[1], self._zeros[1])

    def best(self, side: Side) -> int | None:
        levels = self.sides[side]
        if not levels:
            return None
        return max(levels) if side == "b" else min(levels)

    def limit(self, side: Side) -> int:
        """The best price for an order that does not cross the other side."""
        other = self.best(OTHER[side])
        if other is None:
            return self.middle - 1 if side == "b" else self.middle
        return other - 1 if side == "b" else other + 1


def _text(units: int, digits: int, zeros: int) -> str:
    whole, part = divmod(units, 10**digits)
    fraction = (f"{part:0{digits}d}" if digits else "") + "0" * zeros
    return f"{whole}.{fraction}" if fraction else str(whole)


class Generator:
    """Makes things up until a given time; `wanted` says whether anybody is subscribed to a stream."""

    def __init__(
        self,
        product: Product,
        seed: int,
        markets: int,
        frames_per_second: float,
        start_ns: int,
        wanted: Callable[[str], bool],
    ) -> None:
        self._product = product
        self._rng = Random(seed)  # noqa: S311  # a market, not a secret
        self._wanted = wanted
        self._per_frame_ns = SECOND_NS / frames_per_second
        self._now_ns = float(start_ns)
        self._next_fast_ns = start_ns + FAST_NS
        self._ticks = 0
        self._id = start_ns // MS_NS  # USD-M numbers the updates of all books with one counter
        self._batches: dict[str, _Batch] = {}  # by stream
        self._traded: dict[str, None] = {}  # symbols, since the last second
        self.markets: dict[str, Market] = {}
        self._makers = [self._open(k, start_ns) for k in range(markets)]

    def until(self, now_ns: int) -> Iterator[Happening]:
        if now_ns - self._now_ns > CATCH_UP_NS:
            self._now_ns = float(now_ns - CATCH_UP_NS)
            self._next_fast_ns = max(self._next_fast_ns, int(self._now_ns))
        while True:
            if self._next_fast_ns <= self._now_ns:
                if self._next_fast_ns > now_ns:
                    return
                yield from self._flush(self._next_fast_ns)
                self._next_fast_ns += FAST_NS
                continue
            if self._now_ns + self._per_frame_ns > now_ns:
                return
            told = 0
            for happening in self._step(int(self._now_ns)):
                told += 1
                yield happening
            self._now_ns += self._per_frame_ns * max(told, 1)

    # ---------------------------------------------------------------------------------------------------- one step

    def _step(self, ts_ns: int) -> Iterator[Happening]:
        rng = self._rng
        maker = rng.choice(self._makers)
        side: Side = rng.choice(("b", "a"))
        before = self._top(maker)
        levels = maker.sides[side]
        draw = rng.random()
        if draw < 0.15 and len(levels) > 2:
            yield from self._take(ts_ns, maker, side)
        elif draw < 0.6 * len(levels) / LEVELS_WANTED:
            price = rng.choice(list(levels))
            left = 0 if rng.random() < 0.7 else rng.randint(1, levels[price])
            self._change(maker, side, price, left)
        else:
            self._place(maker, side)
        top = self._top(maker)
        if top != before:
            yield from self._tell_top(ts_ns, maker.market, top)

    def _place(self, maker: _Maker, side: Side) -> None:
        away = int(self._rng.expovariate(0.1))
        price = max(1, maker.limit(side) - away if side == "b" else maker.limit(side) + away)
        self._change(maker, side, price, maker.sides[side].get(price, 0) + self._size())

    def _take(self, ts_ns: int, maker: _Maker, side: Side) -> Iterator[Happening]:
        """Somebody takes from the best of `side`: trades, one for each order that is met, and one aggregate."""
        price = maker.best(side)
        assert price is not None
        market, rng = maker.market, self._rng
        standing = maker.sides[side][price]
        left = min(standing, self._size())
        self._change(maker, side, price, standing - left)
        ms = ts_ns // MS_NS
        first, taken = market.trade_id + 1, left
        while left:
            part = left if rng.random() < 0.6 else rng.randint(1, left)
            left -= part
            yield from self._trade(ms, maker, maker.price(price), maker.size(part), side == "b")
        if self._product.linked and rng.randrange(OFF_MARKET_EVERY) == 0:
            yield from self._off_market(ms, maker, price)
        market.aggregate_id += 1
        linked = self._product.linked
        aggregate: dict[str, object] = {
            "e": "aggTrade",
            "E": ms + 1,
            "s": market.symbol,
            "a": market.aggregate_id,
            "p": maker.price(price),
            "q": maker.size(taken),
            **({"nq": maker.size(taken)} if linked else {}),
            "f": first,
            "l": market.trade_id,
            "T": ms,
            "m": side == "b",
            **({"st": 1} if linked else {"M": True}),
        }
        market.aggregate(aggregate)
        if self._wanted(stream_name(market.symbol, "aggTrade")):
            yield ts_ns, "aggTrade", market.symbol, aggregate
        if linked and market.aggregate_id % FORCED_EVERY == 0:
            yield from self._forced(ts_ns, market, maker.price(price), maker.size(taken), side)

    def _forced(self, ts_ns: int, market: Market, price: str, size: str, side: Side) -> Iterator[Happening]:
        ms = ts_ns // MS_NS
        order = {"s": market.symbol, "S": "SELL" if side == "b" else "BUY", "o": "LIMIT", "f": "IOC", "q": size}
        order |= {"p": price, "ap": price, "X": "FILLED", "l": size, "z": size}
        told = {"e": "forceOrder", "E": ms, "o": {**order, "T": ms}, "st": 1}
        if self._wanted(stream_name(market.symbol, "forceOrder")):
            yield ts_ns, "forceOrder", market.symbol, told
        if self._wanted("!forceOrder@arr"):
            yield ts_ns, "!forceOrder@arr", None, told

    def _trade(self, ms: int, maker: _Maker, price: str, size: str, buyer_is_maker: bool) -> Iterator[Happening]:
        market = maker.market
        market.trade(market.trade_id + 1, price, size, ms, buyer_is_maker, self._product.linked)
        self._traded[market.symbol] = None
        yield from self._tell_trade(ms, market, price, size, buyer_is_maker, "MARKET")

    def _off_market(self, ms: int, maker: _Maker, price: int) -> Iterator[Happening]:
        maker.market.trade_id += 1
        some, nothing = (maker.price(price * 2), maker.size(1), "INSURANCE_FUND"), ("0", "0", "NA")
        price_text, size, why = some if self._rng.random() < 0.5 else nothing
        yield from self._tell_trade(ms, maker.market, price_text, size, False, why)

    def _tell_trade(
        self, ms: int, market: Market, price: str, size: str, buyer_is_maker: bool, why: str
    ) -> Iterator[Happening]:
        symbol = market.symbol
        if not self._wanted(stream_name(symbol, "trade")):
            return
        told: dict[str, object] = {"e": "trade", "E": ms + 1}
        if self._product.linked:
            told |= {"T": ms, "s": symbol, "t": market.trade_id, "p": price, "q": size, "X": why, "m": buyer_is_maker}
        else:
            told |= {"s": symbol, "t": market.trade_id, "p": price, "q": size, "T": ms, "m": buyer_is_maker, "M": True}
        yield ms * MS_NS, "trade", symbol, told

    def _size(self) -> int:
        """Mostly small."""
        return 1 + int(self._rng.expovariate(0.01))

    # --------------------------------------------------------------------------------------------------- the book

    def _change(self, maker: _Maker, side: Side, price: int, left: int) -> None:
        market = maker.market
        levels = maker.sides[side]
        if left:
            levels[price] = left
        else:
            levels.pop(price, None)
        price_text, size = maker.price(price), maker.size(left)
        market.set(side, price_text, size)
        previous = market.update_id
        if self._product.linked:
            self._id += self._rng.randint(1, 40)
            market.update_id = self._id
        else:
            market.update_id += 1
        for speed in self._product.speeds:
            name = stream_name(market.symbol, f"depth{speed}")
            if not self._wanted(name):
                self._batches.pop(name, None)
                continue
            batch = self._batches.get(name)
            if batch is None:
                batch = self._batches[name] = _Batch(previous)
            batch.first = batch.first or market.update_id
            batch.last = market.update_id
            batch.sides[side][price_text] = size

    def _top(self, maker: _Maker) -> tuple[str, str, str, str]:
        told = []
        for side in ("b", "a"):
            price = maker.best(side)
            steps = 0 if price is None else maker.sides[side][price]
            told += [maker.price(price or 0), maker.size(steps)]
        return told[0], told[1], told[2], told[3]

    def _tell_top(self, ts_ns: int, market: Market, top: tuple[str, str, str, str]) -> Iterator[Happening]:
        symbol, ms = market.symbol, ts_ns // MS_NS
        best = dict(zip("bBaA", top, strict=True))
        told: dict[str, object] = {"u": market.update_id, "s": symbol, **best}
        if self._product.linked:
            told = {"e": "bookTicker", "u": market.update_id, "s": symbol, "ps": symbol, **best, "T": ms, "E": ms}
            told["st"] = 1
        if self._wanted(stream_name(symbol, "bookTicker")):
            yield ts_ns, "bookTicker", symbol, told
        if self._product.linked and self._wanted("!bookTicker"):
            yield ts_ns, "!bookTicker", None, told

    # ------------------------------------------------------------------------------------------- by the clock

    def _flush(self, ts_ns: int) -> Iterator[Happening]:
        """Every tenth of a second: what has changed in the books; every second: that and statistics."""
        self._ticks += 1
        whole = self._ticks % 10 == 0
        for maker in self._makers:
            for speed in self._product.speeds:
                if whole or speed in {"@100ms", "@0ms"}:
                    yield from self._depth(ts_ns, maker.market, speed)
            if whole:
                yield from self._statistics(ts_ns, maker.market)
        if whole:
            changed = [self._mini_ticker(ts_ns // MS_NS, self.markets[name]) for name in self._traded]
            if changed and self._wanted("!miniTicker@arr"):
                yield ts_ns, "!miniTicker@arr", None, changed
            for window, kind in WINDOWS.items():
                if changed and self._wanted(f"!{window}@arr"):
                    rows = [self._window(ts_ns // MS_NS, self.markets[name], kind) for name in self._traded]
                    yield ts_ns, f"!{window}@arr", None, rows
            self._traded.clear()

    def _depth(self, ts_ns: int, market: Market, speed: str) -> Iterator[Happening]:
        symbol = market.symbol
        name = stream_name(symbol, f"depth{speed}")
        batch = self._batches.get(name)
        if batch is not None and batch.first:
            bids, asks = list(batch.sides["b"].items()), list(batch.sides["a"].items())
            yield ts_ns, f"depth{speed}", symbol, self._event(ts_ns, symbol, batch, bids, asks)
            self._batches[name] = _Batch(batch.last)
        for count in PARTIAL:
            if self._wanted(stream_name(symbol, f"depth{count}{speed}")):
                bids, asks = market.levels("b", count), market.levels("a", count)
                told: dict[str, object] = {"lastUpdateId": market.update_id, "bids": bids, "asks": asks}
                if self._product.linked:
                    both = _Batch(market.update_id)
                    both.first = both.last = market.update_id
                    told = self._event(ts_ns, symbol, both, bids, asks)
                yield ts_ns, f"depth{count}{speed}", symbol, told

    def _event(self, ts_ns: int, symbol: str, batch: _Batch, bids: Levels, asks: Levels) -> dict[str, object]:
        ms = ts_ns // MS_NS
        ids = {"U": batch.first, "u": batch.last}
        if self._product.linked:
            head = {"e": "depthUpdate", "E": ms, "T": ms, "s": symbol, "ps": symbol, "st": 1}
            return {**head, **ids, "pu": batch.previous, "b": bids, "a": asks}
        return {"e": "depthUpdate", "E": ms, "s": symbol, **ids, "b": bids, "a": asks}

    def _statistics(self, ts_ns: int, market: Market) -> Iterator[Happening]:
        symbol, ms = market.symbol, ts_ns // MS_NS
        if not market.last_price:
            return
        if self._wanted(stream_name(symbol, "miniTicker")):
            yield ts_ns, "miniTicker", symbol, self._mini_ticker(ms, market)
        if self._wanted(stream_name(symbol, "ticker")):
            (bid, bid_size), (ask, ask_size) = market.best("b"), market.best("a")
            day = self._window(ms, market, "24hrTicker") | {"Q": market.last_size}
            best = {"x": market.open, "b": bid, "B": bid_size, "a": ask, "A": ask_size}
            yield ts_ns, "ticker", symbol, {**day, "st": 1} if self._product.linked else {**day, **best}
        for speed in ("", "@1s"):
            if self._wanted(stream_name(symbol, f"markPrice{speed}")):
                yield ts_ns, f"markPrice{speed}", symbol, self._mark(ms, market)
        for window, kind in WINDOWS.items():
            if self._wanted(stream_name(symbol, window)):
                yield ts_ns, window, symbol, self._window(ms, market, kind)
        if self._wanted(stream_name(symbol, "avgPrice")):
            told = {"e": "avgPrice", "E": ms, "s": symbol, "i": "5m", "w": self._average(market), "T": ms}
            yield ts_ns, "avgPrice", symbol, told
        if self._wanted(stream_name(symbol, "kline_1m")):
            yield ts_ns, "kline_1m", symbol, {"e": "kline", "E": ms, "s": symbol, "k": self._candle(ms, market)}

    def _mark(self, ms: int, market: Market) -> dict[str, object]:
        price = market.last_price
        prices = {"p": price, "ap": price, "i": price, "P": price}
        funding = {"r": "0.00010000", "T": ms - ms % FUNDING_MS + FUNDING_MS}
        return {"e": "markPriceUpdate", "E": ms, "s": market.symbol, **prices, **funding, "st": 1}

    def _mini_ticker(self, ms: int, market: Market) -> dict[str, object]:
        return {
            "e": "24hrMiniTicker",
            "E": ms,
            "s": market.symbol,
            "c": market.last_price,
            "o": market.open,
            "h": market.high,
            "l": market.low,
            "v": f"{market.volume:.8f}",
            "q": f"{market.quote_volume:.8f}",
        }

    def _window(self, ms: int, market: Market, kind: str) -> dict[str, object]:
        change = Decimal(market.last_price) - Decimal(market.open)
        mini = self._mini_ticker(ms, market)
        count = len(market.trades)
        return mini | {
            "e": kind,
            "p": f"{change:.8f}",
            "P": f"{change * 100 / Decimal(market.open):.3f}",
            "w": self._average(market),
            "O": market.listed_ns // MS_NS,
            "C": ms,
            "F": market.trade_id - count + 1,
            "L": market.trade_id,
            "n": count,
        }

    @staticmethod
    def _average(market: Market) -> str:
        return f"{market.quote_volume / market.volume:.8f}" if market.volume else market.last_price

    def _candle(self, ms: int, market: Market) -> dict[str, object]:
        """A candle as long as the market: enough for its shape."""
        start = ms - ms % 60_000
        count = len(market.trades)
        return {
            "t": start,
            "T": start + 59_999,
            "s": market.symbol,
            "i": "1m",
            "f": market.trade_id - count + 1,
            "L": market.trade_id,
            "o": market.open,
            "c": market.last_price,
            "h": market.high,
            "l": market.low,
            "v": f"{market.volume:.8f}",
            "n": count,
            "x": False,
            "q": f"{market.quote_volume:.8f}",
            "V": f"{market.volume / 2:.8f}",
            "Q": f"{market.quote_volume / 2:.8f}",
            "B": "0",
        }

    # -------------------------------------------------------------------------------------------------- the start

    def _open(self, number: int, start_ns: int) -> _Maker:
        base, quote, _, tick_digits, step_digits = spec = _SPECS[number % len(_SPECS)]
        again = number // len(_SPECS)
        symbol = f"{base}{again or ''}{quote}"
        tick, step = _text(1, tick_digits, 8 - tick_digits), _text(1, step_digits, 8 - step_digits)
        market = Market(symbol, start_ns, quote=quote, tick=tick, step=step)
        market.known = True
        market.update_id = self._id if self._product.linked else self._rng.randint(10**9, 10**11)
        market.trade_id = self._rng.randint(10**6, 10**10)
        market.aggregate_id = market.trade_id // 2
        self.markets[symbol] = market
        maker = _Maker(market, spec, self._product)
        for side in ("b", "a"):
            for _ in range(LEVELS_WANTED // 2):
                self._place(maker, side)
        return maker
