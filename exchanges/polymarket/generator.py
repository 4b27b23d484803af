"""Made-up markets that behave: two mirrored books each, never crossed, hashed as the venue does; trades and their
new books; tick sizes; markets that are resolved and others that open. The same seed and start give the same.
"""

import json
from collections.abc import Iterator, Mapping
from random import Random

from exchanges.polymarket.markets import Exchange, Fill, Market, Token, milliseconds
from exchanges.port import Record

SECOND_NS = 1_000_000_000
TURNOVER_NS = 60 * SECOND_NS
CATCH_UP_NS = SECOND_NS  # after a stall, more than this is not made up for
LEVELS_WANTED = 12  # on each side of a book
FINE_TICK = 0.96  # beyond it, and below its mirror, prices get another digit
_QUESTIONS = ("Bitcoin Up or Down", "Ethereum Up or Down", "Solana Up or Down", "Gold Up or Down")
_OTHER = {"BUY": "SELL", "SELL": "BUY"}


class Generator:
    """Makes things up until a given time; the exchange has them already when they are told."""

    def __init__(self, seed: int, markets: int, frames_per_second: float, start_ns: int, exchange: Exchange) -> None:
        self._rng = Random(seed)  # noqa: S311  # a market, not a secret
        self._exchange = exchange
        self._per_frame_ns = SECOND_NS / frames_per_second
        self._now_ns = float(start_ns)
        self._next_turnover_ns = start_ns + TURNOVER_NS
        self._number = 2_500_000
        self._middles: dict[str, int] = {}
        self._markets = [self._open(start_ns) for _ in range(markets)]

    def until(self, now_ns: int) -> Iterator[Record]:
        self._now_ns = max(self._now_ns, now_ns - CATCH_UP_NS)
        while self._now_ns + self._per_frame_ns <= now_ns:
            for record in self._step(int(self._now_ns)):
                self._now_ns += self._per_frame_ns
                yield record

    def _step(self, ts_ns: int) -> list[Record]:
        if ts_ns >= self._next_turnover_ns:
            self._next_turnover_ns = ts_ns + TURNOVER_NS
            return self._turn_over(ts_ns)
        rng = self._rng
        market = rng.choice(self._markets)
        yes = self._exchange.tokens[market.tokens[0]]
        before = yes.best()
        side = rng.choice(("BUY", "SELL"))
        levels = yes.bids if side == "BUY" else yes.asks
        draw = rng.random()
        if len(levels) < LEVELS_WANTED // 2 or (draw < 0.5 and len(levels) < 2 * LEVELS_WANTED):
            happened = [self._order(ts_ns, market, side)]
        elif draw < 0.93:
            price = rng.choice(list(levels))
            happened = [self._change(ts_ns, market, side, price, "0" if rng.random() < 0.6 else self._size())]
        else:
            happened = self._trade(ts_ns, market, side)
        if yes.best() != before:
            happened += [self._best(ts_ns, self._exchange.tokens[token]) for token in market.tokens]
        return happened

    # ------------------------------------------------------------------------------------------------ the books

    def _order(self, ts_ns: int, market: Market, side: str) -> Record:
        """Near the middle mostly, never across the other side's best."""
        yes = self._exchange.tokens[market.tokens[0]]
        bid, ask = (round(float(price) * 100) for price in yes.best())
        middle = self._middles[market.condition]
        away = int(self._rng.expovariate(0.35))
        if side == "BUY":
            price = max(1, min(ask - 1 if yes.asks else 99, middle) - away)
        else:
            price = min(99, max(bid + 1 if yes.bids else 1, middle + 1) + away)
        return self._change(ts_ns, market, side, _price(price), self._size())

    def _change(self, ts_ns: int, market: Market, side: str, price: str, size: str) -> Record:
        """Both tokens tell of it, each in its own terms."""
        changes = []
        for number, name in enumerate(market.tokens):
            token = self._exchange.tokens[name]
            own = (side, price) if number == 0 else (_OTHER[side], _mirrored(price))
            token.set(*own, size)
            token.timestamp = milliseconds(ts_ns)
            bid, ask = token.best()
            changes.append(
                {
                    "asset_id": name,
                    "price": own[1],
                    "size": size,
                    "side": own[0],
                    "hash": token.hash(),
                    "best_bid": bid,
                    "best_ask": ask,
                }
            )
        told = {
            "market": market.condition,
            "price_changes": changes,
            "timestamp": milliseconds(ts_ns),
            "event_type": "price_change",
        }
        return _record(ts_ns, market.tokens[0], told)

    def _trade(self, ts_ns: int, market: Market, side: str) -> list[Record]:
        """Somebody takes from the best of `side`: one token prints it, both get a new book."""
        rng = self._rng
        first = self._exchange.tokens[market.tokens[0]]
        levels = first.bids if side == "BUY" else first.asks
        price = first.best()[0 if side == "BUY" else 1]
        stands, taken = float(levels[price]), float(self._size())
        left = stands - taken
        size = min(stands, taken)
        own = rng.random() < 0.5
        told = {
            "market": market.condition,
            "asset_id": market.tokens[0 if own else 1],
            "price": price if own else _mirrored(price),
            "size": f"{size:g}",
            "fee_rate_bps": "0",
            "side": _OTHER[side] if own else side,
            "timestamp": milliseconds(ts_ns),
            "event_type": "last_trade_price",
            "transaction_hash": f"0x{rng.getrandbits(256):064x}",
        }
        fill = Fill(
            str(told["asset_id"]),
            market.condition,
            str(told["side"]),
            str(told["price"]),
            str(told["size"]),
            ts_ns,
            str(told["transaction_hash"]),
        )
        self._exchange.trade(fill)
        happened = [_record(ts_ns, fill.token, told)]
        finer = float(fill.price) > FINE_TICK or float(fill.price) < 1 - FINE_TICK
        for number, name in enumerate(market.tokens):
            token = self._exchange.tokens[name]
            token.timestamp = milliseconds(ts_ns)
            token.last_price = f"{float(fill.price):.3f}"
            here = (side, price) if number == 0 else (_OTHER[side], _mirrored(price))
            token.set(*here, f"{left:.2f}".rstrip("0").rstrip(".") if left > 0.005 else "0")
            if finer and token.tick_size == "0.01":
                token.tick_size = "0.001"
                happened.append(self._finer(ts_ns, token))
            happened.append(Record(ts_ns, "book", "book", name, token.book(), (name,)))
        if left <= 0:  # the price moves on
            middle = self._middles[market.condition] + (-1 if side == "BUY" else 1)
            self._middles[market.condition] = min(96, max(3, middle))
        return happened

    def _finer(self, ts_ns: int, token: Token) -> Record:
        told = {
            "market": token.market,
            "asset_id": token.token,
            "old_tick_size": "0.01",
            "new_tick_size": "0.001",
            "timestamp": milliseconds(ts_ns),
            "event_type": "tick_size_change",
        }
        return _record(ts_ns, token.token, told)

    def _best(self, ts_ns: int, token: Token) -> Record:
        bid, ask = token.best()
        told = {
            "market": token.market,
            "asset_id": token.token,
            "best_bid": bid,
            "best_ask": ask,
            "spread": _price(round((float(ask) - float(bid)) * 100)),
            "timestamp": milliseconds(ts_ns),
            "event_type": "best_bid_ask",
        }
        return _record(ts_ns, token.token, told)

    def _size(self) -> str:
        rng = self._rng
        return str(rng.randint(5, 900)) if rng.random() < 0.7 else f"{rng.randint(500, 90_000) / 100:g}"

    # ---------------------------------------------------------------------------------------------- coming, going

    def _turn_over(self, ts_ns: int) -> list[Record]:
        """The oldest market is resolved, another one opens: everybody who asked for extras hears of both."""
        gone = self._markets.pop(0)
        gone.closed = True
        gone.winner = 0 if self._middles.pop(gone.condition) >= 50 else 1
        resolved: dict[str, object] = {
            "id": str(gone.number),
            "market": gone.condition,
            "assets_ids": list(gone.tokens),
            "winning_asset_id": gone.tokens[gone.winner],
            "winning_outcome": gone.outcomes[gone.winner],
            "event_message": None,
            "timestamp": milliseconds(ts_ns),
            "event_type": "market_resolved",
            "tags": ["Crypto", "5M"],
        }
        new = self._open(ts_ns)
        self._markets.append(new)
        return [_record(ts_ns, gone.tokens[0], resolved), self._announced(ts_ns, new)]

    def _open(self, ts_ns: int) -> Market:
        rng = self._rng
        self._number += 1
        question = _QUESTIONS[self._number % len(_QUESTIONS)]
        tokens = (str(rng.getrandbits(255)), str(rng.getrandbits(255)))
        condition = f"0x{rng.getrandbits(256):064x}"
        market = Market(self._number, condition, tokens, question, ts_ns, ts_ns + 300 * SECOND_NS)
        self._exchange.open(market)
        self._middles[condition] = middle = 96 if self._number % 8 == 0 else rng.randint(10, 90)
        for name in tokens:
            self._exchange.tokens[name].last_price = "0.500"
            self._exchange.tokens[name].timestamp = milliseconds(ts_ns)
        for away in range(LEVELS_WANTED // 2):
            self._change(ts_ns, market, "BUY", _price(max(1, middle - away)), self._size())
            self._change(ts_ns, market, "SELL", _price(min(99, middle + 1 + away)), self._size())
        return market

    def _announced(self, ts_ns: int, market: Market) -> Record:
        event = {
            "id": str(market.number),
            "ticker": market.slug,
            "slug": market.slug,
            "title": market.question,
            "description": "Simulated.",
        }
        told = {
            "id": str(market.number),
            "question": market.question,
            "market": market.condition,
            "slug": market.slug,
            "description": "Simulated.",
            "assets_ids": list(market.tokens),
            "outcomes": list(market.outcomes),
            "event_message": event,
            "timestamp": milliseconds(ts_ns),
            "event_type": "new_market",
            "tags": [],
            "condition_id": market.condition,
            "active": False,
            "clob_token_ids": list(market.tokens),
            "sports_market_type": "",
            "line": "",
            "game_start_time": "",
            "order_price_min_tick_size": "0.01",
            "group_item_title": "",
            "taker_base_fee": "1000",
            "fees_enabled": True,
            "fee_schedule": {"exponent": "1", "rate": "0.07", "taker_only": True, "rebate_rate": "0.2"},
        }
        return _record(ts_ns, market.tokens[0], told)


def _record(ts_ns: int, symbol: str, told: Mapping[str, object]) -> Record:
    """Spaced as the venue does: all but books have a blank after each comma."""
    kind = str(told["event_type"])
    wire = json.dumps(told, separators=(", ", ":"), ensure_ascii=False).encode()
    changes = told.get("price_changes")
    tokens = tuple(c["asset_id"] for c in changes) if isinstance(changes, list) else (symbol,)
    return Record(ts_ns, kind, kind, symbol, wire, tokens)


def _price(cents: int) -> str:
    """Without zeros at the end, as the venue writes it."""
    return f"{cents / 100:g}"


def _mirrored(price: str) -> str:
    return f"{round(1 - float(price), 3):g}"
