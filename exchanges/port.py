"""What a venue's folder must offer: a client grammar, an event grammar, REST, and a simulator of the far side.

Nothing here or below does I/O. A connector feeds an `Adapter` frames and sends what it is owed; the rollup asks
`events` what an archived frame means; the simulator service hosts a `Simulator`. Each venue package has a
module-level `venue: Venue` which brings these together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple, Never, Protocol, get_args, get_type_hints, runtime_checkable
from urllib.parse import urlencode

from ssmd import frames
from ssmd.errors import SsmdError, Transient
from ssmd.events import Event, GapCause, Trade


class Unparsable(Exception):
    """A frame our grammar does not know, with the reason in words; it is kept in quarantine."""


# ------------------------------------------------------------------------------------------------ capture side


class Notice(NamedTuple):
    """Something the operator or the gap ledger must know.

    kind: `break` opens a gap for `symbols` (none: all of this connection), `mended` closes it,
    `refused` means the venue turned a subscription down, `warning` is for the log. `ending`: the venue is about to
    end this connection, so another one shall take over first. `since_ns` is when the last frame came (`ts_recv`)
    after which nothing was missing yet; 0: any frame of the connection says so. `explained`: the venue has answered a
    `probe`, so the silence of these `channels` (as frames are routed) is genuine, as far as it lets one know.
    """

    kind: str
    symbols: tuple[str, ...] = ()
    cause: GapCause = "sequence"
    evidence: str = ""
    since_ns: int = 0
    channels: tuple[str, ...] = ()


class Received(NamedTuple):
    """Where a frame goes, and what it asks for. Built once per (channel, symbol) and reused: keep it immutable."""

    channel: str
    symbol: str | None
    bad: str | None = None  # why it is quarantined; then channel is `_bad`
    json: bool = True  # the wire text is one valid JSON value
    owed: tuple[bytes, ...] = ()  # text frames to send back now
    notices: tuple[Notice, ...] = ()
    asks: tuple["Request", ...] = ()  # REST requests; each answer comes back through `received` (see `Request`)


class Number(NamedTuple):
    """How far a venue's numbering of a stream has come, and when (`ts_recv`) its last frame came."""

    last: int
    ts_recv: int


class Adapter(Protocol):
    """The client's grammar on one connection: made anew for each, fed frames in order."""

    @property
    def brings_all(self) -> bool:
        """Whether it carries a channel that also brings data of instruments which are not on its list."""
        ...

    def opened(self) -> Sequence[bytes]:
        """Text frames to send once the WebSocket is up: the subscriptions."""
        ...

    @property
    def standing(self) -> bool:
        """Whether the venue has answered every subscription, or we gave up on it: until then frames may be missed."""
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

    def probe(self) -> Sequence[bytes]:
        """Text frames that a healthy venue answers at once: asked when a busy channel falls silent.

        If something was missed, the answer shows it (a break in the numbering); if not, the silence is genuine, and a
        notice `explained` tells of which channels. An answer must not explain the silence of a channel that the venue
        can be asked about, and was not.
        """
        ...

    def tick(self, now_ns: int) -> Received | None:
        """About once a second: heartbeats owed, overdue acknowledgements as notices."""
        ...

    def numbers(self) -> Mapping[str, Number]:
        """Numberings that outlive a connection, for `Subscription.numbers` of the next one."""
        ...


# ------------------------------------------------------------------------------------------------------- REST


