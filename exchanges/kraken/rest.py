"""Kraken's spot REST API: requests as data, answers as structs. Paths start at /0; failures come with HTTP 200 too.

Pairs have other names here (`XXBTZUSD`, `XBTUSD`, `XBT/USD`) than on WebSocket v2 (`BTC/USD`), which are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

import msgspec

from exchanges.kraken.digits import number, seconds_ns
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
from ssmd.events import Side, Trade

_T = TypeVar("_T")

TRADES_PER_PAGE_MAX = 1000
BALANCE = "/0/private/Balance"
NOT_TRADED = frozenset({"work_in_progress", "delisted"})  # pairs that have nothing to subscribe to
_NEW_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_OLD_NAMES = {new: old for old, new in _NEW_NAMES.items()}


@dataclass(frozen=True)
class Listing(Request):
    """A request for pairs, and the quote currencies (series) that are wanted; empty: all."""

    series: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------ instruments


def instruments(series: Sequence[str]) -> list[Request]:
    """One answer has all pairs; tokenized stocks are left out (they need `aclass_base=tokenized_asset`)."""
    return [Listing("GET", "/0/public/AssetPairs", series=tuple(series))]


def instruments_page(request: Request, body: bytes) -> Instruments:
    """Pairs that WebSocket knows: dark pools have no `wsname`."""
    wanted = request.series if isinstance(request, Listing) else ()
    symbols, records = [], []
    for raw in _result(body, dict[str, msgspec.Raw]).values():
        pair = _decode(raw, _Pair)
        symbol = symbol_of(pair.wsname) if pair.wsname else ""
        if symbol and (not wanted or symbol.rpartition("/")[2] in wanted):
            symbols += [symbol] if pair.status not in NOT_TRADED else []
            records.append(_decode(raw, dict[str, object]))
    return Instruments(symbols, records, None)


def symbol_of(wsname: str) -> str:
    """WebSocket v2's name of a pair, from v1's: XBT/USD is BTC/USD."""
    return "/".join(_NEW_NAMES.get(name, name) for name in wsname.split("/"))


def pair_of(symbol: str) -> str:
    """REST's name of a pair: BTC/USD is XBTUSD."""
    return "".join(_OLD_NAMES.get(name, name) for name in symbol.split("/"))


# ------------------------------------------------------------------------------------------------------------ trades


def trades(symbol: str, start_ns: int, end_ns: int) -> TradesRequest:
    """Trades from one time to another, both included; the venue has them all, from the pair's first day on.

    `since` is exclusive. Times in the answer are rounded to some 100 ns, the ids of trades are exact and have no holes.
    """
    query = {"pair": pair_of(symbol), "since": str(max(0, start_ns - 1)), "count": str(TRADES_PER_PAGE_MAX)}
    return TradesRequest("GET", "/0/public/Trades", query, symbol=symbol, start_ns=start_ns, end_ns=end_ns)


def trades_page(request: TradesRequest, body: bytes) -> TradesPage:
    """Raises Unparsable if the body holds no trades, Transient or Permanent if it is an error."""
    result = _result(body, dict[str, msgspec.Raw])
    last = _decode(result.pop("last", msgspec.Raw(b"null")), str)
    if len(result) != 1 or not last.isdigit():
        raise Unparsable(f"the answer to {request.path} has not one pair and its `last`")
    rows = _decode(next(iter(result.values())), list[_Row])
    found = [_trade(request.symbol, row) for row in rows]
    inside = [t for t in found if t.ts_event is not None and t.ts_event <= request.end_ns]
    over = not rows or len(inside) < len(found) or last == request.query["since"]
    following = None if over else replace(request, query={**request.query, "since": last})
    return TradesPage(inside, following)


def _trade(symbol: str, row: "_Row") -> Trade:
    price, size, time, taker, _, _, trade_id = row
    side: Side = "buy" if taker == "b" else "sell"
    if taker not in {"b", "s"}:
        raise Unparsable(f"a trade's side is {taker[:40]!r}, neither b nor s")
    return Trade(symbol, seconds_ns(number(time)), price, size, side, str(trade_id))


# -------------------------------------------------------------------------------------------------------------- fees


def fees() -> Request:
    """The public schedule, for each pair."""
    return Request("GET", "/0/public/AssetPairs")


