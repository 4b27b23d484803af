"""Binance's REST API: requests as data, answers as structs. Paths are relative to the endpoint's host.

Trades are paged by id, which is exact: `trades_between` for a hole whose ends are known. From a time one gets to an
id by the aggregate trade that follows it (`trades`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import msgspec

from exchanges.binance.messages import INVALID_SYMBOL, TOO_MANY_REQUESTS, Error
from exchanges.binance.product import Product
from exchanges.binance.signing import Key
from exchanges.port import Instruments, Request, Unparsable
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Trade

_T = TypeVar("_T")

TRADES_PER_PAGE_MAX = {"/api/v3": 1000, "/fapi/v1": 500}
MS_NS = 1_000_000

# What is wrong with a key, by code. HTTP's own status is 400 or 401, which of them is not documented for each.
_KEY_ERRORS = {
    -2014: "its id has not the form of a Binance key: copy it anew",
    -2015: "the venue does not know it, does not allow this address, or the key lacks the right: check that it belongs "
    "to this endpoint, its list of IP addresses, and that reading is enabled",
    -2008: "the venue does not know its id: keys of one environment are unknown in the others",
    -1022: "its signature is wrong: the secret does not belong to this key id",
    -1002: "it may not do this: enable reading",
}
_CLOCK = -1021


@dataclass(frozen=True)
class Listing(Request):
    """A request for the instruments; the venue cannot filter by quote asset, so the page does."""

    quotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TradesRequest(Request):
    """A page of trades: those up to a time (ns) or an id."""

    start_ns: int = 0
    end_ns: int | None = None
    last_id: int | None = None


class TradesPage(NamedTuple):
    """Trades, oldest first, and the request for the next page."""

    trades: list[Trade]
    next: TradesRequest | None


class Fee(msgspec.Struct, frozen=True):
    """What a trade of a symbol costs this account, as fractions of its value."""

    symbol: str
    maker: str
    taker: str


# -------------------------------------------------------------------------------------------------- instruments


def instruments(product: Product, series: Sequence[str]) -> list[Request]:
    """All that trade; `series` are quote assets (USDT, BTC …). The listing is one page of several MB."""
    return [Listing("GET", f"{product.api}/exchangeInfo", quotes=tuple(series))]


def instruments_page(request: Request, body: bytes) -> Instruments:
    quotes = request.quotes if isinstance(request, Listing) else ()
    found = []
    for record in _decode(body, _ExchangeInfo).symbols:
        if not isinstance(record.get("symbol"), str) or not record["symbol"]:
            raise Unparsable(f"an instrument in the answer to {request.path} has no symbol")
        if not quotes or record.get("quoteAsset") in quotes:
            found.append(record)
    return Instruments([str(r["symbol"]) for r in found if r.get("status") == "TRADING"], found, None)


# ------------------------------------------------------------------------------------------------------- trades


def trades(product: Product, symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Trades from `start_ns` to `end_ns`, both included. The first page finds the id from which on they are."""
    start_ms = -(-start_ns // MS_NS)
    query = {"symbol": symbol, "startTime": str(start_ms), "limit": "1"}
    return TradesRequest("GET", f"{product.api}/aggTrades", query, start_ns=start_ns, end_ns=end_ns)


def trades_between(product: Product, symbol: str, first_id: int, last_id: int) -> TradesRequest:
    """Trades `first_id` to `last_id`. USD-M wants the header of a key with it, and remembers a month."""
    return _history(product.api, symbol, first_id, TradesRequest("GET", "", last_id=last_id))


def trades_page(request: Request, body: bytes) -> TradesPage:
    assert isinstance(request, TradesRequest), "the request is one of ours"
    api, _, what = request.path.rpartition("/")
    symbol = request.query["symbol"]
    if what == "aggTrades":
        found = _decode(body, list[_Aggregate])
        if not found or (request.end_ns is not None and request.end_ns < found[0].T * MS_NS):
            return TradesPage([], None)
        return TradesPage([], _history(api, symbol, found[0].f, request))
    rows = _decode(body, list[_Row])
    some = [row.trade(symbol) for row in rows if _within(request, row)]
    more = len(rows) >= int(request.query["limit"]) and not _beyond(request, rows[-1])
    return TradesPage(some, _history(api, symbol, rows[-1].id + 1, request) if more else None)


def _history(api: str, symbol: str, from_id: int, bounds: TradesRequest) -> TradesRequest:
    query = {"symbol": symbol, "fromId": str(from_id), "limit": str(TRADES_PER_PAGE_MAX[api])}
    return replace(bounds, path=f"{api}/historicalTrades", query=query)


def _within(request: TradesRequest, row: "_Row") -> bool:
    return row.time * MS_NS >= request.start_ns and not _beyond(request, row, reached=False)


def _beyond(request: TradesRequest, row: "_Row", *, reached: bool = True) -> bool:
    """Whether a row lies behind the last that is wanted, or (`reached`) is that one."""
    if request.last_id is not None:
        return row.id + reached > request.last_id
    return request.end_ns is not None and row.time * MS_NS > request.end_ns


# --------------------------------------------------------------------------------------------------- fees and keys


def fees(product: Product, symbol: str, key: Key, now_ns: int) -> Request:
    """What the account behind `key` pays: Binance publishes no table of fees."""
    path = "/api/v3/account/commission" if product.api == "/api/v3" else f"{product.api}/commissionRate"
    return key.signed(Request("GET", path, {"symbol": symbol}), now_ns)


def fees_page(body: bytes) -> list[Fee]:
    found = _decode(body, _Commission)
    if found.standardCommission is not None:
        return [Fee(found.symbol, found.standardCommission.maker, found.standardCommission.taker)]
    if not found.makerCommissionRate or not found.takerCommissionRate:
        raise Unparsable("the answer tells no commission")
    return [Fee(found.symbol, found.makerCommissionRate, found.takerCommissionRate)]


def key_check(product: Product, key: Key, now_ns: int) -> Request:
    """Signed, to be sent with `key.headers`; what the answer says of the key is `key_verdict`'s to know."""
    if product.api == "/api/v3":
        return key.signed(Request("GET", "/api/v3/account", {"omitZeroBalances": "true"}), now_ns)
    return key.signed(Request("GET", "/fapi/v3/balance"), now_ns)


def key_verdict(status: int, body: bytes) -> str | None:
    """What is wrong with the key, in words; None if the venue took it. Raises Transient if it did not look at it."""
    if status == 200:
        return None
    error = _error(body)
    if error.code in _KEY_ERRORS:
        return _KEY_ERRORS[error.code]
    refused = refusal(status, body)
    if isinstance(refused, Transient):
        raise refused
    return str(refused)


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer other than 200 means."""
    error = _error(body)
    told = ": ".join(filter(None, (str(error.code or ""), error.msg)))
    said = f"Binance answered HTTP {status}" + (f" ({told})" if told else "")
    if error.code == _CLOCK:
        return Transient(f"{said}: this machine's clock is off by too much, set it right")
    if error.code in _KEY_ERRORS:
        return Permanent(f"{said}: {_KEY_ERRORS[error.code]}")
    if error.code == INVALID_SYMBOL:
        return Permanent(f"{said}: there is no such symbol, take it out of the environment")
    if status == 418:
        return Transient(f"{said}: this address is banned for having asked too much, wait before asking again")
    if status in {408, 425, 429} or error.code == TOO_MANY_REQUESTS:
        return Transient(f"{said}: too many requests, ask again more slowly")
    if status >= 500:
        return Transient(f"{said}: the venue is busy, try again")
    if status == 451:
        return Permanent(f"{said}: Binance does not serve this location; its data-only hosts may")
    if status == 403:
        return Permanent(f"{said}: its firewall refused the request")
    return Permanent(f"{said}: the request itself is wrong")


# --------------------------------------------------------------------------------------------------------- inside


class _ExchangeInfo(msgspec.Struct):
    symbols: list[dict[str, object]]


class _Aggregate(msgspec.Struct):
    f: int
    T: int


class _Row(msgspec.Struct):
    """A trade as REST has it; RPI fills and best-match marks are of no use here."""

    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool

    def trade(self, symbol: str) -> Trade:
        side = "sell" if self.isBuyerMaker else "buy"
        return Trade(symbol, self.time * MS_NS, self.price, self.qty, side, str(self.id))  # type: ignore[arg-type]


class _Rates(msgspec.Struct):
    maker: str
    taker: str


class _Commission(msgspec.Struct):
    symbol: str
    standardCommission: _Rates | None = None
    makerCommissionRate: str = ""
    takerCommissionRate: str = ""


def _error(body: bytes) -> Error:
    try:
        return msgspec.json.decode(body, type=Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Error()


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Binance documents: {e}") from e