@dataclass(frozen=True)
class Request:
    """An HTTP request as data: the shell sends it, the grammar reads the answer. `path` starts with `/`.

    What an adapter asks for is performed once or more often, until there is an answer or no hope of one. The answer
    comes back as a frame of the connection, journalled and numbered like those of its WebSocket:

        {"rest":"GET /api/v3/depth?symbol=BTCUSDT","status":200,"body":{…}}

    `body` is verbatim, or a JSON text if it is no JSON; `status` 0 says that there was no answer at all. Frames that
    the adapter has put into `meanwhile` by then, for what the answer says to be complete, stand in it after `body`.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    meanwhile: list[bytes] = field(default_factory=list, compare=False)
    host: str = ""  # of another service of the venue's than the feed's REST endpoint; a simulator is all of them
    signed: bool = False  # only a key can make it: `Key.signed` gives what to send, anew for each attempt
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def target(self) -> str:
        """Path and query as they stand on the request's first line."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def answered(self, status: int, body: bytes) -> bytes:
        """The frame in which an adapter gets the answer."""
        return frames.rest(f"{self.method} {self.target}", status, body, self.meanwhile)


class Instruments(NamedTuple):
    """One page of a venue's listing: what to subscribe to, the raw objects, and the request for the next page.

    `records` may hold more than `symbols` tells of: instruments that are paused, closed or settled. Frames that tell
    of several instruments come on each connection that has one of these: `together` names what such instruments share,
    and they are kept on one connection.
    """

    symbols: list[str]
    records: list[dict[str, object]]
    next: Request | None
    together: Mapping[str, str] = {}


Status = Literal["upcoming", "open", "paused", "closed", "settled", "delisted"]
InstrumentKind = Literal["spot", "perpetual", "future", "option", "combo", "binary", "scalar", "other"]


class Instrument(NamedTuple):
    """An instrument as its venue lists it. None where the venue does not say; times in ns, decimals as text.

    status    upcoming (listed, not trading yet), open (has market data to subscribe to), paused, closed (trades no
              more, its result is not final), settled (final); delisted: the venue lists it no more
    series    the words by which `Venue.instruments` finds it
    tick_size the price's step, the finest there is; lot_size the size's; contract_size what one contract is of
    """

    symbol: str
    status: Status
    kind: InstrumentKind
    series: tuple[str, ...] = ()
    base: str | None = None
    quote: str | None = None
    event: str | None = None
    title: str | None = None
    tick_size: str | None = None
    lot_size: str | None = None
    contract_size: str | None = None
    strike: str | None = None
    ts_open: int | None = None
    ts_close: int | None = None
    ts_expiry: int | None = None
    ts_settled: int | None = None
    settlement_value: str | None = None


class Listing(Protocol):
    """What a venue's listing says of its instruments (a module of its package)."""

    def further(self, series: Sequence[str]) -> Sequence[Request]:
        """First-page requests for instruments that `Venue.instruments` leaves out but that are not settled yet."""
        ...

    def named(self, symbols: Sequence[str]) -> Sequence[Request]:
        """First-page requests that tell what became of instruments no longer listed as open.

        None if the venue has no such request. Answers may tell of others, too.
        """
        ...

    def instruments_of(self, record: dict[str, object]) -> Sequence[Instrument]:
        """What a record of `Instruments.records` says; some hold several instruments. Raises Unparsable."""
        ...

    def lasting(self, record: dict[str, object]) -> Mapping[str, object]:
        """The record without what changes as it trades: while this stays as it is, so does the instrument."""
        ...


@dataclass(frozen=True)
class TradesRequest(Request):
    """A page of a symbol's trades (""; of all) from `start_ns` to `end_ns`, both included."""

    symbol: str = ""
    start_ns: int = 0
    end_ns: int = 0


class TradesPage(NamedTuple):
    """Trades of the asked time in the venue's order, and the request for the next page; None: there are no more.

    `next` may come with no trades at all: some venues are first asked where the trades are.
    """

    trades: list[Trade]
    next: TradesRequest | None


class Fee(NamedTuple):
    """What a trade costs, as decimal text; None where the venue does not tell it. A negative fee is a rebate.

    `symbol` is an instrument, or (`of` series) all whose series it is. `maker` and `taker` are fractions of `basis`:

    value        price x size
    amount       the size, in its own unit (options: of the underlying)
    p(1-p)       size x price x (1 - price), for contracts that pay a dollar or nothing

    `volume` is the turnover of 30 days (USD) from which on it holds, `since_ns` when it began, if told.
    `detail` has what else the venue says of it, by the venue's names.
    """

    symbol: str
    maker: str | None
    taker: str | None
    basis: Literal["value", "amount", "p(1-p)"] = "value"
    of: Literal["instrument", "series"] = "instrument"
    volume: str = "0"
    since_ns: int | None = None
    detail: Mapping[str, str] = {}