def fees_page(request: Request, body: bytes) -> FeesPage:
    """Percent become fractions; a maker's may be negative. One fee for each turnover at which it changes."""
    found = []
    for pair in _result(body, dict[str, _Fees]).values():
        if not pair.wsname:
            continue
        makers = dict(pair.fees_maker or pair.fees)
        maker = makers.get(Decimal(0), Decimal(0))
        for volume, percent in pair.fees:
            maker = makers.get(volume, maker)
            symbol, cost = symbol_of(pair.wsname), (f"{maker / 100:f}", f"{percent / 100:f}")
            found.append(Fee(symbol, *cost, volume=f"{volume:f}"))
    return FeesPage(found, None)


# --------------------------------------------------------------------------------------------------------------- key


def key_check() -> Request:
    """Shows whether the venue knows the key; needs the right "Query funds"."""
    return Request("POST", BALANCE, signed=True)


def key_verdict(answer: Answer, sent_ns: int) -> Verdict:
    """A key that has expired is answered like one that never was."""
    status, body = answer.status, answer.body
    try:
        errors = _errors(body)
    except Unparsable:
        return Verdict.of(refusal(status, body))
    if status == 200 and not errors:
        return Verdict("accepted", "Kraken knows the key")
    said = f"Kraken says {', '.join(errors) or f'HTTP {status}'}"
    for start, (state, meaning) in _KEY_ERRORS.items():
        if any(error.startswith(start) for error in errors):
            return Verdict(state, f"{said}: {meaning}")
    return Verdict.of(refusal(status, body))


_KEY_ERRORS: dict[str, tuple[KeyState, str]] = {
    "EAPI:Invalid key": (
        "wrong",
        "there is no such key (any more; it may have expired), or it is one of Kraken Futures: make a new one",
    ),
    "EAPI:Invalid signature": ("wrong", "the private key does not belong to this key: copy both again"),
    "EAPI:Invalid nonce": (
        "clock",
        "this machine's clock is behind, or another program uses the key with higher nonces: "
        "set the clock right and give each program a key of its own",
    ),
    "EGeneral:Permission denied": ("under-privileged", "the key lacks a right: give it `Query funds`"),
    "EAuth:Account": ("wrong", "the account is not active: see your Kraken account"),
    "EGeneral:Temporary lockout": ("down", "too many wrong requests were made with it: wait a quarter of an hour"),
}

_PASSING = (
    "EAPI:Rate limit",
    "EAuth:Rate limit",
    "EAuth:Too many requests",
    "EGeneral:Too many requests",
    "EGeneral:Temporary lockout",
    "EService:",
)


def refusal(status: int, body: bytes) -> SsmdError:
    """What an answer that holds no result means."""
    try:
        errors = _errors(body)
    except Unparsable:
        errors = []
    said = f"Kraken answered HTTP {status}" + (f" ({', '.join(errors)[:300]})" if errors else "")
    if status in {408, 429} or any(error.startswith(_PASSING) for error in errors):
        return Transient(f"{said}: too many requests, or the venue is busy: ask again more slowly")
    if status >= 500:
        return Transient(f"{said}: the venue is busy or in maintenance, try again")
    return Permanent(f"{said}: the request itself is wrong")


# ------------------------------------------------------------------------------------------------------------ inside

_Row = tuple[str, str, msgspec.Raw, str, str, str, int]  # price, size, seconds, taker, order type, -, id


class _Envelope(msgspec.Struct):
    error: list[str]
    result: msgspec.Raw = msgspec.Raw(b"")


class _Pair(msgspec.Struct):
    wsname: str = ""
    status: str = "online"  # answers of 2021 had none


class _Fees(msgspec.Struct):
    wsname: str = ""
    fees: list[tuple[Decimal, Decimal]] = []
    fees_maker: list[tuple[Decimal, Decimal]] = []


def _errors(body: bytes) -> list[str]:
    """Errors begin with E, warnings with W."""
    return [error for error in _decode(body, _Envelope).error if not error.startswith("W")]


def _result(body: bytes, kind: type[_T]) -> _T:
    """Raises Transient or Permanent if the answer is an error, Unparsable if it is none of Kraken's."""
    if _errors(body):
        raise refusal(200, body)
    return _decode(_decode(body, _Envelope).result, kind)


def _decode(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"the answer is not what Kraken documents: {e}") from e
