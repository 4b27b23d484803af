"""The connector process: keeps a feed's connections to its venue up, for ever, and what they bring safe."""

import asyncio
import contextlib
from datetime import date
from pathlib import Path

import httpx
import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from exchanges.port import Key, Notice, Subscription, Unparsable, Venue
from services.connector.capture import Capture, Connection
from services.connector.carrier import STOP_SECONDS, Carrier, Shared
from services.connector.instruments import Instruments, Rest
from services.connector.pace import Pace
from services.connector.publisher import Publisher
from services.connector.spread import Spread
from ssmd import broker, config, durable, ending, frames, subjects
from ssmd.changes import Changes
from ssmd.clock import SECOND_NS, Clock, RecordedClock
from ssmd.errors import Permanent, Transient
from ssmd.events import Gap, Session
from ssmd.journal import Former, Journal, Recovery
from ssmd.telemetry import Telemetry

SYNC_SECONDS = 0.05  # a power cut takes at most so much
ALIVE_SECONDS = 30
ASK_SECONDS = 10.0  # how often the archiver is asked what is safe
UNACKED_SECONDS = 3.0  # so long without an acknowledgement is a problem to show
DRAIN_SECONDS = 5.0  # for JetStream's acknowledgements; what is left stays in the journal
CARRIED = "connections.json"  # beside the journal: what each connection carries, where there are several
SYMBOLS_TOLD_MAX = 10
SHARDS_MAX = 100  # as configuration allows

Log = structlog.typing.FilteringBoundLogger
Archived = dict[str, list[tuple[int, int]]]