class FeesPage(NamedTuple):
    """One page of fees, and the request for the next page."""

    fees: list[Fee]
    next: Request | None


KeyState = Literal["accepted", "wrong", "expired", "under-privileged", "clock", "down"]


class Verdict(NamedTuple):
    """What a venue's answer says of a key; `said` is one sentence: what is wrong and what to do.

    wrong             the venue does not know the key, its secret is another's, or it belongs to another endpoint
    expired           it was good once
    under-privileged  it is good, but may not read
    clock             this machine's clock is off by so much that nothing can be said of the key
    down              the venue did not look at it: busy, in maintenance, too many requests

    Where a venue answers two of these alike, the likelier one is named, and `said` names both.
    """

    state: KeyState
    said: str
    rights: tuple[str, ...] = ()  # what the key may do, where the venue tells
    doubtful: bool = False  # the venue was seen to refuse good keys so now and then: ask again
    expires_ns: int | None = None  # when it ends, where the venue tells

    @classmethod
    def of(cls, refusal: SsmdError) -> "Verdict":
        """Of an answer that does not speak of the key itself."""
        return cls("down" if isinstance(refusal, Transient) else "wrong", str(refusal))


class Key(Protocol):
    """A credential that can sign; its secret never shows in repr, log or error."""

    @property
    def id(self) -> str: ...

    def signed(self, request: Request, now_ns: int) -> Request:
        """The request with whatever proves who asks; good for one attempt."""
        ...

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Fresh authentication headers for one request; `path` without query."""
        ...


# -------------------------------------------------------------------------------------------------- simulator


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: `body` is JSON text, as a rule."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def told_ns(self) -> int | None:
        """What the venue's clock said (its `Date`, in whole seconds); None if it did not."""
        date = next((value for name, value in self.headers.items() if name.lower() == "date"), "")
        try:
            return int(parsedate_to_datetime(date).timestamp()) * 1_000_000_000
        except (TypeError, ValueError, IndexError):
            return None


class Record(NamedTuple):
    """One market-data frame as recorded or made up, before a connection numbers it.

    `kind` is the frame's type, `channel` what a client subscribes to in order to get it, `detail` whatever the
    venue's grammar wants to find again when it applies and sends the record.
    """

    ts_ns: int  # when the recorder received it, or when it happened
    kind: str
    channel: str
    symbol: str | None
    wire: bytes
    detail: object = None


class SimulatedConnection(Protocol):
    """The server's grammar on one connection."""

    @property
    def subscriptions(self) -> int:
        """How many are in force."""
        ...

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        """Answers to one client frame. Never raises on any input."""
        ...

    def market(self, record: Record) -> Sequence[bytes]:
        """The frames by which this connection learns of a record: none if it is not subscribed to it."""
        ...

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        """Whether it is subscribed to all these (channel, symbol)."""
        ...

    def overflow(self) -> Sequence[bytes]:
        """The client reads too slowly: what the venue says when it gives up on its subscriptions."""
        ...

    def heartbeat(self, now_ns: int) -> bytes | None:
        """Asked about once a second: the body of a WebSocket Ping that is due."""
        ...

    def due(self, now_ns: int) -> Sequence[bytes]:
        """Asked about twice a second: text frames that are due by the passing of time alone."""
        ...

    @property
    def ended(self) -> tuple[int, str] | None:
        """Close code and reason, once the venue has had enough of this client; 1006: it just hangs up."""
        ...


@runtime_checkable
class HearsPings(Protocol):
    """A simulated connection that minds whether its client sends WebSocket pings."""

    def pinged(self, now_ns: int) -> None: ...


