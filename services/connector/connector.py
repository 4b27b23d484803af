"""The connector process: keeps one connection to the venue, forever, and what it brings safe."""

import asyncio
import contextlib
import math
import random
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from exchanges.port import Key, Notice, Request, Subscription, Unparsable, Venue
from services.connector.asking import Asking
from services.connector.capture import Capture, Connection
from services.connector.link import Link, Refused, Target
from services.connector.publisher import Publisher
from services.connector.rhythm import Rhythm
from ssmd import __version__, broker, config, durable, frames, subjects
from ssmd.clock import SECOND_NS, Clock, RecordedClock
from ssmd.errors import Permanent, Transient
from ssmd.events import GapCause, Session
from ssmd.journal import Journal, Recovery
from ssmd.telemetry import Telemetry

SYNC_SECONDS = 0.05  # a power cut takes at most so much
ALIVE_SECONDS = 30
CONNECT_SECONDS = 10.0
BACKOFF_SECONDS = (0.1, 30.0)
STEADY_SECONDS = 30.0  # a connection that lived so long resets the back-off
LOOK_SECONDS = 0.5
STALE_SECONDS = 10.0  # a venue that answers pings but no commands for so long: connect anew
ASK_SECONDS = 10.0  # how often the archiver is asked what is safe
STOP_SECONDS = 3.0  # for the closing handshake
UNACKED_SECONDS = 3.0  # so long without an acknowledgement is a problem to show
SETTLED_SECONDS = 8.0  # a second connection that owed and asked nothing for so long is whole; some ping every 10 s
AGAIN_SECONDS = 30.0  # between two attempts at a second connection
DRAIN_SECONDS = 5.0  # for JetStream's acknowledgements; what is left stays in the journal

_HEADERS = {"User-Agent": f"ssmd/{__version__}"}

Log = structlog.typing.FilteringBoundLogger
Archived = dict[str, list[tuple[int, int]]]


@dataclass
class Line:
    """A connection that is up: its numbering, its socket, its requests by REST."""

    connection: Connection
    link: Link
    asking: Asking
    restless: float  # loop time at which it last owed or asked something, or was not heard yet

    def ask(self) -> None:
        """Begin to perform what the adapter has asked for."""
        asks = self.connection.asks
        while asks:
            self.asking.ask(asks.pop(0))

    def settled(self, owed: Sequence[bytes], now: float) -> bool:
        """Whether its subscriptions stand and its books are whole: the venue was heard, and nothing is left to do."""
        if owed or self.asking.under_way or self.connection.last_venue_crc32 is None:
            self.restless = now
        return now - self.restless >= SETTLED_SECONDS


@dataclass
class Succession:
    """A second connection, made ready before the first one's time is over."""

    due: float  # loop time at which it is to be opened
    connecting: asyncio.Task[Line | None] | None = None
    heir: Line | None = None

    @property
    def begun(self) -> bool:
        return self.connecting is not None or self.heir is not None

    @property
    def up(self) -> bool:
        return self.heir is not None and not self.heir.link.ended.done()