class Connector:
    """One feed of one environment, or the part of it that one of several connector processes has."""

    def __init__(
        self,
        environment: config.Environment,
        feed: config.Feed,
        addresses: config.Addresses,
        data: Path,
        venue: Venue,
        clock: Clock,
        log: Log,
        shard: int = 0,
    ) -> None:
        """Raises Permanent if the environment has no such shard."""
        self._feed = feed
        self._shard = shard
        self._name = f"{feed.name}.{shard}" if shard else feed.name
        self._version = feed.at(date.today())
        self._plan = environment.feed(feed.name)
        self._env = environment.name
        self._nats_url = addresses.nats
        self._replicas = environment.nats.replicas
        self._simulated = self._plan.endpoint == "simulator"
        self._endpoint = self._find_endpoint(addresses)
        self._data = data
        self._venue = venue
        self._clock = clock
        self._log = log
        if shard >= self._plan.shards:
            raise Permanent(
                f"environment {self._env}: feed {feed.name} has {self._plan.shards} shards, numbered from 0: "
                f"there is no shard {shard}"
            )
        self._journal = Journal(data / "journal" / self._name)
        self._journalling = environment.journalling
        self._archived: Archived = {}
        self._publisher: Publisher | None = None
        self._attached = False
        self._wait = broker.Wait(self._nats_url, log)
        self._rest = Rest(self._endpoint.rest, self._simulated)
        self._instruments = Instruments(
            self._plan.symbols, venue, self._rest, log, self._version.calendar, alone=self._plan.shards == 1
        )
        self._channels = tuple(self._plan.channels or self._version.channels)
        self._carried: dict[int, list[str]] | None = None  # as it is written down
        self._writing = asyncio.Lock()
        self._every: frozenset[str] = frozenset()
        self._spread: Spread
        self._carriers: dict[int, Carrier] = {}
        self._tasks: dict[Carrier, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()  # one of them
        self._capture: Capture
        self._shared: Shared

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
        key = self._load_key()
        telemetry.problems, telemetry.waiting, telemetry.status = self._problems, self._waiting, self._status
        self._measure(telemetry)
        self._refuse_forgotten()
        with durable.Lock(self._journal.folder, f"connector {self._name}"):
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
            self._capture = Capture(
                self._env, self._feed.name, self._journal, self._publisher.put, self._warned, self._shard
            )
            self._prepare(key)
            await self._work(stop, found)
            await asyncio.to_thread(self._journal.syncs())
            self._journal.close()

    def _refuse_forgotten(self) -> None:
        """Raises Permanent if shards that are no more have left a journal: nobody would publish what is in it."""
        for n in range(self._plan.shards, SHARDS_MAX) if self._shard == 0 else ():
            folder = self._journal.folder.with_name(f"{self._feed.name}.{n}")
            if any(folder.glob("*.journal")):
                raise Permanent(
                    f"{folder} holds frames of shard {n}, and environment {self._env} has {self._plan.shards} of "
                    f"{self._feed.name}: start once more with `shards: {n + 1}` until all of it is archived, then "
                    "remove that folder"
                )

    def _prepare(self, key: Key | None) -> None:
        limits = self._version.limits
        self._carried = self._read_carried()
        self._spread = Spread(limits.symbols_max(len(self._channels)), limits.connections, self._carried)
        self._shared = Shared(
            name=self._name,
            version=self._version,
            channels=self._channels,
            endpoint=self._endpoint,
            simulated=self._simulated,
            venue=self._venue,
            key=key,
            clock=self._clock,
            log=self._log,
            journal=self._journal,
            journalling=self._journalling,
            capture=self._capture,
            rest=self._rest,
            instruments=self._instruments,
            pace=Pace(limits.connects_per_minute),
            firehose=self._plan.shards == 1,
            brings_all=self._brings_all(),
            prepare=self._know_what_to_carry,
            connected=self._connected,
        )

    def _brings_all(self) -> bool:
        try:
            subscription = Subscription(self._channels, ("",), firehose=self._plan.shards == 1)
            return self._venue.adapter(subscription).brings_all
        except Permanent:  # it will be told when a connection is tried, for as long as it is not mended
            return False

    async def _work(self, stop: asyncio.Event, found: Recovery) -> None:
        assert self._publisher is not None
        stopped = asyncio.create_task(stop.wait())
        capture = asyncio.create_task(self._keep_connected(stopped, found))
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
            await ending.end([stopped, capture, *background, *self._tasks.values()])
            await self._rest.close()

    # ----------------------------------------------------------------------------------------------- connections

    async def _keep_connected(self, stopped: asyncio.Task[bool], found: Recovery) -> None:
        """All connections, until told to stop; an error of any is raised."""
        why = "the connector was not running"
        if found.cut_bytes:
            why += f"; a torn record of {found.cut_bytes} bytes was cut from the journal's end"
        self._capture.ledger.adopt(found.open_gaps.values())
        unclosed = {conn: n for conn, n in found.last.items() if conn not in found.closed}
        every = frozenset().union(*self._spread.places.values())
        for number, symbols in sorted(self._spread.places.items()):
            self._add_carrier(number).carry(symbols, every)
        for number, carrier in self._carriers.items():
            own = {conn: n for conn, n in unclosed.items() if number == 0 or frames.place(conn) == carrier.name}
            if number == 0:  # and those of places that are no more
                others = {c.name for c in self._carriers.values()} - {carrier.name}
                own = {conn: n for conn, n in own.items() if frames.place(conn) not in others}
            self._start(carrier, self._former(carrier, found), why, own)
        stopped.add_done_callback(lambda _: self._ended.set())
        while not stopped.done():
            await self._ended.wait()
            self._ended.clear()
            for carrier, task in list(self._tasks.items()):
                if task.done():
                    task.result()
                    del self._tasks[carrier]
        for carrier in self._carriers.values():
            carrier.stop.set()
        await asyncio.gather(*self._tasks.values())

    def _former(self, carrier: Carrier, found: Recovery) -> Former | None:
        """What the last run left of this place. If the journal has no frame of the venue's any more, what is missing
        begins before what it has, by the time it may take until a dead connection is seen."""
        former = found.places.get(carrier.name) or (found.places.get("") if carrier.number == 0 else None)
        if former is not None and not former.heard:
            alone = len(self._carriers) == 1
            former.heard = found.ts_recv if alone else former.first - int(self._version.silence_seconds * SECOND_NS)
        return former

    def _add_carrier(self, number: int) -> Carrier:
        carrier = Carrier(number, self._shared, general=number == self._shard == 0, places=lambda: len(self._carriers))
        self._carriers[number] = carrier
        return carrier

    def _start(self, carrier: Carrier, former: Former | None, why: str, unclosed: dict[str, int]) -> None:
        task = self._tasks[carrier] = asyncio.create_task(carrier.run(former, why, unclosed))
        task.add_done_callback(lambda _: self._ended.set())

    async def _know_what_to_carry(self) -> None:
        """Before an attempt to connect: what is listed now is spread, and what each place carries written down."""
        self.carry(await self._instruments.wanted())
        await self._instruments.ask_schedule()
        await self._write_carried()

    def carry(self, wanted: frozenset[str]) -> None:
        """Carry these instruments from now on. Which connection has which is decided here, and nowhere else."""
        left, shards = self._spread.left, self._plan.shards
        together = self._instruments.together
        own = wanted
        if shards > 1:
            own = frozenset(s for s in wanted if self._plan.shard_of(together.get(s, s)) == self._shard)
        for number, change in self._spread.follow(own, together).items():
            if number not in self._spread.places:
                self._retire(self._carriers.pop(number))
            elif number not in self._carriers:
                self._start(self._add_carrier(number), None, "", {})
            if len(self._spread.places) > 1:
                self._log.info("carrying", place=number, added=len(change.new), dropped=len(change.gone))
        if wanted != self._every:
            self._every = wanted
            for number, carrier in self._carriers.items():
                carrier.carry(self._spread.places[number], wanted)
        if self._spread.left != left:
            self._tell_left()

    def _retire(self, carrier: Carrier) -> None:
        """It has nothing to carry any more, so nothing of it is missing."""
        if carrier.connection is not None:
            now = self._clock.now_ns()
            self._capture.gaps(carrier.connection, self._capture.ledger.close_place(carrier.connection.conn, now), now)
        carrier.stop.set()

    def _connected(self, carrier: Carrier) -> None:
        """A connection of this place is up, and all gaps of the place are over; what has no room is still missing."""
        if carrier.number == 0:
            self._tell_left()

    def _tell_left(self) -> None:
        connection, left = self._carriers[0].connection, self._spread.left
        if connection is None or not connection.connected:
            return
        now, limits = self._clock.now_ns(), self._version.limits
        ledger, symbols_max = self._capture.ledger, limits.symbols_max(len(self._channels))
        evidence = f"more than {limits.connections} connections of {symbols_max} instruments can carry"
        self._capture.gaps(connection, ledger.close_evident(connection.conn, evidence, now), now)
        if left:
            told = ", ".join(left[:SYMBOLS_TOLD_MAX])
            self._log.error("instruments are not captured", reason=evidence, count=len(left), first=told)
            self._capture.gaps(connection, ledger.open(connection.conn, "refused", now, evidence, left), now)

    def _read_carried(self) -> dict[int, list[str]] | None:
        """What each connection of the last run carried; None if it had one alone."""
        path = self._journal.folder / CARRIED
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[int, list[str]])
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            self._log.warning("damaged, and so not taken into account", path=str(path), error=str(e))
            return None

    async def _write_carried(self) -> None:
        """So that the next start begins where this run left each instrument, and knows what it misses of which."""
        async with self._writing:
            places = {number: sorted(symbols) for number, symbols in self._spread.places.items()}
            if places == self._carried or (self._carried is None and len(places) == 1):
                return
            await asyncio.to_thread(durable.replace, self._journal.folder / CARRIED, msgspec.json.encode(places))
            self._carried = places

    async def _follow_instruments(self) -> None:
        """Carry instruments that open while we are connected, drop those that are gone."""
        while True:
            await asyncio.sleep(self._plan.symbols.refresh_seconds)
            if self._plan.symbols.names or not any(c.connected for c in self._carriers.values()):
                continue
            try:
                self.carry(await self._instruments.wanted(fresh=True))
            except (Transient, Permanent, Unparsable, httpx.HTTPError) as e:
                self._log.warning("cannot list instruments", error=str(e) or type(e).__name__)
                continue
            await self._write_carried()

    async def _on_changes(self, msg: Msg) -> None:
        """Instruments have changed: follow at once. What is missed here, the next listing tells."""
        try:
            told = msgspec.json.decode(msg.data, type=Changes)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            self._log.warning("changes of instruments that cannot be read", subject=msg.subject, error=str(e))
            return
        if told.feed != self._feed.name or not any(c.connected for c in self._carriers.values()):
            return
        wanted = self._instruments.changed(told.changes)
        if wanted is not None:
            self.carry(wanted)
            await self._write_carried()

    def _warned(self, connection: Connection, notice: Notice) -> None:
        place = frames.place(connection.conn)
        carrier = next((c for c in self._carriers.values() if c.name == place), None)
        if carrier is not None:
            carrier.warned(notice)

    # ------------------------------------------------------------------------------------------------ background

    async def _publish(self) -> None:
        """Reach NATS, however long it takes (capture goes on into the journal meanwhile), and publish for ever."""
        assert self._publisher is not None
        nats = await broker.connect(self._nats_url, f"connector-{self._name}", self._log, self._publisher.resend)
        try:
            await nats.subscribe(subjects.replay(self._env, self._feed.name), cb=self._on_replay)
            await nats.subscribe(subjects.secmaster_changes(self._env), cb=self._on_changes)
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
        taken = [*subjects.raw(env, feed, self._plan.shards), subjects.ends(env, feed)]
        batches = await broker.ensure_stream(nats, subjects.stream(env, feed), taken, self._replicas, self._wait.told)
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
        """Say that our connections are alive, and free the journal of what is archived."""
        capture, last_alive = self._capture, self._clock.now_ns()
        while True:
            await asyncio.sleep(1.0)
            now = self._clock.now_ns()
            if now - last_alive >= ALIVE_SECONDS * SECOND_NS:
                last_alive = now
                for connection in list(capture.live.values()):
                    alive = Session("alive", capture.feed, connection.conn, connected=connection.connected)
                    capture.session(connection, alive, now)
            for path in self._journal.confirm(self._are_archived):
                await asyncio.to_thread(durable.remove, path)
            for connection in list(capture.live.values()):
                capture.parse_gap(connection, now)

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
        for carrier in self._carriers.values():
            if not carrier.connected:
                which = "" if len(self._carriers) == 1 else f" (place {carrier.number}, {len(carrier.symbols)} symbols)"
                wrong.append(f"not connected to {self._endpoint.ws}{which}: {carrier.trouble}")
        publisher = self._publisher
        if publisher is not None and publisher.waiting_seconds > UNACKED_SECONDS:
            why = publisher.last_error or "no answer"
            wrong.append(
                f"NATS has taken no frames for {publisher.waiting_seconds:.0f} s ({why}); they are kept in the journal"
            )
        return wrong

    def _waiting(self) -> list[str]:
        return [] if self._attached else [self._wait.sentence]

    def _status(self) -> dict[str, object]:
        capture, publisher = getattr(self, "_capture", None), self._publisher
        carriers = list(self._carriers.values())
        first = carriers[0].connection if carriers else None
        return {
            "feed": self._feed.name,
            "connected": bool(carriers) and all(carrier.connected for carrier in carriers),
            "connections": len(carriers),
            "conn": first.conn if first else None,
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
            "refused": [_told(gap) for gap in capture.ledger.refused] if capture else [],
            "reconnects": sum(carrier.reconnects for carrier in carriers),
            "symbols": sum(len(carrier.symbols) for carrier in carriers),
            "last_ts_recv": capture.last_ts_recv if capture else 0,
        }

    def _measure(self, telemetry: Telemetry) -> None:
        status = self._status
        telemetry.gauges("ssmd_connector", lambda: {k: v for k, v in status().items() if isinstance(v, int)})


def _told(gap: Gap) -> dict[str, object]:
    """What was refused, for the operator: how many instruments, the first of them, and what was seen."""
    return {"symbols": len(gap.symbols), "first": gap.symbols[:SYMBOLS_TOLD_MAX], "evidence": gap.evidence}


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
