"""Kraken's futures REST API: requests as data, answers as structs. `result` tells of failures, not HTTP's status."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import msgspec

from exchanges.kraken_futures.events import ms_ns
from exchanges.port import Answer, Instruments, KeyState, Request, TradesPage, TradesRequest, Unparsable, Verdict
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Side, Trade

_T = TypeVar("_T")

INSTRUMENTS = "/derivatives/api/v3/instruments"
ACCOUNTS = "/derivatives/api/v3/accounts"


@dataclass(frozen=True)
class Listing(Request):
    """A request for instruments, and the kinds (series) that are wanted: PF, PI, FF, FI; empty: all."""

    series: tuple[str, ...] = ()


def instruments(series: Sequence[str]) -> list[Request]:
    """One answer has them all."""
    return [Listing("GET", INSTRUMENTS, series=tuple(series))]


def instruments_page(request: Request, body: bytes) -> Instruments:
    """Ids keep their case: some are mixed."""
    wanted = request.series if isinstance(request, Listing) else ()
    symbols, records = [], []
    for raw in _answer(body, _Instruments).instruments:
        instrument = _decode(raw, _Instrument)
        if not wanted or instrument.symbol.partition("_")[0] in wanted:
            symbols += [instrument.symbol] if instrument.tradeable else []
            records.append(_decode(raw, dict[str, object]))
    return Instruments(symbols, records, None)


# ------------------------------------------------------------------------------------------------------------ trades


def trades(symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Executions from one time to another, both included."""
    query = {
        "since": str(start_ns // 1_000_000),
        "before": str(-(-end_ns // 1_000_000) + 1),  # whether the end is included is not documented
        "sort": "asc",
    }
    path = f"/api/history/v3/market/{symbol}/executions"
    return TradesRequest("GET", path, query, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    """`trade_id` is the execution's uid; that it is the uid on WebSocket, too, is not confirmed. Raises Unparsable."""
    page = _decode(body, _Executions)
    found = []
    for element in page.elements:
        execution = element.event.execution
        ts_event = ms_ns(execution.timestamp or element.timestamp)
        if request.start_ns <= ts_event <= request.end_ns:
            side = _SIDES[execution.taker.direction]
            price, size = execution.price, execution.quantity
            found.append(Trade(request.symbol, ts_event, price, size, side, execution.uid))
    token = page.continuation
    over = not token or not page.elements
    following = None if over else replace(request, query={**request.query, "continuationToken": str(token)})
    return TradesPage(found, following)


_SIDES: dict[str, Side] = {"Buy": "buy", "Sell": "sell"}

# -------------------------------------------------------------------------------------------------------------- keys


def key_check() -> Request:
    """Shows whether the venue knows the key; it needs read access."""
    return Request("GET", ACCOUNTS, signed=True)


def key_verdict(answer: Answer, sent_ns: int) -> Verdict:
    """A key that may not read, or has been deleted, is answered like a wrong one."""
    status, body = answer.status, answer.body
    try:
        result = _decode(body, _Result)
    except Unparsable:
        return Verdict.of(refusal(status, body))
    if status == 200 and result.result == "success":
        return Verdict("accepted", "Kraken Futures knows the key")
    if result.error not in _KEY_ERRORS:
        return Verdict.of(refusal(status, body))
    state, meaning = _KEY_ERRORS[result.error]
    return Verdict(state, f"Kraken Futures says {result.error}: {meaning}")


_KEY_ERRORS: dict[str, tuple[KeyState, str]] = {
    "authenticationError": (
        "wrong",
        "the key or its secret is wrong, has been deleted or may not read, or it is a spot key: "
        "make one on Kraken Futures with read access",
    ),
    "accountInactive": ("wrong", "the account is not active: see your Kraken Futures account"),
    "nonceDuplicate": (
        "clock",
        "another program uses the key at the same time: give each a key of its own",
    ),
    "nonceBelowThreshold": (
        "clock",
        "this machine's clock is behind, or another program uses the key with higher nonces: "
        "set the clock right and give each program a key of its own",
    ),
}
_PASSING = frozenset({"apiLimitExceeded", "unavailable", "marketUnavailable", "Server Error"})


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer that holds no result means."""
    try:
        error = _decode(body, _Result).error
    except Unparsable:
        error = ""
    said = f"Kraken Futures answered HTTP {status}" + (f" ({error[:300]})" if error else "")
    if status in {408, 429} or error in _PASSING:
        return Transient(f"{said}: too many requests, or the venue is busy: ask again more slowly")
    if status >= 500:
        return Transient(f"{said}: the venue is busy or in maintenance, try again")
    return Permanent(f"{said}: the request itself is wrong")


# ------------------------------------------------------------------------------------------------------------ inside


class _Result(msgspec.Struct):
    result: Literal["success", "error"]
    error: str = ""


class _Instruments(msgspec.Struct):
    instruments: list[msgspec.Raw]


class _Instrument(msgspec.Struct):
    symbol: str
    tradeable: bool = False


class _Order(msgspec.Struct):
    direction: Literal["Buy", "Sell"]


class _Execution(msgspec.Struct):
    uid: str
    price: str
    quantity: str
    taker: _Order = msgspec.field(name="takerOrder")
    timestamp: int = 0


class _ExecutionEvent(msgspec.Struct):
    execution: _Execution


class _Event(msgspec.Struct):
    outer: _ExecutionEvent = msgspec.field(name="Execution")

    @property
    def execution(self) -> _Execution:
        return self.outer.execution


class _Element(msgspec.Struct):
    timestamp: int
    event: _Event


class _Executions(msgspec.Struct):
    elements: list[_Element]
    continuation: str | None = msgspec.field(default=None, name="continuationToken")


def _answer(body: bytes, kind: type[_T]) -> _T:
    """Raises Transient or Permanent if the answer is an error, Unparsable if it is none of the venue's."""
    if _decode(body, _Result).result != "success":
        raise refusal(200, body)
    return _decode(body, kind)


def _decode(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Kraken documents: {e}") from e
