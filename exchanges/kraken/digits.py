"""Numbers and times as Kraken writes them: JSON numbers as exact decimal text, RFC 3339 as ns since the epoch."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

import msgspec

from exchanges.port import Unparsable

ABSENT = msgspec.Raw(b"")  # what a field that was not sent holds
EXPONENT_MAX = 60  # beyond it a number is no price or size of anything, and its plain text would be huge

_TIME = re.compile(r"([0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9])(?:\.([0-9]{1,9}))?Z")


def number(raw: msgspec.Raw) -> str:
    """A JSON number's own digits; exponents are written out. Raises Unparsable."""
    return _plain(bytes(raw))


def known(raw: msgspec.Raw) -> str | None:
    """As `number`; None where there is none, or null."""
    text = bytes(raw)
    return None if not text or text == b"null" else _plain(text)


@lru_cache(1 << 16)  # prices and sizes repeat
def _plain(raw: bytes) -> str:
    if not raw or raw[0] not in b"-0123456789":
        raise Unparsable(f"{raw[:40].decode(errors='replace')!r} is no number")
    text = raw.decode()
    if "e" not in text and "E" not in text:
        return text
    exact = Decimal(text)
    if abs(exact.adjusted()) > EXPONENT_MAX:
        raise Unparsable(f"{text[:40]!r} is out of all proportion")
    return format(exact, "f")


def rfc3339_ns(text: str) -> int:
    """UTC with up to nine decimals of a second. Raises Unparsable."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise Unparsable(f"{text[:40]!r} is no time in UTC")
    return _second_ns(match[1]) + int((match[2] or "0").ljust(9, "0"))


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
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError as e:
        raise Unparsable(f"{text!r} is no time") from e


@lru_cache(1 << 10)
def _text_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
