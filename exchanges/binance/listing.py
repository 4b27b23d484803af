"""Binance's symbols as instruments."""

from collections.abc import Mapping, Sequence

from exchanges.instruments import decimal, from_ms, name, text
from exchanges.port import Instrument, InstrumentKind, Request, Status

_STATUS: dict[str, Status] = {
    "TRADING": "open",
    "PENDING_TRADING": "upcoming",
    "PRE_TRADING": "upcoming",
    "PRE_DELIVERING": "closed",
    "DELIVERING": "closed",
    "DELIVERED": "settled",
    "PRE_SETTLE": "closed",
    "SETTLING": "closed",
    "CLOSE": "closed",
}


def further(series: Sequence[str]) -> list[Request]:
    """There are none: one listing has them all."""
    return []


def named(symbols: Sequence[str]) -> list[Request]:
    """The venue tells no more of what it lists no longer."""
    return []


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One symbol; a status that no document names (BREAK, HALT …) is a pause. Contracts are of one unit of the base."""
    contract = text(record, "contractType")
    quote = name(record, "quoteAsset")
    kind: InstrumentKind = "spot" if contract is None and "contractType" not in record else "future"
    if contract is not None and contract.endswith("PERPETUAL"):
        kind = "perpetual"
    filters = {f.get("filterType"): f for f in _objects(record.get("filters"))}
    delivery = from_ms(record.get("deliveryDate"))
    return [
        Instrument(
            symbol=name(record, "symbol"),
            status=_STATUS.get(name(record, "status"), "paused"),
            kind=kind,
            series=(quote,),
            base=name(record, "baseAsset"),
            quote=quote,
            tick_size=_step(filters.get("PRICE_FILTER"), "tickSize"),
            lot_size=_step(filters.get("LOT_SIZE"), "stepSize"),
            contract_size=None if kind == "spot" else "1",
            ts_open=from_ms(record.get("onboardDate")),
            ts_close=delivery,
            ts_expiry=delivery,
        )
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return record


def _objects(value: object) -> list[dict[str, object]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _step(found: dict[str, object] | None, key: str) -> str | None:
    """A step of 0 switches the filter off."""
    step = decimal(found.get(key)) if found is not None else None
    return None if step == "0" else step
