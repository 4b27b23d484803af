"""Kalshi's REST API: requests as data, answers as structs. Paths are relative to the endpoint's /trade-api/v2."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from exchanges.port import Instruments, Request, Unparsable
from ssmd.errors import Permanent, SsmdError, Transient

_T = TypeVar("_T")

MARKETS_PER_PAGE_MAX = 1000
EVENTS_PER_PAGE_MAX = 200
TRADES_PER_PAGE_MAX = 1000


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


class Trades(msgspec.Struct, frozen=True):
    """One page of trades, newest first, and the request for the next page."""

    trades: list[dict[str, object]]
    next: Request | None


def exchange_status() -> Request:
    return Request("GET", "/exchange/status")


def exchange_status_answer(body: bytes) -> ExchangeStatus:
    return _decode(body, ExchangeStatus)


def api_keys() -> Request:
    """Signed; the answer shows that the key is good and what it may do."""
    return Request("GET", "/api_keys")


def api_keys_answer(body: bytes) -> list[ApiKey]:
    return _decode(body, _ApiKeys).api_keys


def markets(series: str | None = None, status: str = "open") -> Request:
    """Combination markets are left out: they are made in huge numbers and are never in an order book channel."""
    query = {"limit": str(MARKETS_PER_PAGE_MAX), "status": status, "mve_filter": "exclude"}
    return Request("GET", "/markets", query if series is None else {**query, "series_ticker": series})


def instruments(series: Sequence[str]) -> list[Request]:
    return [markets(s) for s in series] if series else [markets()]


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


def trades(ticker: str | None, min_ts: int, max_ts: int) -> Request:
    """Trades between two times in seconds. Whether the ends are included is not documented: ask a second wider."""
    query = {"limit": str(TRADES_PER_PAGE_MAX), "min_ts": str(min_ts), "max_ts": str(max_ts)}
    return Request("GET", "/markets/trades", query if ticker is None else {**query, "ticker": ticker})


def trades_page(request: Request, body: bytes) -> Trades:
    page = _decode(body, _Trades)
    return Trades(page.trades, _next(request, page.cursor))


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


class _Trades(msgspec.Struct):
    trades: list[dict[str, object]]
    cursor: str | None = None


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


def _next(request: Request, cursor: str | None) -> Request | None:
    """An empty cursor marks the last page."""
    return replace(request, query={**request.query, "cursor": cursor}) if cursor else None


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Kalshi documents: {e}") from e
