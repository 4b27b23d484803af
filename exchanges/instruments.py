"""How venues' records become instruments: texts, decimals and times, read strictly."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from exchanges.port import Unparsable

# Decimals are kept with 18 digits before the point and 20 after it.
_WHOLE_DIGITS, _FRACTION_DIGITS = 18, 20
_FAR_NS = 4_102_444_800_000_000_000  # 2100: venues write "never" as a date beyond


def text(record: dict[str, object], key: str) -> str | None:
    """A text that is not empty; None if there is none. Raises Unparsable if it is something else."""
    value = record.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Unparsable(f"{key} is no text")
    return value


def name(record: dict[str, object], key: str) -> str:
    """A text that must be there."""
    found = text(record, key)
    if found is None:
        raise Unparsable(f"an instrument has no {key}")
    return found


def decimal(value: object) -> str | None:
    """A number, or the text of one, as plain decimal text; None for None and "". Raises Unparsable."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool):
            raise InvalidOperation
        number = Decimal(repr(value) if isinstance(value, float) else str(value))
        if not number.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise Unparsable(f"{str(value)[:40]!r} is no number") from None
    number = number.normalize() + 0
    whole, _, fraction = f"{number:f}".lstrip("-").partition(".")
    if len(whole) > _WHOLE_DIGITS or len(fraction) > _FRACTION_DIGITS:
        raise Unparsable(f"{str(value)[:60]!r} has more digits than are kept")
    return f"{number:f}"


def from_ms(value: object) -> int | None:
    """A time in milliseconds as ns; None for none, and for one so far off that it means never."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return None
    return None if value * 1_000_000 >= _FAR_NS else value * 1_000_000


def from_iso(value: object) -> int | None:
    """An ISO 8601 time (UTC unless it says otherwise) as ns; None for none, or what is not one."""
    if not isinstance(value, str) or not value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    ns = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    return ns if 0 < ns < _FAR_NS else None
