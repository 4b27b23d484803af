"""Made-up markets that behave: books that never cross, trades inside them, tickers, markets that come and go.

A market is created, opens, closes, is determined and settled, each a moment after the other. The same seed and start
give the same markets and the same sequence of events. Prices are whole cents.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from exchanges.kalshi.markets import Exchange, Market, contracts, rfc3339

Happening = tuple[int, str, dict[str, object]]  # time in ns, message type, message

SECOND_NS = 1_000_000_000
TURNOVER_SECONDS = 60.0  # so often the oldest market closes and a new one is created
STAGES = 4  # in a quarter of that time a market goes from one stage of its life to the next
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 12  # on each side of a book
STRIKES_PER_EVENT = 8
OTHER = {"yes": "no", "no": "yes"}

_SERIES = (  # ticker, what it is, lowest strike, distance of strikes
    ("KXBTCD", "Bitcoin price", 96_000, 250),
    ("KXETHD", "Ethereum price", 3_200, 20),
    ("KXGOLDH", "Gold price", 4_350, 5),
    ("KXSOLD", "Solana price", 180, 2),
)


class _Maker:
    """One market's state: cents -> hundredths of a contract, for each side; its last trade."""

    def __init__(self, market: Market, rng: Random) -> None:
        self.market = market
        self.sides: dict[str, dict[int, int]] = {"yes": {}, "no": {}}
        self.last: int | None = None
        self.last_size = 0
        self.volume = 0
        self.open_interest = 0
        self.middle = rng.randint(15, 85)  # what it opens around

    def best(self, side: str) -> int | None:
        return max(self.sides[side], default=None)

    def top(self) -> tuple[object, ...]:
        """What the ticker tells."""
        yes, no = self.best("yes"), self.best("no")
        return (
            yes,
            no,
            self.sides["yes"].get(yes or 0),
            self.sides["no"].get(no or 0),
            self.last,
            self.volume,
        )

    def highest(self, side: str) -> int:
        """The highest bid that does not cross the other side's best."""
        other = self.best(OTHER[side])
        if other is not None:
            return 99 - other
        return self.middle - 1 if side == "yes" else 99 - self.middle


