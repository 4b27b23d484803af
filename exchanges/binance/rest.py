"""Binance's REST API: requests as data, answers as structs. Paths are relative to the endpoint's host.

Trades are paged by id, which is exact: `trades_between` for a hole whose ends are known. From a time one gets to an
id by the aggregate trade that follows it (`trades`). A route that has aggregate trades alone pages through those.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from exchanges.binance.messages import INVALID_SYMBOL, TOO_MANY_REQUESTS, Error
from exchanges.binance.product import Product
from exchanges.port import (
    Answer,
    Fee,
    FeesPage,
    Instruments,
    KeyState,
    Request,
    TradesPage,
    TradesRequest,
    Unparsable,
    Verdict,
)
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Trade

_T = TypeVar("_T")

TRADES_PER_PAGE_MAX = {"/api/v3": 1000, "/fapi/v1": 500}
AGGREGATES_PER_PAGE_MAX = 1000
MS_NS = 1_000_000

# What is wrong with a key, by code. HTTP's own status is 400 or 401, which of them is not documented for each.
_KEY_ERRORS: dict[int, tuple[KeyState, str]] = {
    -2014: ("wrong", "its id has not the form of a Binance key: copy it anew"),
    -2015: (
        "wrong",
        "the venue does not know it (any more), does not allow this address, or the key lacks the right: check that it "
        "belongs to this endpoint, its list of IP addresses, and that reading is enabled",
    ),
    -2008: ("wrong", "the venue does not know its id: keys of one environment are unknown in the others"),
    -1022: ("wrong", "its signature is wrong: the secret does not belong to this key id"),
    -1002: ("under-privileged", "it may not do this: enable reading"),
}
_CLOCK = -1021


@dataclass(frozen=True)
class Listing(Request):
    """A request for the instruments; the venue cannot filter by quote asset, so the page does."""

    quotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbered(TradesRequest):
    """A page of trades up to an id."""

    last_id: int = 0


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
    limit = 1 if "trade" in product.kinds else AGGREGATES_PER_PAGE_MAX
    query = {"symbol": symbol, "startTime": str(-(-start_ns // MS_NS)), "limit": str(limit)}
    return TradesRequest("GET", f"{product.api}/aggTrades", query, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def trades_between(product: Product, symbol: str, first_id: int, last_id: int) -> TradesRequest:
    """Trades `first_id` to `last_id`. USD-M wants the header of a key with it, and remembers a month."""
    return _history(product.api, symbol, first_id, Numbered("GET", "", symbol=symbol, last_id=last_id))


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    api, _, what = request.path.rpartition("/")
    limit = int(request.query["limit"])
    if what == "aggTrades" and limit == 1:
        found = _decode(body, list[_Aggregate])
        if not found or request.end_ns < found[0].T * MS_NS:
            return TradesPage([], None)
        return TradesPage([], _history(api, request.symbol, found[0].f, request))
    rows: Sequence[_Row] | Sequence[_Aggregate]
    rows = _decode(body, list[_Aggregate]) if what == "aggTrades" else _decode(body, list[_Row])
    some = [row.trade(request.symbol) for row in rows if _within(request, row.number, row.time_ns)]
    if len(rows) < limit or _beyond(request, rows[-1].number + 1, rows[-1].time_ns):
        return TradesPage(some, None)
    if what == "aggTrades":
        query = {"symbol": request.symbol, "fromId": str(rows[-1].number + 1), "limit": str(limit)}
        return TradesPage(some, replace(request, query=query))
    return TradesPage(some, _history(api, request.symbol, rows[-1].number + 1, request))


def _history(api: str, symbol: str, from_id: int, bounds: TradesRequest) -> TradesRequest:
    """USD-M wants to know the key."""
    query = {"symbol": symbol, "fromId": str(from_id), "limit": str(TRADES_PER_PAGE_MAX[api])}
    return replace(bounds, path=f"{api}/historicalTrades", query=query, signed=api.startswith("/fapi"))


def _within(request: TradesRequest, number: int, time_ns: int) -> bool:
    return time_ns >= request.start_ns and not _beyond(request, number, time_ns)


def _beyond(request: TradesRequest, number: int, time_ns: int) -> bool:
    """Whether a trade lies behind the last that is wanted."""
    return number > request.last_id if isinstance(request, Numbered) else time_ns > request.end_ns


# --------------------------------------------------------------------------------------------------- fees and keys


def fees(product: Product, symbols: Sequence[str]) -> list[Request]:
    """What the account behind the key pays for each symbol: Binance publishes no table of fees."""
    path = "/api/v3/account/commission" if product.api == "/api/v3" else f"{product.api}/commissionRate"
    return [Request("GET", path, {"symbol": symbol}, signed=True) for symbol in symbols]


def fees_page(request: Request, body: bytes) -> FeesPage:
    found = _decode(body, _Commission)
    if found.standardCommission is not None:
        return FeesPage([Fee(found.symbol, found.standardCommission.maker, found.standardCommission.taker)], None)
    if not found.makerCommissionRate or not found.takerCommissionRate:
        raise Unparsable("the answer tells no commission")
    return FeesPage([Fee(found.symbol, found.makerCommissionRate, found.takerCommissionRate)], None)


def key_check(product: Product) -> Request:
    """What the account has, without what it has nothing of."""
    if product.api == "/api/v3":
        return Request("GET", "/api/v3/account", {"omitZeroBalances": "true"}, signed=True)
    return Request("GET", "/fapi/v3/balance", signed=True)


def key_verdict(answer: Answer, sent_ns: int) -> Verdict:
    """An unknown key, a wrong address and a missing right are answered alike."""
    status, body = answer.status, answer.body
    if status == 200:
        return Verdict("accepted", "Binance knows the key")
    error = _error(body)
    refused = refusal(status, body)
    if error.code == _CLOCK:
        return Verdict("clock", str(refused))
    if error.code in _KEY_ERRORS:
        return Verdict(_KEY_ERRORS[error.code][0], str(refused))
    return Verdict.of(refused)


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer other than 200 means."""
    error = _error(body)
    told = ": ".join(filter(None, (str(error.code or ""), error.msg)))
    said = f"Binance answered HTTP {status}" + (f" ({told})" if told else "")
    if error.code == _CLOCK:
        return Transient(f"{said}: this machine's clock is off by too much, set it right")
    if error.code in _KEY_ERRORS:
        return Permanent(f"{said}: {_KEY_ERRORS[error.code][1]}")
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
    """Trades of one order at one price, under a number of their own; `f` is the first's."""

    a: int
    p: str
    q: str
    f: int
    T: int
    m: bool

    @property
    def number(self) -> int:
        return self.a

    @property
    def time_ns(self) -> int:
        return self.T * MS_NS

    def trade(self, symbol: str) -> Trade:
        return Trade(symbol, self.time_ns, self.p, self.q, "sell" if self.m else "buy", str(self.a))


class _Row(msgspec.Struct):
    """A trade as REST has it; RPI fills and best-match marks are of no use here."""

    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool

    @property
    def number(self) -> int:
        return self.id

    @property
    def time_ns(self) -> int:
        return self.time * MS_NS

    def trade(self, symbol: str) -> Trade:
        return Trade(symbol, self.time_ns, self.price, self.qty, "sell" if self.isBuyerMaker else "buy", str(self.id))


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
