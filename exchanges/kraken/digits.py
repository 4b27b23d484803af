"""Numbers and times as Kraken writes them: JSON numbers as exact decimal text, RFC 3339 as ns since the epoch."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

import msgspec

from exchanges.port import Unparsable

ABSENT = msgspec.Raw(b"")  # what a field that was not sent holds
_NOTHING = (ABSENT, msgspec.Raw(b"null"))
EXPONENT_MAX = 60  # beyond it a number is no price or size of anything, and its plain text would be huge

_SECOND = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]")
_STARTS = "-0123456789"


def number(raw: msgspec.Raw) -> str:
    """A JSON number's own digits; exponents are written out. Raises Unparsable."""
    text = bytes(raw).decode()
    if not text or text[0] not in _STARTS:
        raise Unparsable(f"{text[:40]!r} is no number")
    return text if "e" not in text and "E" not in text else _written_out(text)


def known(raw: msgspec.Raw) -> str | None:
    """As `number`; None where there is none, or null."""
    return number(raw) if raw not in _NOTHING else None


def _written_out(text: str) -> str:
    exact = Decimal(text)
    if abs(exact.adjusted()) > EXPONENT_MAX:
        raise Unparsable(f"{text[:40]!r} is out of all proportion")
    return format(exact, "f")


def rfc3339_ns(text: str) -> int:
    """UTC with up to nine decimals of a second. Raises Unparsable."""
    if len(text) == 20 and text[19] == "Z":
        return _second_ns(text[:19])
    fraction = text[20:-1]
    if not (text[19:20] == "." and text[-1] == "Z" and fraction.isdecimal() and fraction.isascii()):
        raise Unparsable(f"{text[:40]!r} is no time in UTC")
    if len(fraction) > 9:
        raise Unparsable(f"{text[:40]!r} is finer than nanoseconds")
    return _second_ns(text[:19]) + int(fraction.ljust(9, "0"))


def seconds_ns(text: str) -> int:
    """Seconds since the epoch, as decimal text. Raises Unparsable."""
    try:
        return int(Decimal(text).scaleb(9))
    except (ArithmeticError, ValueError) as e:
        raise Unparsable(f"{text[:40]!r} is no time in seconds") from e


def rfc3339(ts_ns: int) -> str:
    """UTC with microseconds, as Kraken writes it."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return f"{_text_of(seconds)}.{rest // 1000:06d}Z"


@lru_cache(1 << 10)
def _second_ns(text: str) -> int:
    if not _SECOND.fullmatch(text):
        raise Unparsable(f"{text!r} is no time in UTC")
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError as e:
        raise Unparsable(f"{text!r} is no time") from e


@lru_cache(1 << 10)
def _text_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
