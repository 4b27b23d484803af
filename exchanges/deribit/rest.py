"""Deribit's HTTP API: requests as data, answers as structs. Paths are relative to the endpoint's /api/v2.

All answers are JSON-RPC: {"result": …, "usIn": …} or, with HTTP 400 or 401, {"error": {code, message, data}}.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from exchanges.deribit.events import Number, TradeMessage, known
from exchanges.deribit.messages import PASSING, TOO_MANY_REQUESTS, Error
from exchanges.deribit.signing import SIGNED_GRANT
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

_T = TypeVar("_T")

TRADES_PER_PAGE_MAX = 1000
BY_TIME = "/public/get_last_trades_by_instrument_and_time"
BY_SEQ = "/public/get_last_trades_by_instrument"

# What an API key is refused with. The error page and live answers disagree on some numbers: both are known here.
WRONG = frozenset({13004, 10001})
UNAUTHORIZED = frozenset({10000, 13009, 13010})
FORBIDDEN = frozenset({13021, 13011, 10005})
SCOPES = ("account:read", "account:read_write")  # one of them shows that the key may read
SKEW_MS_MAX = 5_000  # not published


def instruments(series: Sequence[str]) -> list[Request]:
    """`series`: currencies (`BTC`), or kind and currency in the order of the venue's channels (`option.BTC`)."""
    return [_listing(*reversed(s.split(".", 1))) for s in series] or [_listing("any")]


def _listing(currency: str, kind: str = "") -> Request:
    """All at once: the venue has no pages here (6,000 instruments are 5 MB)."""
    query = {"currency": currency, "expired": "false"}
    return Request("GET", "/public/get_instruments", query | ({"kind": kind} if kind and kind != "any" else {}))


def instruments_page(request: Request, body: bytes) -> Instruments:
    records = _result(body, list[dict[str, object]])
    symbols = []
    for record in records:
        name = record.get("instrument_name")
        if not isinstance(name, str) or not name:
            raise Unparsable(f"an instrument in the answer to {request.path} has no instrument_name")
        if record.get("is_active") is not False:
            symbols.append(name)
    return Instruments(symbols, records, None)


# --------------------------------------------------------------------------------------------------------- trades


