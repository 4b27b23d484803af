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
    """A trade."""

    symbol: str  # the venue's name of the instrument
    ts_event: int | None  # the venue's time, ns
    price: str  # paid for one unit
    size: str  # units, in the venue's own unit of the instrument
    side: Side | None  # the taker's: buy or sell
    trade_id: str | None  # the venue's


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """What the venue sums up of an instrument; fields that a message does not have are null."""

    symbol: str  # the venue's name of the instrument
    ts_event: int | None  # the venue's time, ns
    last: str | None = None  # price of the last trade
    last_size: str | None = None  # its size
    bid: str | None = None  # the best bid's price
    bid_size: str | None = None  # its size
    ask: str | None = None  # the best ask's price
    ask_size: str | None = None  # its size
    volume: str | None = None  # traded in the venue's window, a day as a rule
    open_interest: str | None = None  # contracts that are open


class BookSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The whole book of one instrument; levels best first, empty where a side is empty."""

    symbol: str  # the venue's name of the instrument
    ts_event: int | None  # the venue's time, ns
    bids: list[Level]  # price and size of each level, best first
    asks: list[Level]  # price and size of each level, best first


class BookDelta(msgspec.Struct, frozen=True, gc=False):
    """One level changed: `size` is what stands there now, or `change` what was added to it, as the venue says."""

    symbol: str  # the venue's name of the instrument
    ts_event: int | None  # the venue's time, ns
    side: BookSide  # bid or ask
    price: str  # of the level
    size: str | None = None  # what stands there now, 0: nothing; null where the venue says a change
    change: str | None = None  # what was added (negative: taken)


class Status(msgspec.Struct, frozen=True, gc=False):
    """Something happened to the instrument: created, activated, settled …; `detail` is the venue's JSON."""

    symbol: str  # the venue's name of the instrument
    ts_event: int | None  # the venue's time, ns
    status: str  # in the venue's words
    detail: str  # the venue's JSON


Event = Trade | Ticker | BookSnapshot | BookDelta | Status


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `_session` frame: what became of connection `conn`.

    open       from here on the connection's numbering is in force; it is trying to connect
    connected  the WebSocket is up
    alive      every 30 s; `connected` says whether the WebSocket is
    close      it ended: `frames` is its last n, `reason` why. If the process died, its successor writes this.
    """

    type: Literal["open", "connected", "alive", "close"]  # what happened
    feed: str  # as in feeds/
    conn: str  # the connection it is about
    endpoint: str = ""  # the venue's address
    subscription: dict[str, list[str]] = {}  # what was subscribed to: channels and symbols
    host: str = ""  # on which it ran
    software: str = ""  # version
    local_address: str = ""  # of the socket
    clock_offset_ns: int | None = None  # of our clock, if known
    connected: bool | None = None  # of `alive`: whether the WebSocket is up
    frames: int | None = None  # of `close`: its last n
    reason: str = ""  # of `close`: why it ended


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

    gap: str  # its id
    feed: str  # as in feeds/
    conn: str  # the connection that misses them
    symbols: list[str]  # none: every instrument of the connection
    start: int  # ns, the last moment at which nothing was missing
    end: int | None  # ns; null: still open
    cause: GapCause  # why
    evidence: str = ""  # what was seen
    repair: str = ""  # `backfill:…` or `unrepairable:…`, once something was tried

    @property
    def repaired(self) -> bool:
        """Whether its trades have been fetched; books and tickers cannot be."""
        return self.repair.startswith(REPAIRED)