class Simulator(Protocol):
    """The far side of a venue: markets, books, REST, connections. Told what happens, or making it up."""

    @property
    def ws_path(self) -> str: ...

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """The answer to a request whose signature is not good; None if it is. Header names are in lower case."""
        ...

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        """REST: `target` is path and query, `body` that of a POST."""
        ...

    def connect(self) -> SimulatedConnection: ...

    def record(self, line: bytes) -> Record | None:
        """One line of a recording; None if it is no market data. Raises Unparsable."""
        ...

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        """A frame that a connector received then; None if it is no market data. Raises Unparsable."""
        ...

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        """Open the markets of a recording, with nothing in their books; forget what was applied before."""
        ...

    def apply(self, record: Record) -> None:
        """Let a record happen: books, trades and states follow."""
        ...

    def generate(self, now_ns: int) -> Sequence[Record]:
        """What happened since the last call, made up from the seed and already applied."""
        ...


@dataclass(frozen=True)
class Simulation:
    """What to simulate. Without a public key no signature is checked.

    `recorded` are the channels of an archived day, as its feed's YAML names them: then its frames are sent as they are,
    byte for byte, and what is not among them is not made up.
    """

    key_id: str | None = None
    public_key: bytes | None = None
    seed: int = 0
    markets: int = 12
    frames_per_second: float = 200.0
    turnover_seconds: float | None = None  # so often a market goes and another comes; None: the simulator's own choice
    recorded: tuple[str, ...] | None = None


# ------------------------------------------------------------------------------------------------------ venue


@dataclass(frozen=True)
class Subscription:
    """What one connection shall carry: the venue's channel names and the instruments.

    With `firehose`, channels that can be had for every instrument at once are, so that nothing of an instrument
    is missed before it was listed; only channels that need a list get `symbols`. Without it a connection that has
    no instruments (a shard may have none) subscribes only to channels that know no list. With `general` false another
    connection carries the channels of no list, those of the firehose included: this one is for `symbols` alone.
    `share` is the part that this connection may take of what the venue allows an address, in REST requests say.
    `numbers` are what the connection before knew, if nobody heard the venue since: by them a frame is missed that was
    lost before the first one of its stream.
    """

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    symbols_per_subscription_max: int = 256
    firehose: bool = True
    general: bool = True
    share: float = 1.0
    numbers: Mapping[str, Number] = field(default_factory=dict)


class Venue(Protocol):
    """A venue's folder, as the services see it."""

    @property
    def listing(self) -> Listing: ...

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

    def instruments_page(self, request: Request, body: bytes) -> Instruments:
        """Raises Unparsable if the body is no listing."""
        ...

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> TradesRequest | None:
        """The first-page request for a symbol's trades from a time to another, both included; "": those of all symbols.

        None if the venue has no such request. They are the trades that the feed's channels bring, under the same ids
        (where there are ids). A `signed` one needs a key.
        """
        ...

    def trades_page(self, request: TradesRequest, body: bytes) -> TradesPage:
        """Depends on nothing but its arguments, and of the request not on `headers`.

        Raises Unparsable if the body holds no trades, Transient or Permanent if it is an error.
        """
        ...

    def fees(self, symbols: Sequence[str]) -> Sequence[Request]:
        """First-page requests for what trading costs; none if the venue has no such request.

        Most venues tell of all instruments at once, whatever `symbols`. A `signed` request needs a key.
        """
        ...

    def fees_page(self, request: Request, body: bytes) -> FeesPage:
        """Raises Unparsable if the body holds no fees, Transient or Permanent if it is an error."""
        ...

    def key_check(self) -> Request:
        """A `signed` request whose answer shows whether the venue knows the key, and what it may do."""
        ...

    def key_verdict(self, answer: Answer, sent_ns: int, key_id: str = "") -> Verdict:
        """What the answer to `key_check` says of the key with that id; `sent_ns` is the time that was signed.

        Never raises. An answer to a good key may hold secrets (tokens): keep and log nothing of it but the verdict.
        """
        ...

    def schedule(self) -> Request | None:
        """The request for the venue's calendar; None if it has none."""
        ...

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        """Why the venue is planned to be closed at a time, by its calendar; None if it should be open."""
        ...

    def refusal(self, status: int, body: bytes) -> SsmdError:
        """What an HTTP answer other than 200 means: Transient or Permanent, ready to be raised."""
        ...

    def simulator(self, simulation: Simulation) -> Simulator:
        """Raises Permanent if the public key is none."""
        ...


