"""Made-up markets that behave: books that never cross, trades at the best price, tickers, options that expire.

The same seed and start give the same markets and the same sequence of events. Change ids come from one counter for
all instruments and jump; trade numbers count each instrument's trades.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

import msgspec

from exchanges.deribit.markets import ONE_DAY_MS, Exchange, Instrument, number

Happening = tuple[int, str, str | None, object]  # time in ns, our channel, instrument or index, data

SECOND_NS = 1_000_000_000
TURNOVER_NS = 60 * SECOND_NS  # so often the oldest option expires and a new one is listed
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 12  # on each side of a book
MINUTE_MS = 60_000
OTHER = {"bids": "asks", "asks": "bids"}


class _Spec(NamedTuple):
    """Prices are whole ticks of `tick` units of 10^-`places`, amounts whole lots of `lot` units of 10^-1."""

    name: str
    middle: int  # in ticks: what the book opens around
    tick: int
    places: int
    lot: int


class _Maker:
    """One instrument's state: ticks -> lots for each side; its last trade, its candle."""

    def __init__(self, spec: _Spec, instrument: Instrument) -> None:
        self.spec = spec
        self.instrument = instrument
        self.sides: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
        self.change_id = 0
        self.trade_seq = 0
        self.last: int | None = None
        self.direction = 0  # of the last price: tick_direction
        self.volume = 0  # lots
        self.open_interest = 1000
        self.low = self.high = spec.middle
        self.candle = (0, 0, 0, 0, 0)  # minute, open, high, low, lots

    def best(self, side: str) -> int | None:
        levels = self.sides[side]
        if not levels:
            return None
        return max(levels) if side == "bids" else min(levels)

    def top(self) -> tuple[object, ...]:
        bid, ask = self.best("bids"), self.best("asks")
        return bid, ask, self.sides["bids"].get(bid or 0), self.sides["asks"].get(ask or 0)

    def nearest(self, side: str) -> int:
        """The best price of a new order that does not cross."""
        other = self.best(OTHER[side])
        step = -1 if side == "bids" else 1
        return self.spec.middle + step if other is None else other + step

    def price(self, ticks: int) -> msgspec.Raw:
        return msgspec.Raw(number(ticks * self.spec.tick, self.spec.places))

    def amount(self, lots: int) -> msgspec.Raw:
        return msgspec.Raw(number(lots * self.spec.lot, 1))

    def contracts(self, lots: int) -> msgspec.Raw:
        """The smallest amount is one contract here, but for coins a tenth of one."""
        return msgspec.Raw(number(lots, 0) if self.spec.lot >= 10 else number(lots, 1))


