"""Deribit's instruments."""

from collections.abc import Mapping, Sequence

from exchanges.instruments import decimal, from_ms, name, text
from exchanges.port import Instrument, InstrumentKind, Request, Status

_STATUS: dict[str, Status] = {
    "open": "open",
    "created": "upcoming",
    "settlement": "paused",
    "halted": "paused",
    "locked": "paused",
    "inactive": "paused",
    "closed": "closed",
    "delivered": "settled",
    "archivized": "settled",
}
_KINDS: dict[str, InstrumentKind] = {
    "future": "future",
    "option": "option",
    "spot": "spot",
    "future_combo": "combo",
    "option_combo": "combo",
}


def further(series: Sequence[str]) -> list[Request]:
    """There are none: one listing has all that has not expired."""
    return []


def named(symbols: Sequence[str]) -> list[Request]:
    """Those that expired of late are a listing of their own."""
    return [Request("GET", "/public/get_instruments", {"currency": "any", "expired": "true"})] if symbols else []


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One instrument. It is subscribed to as long as `is_active`; a state that no document names is a pause.

    What was delivered, and at what price, is told by another request of the venue's: settlement values stay None.
    """
    venues_kind, base = name(record, "kind"), name(record, "base_currency")
    # What the venue calls the currency of a listing: what profits are paid in.
    currency = text(record, "settlement_currency") or (
        name(record, "quote_currency") if venues_kind == "spot" else base
    )
    perpetual = record.get("settlement_period") == "perpetual"
    state = text(record, "state")
    status = _STATUS.get(state, "paused") if state is not None else "open"
    if record.get("is_active") is False and status == "open":
        status = "paused"
    elif record.get("is_active") is not False and status not in {"settled", "closed"}:
        status = "open"
    expiry = None if perpetual else from_ms(record.get("expiration_timestamp"))
    return [
        Instrument(
            symbol=name(record, "instrument_name"),
            status=status,
            kind="perpetual" if perpetual else _KINDS.get(venues_kind, "other"),
            series=(currency, f"{venues_kind}.{currency}"),
            base=base,
            quote=text(record, "quote_currency"),
            event=text(record, "price_index"),
            tick_size=decimal(record.get("tick_size")),
            lot_size=decimal(record.get("min_trade_amount")),
            contract_size=decimal(record.get("contract_size")),
            strike=decimal(record.get("strike")),
            ts_open=from_ms(record.get("creation_timestamp")),
            ts_close=expiry,
            ts_expiry=expiry,
        )
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return record