class Generator:
    """Makes things up until a given time; the exchange learns of new markets from it, of the rest from the records."""

    def __init__(
        self,
        seed: int,
        markets: int,
        frames_per_second: float,
        start_ns: int,
        exchange: Exchange,
        turnover_seconds: float = TURNOVER_SECONDS,
    ) -> None:
        self._rng = Random(seed)  # noqa: S311  # a market, not a secret
        self._exchange = exchange
        self._per_frame_ns = SECOND_NS / frames_per_second
        self._now_ns = float(start_ns)
        self._opened = 0
        self._strikes = dict.fromkeys((name for name, *_ in _SERIES), 0)
        self._turnover_ns = int(turnover_seconds * SECOND_NS)
        self._next_turnover_ns = start_ns + self._turnover_ns
        self._stages: list[tuple[int, Callable[[int], list[Happening]]]] = []  # what is due when
        self._makers = [self._create(start_ns, start_ns)[0] for _ in range(markets)]

    def until(self, now_ns: int) -> Iterator[Happening]:
        self._now_ns = max(self._now_ns, now_ns - CATCH_UP_NS)
        while self._now_ns + self._per_frame_ns <= now_ns:
            happened: Sequence[Happening | None] = self._step(int(self._now_ns)) or [None]
            for happening in happened:
                self._now_ns += self._per_frame_ns
                if happening is not None:
                    yield happening

    def _step(self, ts_ns: int) -> list[Happening]:
        if ts_ns >= self._next_turnover_ns:
            self._next_turnover_ns = ts_ns + self._turnover_ns
            return self._turn_over(ts_ns)
        if self._stages and ts_ns >= self._stages[0][0]:
            return self._stages.pop(0)[1](ts_ns)
        if not self._makers:
            return []  # between the last market's end and the next one's beginning
        rng = self._rng
        maker = rng.choice(self._makers)
        side = rng.choice(("yes", "no"))
        before = maker.top()
        levels = maker.sides[side]
        draw = rng.random()
        if draw < 0.08 and maker.best(side) is not None:
            happened = self._trade(ts_ns, maker, side)
        elif draw < 0.5 * len(levels) / LEVELS_WANTED:
            happened = [self._cancel(ts_ns, maker, side)]
        else:
            happened = self._bid(ts_ns, maker, side)
        if maker.top() != before:
            happened.append(self._ticker(ts_ns, maker))
        return happened

    # --------------------------------------------------------------------------------------------------- the book

    def _bid(self, ts_ns: int, maker: _Maker, side: str) -> list[Happening]:
        """A new bid, mostly near the best; none if there is no price left that does not cross."""
        highest = maker.highest(side)
        if highest < 1:
            return self._trade(ts_ns, maker, OTHER[side])
        price = max(1, highest - int(self._rng.expovariate(0.35)))
        return [self._change(ts_ns, maker, side, price, self._size())]

    def _cancel(self, ts_ns: int, maker: _Maker, side: str) -> Happening:
        levels = maker.sides[side]
        price = self._rng.choice(list(levels))
        size = levels[price]
        part = size if self._rng.random() < 0.7 else self._rng.randint(1, size)
        return self._change(ts_ns, maker, side, price, -part)

    def _trade(self, ts_ns: int, maker: _Maker, side: str) -> list[Happening]:
        """Somebody takes from the best bid of `side`: the trade, and the delta it leaves in the book."""
        price = maker.best(side)
        assert price is not None
        size = min(maker.sides[side][price], self._size())
        taker = OTHER[side]
        yes = price if side == "yes" else 100 - price
        maker.last, maker.last_size = yes, size
        maker.volume += size
        maker.open_interest += size // 2
        trade: dict[str, object] = {
            "trade_id": self._uuid(),
            "market_ticker": maker.market.ticker,
            "yes_price_dollars": _dollars(yes),
            "no_price_dollars": _dollars(100 - yes),
            "count_fp": contracts(size),
            "taker_side": taker,
            "taker_outcome_side": taker,
            "taker_book_side": "bid" if taker == "yes" else "ask",
            "ts": ts_ns // SECOND_NS,
            "ts_ms": ts_ns // 1_000_000,
        }
        return [(ts_ns, "trade", trade), self._change(ts_ns, maker, side, price, -size)]

    def _change(self, ts_ns: int, maker: _Maker, side: str, price: int, change: int) -> Happening:
        levels = maker.sides[side]
        left = levels.get(price, 0) + change
        assert left >= 0
        if left:
            levels[price] = left
        else:
            del levels[price]
        delta: dict[str, object] = {
            "market_ticker": maker.market.ticker,
            "market_id": maker.market.market_id,
            "price_dollars": _dollars(price),
            "delta_fp": contracts(change),
            "side": side,
            "ts": rfc3339(ts_ns),
            "ts_ms": ts_ns // 1_000_000,
        }
        return ts_ns, "orderbook_delta", delta

    def _ticker(self, ts_ns: int, maker: _Maker) -> Happening:
        """Where a side is empty the venue writes 0 or 1 with a size of 0."""
        yes, no = maker.best("yes"), maker.best("no")
        ticker: dict[str, object] = {
            "market_ticker": maker.market.ticker,
            "market_id": maker.market.market_id,
            "price_dollars": _dollars(maker.last or 0),
            "yes_bid_dollars": _dollars(yes or 0),
            "yes_ask_dollars": _dollars(100 - (no or 0)),
            "yes_bid_size_fp": contracts(maker.sides["yes"].get(yes or 0, 0)),
            "yes_ask_size_fp": contracts(maker.sides["no"].get(no or 0, 0)),
            "last_trade_size_fp": contracts(maker.last_size),
            "volume_fp": contracts(maker.volume),
            "open_interest_fp": contracts(maker.open_interest),
            "dollar_volume": maker.volume // 200,
            "dollar_open_interest": maker.open_interest // 200,
            "ts": ts_ns // SECOND_NS,
            "ts_ms": ts_ns // 1_000_000,
            "time": rfc3339(ts_ns),
        }
        return ts_ns, "ticker", ticker

    def _size(self) -> int:
        """Mostly round; parts of a contract are real."""
        rng = self._rng
        return rng.randint(1, 60) * 100 if rng.random() < 0.8 else rng.randint(1, 20_000)

    # ---------------------------------------------------------------------------------------------- coming, going

    def _turn_over(self, ts_ns: int) -> list[Happening]:
        """The oldest market closes, and will be determined and settled; another one is created, and will open."""
        maker = self._makers.pop(0)
        stage_ns = self._turnover_ns // STAGES
        opened, happened = self._create(ts_ns, ts_ns + stage_ns)
        self._stages += [
            (ts_ns + stage_ns, lambda now_ns: self._activate(now_ns, opened)),
            (ts_ns + stage_ns, lambda now_ns: self._determine(now_ns, maker)),
            (ts_ns + 2 * stage_ns, lambda now_ns: self._settle(now_ns, maker)),
        ]
        return [*self._close(ts_ns, maker), *happened]

    def _close(self, ts_ns: int, maker: _Maker) -> list[Happening]:
        """Its book is empty from now on. The venue has no message for it: `close_ts` was known."""
        market = maker.market
        market.state, market.close_ns = "closed", ts_ns
        gone: dict[str, object] = {"market_ticker": market.ticker, "market_id": market.market_id}
        early: dict[str, object] = {
            "market_ticker": market.ticker,
            "close_ts": ts_ns // SECOND_NS,
            "event_type": "close_date_updated",
        }
        return [(ts_ns, "orderbook_snapshot", gone), (ts_ns, "market_lifecycle_v2", early)]

    def _determine(self, ts_ns: int, maker: _Maker) -> list[Happening]:
        result = "yes" if (maker.last or maker.middle) >= 50 else "no"
        determined: dict[str, object] = {
            "market_ticker": maker.market.ticker,
            "determination_ts": ts_ns // SECOND_NS,
            "result": result,
            "settlement_value": "1.0000" if result == "yes" else "0.0000",
            "event_type": "determined",
        }
        return [(ts_ns, "market_lifecycle_v2", determined)]

    def _settle(self, ts_ns: int, maker: _Maker) -> list[Happening]:
        maker.market.settled_ns = ts_ns
        ticker = maker.market.ticker
        settled: dict[str, object] = {
            "market_ticker": ticker,
            "settled_ts": ts_ns // SECOND_NS,
            "event_type": "settled",
        }
        return [(ts_ns, "market_lifecycle_v2", settled)]

    def _activate(self, ts_ns: int, maker: _Maker) -> list[Happening]:
        self._makers.append(maker)
        activated: dict[str, object] = {
            "market_ticker": maker.market.ticker,
            "is_deactivated": False,
            "event_type": "activated",
        }
        return [(ts_ns, "market_lifecycle_v2", activated)]

    def _create(self, ts_ns: int, open_ns: int) -> tuple[_Maker, list[Happening]]:
        name, what, lowest, distance = _SERIES[self._opened % len(_SERIES)]
        self._opened += 1
        number = self._strikes[name]
        self._strikes[name] += 1
        hour = ts_ns // (3600 * SECOND_NS) + 1 + number // STRIKES_PER_EVENT
        strike = lowest + (number % STRIKES_PER_EVENT) * distance
        close_ns = hour * 3600 * SECOND_NS
        closes = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=close_ns // SECOND_NS)
        event = f"{name}-{closes.strftime('%y%b%d%H').upper()}"
        ticker = f"{event}-T{strike - 0.01:.2f}"
        market = Market(ticker, open_ns, close_ns, title=f"{what} above {strike}?", known=True)
        market.created_ns = ts_ns
        market.state = "active" if open_ns <= ts_ns else "initialized"
        market.strike = f"{strike - 0.01:.2f}"
        market.market_id = self._uuid()
        new_event = market.event_ticker not in self._exchange.events
        self._exchange.open(market)
        return _Maker(market, self._rng), self._announced(ts_ns, market, new_event)

    def _announced(self, ts_ns: int, market: Market, new_event: bool) -> list[Happening]:
        event: dict[str, object] = {
            "event_ticker": market.event_ticker,
            "exchange_index": 0,
            "title": market.title,
            "subtitle": "",
            "collateral_return_type": "",
            "series_ticker": market.series_ticker,
        }
        created: dict[str, object] = {
            "market_ticker": market.ticker,
            "exchange_index": 0,
            "open_ts": market.open_ns // SECOND_NS,
            "close_ts": market.close_ns // SECOND_NS,
            "price_level_structure": "linear_cent",
            "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
            "additional_metadata": {
                "name": market.title,
                "title": market.title,
                "yes_sub_title": market.title,
                "no_sub_title": market.title,
                "rules_primary": "Made up by a simulator.",
                "rules_secondary": "",
                "can_close_early": True,
                "event_ticker": market.event_ticker,
                "expected_expiration_ts": market.close_ns // SECOND_NS,
                "strike_type": "greater",
                "floor_strike": float(market.strike),
            },
            "event_type": "created",
        }
        return [
            *([(ts_ns, "event_lifecycle", event)] if new_event else []),
            (ts_ns, "market_lifecycle_v2", created),
        ]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


def _dollars(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}00"