class Connector:
    """One feed of one environment."""

    def __init__(
        self,
        environment: config.Environment,
        feed: config.Feed,
        addresses: config.Addresses,
        data: Path,
        venue: Venue,
        clock: Clock,
        log: Log,
    ) -> None:
        self._feed = feed
        self._version = feed.at(date.today())
        self._plan = environment.feed(feed.name)
        self._env = environment.name
        self._nats_url = addresses.nats
        self._simulated = self._plan.endpoint == "simulator"
        self._endpoint = self._find_endpoint(addresses)
        self._data = data
        self._venue = venue
        self._clock = clock
        self._log = log
        self._journal = Journal(data / "journal" / feed.name)
        self._archived: Archived = {}
        self._publisher: Publisher | None = None
        self._link: Link | None = None
        self._rest: httpx.AsyncClient | None = None
        self._connection: Connection | None = None
        self._succession = Succession(math.inf)
        self._resume: tuple[str, int | None] | None = None
        self._symbols: set[str] = set()
        self._schedule: bytes | None = None
        self._rhythm = Rhythm()
        self._connected_ns = 0
        self._cause: GapCause = "disconnect"  # why the connection that is, or was the last, ends
        self._reconnects = 0
        self._trouble = "not connected yet"
        self._attached = False
        self._limits = environment.journalling
        self._stopped: asyncio.Task[bool]
        self._capture: Capture
        self._key: Key | None

    def _find_endpoint(self, addresses: config.Addresses) -> config.FeedAddress:
        name, plan = self._feed.name, self._plan
        if self._simulated:
            if name not in addresses.feeds:
                raise Permanent(f"no simulator of {name} is running: start the platform with `ssmd up`")
            return addresses.feeds[name]
        known = self._version.endpoints
        if plan.endpoint not in known:
            raise Permanent(
                f"environment {self._env}: feed {name}: there is no endpoint {plan.endpoint!r}; "
                f"the feed has {', '.join(known)} (and simulator)"
            )
        return config.FeedAddress(known[plan.endpoint].ws, known[plan.endpoint].rest)

    def _load_key(self) -> Key | None:
        if self._plan.key is None:
            if self._version.signed:
                raise Permanent(
                    f"environment {self._env}: feed {self._feed.name} needs a key: give its `key: {{id: …, secret: …}}`"
                )
            return None
        key_id, secret = self._plan.key.load(self._data)
        try:
            return self._venue.key(key_id, secret)
        except Permanent as e:
            raise Permanent(f"{self._plan.key.secret}: {e}") from None

    # ------------------------------------------------------------------------------------------------- lifetime

    async def run(self, stop: asyncio.Event, telemetry: Telemetry) -> None:
        """Capture until `stop` is set; then everything received is journalled, and published if NATS is there."""
        self._key = self._load_key()
        telemetry.problems, telemetry.waiting, telemetry.status = self._problems, self._waiting, self._status
        self._measure(telemetry)
        with durable.Lock(self._journal.folder, f"connector {self._feed.name}"):
            found = self._journal.recover()
            if isinstance(self._clock, RecordedClock):
                self._clock.tell(found.ts_recv)
            if found.cut_bytes:
                self._log.warning("journal had a torn tail", cut_bytes=found.cut_bytes)
            self._publisher = Publisher(
                self._journal, subjects.ends(self._env, self._feed.name), self._is_archived, self._log
            )
            if found.records:
                self._publisher.catch_up()
            self._capture = Capture(self._env, self._feed.name, self._journal, self._publisher.put, self._warn)
            await self._work(stop, found)
            await asyncio.to_thread(self._journal.syncs())
            self._journal.close()

    async def _work(self, stop: asyncio.Event, found: Recovery) -> None:
        assert self._publisher is not None
        stopped = self._stopped = asyncio.create_task(stop.wait())
        capture = asyncio.create_task(self._keep_connected(stop, found))
        background = [
            asyncio.create_task(self._sync()),
            asyncio.create_task(self._publish()),
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._follow_instruments()),
        ]
        try:
            done, _ = await asyncio.wait([stopped, capture, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of these ends by itself but by an error
            try:
                async with asyncio.timeout(STOP_SECONDS + 1):
                    await capture
            except TimeoutError:
                self._log.warning("stopping without a word to the venue; the next start closes the connection")
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._publisher.drained()
            except TimeoutError:
                self._log.warning("stopping with frames that NATS has not taken; they stay in the journal")
        finally:
            for task in (stopped, capture, *background):
                task.cancel()
            await asyncio.gather(stopped, capture, *background, return_exceptions=True)
            if self._rest is not None:
                await self._rest.aclose()

    # ------------------------------------------------------------------------------------------------ connecting

    async def _keep_connected(self, stop: asyncio.Event, found: Recovery) -> None:
        """One connection after the other, until told to stop."""
        before, since = found.conn, found.heard or found.ts_recv
        cause: GapCause = "restart"
        if before is not None:
            self._resume = (before, found.venue_crc32)
        why = "the connector was not running"
        if found.cut_bytes:
            why += f"; a torn record of {found.cut_bytes} bytes was cut from the journal's end"
        self._capture.ledger.adopt(found.open_gaps.values())
        unclosed = {c: n for c, n in found.last.items() if c not in found.closed}
        while not stop.is_set():
            connection = self._connection = self._begin()
            now = self._clock.now_ns()
            for conn, last in unclosed.items():
                closed = Session("close", self._feed.name, conn, frames=last, reason="the connector died")
                self._capture.session(connection, closed, now)
            unclosed = {}
            if before is not None:
                rows = self._capture.ledger.open(connection.conn, cause, since, f"after {before}: {why}")
                self._capture.gaps(connection, rows, now)
            await asyncio.to_thread(self._journal.syncs())  # a next start shall know of this connection
            why = await self._live(connection, stop)
            while (heir := self._succession.heir) is not None:
                self._hand_over(connection, heir, why)
                connection = heir.connection
                why = await self._until_its_end(heir, stop)
            now = self._clock.now_ns()
            if self._cause == "disconnect" and (planned := self._planned()):
                self._cause, why = "maintenance", f"{why}; planned: {planned}"
            if not stop.is_set():
                last = self._capture.last_ts_recv or self._connected_ns or now
                cause = self._cause
                self._capture.gaps(connection, self._capture.ledger.open(connection.conn, cause, last, why), now)
                self._reconnects += 1
            self._say(connection, "close", frames=connection.n + 1, reason=why)
            before, since = connection.conn, self._capture.last_ts_recv or self._connected_ns or now
            self._resume = (connection.conn, connection.last_venue_crc32)

    def _begin(self) -> Connection:
        """A new connection's numbering: from here on it is in force, long before its WebSocket is up."""
        connection = Connection(frames.conn_id(self._feed.name, 0, time.time_ns(), random.getrandbits(16)), None)
        self._say(
            connection,
            "open",
            endpoint=self._endpoint.ws,
            host=socket.gethostname(),
            software=__version__,
        )
        return connection

    async def _live(self, connection: Connection, stop: asyncio.Event) -> str:
        """Connect, however long it takes, and stay until the connection ends; returns why it did."""
        wait = BACKOFF_SECONDS[0]
        while not stop.is_set():
            if self._journal_full():
                await self._wait_for_room(connection)
                continue
            self._cause = "disconnect"
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
                self._trouble = str(e) or type(e).__name__
                level = self._log.error if isinstance(e, Refused) and e.status in {401, 403} else self._log.warning
                level("not connected", reason=self._trouble)
                await self._either(None, random.uniform(0, wait))  # noqa: S311  # full jitter, not a secret
                wait = min(wait * 2, BACKOFF_SECONDS[1])
                continue
            return await self._until_its_end(line, stop)
        return "stopped before it was connected"

    async def _until_its_end(self, line: Line, stop: asyncio.Event) -> str:
        """Stay on a connection that is up; returns why it ended."""
        reason = await self._stay(line, stop)
        if stop.is_set() or not self._succession.up:
            await self._end_succession()
        await line.asking.stop()
        self._link = None
        line.connection.connected = False
        self._trouble = reason
        return "stopped" if stop.is_set() else reason

    def _journal_full(self) -> bool:
        """Whether capture must pause rather than fill the disk: what is on disk already is worth more."""
        usage = shutil.disk_usage(self._journal.folder)
        free_min = min(self._limits.free_bytes_min, usage.total // 20)
        return self._journal.total_bytes >= self._limits.bytes_max or usage.free < free_min

    async def _wait_for_room(self, connection: Connection) -> None:
        """Capture is broken off until the archive has taken some of the journal, or the disk has space again."""
        taken = self._journal.total_bytes
        self._trouble = (
            f"capture is paused: the journal takes {taken:,} bytes of {self._journal.folder}, free some space"
        )
        self._log.error(self._trouble)
        while self._journal_full() and not self._stopped.done():
            await self._either(None, 1.0)
        self._trouble = "connecting again after the journal was full"

    async def _connect(self, connection: Connection, *, second: bool = False) -> Line:
        """Connect and subscribe. A second connection stands beside the first: nothing was missed until it is up."""
        self._symbols = set(await self._list_instruments())
        self._schedule = await self._ask_schedule()
        channels = self._plan.channels or self._version.channels
        names = tuple(sorted(self._symbols))
        adapter = self._venue.adapter(
            Subscription(tuple(channels), names, self._version.limits.symbols_per_subscription)
        )
        connection.adapter = adapter
        line: Line

        def on_open(link: Link) -> Sequence[bytes]:
            nonlocal line
            asking = Asking(self._service, _HEADERS, answered)
            line = Line(connection, link, asking, asyncio.get_running_loop().time())
            connection.connected = True
            self._say_subscription(connection, link)
            if not second:
                self._link = link
                now = self._connected_ns = self._clock.now_ns()
                self._capture.gaps(connection, self._capture.ledger.close_all(now), now)
            self._log.info("connected", conn=connection.conn, symbols=len(names))
            return adapter.opened()

        def on_frames(wires: Sequence[bytes], ts_recv: int) -> Sequence[bytes]:
            owed = self._capture.receive(connection, wires, ts_recv)
            line.ask()
            return owed

        def answered(request: Request, status: int, body: bytes) -> None:
            try:
                wire = request.answered(status, body)
                line.link.send(self._capture.answer(connection, wire, self._clock.now_ns()))
                line.ask()
            except Exception as e:  # of ours, a full disk say: the process must end
                line.link.fail(e)

        target = self._target(connection, None if second else self._resume)
        await Link.connect(target, self._clock, on_open, on_frames, CONNECT_SECONDS)
        return line

    def _target(self, connection: Connection, resume: tuple[str, int | None] | None) -> Target:
        headers = dict(_HEADERS)
        path = "/" + self._endpoint.ws.split("://", 1)[1].partition("/")[2]
        if self._key is not None:
            headers |= self._key.headers("GET", path, time.time_ns())
        if self._simulated:  # lets a replay go on losslessly after a crash of ours
            headers["Ssmd-Connection"] = connection.conn
            if resume is not None:
                conn, crc32 = resume
                headers["Ssmd-Resume"] = f"{conn} {'none' if crc32 is None else f'{crc32:08x}'}"
        return Target(self._endpoint.ws, headers, self._version.compression, self._version.limits.frame_bytes)

    async def _stay(self, line: Line, stop: asyncio.Event) -> str:
        """Until the connection ends, by either side, or falls silent."""
        connection, link = line.connection, line.link
        loop = asyncio.get_running_loop()
        silence = self._version.silence_seconds
        rhythm = self._rhythm
        rhythm.connected(loop.time())
        self._succession = Succession(loop.time() + (self._version.limits.connection_seconds or math.inf))
        while not link.ended.done():
            if stop.is_set():
                link.close()
                await asyncio.wait([link.ended], timeout=STOP_SECONDS)
                link.abort()
                await link.ended
                break
            await self._either(link.ended, LOOK_SECONDS)
            now = self._clock.now_ns()
            owed = self._capture.tick(connection, time.time_ns(), now)
            link.send(owed)
            line.ask()
            if line.settled(owed, loop.time()) and self._capture.ledger.outage:  # it had to take over before it was
                self._capture.gaps(connection, self._capture.ledger.close_all(now), now)
            link.send(self._look_at_rhythm(connection, rhythm, loop.time(), now))
            if await self._second_settled(loop.time()):
                link.close()
                await asyncio.wait([link.ended], timeout=STOP_SECONDS)
                link.abort()
                await link.ended
                return "its time was over, and another connection stood beside it"
            quiet = loop.time() - link.last_heard
            if quiet > silence / 3:
                link.ping()
            if quiet > silence:
                self._cause, reason = "stale", f"nothing heard for {quiet:.1f} s, not even answers to pings"
            elif any(seconds > STALE_SECONDS for _, seconds in rhythm.unexplained(loop.time())):
                self._cause, reason = "stale", f"no data and no answers to commands for {STALE_SECONDS:.0f} s"
            elif self._journal_full():
                self._cause, reason = "overflow", f"the journal is full ({self._journal.total_bytes:,} bytes)"
            else:
                continue
            link.abort()
            await link.ended
            return reason
        return link.ended.result()

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
            self._log.info("the connection's time will be over: opening a second one")
            succession.connecting = asyncio.create_task(self._connect_second())
        return False

    async def _connect_second(self) -> Line | None:
        """The second connection; None, with its close row written, if it cannot be had now."""
        connection = self._begin()
        try:
            return await self._connect(connection, second=True)
        except durable.DiskFailed:
            raise
        except (Transient, Permanent, Unparsable, TimeoutError, httpx.HTTPError) as e:
            why = str(e) or type(e).__name__
            self._log.warning("no second connection yet", reason=why)
        except asyncio.CancelledError:
            why = "not needed any more"
        self._say(connection, "close", frames=connection.n + 1, reason=why)
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
            self._say(heir.connection, "close", frames=heir.connection.n + 1, reason=f"did not take over: {reason}")

    def _hand_over(self, connection: Connection, heir: Line, why: str) -> None:
        """The second connection is the first from now on. Nothing is missing if it was whole before the other ended."""
        now = self._clock.now_ns()
        ledger, conn = self._capture.ledger, heir.connection.conn
        self._capture.gaps(heir.connection, ledger.close_of(connection.conn, now), now)
        if not heir.settled((), asyncio.get_running_loop().time()):
            rows = ledger.open(conn, self._cause, self._capture.last_ts_recv or now, f"after {connection.conn}: {why}")
            self._capture.gaps(heir.connection, rows, now)
        self._say(connection, "close", frames=connection.n + 1, reason=why)
        self._connection, self._link = heir.connection, heir.link
        self._cause = "disconnect"
        self._log.info("handed over", from_=connection.conn, to=conn)

    def _look_at_rhythm(self, connection: Connection, rhythm: Rhythm, now: float, now_ns: int) -> Sequence[bytes]:
        """A busy channel that falls silent: ask the venue; if it does not explain itself, a `stale` gap is open."""
        capture, ledger = self._capture, self._capture.ledger
        heard, capture.heard = capture.heard, {}
        if heard:
            rhythm.answered()
            capture.gaps(connection, ledger.close(connection.conn, "stale", now_ns), now_ns)
        rhythm.heard((c for c in heard if c[0] != "_" and c != frames.CONTROL), now)
        for channel, seconds in rhythm.stale(now):
            since = now_ns - int(seconds * SECOND_NS)
            evidence = f"{channel}: no frame for {seconds:.1f} s, and no answer when the venue was asked"
            capture.gaps(connection, ledger.open(connection.conn, "stale", since, evidence), now_ns)
        suspects = rhythm.suspects(now)
        return connection.adapter.probe() if suspects and connection.adapter is not None else ()

    async def _either(self, other: asyncio.Future[Any] | None, seconds: float | None = None) -> None:
        """Wait until we shall stop, `other` is done, or time is up."""
        futures: list[asyncio.Future[Any]] = [self._stopped, *([other] if other is not None else [])]
        await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    # --------------------------------------------------------------------------------------------- instruments

    def _service(self, request: Request) -> str:
        """The service that a request is for."""
        return f"https://{request.host}" if request.host and not self._simulated else self._endpoint.rest

    async def _list_instruments(self) -> list[str]:
        """The instruments to subscribe to: the named ones, or what the venue lists as open."""
        if self._plan.symbols.names:
            return list(self._plan.symbols.names)
        found: list[str] = []
        todo = list(self._venue.instruments(self._plan.symbols.series))
        while todo:
            request = todo.pop()
            answer = await self._ask(request)
            if answer.status_code != 200:
                raise self._venue.refusal(answer.status_code, answer.content)
            page = self._venue.instruments_page(request, answer.content)
            found += page.symbols
            if page.next is not None:
                todo.append(page.next)
        return found

    async def _ask(self, request: Request) -> httpx.Response:
        """REST, by one client for all requests: making one reads all root certificates, 50 ms without a frame."""
        if self._rest is None:
            self._rest = httpx.AsyncClient(timeout=10)
        return await self._rest.request(request.method, self._service(request) + request.path, params=request.query)

    async def _ask_schedule(self) -> bytes | None:
        """The venue's calendar, if it has one and tells it now."""
        request = self._venue.schedule()
        if request is None:
            return self._schedule
        try:
            answer = await self._ask(request)
        except httpx.HTTPError:
            return self._schedule
        return answer.content if answer.status_code == 200 else self._schedule

    def _planned(self) -> str | None:
        """Why the venue is closed by the feed's calendar or its own; None if it should be open, or we do not know."""
        if self._version.calendar is not None and (reason := self._version.calendar.closed(time.time_ns())):
            return reason
        try:
            return self._venue.closed(self._schedule, time.time_ns()) if self._schedule is not None else None
        except Unparsable as e:
            self._log.warning("the venue's calendar is not as documented", error=str(e))
            return None

    async def _follow_instruments(self) -> None:
        """Subscribe to instruments that open while we are connected, drop those that are gone."""
        while True:
            await asyncio.sleep(self._plan.symbols.refresh_seconds)
            connection, link = self._connection, self._link
            if link is None or connection is None or connection.adapter is None or self._plan.symbols.names:
                continue
            if self._succession.begun:
                continue  # the second connection subscribes to what is listed now, and follows from there
            try:
                listed = set(await self._list_instruments())
            except (Transient, Permanent, Unparsable, httpx.HTTPError) as e:
                self._log.warning("cannot list instruments", error=str(e) or type(e).__name__)
                continue
            new, gone = sorted(listed - self._symbols), sorted(self._symbols - listed)
            if link is not self._link or self._succession.begun or not (new or gone):
                continue
            self._symbols = listed
            self._say_subscription(connection, link)
            link.send([*connection.adapter.subscribe(new), *connection.adapter.unsubscribe(gone)])
            self._log.info("subscription follows the venue", added=len(new), dropped=len(gone))

    # ------------------------------------------------------------------------------------------------ background

    async def _publish(self) -> None:
        """Reach NATS, however long it takes (capture goes on into the journal meanwhile), and publish for ever."""
        assert self._publisher is not None
        nats = await broker.connect(self._nats_url, f"connector-{self._feed.name}", self._log, self._publisher.resend)
        try:
            await nats.subscribe(subjects.replay(self._env, self._feed.name), cb=self._on_replay)
            archived = subjects.archived(self._env, self._feed.name)
            await nats.subscribe(archived, cb=self._on_archived)
            try:
                await self._on_archived(await nats.request(f"{archived}.get", b"", timeout=2))
            except (NatsError, TimeoutError) as e:
                self._log.info("no archiver answers yet: it will drop what it has", error=type(e).__name__)
            await asyncio.gather(
                self._publisher.run(nats, lambda: self._ensure_stream(nats)),
                self._ask_archived(nats, f"{archived}.get"),
            )
        finally:
            await nats.close()

    async def _ensure_stream(self, nats: Client) -> bool:
        """As the publisher asks for after each connect: there is a stream; does it take batches?"""
        env, feed = self._env, self._feed.name
        taken = [f"{subjects.prefix(env, feed)}.json.>", subjects.ends(env, feed)]
        batches = await broker.ensure_stream(nats, subjects.stream(env, feed), taken)
        self._attached = True
        return batches

    async def _ask_archived(self, nats: Client, subject: str) -> None:
        """A confirmation may be lost: as long as the journal keeps more than one segment, ask what is safe."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            if self._journal.segments > 1 and nats.is_connected:
                with contextlib.suppress(NatsError, TimeoutError):
                    await self._on_archived(await nats.request(subject, b"", timeout=2))

    async def _sync(self) -> None:
        """Force the journal to disk in a thread, at most every SYNC_SECONDS."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            if self._capture.dirty:
                self._capture.dirty = False
                await asyncio.to_thread(self._journal.syncs())

    async def _watch(self) -> None:
        """Say that we are alive, and free the journal of what is archived."""
        last_alive = self._clock.now_ns()
        while True:
            await asyncio.sleep(1.0)
            now = self._clock.now_ns()
            if now - last_alive >= ALIVE_SECONDS * SECOND_NS and self._connection is not None:
                last_alive = now
                self._say(self._connection, "alive", connected=self._connection.connected)
            for path in self._journal.confirm(self._are_archived):
                await asyncio.to_thread(durable.remove, path)
            if self._connection is not None:
                self._capture.parse_gap(self._connection, now)

    def _say(self, connection: Connection, kind: str, **told: object) -> None:
        session = msgspec.convert({"type": kind, "feed": self._feed.name, "conn": connection.conn, **told}, Session)
        self._capture.session(connection, session, self._clock.now_ns())

    def _say_subscription(self, connection: Connection, link: Link) -> None:
        """What the connection carries from now on: said when it is up, and again whenever that changes."""
        channels = self._plan.channels or self._version.channels
        subscription = {"channels": list(channels), "symbols": sorted(self._symbols)}
        where = {"endpoint": self._endpoint.ws, "local_address": link.local_address}
        self._say(connection, "connected", subscription=subscription, **where)

    def _warn(self, notice: Notice) -> None:
        if notice.kind == "ending":
            self._succession.due = 0.0
        self._log.warning(notice.kind, evidence=notice.evidence, symbols=list(notice.symbols[:20]))

    # ---------------------------------------------------------------------------------------------- the archiver

    async def _on_archived(self, msg: Msg) -> None:
        for conn, ranges in msgspec.json.decode(msg.data, type=Archived).items():
            self._archived[conn] = ranges

    def _are_archived(self, conn: str, first: int, last: int) -> bool:
        return any(a <= first and last <= b for a, b in self._archived.get(conn, ()))

    def _is_archived(self, message: bytes) -> bool:
        frame = _decode_identity(message)
        return self._are_archived(frame.conn, frame.n, frame.n)

    async def _on_replay(self, msg: Msg) -> None:
        """The archiver misses frames: publish them again, and answer how many there were."""
        asked = msgspec.json.decode(msg.data, type=ReplayRequest)
        records = await asyncio.to_thread(lambda: list(self._journal.find(asked.conn, asked.first, asked.last)))
        assert self._publisher is not None
        self._publisher.again(records)
        if msg.reply:
            await msg.respond(msgspec.json.encode({"found": len(records)}))

    # ------------------------------------------------------------------------------------------------- telemetry

    def _problems(self) -> list[str]:
        wrong = []
        if self._connection is None or not self._connection.connected:
            wrong.append(f"not connected to {self._endpoint.ws}: {self._trouble}")
        publisher = self._publisher
        if publisher is not None and publisher.waiting_seconds > UNACKED_SECONDS:
            why = publisher.last_error or "no answer"
            wrong.append(
                f"NATS has taken no frames for {publisher.waiting_seconds:.0f} s ({why}); they are kept in the journal"
            )
        return wrong

    def _waiting(self) -> list[str]:
        return [] if self._attached else [f"waiting for NATS at {self._nats_url}"]

    def _status(self) -> dict[str, object]:
        capture, publisher = getattr(self, "_capture", None), self._publisher
        return {
            "feed": self._feed.name,
            "connected": bool(self._connection and self._connection.connected),
            "conn": self._connection.conn if self._connection else None,
            "frames": capture.frames if capture else 0,
            "bad": capture.bad if capture else 0,
            "published": publisher.published if publisher else 0,
            "acked": publisher.acked if publisher else 0,
            "unconfirmed": publisher.unacked if publisher else 0,
            "catching_up": bool(publisher and publisher.catching_up),
            "journal_bytes": self._journal.total_bytes,
            "journal_segments": self._journal.segments,
            "gaps_open": capture.ledger.open_count if capture else 0,
            "gaps": capture.ledger.closed + capture.ledger.open_count if capture else 0,
            "reconnects": self._reconnects,
            "symbols": len(self._symbols),
            "last_ts_recv": capture.last_ts_recv if capture else 0,
        }

    def _measure(self, telemetry: Telemetry) -> None:
        status = self._status
        telemetry.gauges("ssmd_connector", lambda: {k: v for k, v in status().items() if isinstance(v, int)})


class Identity(msgspec.Struct, frozen=True, gc=False):
    """As much of a message as tells which frame it is."""

    conn: str
    n: int


_decode_identity = msgspec.json.Decoder(Identity).decode


class ReplayRequest(msgspec.Struct, frozen=True):
    """Frames `first`..`last` of a connection that the archiver misses."""

    conn: str
    first: int
    last: int
