"""Kalshi's markets as instruments."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from exchanges.instruments import decimal, from_iso, name, text
from exchanges.kalshi import rest
from exchanges.port import Instrument, InstrumentKind, Request, Status, Unparsable

TICKERS_PER_REQUEST_MAX = 100  # a ticker has up to 60 characters, and a URL should stay below 8 KB

_STATUS: dict[str, Status] = {
    "initialized": "upcoming",
    "inactive": "paused",
    "active": "open",
    "closed": "closed",
    "determined": "closed",
    "disputed": "closed",
    "amended": "closed",
    "finalized": "settled",
}
_KINDS: dict[str, InstrumentKind] = {"binary": "binary", "scalar": "scalar"}
# Of a market's object, what follows its trading.
_CHANGING = (
    *("yes_bid", "yes_ask", "no_bid", "no_ask", "last_price", "previous_"),
    *("volume", "open_interest", "liquidity", "dollar_", "updated_time"),
)


def further(series: Sequence[str]) -> list[Request]:
    """Each status is a listing of its own."""
    wanted: Sequence[str | None] = series or [None]
    return [rest.markets(s, status) for s in wanted for status in ("unopened", "paused", "closed")]


def named(symbols: Sequence[str]) -> list[Request]:
    some = [symbols[i : i + TICKERS_PER_REQUEST_MAX] for i in range(0, len(symbols), TICKERS_PER_REQUEST_MAX)]
    return [request for tickers in some for request in rest.markets_named(tickers)]


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One market. Its price step is the finest of its ranges; a contract pays its notional value or nothing."""
    ticker = name(record, "ticker")
    event = text(record, "event_ticker")
    status = _STATUS.get(name(record, "status"))
    if status is None:
        raise Unparsable(f"market {ticker} has the unknown status {record['status']!r}")
    return [
        Instrument(
            symbol=ticker,
            status=status,
            kind=_KINDS.get(str(record.get("market_type")), "other"),
            series=((event or ticker).partition("-")[0],),
            quote="USD",
            event=event,
            title=text(record, "title") or text(record, "yes_sub_title"),
            tick_size=_tick(record),
            lot_size="0.01",  # counts have two decimals, and parts of contracts trade
            contract_size=decimal(record.get("notional_value_dollars")),
            strike=decimal(record.get("floor_strike")),
            ts_open=from_iso(record.get("open_time")),
            ts_close=from_iso(record.get("close_time")),
            ts_expiry=from_iso(record.get("expected_expiration_time")),
            ts_settled=from_iso(record.get("settlement_ts")),
            settlement_value=decimal(record.get("settlement_value_dollars")) or _paid(record, status),
        )
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return {key: value for key, value in record.items() if not key.startswith(_CHANGING)}


def _tick(record: dict[str, object]) -> str | None:
    ranges = record.get("price_ranges")
    if not isinstance(ranges, list):
        return None
    steps = [decimal(r.get("step")) for r in ranges if isinstance(r, dict)]
    return min((step for step in steps if step is not None), key=Decimal, default=None)


def _paid(record: dict[str, object], status: Status) -> str | None:
    """What a settled YES contract paid, where only its result is told."""
    if status != "settled" or record.get("market_type", "binary") != "binary":
        return None
    return {"yes": "1", "no": "0"}.get(str(record.get("result")))