class Generator:
    """Makes things up until a given time; the exchange learns of new instruments from it, of the rest from records."""

    def __init__(self, seed: int, markets: int, frames_per_second: float, start_ns: int, exchange: Exchange) -> None:
        self._rng = Random(seed)  # noqa: S311  # a market, not a secret
        self._exchange = exchange
        self._per_frame_ns = SECOND_NS / frames_per_second
        self._now_ns = float(start_ns)
        self._change_id = 136_069_961_946
        self._next_turnover_ns = start_ns + TURNOVER_NS
        self._next_second_ns = start_ns + SECOND_NS
        self._expiry_ms = _next_friday(start_ns // 1_000_000)
        self._options = 0
        self._makers: list[_Maker] = []
        self._opening = [told for spec in self._specs(markets) for told in self._open(spec, start_ns)]

    def until(self, now_ns: int) -> Iterator[Happening]:
        opening, self._opening = self._opening, []
        yield from opening
        self._now_ns = max(self._now_ns, now_ns - CATCH_UP_NS)
        while self._now_ns + self._per_frame_ns <= now_ns:
            for happening in self._step(int(self._now_ns)):
                self._now_ns += self._per_frame_ns
                yield happening

    def _step(self, ts_ns: int) -> list[Happening]:
        if ts_ns >= self._next_turnover_ns:
            self._next_turnover_ns = ts_ns + TURNOVER_NS
            return self._turn_over(ts_ns)
        if ts_ns >= self._next_second_ns:
            self._next_second_ns = ts_ns + SECOND_NS
            return self._each_second(ts_ns)
        maker = self._rng.choice(self._makers)
        before = maker.top()
        if self._rng.random() < 0.1 and maker.best("bids") is not None and maker.best("asks") is not None:
            happened = self._trade(ts_ns, maker)
        else:
            happened = [self._orders(ts_ns, maker)]
        if maker.top() != before:
            happened += [self._quote(ts_ns, maker), self._ticker(ts_ns, maker)]
        return happened

    # --------------------------------------------------------------------------------------------------- the book

    def _orders(self, ts_ns: int, maker: _Maker) -> Happening:
        """One to three levels come, change or go; what a frame tells is the sum of it."""
        rng = self._rng
        wanted: dict[tuple[str, int], int] = {}
        for _ in range(rng.randint(1, 3)):
            side = rng.choice(("bids", "asks"))
            levels = {t: n for t, n in self._after(maker, wanted)[side].items() if n}
            if rng.random() < 0.5 * len(levels) / LEVELS_WANTED:
                ticks = rng.choice(sorted(levels))
                wanted[side, ticks] = 0 if rng.random() < 0.7 else rng.randint(1, 200)
            else:
                away = int(rng.expovariate(0.35)) * (-1 if side == "bids" else 1)
                ticks = maker.nearest(side) + away
                tried = wanted | {(side, ticks): rng.randint(1, 2000)}
                if ticks > 0 and not self._crossed(self._after(maker, tried)):
                    wanted = tried
        return self._change(ts_ns, maker, wanted)

    @staticmethod
    def _after(maker: _Maker, wanted: dict[tuple[str, int], int]) -> dict[str, dict[int, int]]:
        sides = {side: dict(levels) for side, levels in maker.sides.items()}
        for (side, ticks), lots in wanted.items():
            sides[side][ticks] = lots
        return sides

    @staticmethod
    def _crossed(sides: dict[str, dict[int, int]]) -> bool:
        bids, asks = ([t for t, n in sides[side].items() if n] for side in ("bids", "asks"))
        return bool(bids and asks) and max(bids) >= min(asks)

    def _change(self, ts_ns: int, maker: _Maker, wanted: dict[tuple[str, int], int]) -> Happening:
        """The levels as they shall be, and the frame that says so."""
        told: dict[str, list[object]] = {"bids": [], "asks": []}
        for (side, ticks), lots in wanted.items():
            levels = maker.sides[side]
            had = ticks in levels
            if lots:
                levels[ticks] = lots
                action = "change" if had else "new"
            elif had:
                del levels[ticks]
                action = "delete"
            else:
                continue
            told[side].append([action, maker.price(ticks), maker.amount(lots)])
        previous, maker.change_id = maker.change_id, self._next_change_id()
        data: dict[str, object] = {"type": "change" if previous else "snapshot", "timestamp": ts_ns // 1_000_000}
        if previous:
            data["prev_change_id"] = previous
        data |= {"instrument_name": maker.instrument.name, "change_id": maker.change_id, **told}
        return ts_ns, "book", maker.instrument.name, data

    def _next_change_id(self) -> int:
        self._change_id += self._rng.randint(1, 900)
        return self._change_id

    # -------------------------------------------------------------------------------------------------- trades

    def _trade(self, ts_ns: int, maker: _Maker) -> list[Happening]:
        """Somebody takes from one side, sometimes through several levels: the trades, and what is left."""
        rng = self._rng
        taken = rng.choice(("bids", "asks"))
        direction = "sell" if taken == "bids" else "buy"
        lots = rng.randint(1, 1500)
        trades: list[dict[str, object]] = []
        wanted: dict[tuple[str, int], int] = {}
        for ticks in sorted(maker.sides[taken], reverse=taken == "bids")[:3]:
            part = min(lots, maker.sides[taken][ticks])
            trades.append(self._fill(ts_ns, maker, direction, ticks, part))
            wanted[taken, ticks] = maker.sides[taken][ticks] - part
            lots -= part
            if not lots:
                break
        if rng.random() < 0.02:
            trades[0]["liquidation"] = rng.choice(("M", "T", "MT"))
        legs = self._legs(ts_ns, maker, direction, trades[0])
        name = maker.instrument.name
        candle = (ts_ns, "chart_trades", name, _candle(maker))
        return [(ts_ns, "trades", name, trades), *legs, self._change(ts_ns, maker, wanted), candle]

    def _fill(self, ts_ns: int, maker: _Maker, direction: str, ticks: int, lots: int) -> dict[str, object]:
        before = maker.last
        if before is not None and ticks != before:
            maker.direction = 0 if ticks > before else 2
        elif before is not None:
            maker.direction |= 1  # zero-plus, zero-minus
        maker.last = ticks
        maker.low, maker.high = min(maker.low, ticks), max(maker.high, ticks)
        maker.volume += lots
        maker.open_interest += lots // 2
        maker.trade_seq += 1
        minute, opened, high, low, volume = maker.candle
        if minute != ts_ns // 1_000_000 // MINUTE_MS:
            minute, opened, high, low, volume = ts_ns // 1_000_000 // MINUTE_MS, ticks, ticks, ticks, 0
        maker.candle = (minute, opened, max(high, ticks), min(low, ticks), volume + lots)
        self._exchange.trade_ids += 1
        ids = self._exchange.trade_ids
        kind = maker.instrument.kind
        trade: dict[str, object] = {
            "timestamp": ts_ns // 1_000_000,
            "price": maker.price(ticks),
            "amount": maker.amount(lots),
            "direction": direction,
            "index_price": _index(maker.instrument.index),
            "instrument_name": maker.instrument.name,
            "trade_seq": maker.trade_seq,
            "mark_price": maker.price(maker.spec.middle),
            "tick_direction": maker.direction,
            "contracts": maker.contracts(lots),
            "trade_id": str(ids) if kind.currency == "BTC" else f"{kind.currency}-{ids}",
        }
        if kind.kind == "option":
            trade["iv"] = 43.7
        return trade

    def _legs(self, ts_ns: int, maker: _Maker, direction: str, parent: dict[str, object]) -> list[Happening]:
        """A combo's trade is on its legs' tapes too, and named there; books of the legs do not change."""
        combo = maker.instrument
        if not combo.kind.kind.endswith("_combo"):
            return []
        legs: list[dict[str, object]] = []
        happened: list[Happening] = []
        for other in self._makers:
            if other.instrument.name in _legs_of(combo.name):
                ticks = other.last if other.last is not None else other.spec.middle
                leg = self._fill(ts_ns, other, direction, ticks, 1)
                leg |= {"combo_id": combo.name, "combo_trade_id": parent["trade_id"]}
                legs.append(leg)
                happened.append((ts_ns, "trades", other.instrument.name, [leg]))
        parent["legs"] = legs
        return happened

    # ------------------------------------------------------------------------------------------------ tickers

    def _quote(self, ts_ns: int, maker: _Maker) -> Happening:
        name = maker.instrument.name
        return (
            ts_ns,
            "quote",
            name,
            {"timestamp": ts_ns // 1_000_000, "instrument_name": name, **_best(maker, nothing=0)},
        )

    def _ticker(self, ts_ns: int, maker: _Maker) -> Happening:
        instrument, kind = maker.instrument, maker.instrument.kind
        index = _index(instrument.index)
        traded = maker.last is not None
        usd = kind.kind == "future"
        stats: dict[str, object] = {
            "high": maker.price(maker.high) if traded else None,
            "low": maker.price(maker.low) if traded else None,
            "price_change": 0.7229 if traded else None,
            "volume": maker.amount(maker.volume),
            "volume_usd": maker.amount(maker.volume),
        }
        data: dict[str, object] = {
            "timestamp": ts_ns // 1_000_000,
            "state": instrument.state,
            "stats": stats | ({"volume_notional": maker.amount(maker.volume)} if usd else {}),
            "index_price": index,
            "instrument_name": instrument.name,
            "last_price": maker.price(maker.last) if maker.last is not None else None,
            "settlement_price": maker.price(maker.spec.middle),
            "min_price": maker.price(maker.spec.middle // 2),
            "max_price": maker.price(maker.spec.middle * 2),
            "open_interest": maker.amount(maker.open_interest),
            "mark_price": maker.price(maker.spec.middle),
            "estimated_delivery_price": index,
            **_best(maker, nothing=0),
        }
        if instrument.name.endswith("-PERPETUAL"):
            data |= {"interest_value": 0.0028213400122472977, "current_funding": 0.0, "funding_8h": 0.00001742}
        elif kind.kind == "option":
            data |= {
                "greeks": {"delta": 0.32956, "gamma": 3.0e-5, "vega": 109.48155, "theta": -40.89014, "rho": 33.66366},
                "interest_rate": 0.0,
                "mark_iv": 37.01,
                "bid_iv": 36.64,
                "ask_iv": 37.39,
                "underlying_price": index,
                "underlying_index": instrument.name.rsplit("-", 2)[0],
            }
        return ts_ns, "ticker", instrument.name, data

    def _each_second(self, ts_ns: int) -> list[Happening]:
        """Indices and what is reckoned from them."""
        ms = ts_ns // 1_000_000
        happened: list[Happening] = []
        indices = sorted({maker.instrument.index for maker in self._makers})
        for index in indices:
            price = _index(index)
            happened.append(
                (ts_ns, "deribit_price_index", index, {"timestamp": ms, "price": price, "index_name": index})
            )
            left = {"seconds": max(0, (self._expiry_ms - ms) // 1000), "price": price, "is_estimated": False}
            happened.append((ts_ns, "estimated_expiration_price", index, left))
            options = [m for m in self._makers if m.instrument.index == index and m.instrument.kind.kind == "option"]
            marks = [
                {
                    "timestamp": ms,
                    "mark_price": m.price(m.spec.middle),
                    "iv": 0.437,
                    "instrument_name": m.instrument.name,
                }
                for m in options
            ]
            if marks:
                happened.append((ts_ns, "markprice_options", index, marks))
                dvol = {"volatility": 43.7, "timestamp": ms, "index_name": index, "estimated_delivery": 43.7}
                happened.append((ts_ns, "deribit_volatility_index", index, dvol))
        for maker in self._makers:
            if maker.instrument.name.endswith("-PERPETUAL"):
                interest = {
                    "timestamp": ms,
                    "interest": 0.0028213400122472977,
                    "index_price": _index(maker.instrument.index),
                }
                happened.append((ts_ns, "perpetual", maker.instrument.name, interest))
        return happened

    # ---------------------------------------------------------------------------------------------- coming, going

    def _turn_over(self, ts_ns: int) -> list[Happening]:
        """The oldest option is settled and delivered, its book emptied; another one is listed."""
        ms = ts_ns // 1_000_000
        happened: list[Happening] = []
        maker = next((m for m in self._makers if m.instrument.kind.kind == "option"), None)
        if maker is not None:
            self._makers.remove(maker)
            name = maker.instrument.name
            locked = {"price_index": maker.instrument.index, "locked": True}
            emptied = {(side, ticks): 0 for side, levels in maker.sides.items() for ticks in levels}
            happened = [
                (ts_ns, "platform_state", None, locked),
                (ts_ns, "instrument_state", name, {"timestamp": ms, "state": "settlement", "instrument_name": name}),
                self._change(ts_ns, maker, emptied),
                (ts_ns, "instrument_state", name, {"timestamp": ms, "state": "delivered", "instrument_name": name}),
                (ts_ns, "platform_state", None, locked | {"locked": False}),
            ]
        return happened + self._open(self._option(), ts_ns)

    def _open(self, spec: _Spec, ts_ns: int) -> list[Happening]:
        ms = ts_ns // 1_000_000
        perpetual = not any(c.isdigit() for c in spec.name)
        instrument = self._exchange.open(spec.name, ms, None if perpetual else self._expiry_ms)
        assert instrument is not None, spec.name
        instrument.tick_size = number(spec.tick, spec.places)
        instrument.min_amount = number(spec.lot, 1)
        instrument.contract_size = number(spec.lot if spec.lot >= 10 else 10, 1)
        maker = _Maker(spec, instrument)
        first = self._change(ts_ns, maker, {("bids", spec.middle - 1): 100, ("asks", spec.middle + 1): 100})
        state = {"timestamp": ms, "state": "open", "instrument_name": spec.name}
        created = (ts_ns, "instrument_creation", spec.name, instrument.object())
        self._makers.append(maker)
        return [created, (ts_ns, "instrument_state", spec.name, state), first]

    def _specs(self, markets: int) -> list[_Spec]:
        """Every kind there is, then options with ever higher strikes."""
        day = _day(self._expiry_ms)
        fixed = [
            _Spec("BTC-PERPETUAL", 162_866, 5, 1, 100),
            self._option(),
            _Spec("ETH-PERPETUAL", 55_453, 5, 2, 10),
            _Spec(f"BTC-{day}", 164_190, 5, 1, 100),
            _Spec("BTC_USDC", 81_433, 1, 0, 1),
            _Spec(f"BTC-FS-{day}_PERP", 1_324, 5, 1, 100),
            _Spec("SOL_USDC-PERPETUAL", 18_214, 1, 2, 1),
            _Spec(f"ETH-{day}-2800-P", 230, 5, 4, 10),
            _Spec(f"XRP_USDC-{day}-2d25-C", 470, 1, 4, 10),
            _Spec(f"BTC-CS-{day}-80000_85000", 64, 5, 4, 1),
        ]
        return (fixed + [self._option() for _ in range(markets - len(fixed))])[:markets]

    def _option(self) -> _Spec:
        strike = 80_000 + 5_000 * self._options
        name = f"BTC-{_day(self._expiry_ms)}-{strike}-{'CP'[self._options % 2]}"
        self._options += 1
        return _Spec(name, max(5, 120 - 4 * self._options), 5, 4, 1)


def _best(maker: _Maker, nothing: int) -> dict[str, object]:
    """Where a side is empty the venue writes 0 with an amount of 0."""
    bid, ask = maker.best("bids"), maker.best("asks")
    return {
        "best_ask_price": maker.price(nothing if ask is None else ask),
        "best_bid_price": maker.price(nothing if bid is None else bid),
        "best_ask_amount": maker.amount(0 if ask is None else maker.sides["asks"][ask]),
        "best_bid_amount": maker.amount(0 if bid is None else maker.sides["bids"][bid]),
    }


def _candle(maker: _Maker) -> dict[str, object]:
    minute, opened, high, low, lots = maker.candle
    return {
        "volume": maker.amount(lots),
        "tick": minute * MINUTE_MS,
        "open": maker.price(opened),
        "low": maker.price(low),
        "high": maker.price(high),
        "cost": maker.amount(lots),
        "close": maker.price(maker.last or 0),
    }


def _legs_of(combo: str) -> Sequence[str]:
    """BTC-FS-27DEC24_PERP: the dated future and the perpetual; BTC-CS-27DEC24-80000_85000: two calls."""
    base, strategy, rest = combo.split("-", 2)
    if strategy == "FS":
        return [f"{base}-{leg.replace('PERP', 'PERPETUAL')}" for leg in rest.split("_")]
    day, _, strikes = rest.partition("-")
    return [f"{base}-{day}-{strike}-C" for strike in strikes.split("_")]


_INDICES = {"btc_usd": b"81433.33", "eth_usd": b"2772.68", "btc_usdc": b"81440.1", "sol_usdc": b"182.14"}


def _index(name: str) -> msgspec.Raw:
    return msgspec.Raw(_INDICES.get(name, b"2.2512"))


def _next_friday(now_ms: int) -> int:
    """08:00 UTC of the Friday that is more than a day away."""
    day = now_ms // ONE_DAY_MS + 1
    while (day + 3) % 7 != 4:  # 1970-01-01 was a Thursday, Monday is 0
        day += 1
    return day * ONE_DAY_MS + 8 * 3_600_000


def _day(ms: int) -> str:
    """5JAN25: without a leading zero."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return f"{at.day}{at:%b%y}".upper()
