"""Polymarket's REST services as data: the order book's own (the feed's endpoint), Gamma for what exists, Data for
trades. None needs a key; one request shows whether a key is good."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from exchanges.port import (
    Answer,
    Fee,
    FeesPage,
    Instruments,
    Request,
    TradesPage,
    TradesRequest,
    Unparsable,
    Verdict,
)
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Side, Trade

_T = TypeVar("_T")

GAMMA = "gamma-api.polymarket.com"
DATA = "data-api.polymarket.com"
MARKETS_PER_PAGE_MAX = 100
TRADES_PER_PAGE_MAX = 500  # of 10,000 as documented now; earlier editions and some servers stop at 500
OFFSET_MAX = 10_000
SECOND_NS = 1_000_000_000
SKEW_SECONDS_MAX = 30

# ---------------------------------------------------------------------------------------------------- instruments


def instruments(series: Sequence[str]) -> list[Request]:
    """Open markets; a series is the number of one of Gamma's tags, or else a market's slug."""
    query = {"limit": str(MARKETS_PER_PAGE_MAX), "closed": "false"}
    named = [{**query, "tag_id" if s.isdigit() else "slug": s} for s in series]
    return [Request("GET", "/markets/keyset", q, host=GAMMA) for q in named or [query]]


def instruments_page(request: Request, body: bytes) -> Instruments:
    """Both tokens of each market that has an order book and takes orders."""
    page = _decode(body, _Markets)
    symbols: list[str] = []
    together: dict[str, str] = {}
    for raw in page.markets:
        market = _convert(raw, _Market)
        if market.enableOrderBook is not False and market.acceptingOrders is not False:
            tokens = _texts(market.clobTokenIds)
            symbols += tokens
            together |= dict.fromkeys(tokens, tokens[0] if tokens else "")
    following = {**request.query, "after_cursor": page.next_cursor} if page.next_cursor else None
    again = None if following is None else replace(request, query=following)
    return Instruments(symbols, page.markets, again, together)


# --------------------------------------------------------------------------------------------------------- trades


def trades(symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Takers' fills of a token between two times. They are kept by market: the first page finds the token's."""
    query = {"limit": "1", "clob_token_ids": symbol}
    return TradesRequest("GET", "/markets/keyset", query, host=GAMMA, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def market_trades(condition: str, bounds: TradesRequest) -> TradesRequest:
    """The newest fills of a market (condition id). The end is asked a second later."""
    query = {
        "market": condition,
        "limit": str(TRADES_PER_PAGE_MAX),
        "offset": "0",
        "takerOnly": "true",
        "start": str(bounds.start_ns // SECOND_NS),
        "end": str(bounds.end_ns // SECOND_NS + 1),
    }
    return replace(bounds, path="/trades", query=query, host=DATA)


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    """Newest first. Where the offset may go no further, the window is cut at the oldest second seen.

    Times are whole seconds, of settlement. A transaction holds several fills and has no number for them: what
    follows the second cut may come twice, as it may on a page's edge.
    """
    if request.path != "/trades":
        markets = [_convert(raw, _Market) for raw in _decode(body, _Markets).markets]
        conditions = [m.conditionId for m in markets if request.symbol in _texts(m.clobTokenIds)]
        return TradesPage([], market_trades(conditions[0], request) if conditions and conditions[0] else None)
    rows = _decode(body, list[_Fill])
    first, last = request.start_ns // SECOND_NS, request.end_ns // SECOND_NS + 1
    found = [row.trade() for row in rows if row.asset == request.symbol and first <= row.timestamp <= last]
    query = request.query
    offset, limit = int(query["offset"]), int(query["limit"])
    if len(rows) < limit:
        return TradesPage(found, None)
    if offset + limit <= OFFSET_MAX - limit:
        return TradesPage(found, replace(request, query={**query, "offset": str(offset + limit)}))
    oldest = min(row.timestamp for row in rows)
    if oldest >= int(query["end"]):
        raise Unparsable(f"more than {OFFSET_MAX} trades in one second: they cannot be paged through")
    return TradesPage(found, replace(request, query={**query, "offset": "0", "end": str(oldest)}))


# ----------------------------------------------------------------------------------------------------------- fees


def fees() -> Request:
    """They are told with the markets."""
    return instruments(())[0]


def fees_page(request: Request, body: bytes) -> FeesPage:
    """A taker pays shares x rate x (p (1 - p)) ^ exponent, down to 5 decimals; makers nothing."""
    page = _decode(body, _Markets)
    found = []
    for raw in page.markets:
        market = _convert(raw, _Market)
        schedule = market.feeSchedule if market.feesEnabled else None
        rate, exponent = ("0", "1") if schedule is None else (str(schedule.rate), str(schedule.exponent))
        found += [Fee(s, "0", rate, "p(1-p)", detail={"exponent": exponent}) for s in _texts(market.clobTokenIds)]
    return FeesPage(found, instruments_page(request, body).next)


# ----------------------------------------------------------------------------------------------------- key, errors


def key_check() -> Request:
    """A good key was seen refused now and then: a verdict of that kind is doubtful."""
    return Request("GET", "/auth/api-keys", signed=True)


def key_verdict(answer: Answer, sent_ns: int) -> Verdict:
    """Wrong, expired and revoked are answered alike; a clock that is off by more than half a minute, too."""
    status, body = answer.status, answer.body
    if status == 200:
        try:
            known = _decode(body, _ApiKeys).apiKeys
        except Unparsable as e:
            return Verdict("down", str(e))
        if known:
            return Verdict("accepted", "Polymarket knows the key")
        return Verdict("wrong", "Polymarket knows the wallet, but no key of it: make one anew")
    if status == 401:
        said = f"Polymarket answered HTTP 401 ({_said(body)})"
        venue_ns = answer.told_ns()
        ahead = 0.0 if venue_ns is None else (sent_ns - venue_ns) / SECOND_NS
        if abs(ahead) > SKEW_SECONDS_MAX:
            return Verdict("clock", f"{said}: this machine's clock is off by {ahead:+.0f} s, set it right")
        return Verdict(
            "wrong",
            f"{said}: the key is wrong, revoked or expired, its address or passphrase is another key's, or this "
            "machine's clock is off by more than half a minute",
            doubtful=True,
        )
    if status == 403:
        said = f"Polymarket answered HTTP 403 ({_said(body)}): the account or the place may not do this"
        return Verdict("under-privileged", said)
    return Verdict.of(refusal(status, body))


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer other than 200 means. Too many requests are delayed first, then refused."""
    text = _said(body)
    said = f"Polymarket answered HTTP {status}" + (f" ({text})" if text else "")
    if status in {401, 403}:
        return Permanent(f"{said}: check the key, and that requests may come from this place")
    if status == 429:
        return Transient(f"{said}: too many requests, ask again more slowly")
    if status in {408, 425} or status >= 500:
        return Transient(f"{said}: the exchange is busy or restarting, try again")
    return Permanent(f"{said}: the request itself is wrong")


# --------------------------------------------------------------------------------------------------------- inside


class _Schedule(msgspec.Struct):
    rate: float
    exponent: float = 1.0


class _Market(msgspec.Struct):
    """Of Gamma's; lists may be JSON in a text."""

    conditionId: str = ""
    clobTokenIds: str | list[str] | None = None
    enableOrderBook: bool | None = None
    acceptingOrders: bool | None = None
    feesEnabled: bool | None = None
    feeSchedule: _Schedule | None = None


class _Markets(msgspec.Struct):
    markets: list[dict[str, object]]
    next_cursor: str | None = None


class _Fill(msgspec.Struct):
    """Numbers are read as text, so that no digit changes."""

    asset: str
    side: str
    price: msgspec.Raw
    size: msgspec.Raw
    timestamp: int
    transactionHash: str = ""

    def trade(self) -> Trade:
        side: Side | None = "buy" if self.side == "BUY" else "sell" if self.side == "SELL" else None
        return Trade(
            self.asset,
            self.timestamp * SECOND_NS,
            _number(self.price),
            _number(self.size),
            side,
            self.transactionHash or None,
        )


class _ApiKeys(msgspec.Struct):
    apiKeys: list[str]


class _Error(msgspec.Struct):
    error: str = ""
    message: str = ""


def _number(raw: msgspec.Raw) -> str:
    return bytes(raw).decode().strip('"')


def _texts(value: str | list[str] | None) -> list[str]:
    """A list that may have been written as a text."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else _decode(value.encode(), list[str])


def _said(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return (error.error or error.message)[:200]


def _convert(raw: dict[str, object], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        raise Unparsable(f"a market is not what Polymarket documents: {e}") from e


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Polymarket documents: {e}") from e