class EventGrammar(Protocol):
    """From an archived frame to what it says."""

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        """The frame's events in order. Raises Unparsable."""
        ...

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        """Every channel it knows, and the kinds of events that its frames can have; none: they are archived only."""
        ...


def kinds(parser: Callable[..., object]) -> tuple[type[Event], ...]:
    """The kinds of events that a parser's return type names, to which the type checker holds it."""
    (of,) = get_args(get_type_hints(parser)["return"])
    return () if of is Never else get_args(of) or (of,)


class Columns(NamedTuple):
    """What many frames say: for each field of their events its values, one after the other.

    A field left out is None in all of them. Prices and sizes need not be looked at: one that is no plain decimal
    (`-1.50`) is as if Unparsable had been raised. `ts_event` may be RFC 3339 text in UTC (`…Z`) instead of ns.
    `counts` is how many events each frame has; None: one each.
    """

    values: Mapping[str, Sequence[Any]]
    counts: Sequence[int] | None = None


class Decimals(Protocol):
    """The same decimal field of many frames, exact, as a column."""

    def are(self, number: int) -> Any:
        """The mask of those that are this number; masks combine by `&` and `|`."""
        ...

    def from_one(self) -> "Decimals":
        """1 - each."""
        ...

    def where(self, mask: Any, other: Any) -> "Decimals":
        """These where the mask is, the others elsewhere."""
        ...

    def without(self, mask: Any) -> "Decimals":
        """None where the mask is."""
        ...


class Alike(Protocol):
    """Many frames that differ only in the values of their fields, each field a column.

    A name is the keys in the archive's line, with points between: `frame.type`. A field that is asked for and not
    there, or not of the kind, is as if Unparsable had been raised.
    """

    def has_text(self, name: str) -> bool: ...

    def texts(self, name: str) -> Any: ...

    def repeated(self, name: str) -> Any:
        """Texts of which there are few."""
        ...

    def renamed(self, name: str, to: Mapping[str, str | None]) -> Any:
        """Each text of a few as the mapping has it."""
        ...

    def are(self, name: str, text: str) -> Any:
        """The mask of those that are this text of a few."""
        ...

    def utc(self, name: str) -> Any:
        """The ns of RFC 3339 texts in UTC."""
        ...

    def whole(self, name: str, times: int = 1) -> Any:
        """Whole numbers, times a number."""
        ...

    def decimals(self, name: str) -> Decimals:
        """Texts that are plain decimals."""
        ...


class Bulk(NamedTuple):
    """How many frames of a channel are understood at once, where all of their events are of one kind.

    `frame` is what msgspec decodes a frame into. `columns` gives of such frames exactly what the grammar gives of
    each, or raises Unparsable if any of them is out of the ordinary: then each is asked for by itself. `alike`, if
    there is one, gives the same of frames that `columns` would not refuse and that are alike, without decoding any.
    """

    frame: Any
    event: type[Event]
    columns: Callable[[Sequence[Any]], Columns]
    alike: Callable[[Alike], Mapping[str, Any]] | None = None


@runtime_checkable
class BulkGrammar(EventGrammar, Protocol):
    """A grammar that is quick with many frames. It may do without: the rollup then takes them one by one."""

    def bulk(self, channel: str) -> Bulk | None:
        """None for a channel without such a way."""
        ...
