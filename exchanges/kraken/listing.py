"""Kraken's pairs as instruments."""

from collections.abc import Mapping, Sequence

from exchanges.instruments import decimal, name, text
from exchanges.kraken.rest import NOT_TRADED, symbol_of
from exchanges.port import Instrument, Request, Status, Unparsable

_STATUS: dict[str, Status] = {"delisted": "delisted", "work_in_progress": "upcoming", "maintenance": "paused"}


def further(series: Sequence[str]) -> list[Request]:
    """There are none: one listing has them all."""
    return []


def named(symbols: Sequence[str]) -> list[Request]:
    """The venue tells no more of what it lists no longer."""
    return []


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One pair, under its WebSocket name. Where only some kinds of orders are taken, it has market data: it is open."""
    symbol = symbol_of(name(record, "wsname"))
    base, _, quote = symbol.partition("/")
    status = text(record, "status") or "online"
    digits = record.get("lot_decimals")
    return [
        Instrument(
            symbol=symbol,
            status=_STATUS.get(status, "paused") if status in NOT_TRADED else "open",
            kind="spot",
            series=(quote,),
            base=base,
            quote=quote,
            tick_size=decimal(record.get("tick_size")) or _step(record.get("pair_decimals")),
            lot_size=_step(digits),
        )
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return record


def _step(digits: object) -> str | None:
    """The step that so many decimals make."""
    if digits is None:
        return None
    if not isinstance(digits, int) or not 0 <= digits <= 18:
        raise Unparsable(f"{digits!r} is no number of decimals")
    return decimal(f"1e-{digits}")
