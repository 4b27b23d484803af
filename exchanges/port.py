"""What a venue's folder must offer: a client grammar, an event grammar, REST, and a simulator of the far side.

Nothing here or below does I/O. A connector feeds an `Adapter` frames and sends what it is owed; the rollup asks
`events` what an archived frame means; the simulator service hosts a `Simulator`. Each venue package has a
module-level `venue: Venue` which brings these together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ssmd.events import Event, GapCause


class Unparsable(Exception):
    """A frame our grammar does not know, with the reason in words; it is kept in quarantine."""


# ------------------------------------------------------------------------------------------------ capture side


class Notice(NamedTuple):
    """Something the operator or the gap ledger must know.

    kind: `break` opens a gap for `symbols` (none: all of this connection), `mended` closes it,
    `refused` means the venue turned a subscription down, `warning` is for the log.
    """

    kind: str
    symbols: tuple[str, ...] = ()
    cause: GapCause = "sequence"
    evidence: str = ""


class Received(NamedTuple):
    """Where a frame goes, and what it asks for. Built once per (channel, symbol) and reused: keep it immutable."""

    channel: str
    symbol: str | None
    bad: str | None = None  # why it is quarantined; then channel is `_bad`
    json: bool = True  # the wire text is one valid JSON value
    owed: tuple[bytes, ...] = ()  # text frames to send back now
    notices: tuple[Notice, ...] = ()


class Adapter(Protocol):
    """The client's grammar on one connection: made anew for each, fed frames in order."""

    def opened(self) -> Sequence[bytes]:
        """Text frames to send once the WebSocket is up: the subscriptions."""
        ...

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame and watch the venue's own sequence. Never raises on any input."""
        ...

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        """Text frames that add instruments to the live connection."""
        ...

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        """Text frames that drop instruments."""
        ...

    def tick(self, now_ns: int) -> Received | None:
        """About once a second: heartbeats owed, overdue acknowledgements as notices."""
        ...


# ------------------------------------------------------------------------------------------------------- REST


@dataclass(frozen=True)
class Request:
    """An HTTP request as data: the shell sends it, the grammar reads the answer. `path` starts with `/`."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)


class Instruments(NamedTuple):
    """One page of a venue's listing: symbols and the raw objects, and the request for the next page."""

    symbols: list[str]
    records: list[dict[str, object]]
    next: Request | None


class Key(Protocol):
    """A credential that can sign; its secret never shows in repr, log or error."""

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Fresh authentication headers for one request; `path` without query."""
        ...


# -------------------------------------------------------------------------------------------------- simulator


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the simulated venue: `body` is JSON text."""

    status: int
    body: bytes


class Outgoing(NamedTuple):
    """A frame the simulator sends: `tape` is the recorded frame's place (from 0), None for its own frames;
    `ts_ns` the venue's time at which it leaves."""

    wire: bytes
    ts_ns: int
    tape: int | None = None
    ping: bool = False  # a WebSocket Ping with this body instead of a text frame


class SimulatedConnection(Protocol):
    """The server's grammar on one connection."""

    def received(self, wire: bytes, now_ns: int) -> Sequence[Outgoing]:
        """Answers to one client frame."""
        ...

    def market(self, index: int, record: object, now_ns: int) -> Sequence[Outgoing]:
        """Frames by which this connection learns of one market record (None if not subscribed)."""
        ...

    def tick(self, now_ns: int) -> Sequence[Outgoing]:
        """About once a second: pings."""
        ...


# ------------------------------------------------------------------------------------------------------ venue


@dataclass(frozen=True)
class Subscription:
    """What one connection shall carry: the venue's channel names and the instruments (empty: all)."""

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    symbols_per_subscription_max: int = 256


class Venue(Protocol):
    """A venue's folder, as the services see it."""

    def adapter(self, subscription: Subscription) -> Adapter: ...

    def key(self, key_id: str, secret: bytes) -> Key:
        """Raises Permanent if `secret` is no key of this venue; the message never holds it."""
        ...

    def events(self, date: str) -> "EventGrammar":
        """The grammar in force on a UTC date (YYYY-MM-DD)."""
        ...

    def instruments(self, series: Sequence[str]) -> Sequence[Request]:
        """First-page requests that list the open instruments of `series` (empty: all)."""
        ...

    def instruments_page(self, request: Request, body: bytes) -> Instruments: ...


class EventGrammar(Protocol):
    """From an archived frame to what it says."""

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        """The frame's events in order. Raises Unparsable."""
        ...
