"""Kalshi's REST API: requests as data, answers as structs. Paths are relative to the endpoint's /trade-api/v2."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

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
_R = TypeVar("_R", bound=Request)

MARKETS_PER_PAGE_MAX = 1000
EVENTS_PER_PAGE_MAX = 200
TRADES_PER_PAGE_MAX = 1000
SECOND_NS = 1_000_000_000
SERIES = "/series"
FEE_CHANGES = "/series/fee_changes"
CUTOFF = "/historical/cutoff"
OLD_MARKETS = "/historical/markets"
OLD_TRADES = "/historical/trades"
READ = "read"  # the scope that a key needs

# Of contracts x price x (1 - price), times a series' multiplier (Kalshi's fee schedule).
TAKER = Decimal("0.07")
MAKER = Decimal("0.0175")


class ExchangeStatus(msgspec.Struct, frozen=True):
    """Whether the exchange is up, and whether it trades; `exchange_estimated_resume_time` is RFC 3339."""

    exchange_active: bool
    trading_active: bool
    exchange_estimated_resume_time: str | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """One key of the account and what it may do."""

    api_key_id: str
    name: str = ""
    scopes: list[str] = []


def exchange_status() -> Request:
    return Request("GET", "/exchange/status")


def exchange_status_answer(body: bytes) -> ExchangeStatus:
    return _decode(body, ExchangeStatus)


def markets(series: str | None = None, status: str = "open") -> Request:
    """Combination markets are left out: they are made in huge numbers and are never in an order book channel."""
    query = {"limit": str(MARKETS_PER_PAGE_MAX), "status": status, "mve_filter": "exclude"}
    return Request("GET", "/markets", query if series is None else {**query, "series_ticker": series})


def instruments(series: Sequence[str]) -> list[Request]:
    return [markets(s) for s in series] if series else [markets()]


def markets_named(symbols: Sequence[str]) -> list[Request]:
    """What settled before a cutoff is told of by the second, which is asked last: a market may move meanwhile."""
    query = {"limit": str(MARKETS_PER_PAGE_MAX), "tickers": ",".join(symbols)}
    return [Request("GET", path, query) for path in ("/markets", OLD_MARKETS)]


def instruments_page(request: Request, body: bytes) -> Instruments:
    page = _decode(body, _Markets)
    symbols = []
    for record in page.markets:
        ticker = record.get("ticker")
        if not isinstance(ticker, str) or not ticker:
            raise Unparsable(f"a market in the answer to {request.path} has no ticker")
        symbols.append(ticker)
    return Instruments(symbols, page.markets, _next(request, page.cursor))


def events(series: str | None = None, status: str = "open") -> Request:
    query = {"limit": str(EVENTS_PER_PAGE_MAX), "status": status}
    return Request("GET", "/events", query if series is None else {**query, "series_ticker": series})


def events_page(request: Request, body: bytes) -> tuple[list[dict[str, object]], Request | None]:
    """The event objects, and the request for the next page."""
    page = _decode(body, _Events)
    return page.events, _next(request, page.cursor)


# ------------------------------------------------------------------------------------------------------------ trades


def trades(symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Asked by the second, and a second wider: whether the ends are included is not documented."""
    query = {
        **({"ticker": symbol} if symbol else {}),
        "limit": str(TRADES_PER_PAGE_MAX),
        "min_ts": str(max(0, start_ns // SECOND_NS - 1)),
        "max_ts": str(end_ns // SECOND_NS + 2),
    }
    return TradesRequest("GET", "/markets/trades", query, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    """Newest first. `trade_id` is that of WebSocket; times are finer here.

    Trades older than a cutoff, which follows the present at some months' distance, are at /historical/trades alone.
    The cutoff is asked for after the live pages, so that what it passes meanwhile is in these or in those.
    """
    if request.path == CUTOFF:
        cutoff_ns = _nanoseconds(_decode(body, _Cutoff).trades_created_ts)
        live = trades(request.symbol, request.start_ns, request.end_ns)
        return TradesPage([], replace(live, path=OLD_TRADES) if request.start_ns < cutoff_ns else None)
    page = _decode(body, _Trades)
    found = [trade.event() for trade in page.trades]
    within = [t for t in found if request.start_ns <= (t.ts_event or 0) <= request.end_ns]
    following = _next(request, page.cursor)
    if following is None and request.path != OLD_TRADES:
        following = replace(request, path=CUTOFF, query={})
    return TradesPage(within, following)


# -------------------------------------------------------------------------------------------------------- fees, keys


def fees() -> list[Request]:
    """What holds now, and what has been announced."""
    return [Request("GET", SERIES), Request("GET", FEE_CHANGES)]


def fees_page(request: Request, body: bytes) -> FeesPage:
    if request.path == FEE_CHANGES:
        changes = _decode(body, _FeeChanges).series_fee_change_arr
        return FeesPage([_fee(c.series_ticker, c.fee_type, c.fee_multiplier, c.scheduled_ts) for c in changes], None)
    page = _decode(body, _AllSeries)
    return FeesPage([_fee(s.ticker, s.fee_type, s.fee_multiplier) for s in page.series], _next(request, page.cursor))


def _fee(series: str, kind: str, multiplier: msgspec.Raw, since: datetime | int | None = None) -> Fee:
    """`flat` has no formula that is documented: maker and taker are then not told."""
    text = bytes(multiplier).decode().strip('"')
    try:
        times = Decimal(text)
    except InvalidOperation as e:
        raise Unparsable(f"the fee multiplier of {series} is {text[:40]!r}, which is no number") from e
    taker = maker = None
    if kind.startswith("quadratic"):
        taker = f"{(times * TAKER).normalize():f}"
        maker = f"{(times * MAKER).normalize():f}" if "maker" in kind else "0"
    if isinstance(since, datetime):
        since = (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    since_ns = None if since is None else since * SECOND_NS
    detail = {"fee_type": kind, "fee_multiplier": text}
    return Fee(series, maker, taker, "p(1-p)", "series", since_ns=since_ns, detail=detail)


def key_check() -> Request:
    """The account's keys and their scopes; shown to a good key alone."""
    return Request("GET", "/api_keys", signed=True)


def key_verdict(answer: Answer, sent_ns: int, key_id: str = "") -> Verdict:
    """Kalshi's keys have no date of expiry; one that was deleted is not known any more."""
    status, body = answer.status, answer.body
    if status == 200:
        try:
            listed = [key for key in _decode(body, _ApiKeys).api_keys if key.api_key_id == key_id]
        except Unparsable as e:
            return Verdict("down", str(e))
        rights = tuple(scope for key in listed for scope in key.scopes)
        if rights and READ not in rights:
            has = ", ".join(rights)
            return Verdict("under-privileged", f"the key has {has}, but not the scope `{READ}`: give it that", rights)
        return Verdict("accepted", "Kalshi knows the key", rights)
    said = str(refusal(status, body))
    code = _error(body)[0]
    if code.startswith("header_timestamp_expired"):
        return Verdict("clock", said)
    if status == 403:
        return Verdict("under-privileged", said)
    return Verdict.of(refusal(status, body))


def schedule() -> Request:
    return Request("GET", "/exchange/schedule")


def closed(body: bytes, at_ns: int) -> str | None:
    """Why the exchange is planned to be closed at a time: a maintenance window, or outside its hours.

    Hours are given in Eastern time; a session that closes at 00:00 lasts to the end of the day.
    """
    calendar = _decode(body, _Schedule).schedule
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    for window in calendar.maintenance_windows:
        if window.start_datetime <= at < window.end_datetime:
            return f"maintenance from {window.start_datetime.isoformat()} to {window.end_datetime.isoformat()}"
    local = at.astimezone(ZoneInfo("America/New_York"))
    clock = f"{local:%H:%M}"
    for hours in calendar.standard_hours:
        if hours.start_time <= at < hours.end_time:
            sessions = getattr(hours, f"{local:%A}".lower())
            if not any(s.open_time <= clock and (clock < s.close_time or s.close_time == "00:00") for s in sessions):
                return f"outside the trading hours of a {local:%A} ({clock} in New York)"
    return None


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer other than 200 means. A stale timestamp is the clock's fault, not the key's."""
    code, text = _error(body)
    said = f"Kalshi answered HTTP {status}" + (f" ({': '.join(filter(None, (code, text)))})" if code or text else "")
    if code.startswith("header_timestamp_expired"):
        return Transient(f"{said}: this machine's clock is off by too much, set it right")
    if status == 401:
        return Permanent(f"{said}: check the key id and the private key, and that both belong to this endpoint")
    if status == 403:
        return Permanent(f"{said}: the key lacks the permission, give it the scope `read`")
    if status == 429:
        return Transient(f"{said}: too many requests, ask again more slowly")
    if status >= 500 or status == 408:
        return Transient(f"{said}: the exchange is busy or in maintenance, try again")
    return Permanent(f"{said}: the request itself is wrong")


# --------------------------------------------------------------------------------------------------------- inside


class _ApiKeys(msgspec.Struct):
    api_keys: list[ApiKey]


class _Markets(msgspec.Struct):
    markets: list[dict[str, object]]
    cursor: str | None = None


class _Events(msgspec.Struct):
    events: list[dict[str, object]]
    cursor: str | None = None


_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_SIDES: dict[str, Side] = {"yes": "buy", "no": "sell"}  # the taker's, of YES


class _Trade(msgspec.Struct):
    trade_id: str
    ticker: str
    yes_price_dollars: str
    created_time: datetime
    count_fp: str = ""
    count: int | None = None  # until 2026
    taker_outcome_side: Literal["yes", "no", ""] = ""
    taker_side: Literal["yes", "no", ""] = ""  # deprecated

    def event(self) -> Trade:
        size = self.count_fp or str(self.count or "")
        for text in (self.yes_price_dollars, size):
            if not _DECIMAL.fullmatch(text):
                raise Unparsable(f"{text[:40]!r} is no decimal number")
        side = _SIDES.get(self.taker_outcome_side or self.taker_side)
        return Trade(self.ticker, _nanoseconds(self.created_time), self.yes_price_dollars, size, side, self.trade_id)


class _Trades(msgspec.Struct):
    trades: list[_Trade]
    cursor: str | None = None


class _Cutoff(msgspec.Struct):
    trades_created_ts: datetime


class _Series(msgspec.Struct):
    ticker: str
    fee_type: str = ""
    fee_multiplier: msgspec.Raw = msgspec.Raw(b"1")


class _AllSeries(msgspec.Struct):
    series: list[_Series]
    cursor: str | None = None


class _FeeChange(msgspec.Struct):
    series_ticker: str
    fee_type: str
    fee_multiplier: msgspec.Raw
    scheduled_ts: datetime | int | None = None


class _FeeChanges(msgspec.Struct):
    series_fee_change_arr: list[_FeeChange]


class _Window(msgspec.Struct):
    start_datetime: datetime
    end_datetime: datetime


class _Session(msgspec.Struct):
    open_time: str
    close_time: str


class _Hours(msgspec.Struct):
    start_time: datetime
    end_time: datetime
    monday: list[_Session] = []
    tuesday: list[_Session] = []
    wednesday: list[_Session] = []
    thursday: list[_Session] = []
    friday: list[_Session] = []
    saturday: list[_Session] = []
    sunday: list[_Session] = []


class _Calendar(msgspec.Struct):
    standard_hours: list[_Hours] = []
    maintenance_windows: list[_Window] = []


class _Schedule(msgspec.Struct):
    schedule: _Calendar


class _Error(msgspec.Struct):
    """The parts of an error, nested under `error` or not: {code, message, details}, {msg}, or just a text."""

    code: str = ""
    message: str = ""
    msg: str = ""
    details: str = ""
    error: "_Error | str | None" = None


def _error(body: bytes) -> tuple[str, str]:
    """Code and text of an error body, empty if it has neither."""
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if isinstance(error.error, _Error):
        error = error.error
    elif error.error is not None:
        return "", error.error
    return error.code, ", ".join(filter(None, (error.message or error.msg, error.details)))


def _nanoseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _next(request: _R, cursor: str | None) -> _R | None:
    """An empty cursor marks the last page."""
    return replace(request, query={**request.query, "cursor": cursor}) if cursor else None


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Kalshi documents: {e}") from e
