"""One of the connector's connections to the venue, kept up for ever: when it ends the next one takes its place."""

import asyncio
import math
import random
import shutil
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import structlog

from exchanges.port import Adapter, Key, Notice, Subscription, Unparsable, Venue
from services.connector.asking import Asking
from services.connector.capture import Capture, Connection
from services.connector.instruments import HEADERS, Instruments, Rest
from services.connector.link import Link, Refused, Target
from services.connector.pace import Pace
from services.connector.rhythm import LOOK_SECONDS, Rhythm
from ssmd import __version__, config, durable, frames
from ssmd.clock import SECOND_NS, Clock
from ssmd.errors import Permanent, Transient
from ssmd.events import GapCause, Session
from ssmd.journal import Former, Journal

CONNECT_SECONDS = 10.0
BACKOFF_SECONDS = (0.1, 30.0)
TICK_SECONDS = 0.5  # between two looks at what the passing of time asks for
STALE_SECONDS = 10.0  # a venue that answers pings but no commands for so long: connect anew
STOP_SECONDS = 3.0  # for the closing handshake
SETTLED_SECONDS = 8.0  # a second connection that owed and asked nothing for so long is whole; some ping every 10 s
AGAIN_SECONDS = 30.0  # between two attempts at a second connection

Log = structlog.typing.FilteringBoundLogger


