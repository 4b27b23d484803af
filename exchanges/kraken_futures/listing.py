"""Kraken Futures' contracts as instruments."""

from collections.abc import Mapping, Sequence

from exchanges.instruments import decimal, from_iso, name, text
from exchanges.port import Instrument, InstrumentKind, Request, Unparsable

_KINDS: dict[str, InstrumentKind] = {"PI": "perpetual", "PF": "perpetual", "FI": "future", "FF": "future"}


def further(series: Sequence[str]) -> list[Request]:
    """There are none: one listing has them all."""
    return []


def named(symbols: Sequence[str]) -> list[Request]:
    """The venue tells no more of what it lists no longer."""
    return []


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One contract; its series is the symbol's first part (PF: linear perpetuals, FI: inverse futures …)."""
    symbol = name(record, "symbol")
    series = symbol.partition("_")[0]
    last = from_iso(record.get("lastTradingTime"))
    return [
        Instrument(
            symbol=symbol,
            status="open" if record.get("tradeable") is True else "paused",
            kind=_KINDS.get(series, "other"),
            series=(series,),
            base=text(record, "base"),
            quote=text(record, "quote"),
            tick_size=decimal(record.get("tickSize")),
            lot_size=_lot(record.get("contractValueTradePrecision")),
            contract_size=decimal(record.get("contractSize")),
            ts_open=from_iso(record.get("openingDate")),
            ts_close=last,
            ts_expiry=last,
        )
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return record


def _lot(precision: object) -> str | None:
    """10 to the minus `contractValueTradePrecision`, which may be negative (-3: lots of a thousand)."""
    if precision is None:
        return None
    if not isinstance(precision, int) or not -18 < precision <= 18:
        raise Unparsable(f"{precision!r} is no number of decimals")
    return decimal(f"1e{-precision}")
