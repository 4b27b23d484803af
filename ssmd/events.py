"""What frames mean, the same for every venue: trades, tickers, books, status; and our own sessions and gaps.

Prices and sizes are decimal text with exactly the venue's digits, never binary floats; None where the venue
sent nothing. `ts_event` is the venue's own time in ns since the epoch, None if it gave none. `side` of a trade
is the taker's.
"""

from typing import Literal

import msgspec

Side = Literal["buy", "sell"]
BookSide = Literal["bid", "ask"]
Level = tuple[str, str]  # price, size


class Trade(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    ts_event: int | None
    price: str
    size: str
    side: Side | None
    trade_id: str | None


class Ticker(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    ts_event: int | None
    last: str | None = None
    last_size: str | None = None
    bid: str | None = None
    bid_size: str | None = None
    ask: str | None = None
    ask_size: str | None = None
    volume: str | None = None
    open_interest: str | None = None


class BookSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The whole book of one instrument; levels best first, empty where a side is empty."""

    symbol: str
    ts_event: int | None
    bids: list[Level]
    asks: list[Level]


class BookDelta(msgspec.Struct, frozen=True, gc=False):
    """One level changed: `size` is what stands there now, or `change` what was added to it, as the venue says."""

    symbol: str
    ts_event: int | None
    side: BookSide
    price: str
    size: str | None = None
    change: str | None = None


class Status(msgspec.Struct, frozen=True, gc=False):
    """Something happened to the instrument: created, activated, settled …; `detail` is the venue's JSON."""

    symbol: str
    ts_event: int | None
    status: str
    detail: str


Event = Trade | Ticker | BookSnapshot | BookDelta | Status


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `_session` frame: what became of connection `conn`.

    open       from here on the connection's numbering is in force; it is trying to connect
    connected  the WebSocket is up
    alive      every 30 s; `connected` says whether the WebSocket is
    close      it ended: `frames` is its last n, `reason` why. If the process died, its successor writes this.
    """

    type: Literal["open", "connected", "alive", "close"]
    feed: str
    conn: str
    endpoint: str = ""
    subscription: dict[str, list[str]] = {}
    host: str = ""
    software: str = ""
    local_address: str = ""
    clock_offset_ns: int | None = None
    connected: bool | None = None
    frames: int | None = None
    reason: str = ""


GapCause = Literal[
    "disconnect",
    "sequence",
    "checksum",
    "stale",
    "parse",
    "overflow",
    "restart",
    "retention",
    "maintenance",
    "lost",
    "refused",
]


REPAIRED, UNREPAIRABLE = "backfill:", "unrepairable:"  # what `repair` begins with, once something was tried


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `_gap` frame: between `start` and `end` (ns) frames of `symbols` are missing, because of `cause`.

    `end` None means the gap is still open; the row that closes it has the same `gap` id. No symbols means
    every instrument of the connection. `evidence` is what was seen; `repair` what has been done about it.
    """

    gap: str
    feed: str
    conn: str
    symbols: list[str]
    start: int
    end: int | None
    cause: GapCause
    evidence: str = ""
    repair: str = ""

    @property
    def repaired(self) -> bool:
        """Whether its trades have been fetched; books and tickers cannot be."""
        return self.repair.startswith(REPAIRED)
