"""A spot book as its checksum wants it: levels in order, each with the digits that the CRC-32 is taken over.

The checksum (docs.kraken.com, "Book checksum"): of the best ten asks, then the best ten bids, price and size without
the point and without leading zeros, one text, CRC-32 as zlib has it. It sees nothing below the tenth level: what is
lost there comes to light when it rises.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from zlib import crc32

from exchanges.kraken.messages import Item, Level

TOP = 10  # levels of a side that the checksum is over, whatever the depth
KNOWN_MAX = 10_000  # prices of a side that are remembered


class Side:
    """Prices as integers (without the point), bids negative, so that the best comes first on both sides.

    All prices of a pair have the same number of decimals. Should they change, the checksum fails and the book is
    asked for anew.
    """

    __slots__ = ("_depth", "_digits", "_keys", "_known", "_sign", "top")

    def __init__(self, sign: int, depth: int) -> None:
        self._sign = sign
        self._depth = depth
        self._keys: list[int] = []
        self._digits: list[bytes] = []  # of each key's level, price and size
        self._known: dict[bytes, tuple[int, bytes]] = {}  # price as sent -> key and digits: prices come again
        self.top = b""  # what the checksum is over

    def change(self, levels: Iterable[Level]) -> None:
        """Absolute sizes, 0 deletes; then the side is cut to its depth: the venue does not delete what falls out.

        Raises ValueError if a price is no plain number.
        """
        keys, digits, known = self._keys, self._digits, self._known
        touched = False
        for level in levels:
            price = bytes(level.price)
            found = known.get(price)
            if found is None:
                found = self._learn(price)
            key, price_digits = found
            size = bytes(level.qty).replace(b".", b"").lstrip(b"0")
            at = bisect_left(keys, key)
            if at < TOP:
                touched = True
            if at < len(keys) and keys[at] == key:
                if size:
                    digits[at] = price_digits + size
                else:
                    del keys[at], digits[at]
            elif size:
                keys.insert(at, key)
                digits.insert(at, price_digits + size)
        if len(keys) > self._depth:
            del keys[self._depth :], digits[self._depth :]
        if touched:
            self.top = b"".join(digits[:TOP])

    def _learn(self, price: bytes) -> tuple[int, bytes]:
        text = price.replace(b".", b"")
        if not text.isdigit():
            raise ValueError(f"{price[:40]!r} is no plain number")
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        found = self._known[price] = self._sign * int(text), text.lstrip(b"0")
        return found

    def __len__(self) -> int:
        return len(self._keys)


class Book:
    """One instrument's book on a connection; `ts` is when its last good frame came, `last` that frame."""

    __slots__ = ("_asks_crc32", "asks", "bids", "last", "ts")

    def __init__(self, depth: int) -> None:
        self.bids = Side(-1, depth)
        self.asks = Side(1, depth)
        self._asks_crc32 = 0
        self.last = b""
        self.ts = 0

    def change(self, item: Item) -> bool:
        """Apply one entry of a frame, whole; whether the checksum agrees. Raises ValueError."""
        if item.bids:
            self.bids.change(item.bids)
        if item.asks:
            self.asks.change(item.asks)
            self._asks_crc32 = crc32(self.asks.top)
        return crc32(self.bids.top, self._asks_crc32) == item.checksum


def checksum(asks: Sequence[tuple[str, str]], bids: Sequence[tuple[str, str]]) -> int:
    """Of whole sides, best first, as (price, size): what the venue's side computes."""
    text = "".join(number.replace(".", "").lstrip("0") for level in (*asks[:TOP], *bids[:TOP]) for number in level)
    return crc32(text.encode())
