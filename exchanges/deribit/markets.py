"""The simulated exchange's instruments: what they are, their books, tapes and states, as the frames make them."""

import re
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

TRADES_MAX = 20_000  # of one instrument, kept for REST
FOREVER_MS = 32_503_708_800_000  # when a perpetual expires: the year 3000
ONE_DAY_MS = 86_400_000

Change = tuple[str, msgspec.Raw, msgspec.Raw]  # new, change or delete; price, amount
_NAME = re.compile(
    r"(?P<base>[A-Z0-9]+)(_(?P<quote>[A-Z0-9]+))?"
    r"(-((?P<strategy>[A-Z]{1,10})-.+|(?P<expiry>PERPETUAL|[0-9]{1,2}[A-Z]{3}[0-9]{2})(-(?P<strike>[0-9d]+)-(?P<type>[CP]))?))?"
)


class Kind(NamedTuple):
    """What an instrument's name says of it. `currency` is the one it is listed, and its channels are grouped, under."""

    kind: str  # future, option, spot, future_combo, option_combo
    base: str
    quote: str
    currency: str
    linear: bool
    option: str | None  # call, put
    strike: str | None
    expiry: str | None


def kind_of(name: str) -> Kind | None:
    """None: no name that Deribit would give."""
    found = _NAME.fullmatch(name)
    if found is None or (not found["quote"] and not found["strategy"] and not found["expiry"]):
        return None
    base, quote = found["base"], found["quote"]
    currency = quote or base
    if found["strategy"]:
        kind = "future_combo" if found["strategy"] == "FS" else "option_combo"
    elif not found["expiry"]:
        kind = "spot"
    else:
        kind = "option" if found["type"] else "future"
    of_coin = kind in {"option", "option_combo"} and not quote
    shown = quote or (base if of_coin else "USD")
    option = {"C": "call", "P": "put"}.get(found["type"] or "")
    strike = found["strike"] and found["strike"].replace("d", ".")
    return Kind(kind, base, shown, currency, quote is not None, option, strike, found["expiry"])


class Book:
    """Price -> price and amount as they were written. `known` once it was told anything."""

    __slots__ = ("change_id", "known", "sides", "ts_ms")

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, tuple[bytes, bytes]]] = {"bids": {}, "asks": {}}
        self.change_id = 0
        self.ts_ms = 0
        self.known = False

    def clear(self) -> None:
        for levels in self.sides.values():
            levels.clear()

    def apply(self, side: str, changes: Iterable[Change]) -> None:
        levels = self.sides[side]
        for action, price, amount in changes:
            key = Decimal(bytes(price).decode())
            if action == "delete":
                levels.pop(key, None)
            else:
                levels[key] = bytes(price), bytes(amount)

    def levels(self, side: str, depth: int | None = None) -> list[tuple[bytes, bytes]]:
        """Best first."""
        levels = self.sides[side]
        return [levels[key] for key in sorted(levels, reverse=side == "bids")[:depth]]

    def best(self, side: str) -> tuple[bytes, bytes]:
        """An empty side is a price and an amount of 0."""
        return next(iter(self.levels(side, 1)), (b"0.0", b"0.0"))


class Instrument:
    """One instrument, with the last things that were said of it."""

    __slots__ = (
        "book",
        "contract_size",
        "created_ms",
        "expires_ms",
        "id",
        "index",
        "kind",
        "min_amount",
        "name",
        "state",
        "tick_size",
        "ticker",
        "trades",
    )

    def __init__(self, name: str, kind: Kind, number: int, created_ms: int, expires_ms: int = FOREVER_MS) -> None:
        self.name = name
        self.kind = kind
        self.id = number
        self.created_ms = created_ms
        self.expires_ms = expires_ms
        self.state = "open"
        self.tick_size = b"0.0001" if kind.kind == "option" else b"0.5"
        self.contract_size = self.min_amount = b"1.0"
        self.index = f"{kind.base}_{kind.quote if kind.linear else 'usd'}".lower()
        self.book = Book()
        self.ticker: dict[str, msgspec.Raw] = {}
        self.trades: deque[tuple[int, int, bytes]] = deque(maxlen=TRADES_MAX)  # number, ms, the trade

    def object(self) -> dict[str, object]:
        """As get_instruments and instrument.creation show it."""
        kind = self.kind
        shown: dict[str, object] = {
            "price_index": self.index,
            "kind": kind.kind,
            "instrument_name": self.name,
            "maker_commission": 0.0,
            "taker_commission": 0.0003 if kind.kind == "option" else 0.0005,
            "instrument_type": "linear" if kind.linear else "reversed",
            "expiration_timestamp": self.expires_ms,
            "creation_timestamp": self.created_ms,
            "is_active": self.state in {"open", "settlement", "locked"},
            "state": self.state,
            "tick_size": msgspec.Raw(self.tick_size),
            "tick_size_steps": [],
            "contract_size": msgspec.Raw(self.contract_size),
            "instrument_id": self.id,
            "min_trade_amount": msgspec.Raw(self.min_amount),
            "settlement_currency": kind.currency,
            "base_currency": kind.base,
            "counter_currency": kind.quote if kind.linear else "USD",
            "quote_currency": kind.quote,
        }
        if kind.kind != "spot":
            shown["settlement_period"] = "perpetual" if self.expires_ms == FOREVER_MS else "week"
        if kind.kind in {"future", "option"}:
            shown |= {
                "max_liquidation_commission": 0.0075,
                "block_trade_commission": 0.00025,
                "block_trade_min_trade_amount": 25,
                "block_trade_tick_size": 0.0001,
            }
        if kind.kind == "option":
            shown |= {"option_type": kind.option, "strike": float(kind.strike or 0)}
        elif kind.kind == "future":
            shown |= {"max_leverage": 50, "future_type": shown["instrument_type"]}
        return shown


class Exchange:
    """All instruments, by name."""

    def __init__(self) -> None:
        self.instruments: dict[str, Instrument] = {}
        self.indices: set[str] = set()
        self.opened = 0
        self.trade_ids = 400_000_000

    def open(self, name: str, now_ms: int, expires_ms: int | None = None) -> Instrument | None:
        """None: it cannot be an instrument of Deribit's."""
        kind = kind_of(name)
        if kind is None:
            return None
        self.opened += 1
        if expires_ms is None:
            expires_ms = FOREVER_MS if kind.expiry in {None, "PERPETUAL"} else now_ms + 7 * ONE_DAY_MS
        made = Instrument(name, kind, 100_000 + self.opened, now_ms, expires_ms)
        self.instruments[name] = made
        self.indices.add(made.index)
        return made

    def listed(self, currency: str, kind: str) -> list[Instrument]:
        return [
            i
            for i in self.instruments.values()
            if currency in {"any", i.kind.currency} and kind in {"any", i.kind.kind} and i.state != "archivized"
        ]


@lru_cache(1 << 14)
def number(units: int, places: int) -> bytes:
    """A JSON number as the venue prints them: at least one digit after the point, no zeros at its end."""
    digits = str(abs(units)).rjust(places + 1, "0")
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return b"%s%s.%s" % (b"-" if units < 0 else b"", whole.encode(), (part.rstrip("0") or "0").encode())