@dataclass
class Shared:
    """What all connections of a connector have in common."""

    name: str  # what their names begin with
    version: config.FeedVersion
    channels: tuple[str, ...]
    endpoint: config.FeedAddress
    simulated: bool
    venue: Venue
    key: Key | None
    clock: Clock
    log: Log
    journal: Journal
    journalling: config.Journalling
    capture: Capture
    rest: Rest
    instruments: Instruments
    pace: Pace
    firehose: bool  # channels that can be had for all instruments are
    brings_all: bool  # a channel that is of no list brings data of every instrument
    prepare: Callable[[], Awaitable[None]]  # before each attempt: what each place carries is known, and written down
    connected: Callable[["Carrier"], None]
    tls: ssl.SSLContext | None = None

    async def make_tls(self) -> ssl.SSLContext | None:
        """None where no TLS is wanted. Made once, in a thread."""
        if self.tls is None and self.endpoint.ws.startswith("wss:"):
            self.tls = await asyncio.to_thread(ssl.create_default_context)
        return self.tls

    def journal_full(self) -> bool:
        """Whether capture must pause rather than fill the disk: what is on disk already is worth more."""
        usage = shutil.disk_usage(self.journal.folder)
        free_min = min(self.journalling.free_bytes_min, usage.total // 20)
        return self.journal.total_bytes >= self.journalling.bytes_max or usage.free < free_min


@dataclass
class Line:
    """A connection that is up: its numbering, its socket, its requests by REST."""

    connection: Connection
    link: Link
    asking: Asking
    restless: float  # loop time at which it last owed or asked something, or was not heard yet
    opening: bool  # the outage before it lasts until its subscriptions stand

    def ask(self) -> None:
        """Begin to perform what the adapter has asked for."""
        asks = self.connection.asks
        while asks:
            self.asking.ask(asks.pop(0))

    @property
    def standing(self) -> bool:
        adapter = self.connection.adapter
        return adapter is not None and adapter.standing

    def settled(self, owed: Sequence[bytes], now: float) -> bool:
        """Whether its subscriptions stand and its books are whole: the venue was heard, and nothing is left to do."""
        if owed or self.asking.under_way or self.connection.last_venue_crc32 is None or not self.standing:
            self.restless = now
        return now - self.restless >= SETTLED_SECONDS


@dataclass
class Succession:
    """A second connection, made ready before the first one's time is over."""

    due: float  # loop time at which it is to be opened
    renewed: float = -math.inf  # loop time at which it was wanted because this one is no good
    connecting: asyncio.Task[Line | None] | None = None
    heir: Line | None = None

    @property
    def begun(self) -> bool:
        return self.connecting is not None or self.heir is not None

    @property
    def up(self) -> bool:
        return self.heir is not None and not self.heir.link.ended.done()


class Carrier:
    """The place `number` among the connector's connections, and what it carries.

    One place, the `general` one, also has the channels that are of no list of instruments. If these bring data of
    instruments that other places carry, all are listed as its own, too: they are missing something when it is away.
    """

    def __init__(self, number: int, shared: Shared, *, general: bool, places: Callable[[], int]) -> None:
        """`places` says how many there are: if this is the only one, rows about all that it carries name nothing."""
        self.number = number
        self.name = f"{shared.name}-{number}"
        self.symbols: frozenset[str] = frozenset()
        self.stop = asyncio.Event()
        self.connection: Connection | None = None
        self.reconnects = 0
        self.trouble = "not connected yet"
        self._general = general
        self._brings_all = general and shared.brings_all
        self._listed: frozenset[str] = frozenset()
        self._places = places
        self._shared = shared
        self._capture = shared.capture
        self._clock = shared.clock
        self._log = shared.log if not number else shared.log.bind(place=number)
        self._line: Line | None = None
        self._succession = Succession(math.inf)
        self._resume: tuple[str, int | None] | None = None
        self._adapter: Adapter | None = None  # of the connection that is, or was the last
        self._rhythm = Rhythm()
        self._cause: GapCause = "disconnect"  # why the connection that is, or was the last, ends
        self._stopped: asyncio.Task[bool]

    @property
    def connected(self) -> bool:
        return self.connection is not None and self.connection.connected

    def carry(self, symbols: Iterable[str], every: frozenset[str]) -> None:
        """Carry these of `every` instrument from now on; the connections of this place that are up follow."""
        self.symbols = frozenset(symbols)
        self._listed = every if self._brings_all else self.symbols
        for line in (self._line, self._succession.heir):
            if line is not None:
                self._follow(line)

    def _carried(self) -> tuple[str, ...]:
        return () if self._brings_all or self._places() == 1 else tuple(sorted(self.symbols))

    # ------------------------------------------------------------------------------------------------ connecting

    async def run(self, former: Former | None, why: str, unclosed: dict[str, int]) -> None:
        """One connection after the other, until told to stop.

        `former` is what the last run left of this place, `why` it is no more, `unclosed` are connections of that run
        that never said good-bye, with their last `n`.
        """
        self._stopped = asyncio.create_task(self.stop.wait())
        try:
            await self._keep_connected(former, why, unclosed)
        finally:
            self._stopped.cancel()

    async def _keep_connected(self, former: Former | None, why: str, unclosed: dict[str, int]) -> None:
        capture, stop = self._capture, self.stop
        before, since = (former.conn, former.heard) if former is not None else (None, 0)
        if former is not None:
            self._resume = (former.conn, former.venue_crc32)
        cause: GapCause = "restart"
        while not stop.is_set():
            connection = self.connection = self._begin(since)
            now = self._clock.now_ns()
            for conn, last in unclosed.items():
                closed = Session("close", capture.feed, conn, frames=last, reason="the connector died")
                capture.session(connection, closed, now)
            unclosed = {}
            if before is not None:
                capture.opened(connection, cause, since, f"after {before}: {why}", now)
            await asyncio.to_thread(self._shared.journal.syncs())  # a next start shall know of this connection
            why = await self._live(connection)
            while (heir := self._succession.heir) is not None:
                self._hand_over(connection, heir, why)
                connection = heir.connection
                why = await self._until_its_end(heir)
            now = self._clock.now_ns()
            if self._cause == "disconnect" and (planned := self._shared.instruments.planned()):
                self._cause, why = "maintenance", f"{why}; planned: {planned}"
            cause = self._cause
            before, since = connection.conn, connection.last_ts_recv or connection.connected_ns or now
            if not stop.is_set():
                capture.opened(connection, cause, since, why, now)
                self.reconnects += 1
            self._close(connection, why)
            self._resume = (connection.conn, connection.last_venue_crc32)

    def _begin(self, last_ts_recv: int) -> Connection:
        """A new connection's numbering: from here on it is in force, long before its WebSocket is up."""
        conn = frames.conn_id(self._shared.name, self.number, time.time_ns(), random.getrandbits(16))
        connection = Connection(conn, None, last_ts_recv, self._carried)
        self._capture.live[conn] = connection
        where = {"endpoint": self._shared.endpoint.ws, "host": socket.gethostname()}
        self._say(connection, "open", software=__version__, **where)
        return connection

    def _close(self, connection: Connection, why: str) -> None:
        """Its last row."""
        self._capture.parse_gap(connection, self._clock.now_ns())
        self._say(connection, "close", frames=connection.n + 1, reason=why)
        self._capture.live.pop(connection.conn, None)

    async def _live(self, connection: Connection) -> str:
        """Connect, however long it takes, and stay until the connection ends; returns why it did."""
        wait = BACKOFF_SECONDS[0]
        loop = asyncio.get_running_loop()
        while not self.stop.is_set():
            if self._shared.journal_full():
                await self._wait_for_room()
                continue
            self._cause = "disconnect"
            if turn := self._shared.pace.wait(loop.time()):
                await self._either(None, turn)
                if self.stop.is_set():
                    break
            try:
                connecting = asyncio.ensure_future(self._connect(connection))
                await self._either(connecting)
                if not connecting.done():
                    connecting.cancel()
                    break
                line = connecting.result()
            except durable.DiskFailed:
                raise  # of our own journal, in the read that opened the connection
            except (
                Transient,
                Permanent,
                Unparsable,
                TimeoutError,
                httpx.HTTPError,
            ) as e:  # even a refused key may be mended
                self.trouble = str(e) or type(e).__name__
                level = self._log.error if isinstance(e, Refused) and e.status in {401, 403} else self._log.warning
                level("not connected", reason=self.trouble)
                await self._either(None, random.uniform(0, wait))  # noqa: S311  # full jitter, not a secret
                wait = min(wait * 2, BACKOFF_SECONDS[1])
                continue
            return await self._until_its_end(line)
        return "stopped before it was connected"

    async def _until_its_end(self, line: Line) -> str:
        """Stay on a connection that is up; returns why it ended."""
        reason = await self._stay(line)
        if self.stop.is_set() or not self._succession.up:
            await self._end_succession()
        await line.asking.stop()
        self._line = None
        line.connection.connected = False
        self.trouble = reason
        return "stopped" if self.stop.is_set() else reason

    async def _wait_for_room(self) -> None:
        """Capture is broken off until the archive has taken some of the journal, or the disk has space again."""
        journal = self._shared.journal
        self.trouble = (
            f"capture is paused: the journal takes {journal.total_bytes:,} bytes of {journal.folder}, free some space"
        )
        self._log.error(self.trouble)
        while self._shared.journal_full() and not self._stopped.done():
            await self._either(None, 1.0)
        self.trouble = "connecting again after the journal was full"

    async def _connect(self, connection: Connection, *, second: bool = False) -> Line:
        """Connect and subscribe. A second connection stands beside the first: nothing was missed until it is up."""
        shared = self._shared
        await shared.prepare()
        tls = await shared.make_tls()
        names = tuple(sorted(self.symbols))
        limit = shared.version.limits.symbols_per_subscription
        share = 1 / self._places()
        numbers = {} if second or self._adapter is None else self._adapter.numbers()
        subscription = Subscription(shared.channels, names, limit, shared.firehose, self._general, share, numbers)
        adapter = connection.adapter = shared.venue.adapter(subscription)
        if not second:
            self._adapter = adapter
        line: Line

        def on_open(link: Link) -> Sequence[bytes]:
            nonlocal line
            asking = Asking(shared.rest.service, shared.rest.client, answered)
            line = Line(connection, link, asking, asyncio.get_running_loop().time(), opening=not second)
            connection.connected = True
            now = connection.connected_ns = self._clock.now_ns()
            connection.subscribed = dict.fromkeys(names, now)
            self._say_subscription(connection, link)
            if not second:
                self._line = line
                over = self._capture.ledger.close_place(connection.conn, now, outage=False)
                self._capture.gaps(connection, over, now)
                shared.connected(self)
            self._log.info("connected", conn=connection.conn, symbols=len(names))
            owed = adapter.opened()
            self._look_whether_it_stands(line, now)
            return owed

        def on_frames(wires: Sequence[bytes], ts_recv: int) -> Sequence[bytes]:
            owed = self._capture.receive(connection, wires, ts_recv)
            self._look_whether_it_stands(line, ts_recv)
            line.ask()
            return owed

        def answered(request: Any, status: int, body: bytes) -> None:
            try:
                wire = request.answered(status, body)
                line.link.send(self._capture.answer(connection, wire, self._clock.now_ns()))
                line.ask()
            except Exception as e:  # of ours, a full disk say: the process must end
                line.link.fail(e)

        target = self._target(connection, None if second else self._resume, tls)
        await Link.connect(target, self._clock, on_open, on_frames, CONNECT_SECONDS)
        self._follow(line)  # what it carries may have changed while it was connecting
        return line

    def _target(
        self, connection: Connection, resume: tuple[str, int | None] | None, tls: ssl.SSLContext | None
    ) -> Target:
        shared = self._shared
        ws = shared.endpoint.ws
        headers = dict(HEADERS)
        path = "/" + ws.split("://", 1)[1].partition("/")[2]
        if shared.key is not None:
            headers |= shared.key.headers("GET", path, time.time_ns())
        if shared.simulated:  # lets a replay go on losslessly after a crash of ours
            headers["Ssmd-Connection"] = connection.conn
            if resume is not None:
                conn, crc32 = resume
                headers["Ssmd-Resume"] = f"{conn} {'none' if crc32 is None else f'{crc32:08x}'}"
        return Target(ws, headers, shared.version.compression, shared.version.limits.frame_bytes, tls)

    async def _stay(self, line: Line) -> str:
        """Until the connection ends, by either side, or falls silent."""
        connection, link = line.connection, line.link
        version = self._shared.version
        loop = asyncio.get_running_loop()
        silence = version.silence_seconds
        rhythm = self._rhythm
        self._line = line
        rhythm.connected(rhythm.felt(loop.time()), self._clock.now_ns())
        ticked = -math.inf
        self._succession = Succession(loop.time() + (version.limits.connection_seconds or math.inf))
        while not link.ended.done():
            if self.stop.is_set():
                await self._say_good_bye(link)
                break
            await self._either(link.ended, LOOK_SECONDS)
            now = self._clock.now_ns()
            felt = rhythm.felt(loop.time())
            link.send(self._look_at_rhythm(connection, rhythm, felt, now))
            if loop.time() - ticked < TICK_SECONDS:
                continue
            ticked = loop.time()
            owed = self._capture.tick(connection, time.time_ns(), now)
            link.send(owed)
            line.ask()
            self._look_whether_it_stands(line, now)
            ledger = self._capture.ledger
            if line.settled(owed, loop.time()) and ledger.outage(connection.conn):  # it took over before it was
                self._capture.gaps(connection, ledger.close_place(connection.conn, now), now)
            if await self._second_settled(loop.time()):
                await self._say_good_bye(link)
                return "its time was over, and another connection stood beside it"
            quiet = loop.time() - link.last_heard
            if quiet > silence / 3:
                link.ping()
            if quiet > silence:
                self._cause, reason = "stale", f"nothing heard for {quiet:.1f} s, not even answers to pings"
            elif rhythm.stale(felt) and now - connection.last_ts_recv > STALE_SECONDS * SECOND_NS:
                self._cause, reason = "stale", f"no data and no answers to commands for {STALE_SECONDS:.0f} s"
            elif self._shared.journal_full():
                taken = self._shared.journal.total_bytes
                self._cause, reason = "overflow", f"the journal is full ({taken:,} bytes)"
            else:
                continue
            link.abort()
            await link.ended
            return reason
        return link.ended.result()

    def _look_whether_it_stands(self, line: Line, now_ns: int) -> None:
        """What the venue sends before it has answered our subscriptions we may miss."""
        if line.opening and line.standing:
            line.opening = False
            connection = line.connection
            self._capture.gaps(connection, self._capture.ledger.close_outage(connection.conn, now_ns), now_ns)

    async def _say_good_bye(self, link: Link) -> None:
        link.close()
        await asyncio.wait([link.ended], timeout=STOP_SECONDS)
        link.abort()
        await link.ended

    # ----------------------------------------------------------------------------------------------- succession

    async def _second_settled(self, now: float) -> bool:
        """Before a connection's time is over a second one is made ready; whether that is whole by now."""
        succession = self._succession
        heir = succession.heir
        if heir is not None:
            if not succession.up:
                succession.due = now + AGAIN_SECONDS
                await self._end_succession()
                return False
            owed = self._capture.tick(heir.connection, time.time_ns(), self._clock.now_ns())
            heir.link.send(owed)
            heir.ask()
            return heir.settled(owed, now)
        if succession.connecting is not None:
            if succession.connecting.done():
                succession.heir = succession.connecting.result()
                succession.connecting = None
                succession.due = now + AGAIN_SECONDS  # if there is none
        elif now >= succession.due:
            succession.due = now + self._shared.pace.wait(now)
            if succession.due > now:
                return False
            self._log.info("the connection's time will be over: opening a second one")
            succession.connecting = asyncio.create_task(self._connect_second())
        return False

    async def _connect_second(self) -> Line | None:
        """The second connection; None, with its close row written, if it cannot be had now."""
        connection = self._begin(self.connection.last_ts_recv if self.connection is not None else 0)
        try:
            return await self._connect(connection, second=True)
        except durable.DiskFailed:
            raise
        except (Transient, Permanent, Unparsable, TimeoutError, httpx.HTTPError) as e:
            why = str(e) or type(e).__name__
            self._log.warning("no second connection yet", reason=why)
        except asyncio.CancelledError:
            why = "not needed any more"
        self._close(connection, why)
        return None

    async def _end_succession(self) -> None:
        """Let go of a second connection that does not take over."""
        succession = self._succession
        heir, succession.heir = succession.heir, None
        if succession.connecting is not None:
            succession.connecting.cancel()
            heir = await succession.connecting
            succession.connecting = None
        if heir is not None:
            heir.link.abort()
            reason = await heir.link.ended
            await heir.asking.stop()
            self._close(heir.connection, f"did not take over: {reason}")

    def _hand_over(self, connection: Connection, heir: Line, why: str) -> None:
        """The second connection is the first from now on. Nothing is missing if it was whole before the other ended."""
        now = self._clock.now_ns()
        capture, successor = self._capture, heir.connection
        capture.gaps(successor, capture.ledger.close_of(connection.conn, now), now)
        if not heir.settled((), asyncio.get_running_loop().time()):
            since = connection.last_ts_recv or connection.connected_ns or now
            capture.opened(successor, self._cause, since, f"after {connection.conn}: {why}", now)
        self._close(connection, why)
        self.connection, self._adapter = successor, successor.adapter
        self._cause = "disconnect"
        self._log.info("handed over", from_=connection.conn, to=successor.conn)

    def _look_at_rhythm(self, connection: Connection, rhythm: Rhythm, felt: float, now_ns: int) -> Sequence[bytes]:
        """A busy channel that falls silent: ask the venue; if it does not explain itself, a `stale` gap is open."""
        capture, ledger = self._capture, self._capture.ledger
        heard, connection.heard = connection.heard, {}
        explained, connection.explained = connection.explained, set()
        rhythm.heard({c: ns for c, ns in heard.items() if c[0] != "_" and c != frames.CONTROL}, felt)
        rhythm.answered(explained)
        suspects = rhythm.suspects(felt)
        stale = rhythm.stale(felt)
        for channel, seconds, last_ns in stale:
            evidence = f"{channel}: no frame for {seconds:.1f} s, and no answer when the venue was asked"
            capture.opened(connection, "stale", last_ns, evidence, now_ns)
        if not stale and (heard or explained):
            capture.gaps(connection, ledger.close(connection.conn, "stale", now_ns), now_ns)
        if any(seconds > STALE_SECONDS for _, seconds in rhythm.unexplained(felt)):
            self._renew()
        return connection.adapter.probe() if suspects and connection.adapter is not None else ()

    def _renew(self) -> None:
        """A channel stays silent while others live: a new connection takes over, without a gap for these."""
        now, succession = asyncio.get_running_loop().time(), self._succession
        if not succession.begun and now - succession.renewed > AGAIN_SECONDS:
            succession.due, succession.renewed = 0.0, now

    async def _either(self, other: asyncio.Future[Any] | None, seconds: float | None = None) -> None:
        """Wait until we shall stop, `other` is done, or time is up."""
        futures: list[asyncio.Future[Any]] = [self._stopped, *([other] if other is not None else [])]
        await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    # --------------------------------------------------------------------------------------------- subscriptions

    def _follow(self, line: Line) -> None:
        """Let a connection that is up carry what it shall."""
        connection = line.connection
        wanted, has = self.symbols, connection.subscribed
        if connection.adapter is None or (wanted == has.keys() and connection.listed is self._listed):
            return
        now = self._clock.now_ns()
        new, gone = sorted(wanted - has.keys()), sorted(has.keys() - wanted)
        for symbol in gone:
            del has[symbol]
        has.update(dict.fromkeys(new, now))
        self._say_subscription(connection, line.link)
        if not (new or gone):
            return
        line.link.send([*connection.adapter.subscribe(new), *connection.adapter.unsubscribe(gone)])
        self._capture.gaps(connection, self._capture.ledger.close_unwanted(connection.conn, wanted, now), now)
        self._log.info("subscription follows the venue", conn=connection.conn, added=len(new), dropped=len(gone))

    def _say(self, connection: Connection, kind: str, **told: object) -> None:
        told |= {"type": kind, "feed": self._capture.feed, "conn": connection.conn}
        self._capture.session(connection, msgspec.convert(told, Session), self._clock.now_ns())

    def _say_subscription(self, connection: Connection, link: Link) -> None:
        """What the connection carries from now on: said when it is up, and again whenever that changes."""
        connection.listed = self._listed
        subscription = {"channels": list(self._shared.channels), "symbols": sorted(self._listed)}
        where = {"endpoint": self._shared.endpoint.ws, "local_address": link.local_address}
        self._say(connection, "connected", subscription=subscription, **where)

    def warned(self, notice: Notice) -> None:
        """The adapter of one of our connections has said something for the operator."""
        if notice.kind == "ending":
            self._succession.due = 0.0
        self._log.warning(notice.kind, evidence=notice.evidence, symbols=list(notice.symbols[:20]))