def trades(symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Trades of an instrument between two times, both included: the first page, later ones go by number."""
    query = {
        "instrument_name": symbol,
        "start_timestamp": str(start_ns // 1_000_000),
        "end_timestamp": str(-(-end_ns // 1_000_000)),
    }
    return TradesRequest("GET", BY_TIME, query | _PAGE, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def trades_by_seq(symbol: str, first: int, last: int) -> TradesRequest:
    """Trades of an instrument by their numbers, both included: what fills a hole exactly."""
    query = {"instrument_name": symbol, "start_seq": str(first), "end_seq": str(last)}
    return TradesRequest("GET", BY_SEQ, query | _PAGE, symbol=symbol)


_PAGE = {"count": str(TRADES_PER_PAGE_MAX), "sorting": "asc"}


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    """Pages go on by number, so that trades of one millisecond at the edge of a page are neither lost nor doubled."""
    page = _result(body, _Trades)
    end_ms = request.query.get("end_timestamp")
    within = [m for m in page.trades if end_ms is None or m.timestamp <= int(end_ms)]
    found = [m.event() for m in sorted(within, key=lambda m: m.trade_seq)]
    if not page.has_more or not within or len(within) < len(page.trades):
        return TradesPage(found, None)
    follow = {"start_seq": str(max(m.trade_seq for m in within) + 1)}
    kept = {k: v for k, v in request.query.items() if k not in {"start_seq", "start_timestamp"}}
    return TradesPage(found, replace(request, path=BY_SEQ, query=kept | follow))


# ----------------------------------------------------------------------------------------------------- fees, keys


def fees() -> Request:
    """Fees are part of the listing."""
    return _listing("any")


def fees_page(request: Request, body: bytes) -> FeesPage:
    return FeesPage([listed.fee() for listed in _result(body, list[_Listed])], None)


def key_check() -> Request:
    """Signs in with `client_signature`. The answer holds a token: never log it."""
    return Request("GET", "/public/auth", {"grant_type": SIGNED_GRANT, "scope": SCOPES[0]}, signed=True)


def key_verdict(answer: Answer, sent_ns: int) -> Verdict:
    """With the venue's own time a clock that is off is told from a key that is wrong."""
    status, body = answer.status, answer.body
    if status == 200:
        try:
            scope = _result(body, _Token).scope.split()
        except Unparsable as e:
            return Verdict("down", str(e))
        if not scope or set(scope) & set(SCOPES):
            return Verdict("accepted", "Deribit knows the key", tuple(scope))
        has = f"the key may not read the account (it has {' '.join(scope)}): give it the scope {SCOPES[0]}"
        return Verdict("under-privileged", has, tuple(scope))
    told = _failure(body)
    error = told.error
    venue_ns = told.us_in * 1000 or answer.told_ns()
    skew_ms = 0 if venue_ns is None else (venue_ns - sent_ns) // 1_000_000
    if error.code in WRONG | UNAUTHORIZED and abs(skew_ms) > SKEW_MS_MAX:
        return Verdict("clock", f"{error}: this machine's clock is off by {-skew_ms / 1000:+.1f} s, set it right")
    if error.code in WRONG:
        return Verdict(
            "wrong",
            f"{error}: check client id and secret, and that they belong to this endpoint (testnet has its own)",
        )
    if error.code in UNAUTHORIZED:
        return Verdict(
            "expired",
            f"{error}: the key has expired, was disabled, or may not be used from this address; make a new one",
        )
    if error.code in FORBIDDEN:
        return Verdict("under-privileged", f"{error}: the key lacks a right, give it the scope {SCOPES[0]}")
    return Verdict.of(refusal(status, body))


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer other than 200 means."""
    error = _failure(body).error
    said = f"Deribit answered HTTP {status}" + (f" ({error})" if error.code else "")
    if error.code == TOO_MANY_REQUESTS or status == 429:
        return Transient(f"{said}: too many requests or connections, ask again more slowly")
    if error.code in PASSING or status >= 500 or status == 408:
        return Transient(f"{said}: the exchange is busy, settling or in maintenance, try again")
    if error.code in WRONG | UNAUTHORIZED or status == 401:
        return Permanent(f"{said}: check the client id and the secret, and that both belong to this endpoint")
    if error.code in FORBIDDEN or status == 403:
        return Permanent(f"{said}: the key lacks a right, give it the scope {SCOPES[0]}")
    return Permanent(f"{said}: the request itself is wrong")


# --------------------------------------------------------------------------------------------------------- inside


class _Trades(msgspec.Struct):
    trades: list[TradeMessage]
    has_more: bool = False


class _Token(msgspec.Struct):
    """The token itself is left where it is."""

    scope: str = ""


_NONE = msgspec.Raw(b"null")


class _Listed(msgspec.Struct):
    instrument_name: str
    maker_commission: Number = _NONE
    taker_commission: Number = _NONE
    block_trade_commission: Number = _NONE
    max_liquidation_commission: Number = _NONE

    def fee(self) -> Fee:
        """At the lowest tier, as parts of the amount (options: of the underlying)."""
        more = {
            "block_trade_commission": known(self.block_trade_commission),
            "max_liquidation_commission": known(self.max_liquidation_commission),
        }
        maker, taker = known(self.maker_commission), known(self.taker_commission)
        return Fee(
            self.instrument_name, maker, taker, "amount", detail={k: v for k, v in more.items() if v is not None}
        )


class _Failure(msgspec.Struct, rename={"us_in": "usIn"}):
    """`usIn` is the venue's time in microseconds."""

    error: Error = Error(0)
    us_in: int = 0


def _failure(body: bytes) -> _Failure:
    try:
        return msgspec.json.decode(body, type=_Failure)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Failure()


def _result(body: bytes, kind: type[_T]) -> _T:
    answer = msgspec.defstruct("_Answer", [("result", kind)])
    try:
        return msgspec.json.decode(body, type=answer).result  # type: ignore[attr-defined,no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Deribit documents: {e}") from e
