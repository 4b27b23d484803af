"""The archiver process: reads the stream, commits, asks for what is missing, says what is safe, seals days."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from services.archiver import delivery
from services.archiver.delivery import Deliveries, Delivery
from services.archiver.store import Key, Store
from ssmd import broker, config, durable, ending, frames, subjects
from ssmd.archive import Manifest, Ranges
from ssmd.clock import SECOND_NS
from ssmd.events import GapCause, Session
from ssmd.telemetry import Telemetry

REQUEST_MESSAGES = 500
REQUESTS = 4  # outstanding: one is always on its way while another is being worked off
REQUEST_SECONDS = 2.0
REQUEST_BYTES = 4 << 20
DEAD_SECONDS = REQUEST_SECONDS + 2  # a request that got no answer at all for so long: the consumer is gone
BUFFER_BYTES = 64 << 20  # no further requests while the disk is this far behind
CONSUMER_GONE = {"Consumer Deleted", "Server Shutdown", "Leadership Change"}  # Description of a 409
HOUSEKEEPING_SECONDS = 1.0
HOLE_SECONDS = 2.0  # frames sent again may be on their way; then ask
HOLE_TRIES = 3
SEAL_GRACE_SECONDS = 60.0
PURGE_SECONDS = 60.0
KEEP_MESSAGES = 1_000_000  # archived frames that stay in the stream for other readers
DRAIN_SECONDS = 6.0

Log = structlog.typing.FilteringBoundLogger


class SealRequest(msgspec.Struct, frozen=True):
    date: str


class Archiver:
    """The archive of one feed."""

    def __init__(
        self, environment: config.Environment, feed: str, nats_url: str, archive_folder: Path, log: Log
    ) -> None:
        self._env = environment.name
        self._feed = feed
        self._pace = environment.archiving
        self._nats_url = nats_url
        self._replicas = environment.nats.replicas
        self._folder = archive_folder
        self._log = log
        self._stream = subjects.stream(self._env, feed)
        self._store = Store(archive_folder, feed)
        self._nats: Client
        self._ready = False
        self._wait = broker.Wait(self._nats_url, log)
        self._inbox = ""
        self._consumer = ""
        self._requests: dict[int, tuple[float, int]] = {}  # number -> (when, messages still to come), oldest first
        self._request_number = 0
        self._deliveries: Deliveries
        self._ask_now = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._commit_now = asyncio.Event()
        self._pending = 0
        self._asked: dict[tuple[str, int, int], tuple[int, float]] = {}  # hole -> (times asked, when)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._retention = False
        self._delivered = 0  # by the present consumer
        self._consumer_gone = False
        self._finished = 0

    # ------------------------------------------------------------------------------------------------- lifetime

    async def run(self, stop: asyncio.Event, telemetry: Telemetry) -> None:
        """Archive until `stop`; then everything the stream held is in finished segments."""
        telemetry.problems, telemetry.waiting, telemetry.status = self._problems, self._waiting, self._status
        telemetry.gauges("ssmd_archiver", lambda: {k: v for k, v in self._status().items() if isinstance(v, int)})
        durable.make_folder(self._folder / self._feed)
        with durable.Lock(self._folder / self._feed, f"archiver {self._feed}"):
            for mended in await asyncio.to_thread(self._store.recover):
                self._log.error("archive mended", what=mended)
            self._nats = await broker.connect(self._nats_url, f"archiver-{self._feed}", self._log, self._nats_back)
            self._inbox = self._nats.new_inbox()
            self._deliveries = await delivery.subscribe(self._nats, self._inbox, self._take, self._ended)
            await self._ensure_stream()
            await self._nats.subscribe(f"{subjects.archived(self._env, self._feed)}.get", cb=self._on_archived_get)
            await self._nats.subscribe(subjects.seal(self._env, self._feed), cb=self._on_seal)
            await self._nats.subscribe(subjects.finish(self._env, self._feed), cb=self._on_finish)
            await self._open_consumer()
            self._ready = True
            await self._work(stop)
            await self._nats.close()
            self._store.close()

    async def _work(self, stop: asyncio.Event) -> None:
        tasks: list[asyncio.Future[None]] = [
            asyncio.ensure_future(_wait(stop)),
            asyncio.create_task(self._ask_whenever_due()),
            asyncio.create_task(self._commit_regularly()),
            asyncio.create_task(self._keep_house()),
            self._failed,
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._catch_up()
            except (TimeoutError, NatsError, APIError) as e:
                self._log.warning("stopping before the end of the stream; the next start goes on", reason=str(e))
            await self._commit(finish=lambda: self._store.of_day(None))
        finally:
            await ending.end(tasks)

    # ------------------------------------------------------------------------------------------------ consuming

    async def _is_at(self, seq: int, identity: tuple[str, int] | None) -> bool:
        """Whether the stream has this frame there: if not, a power cut took its end, and it has grown again."""
        try:
            # Not `direct`: any replica answers that, also one which has not heard of the stream's end yet.
            stored = await self._nats.jetstream().get_msg(self._stream, seq=seq)
        except NotFoundError:
            return False
        line = frames.parse(stored.data or b"")
        return identity is None or identity == (line.conn, line.n)

    async def _ensure_stream(self) -> None:
        taken = [f"{subjects.prefix(self._env, self._feed)}.json.>"]
        await broker.ensure_stream(self._nats, self._stream, taken, self._replicas, self._wait.told)

    async def _open_consumer(self) -> None:
        """A pull consumer from right after our cursor. The server's own position is never asked for."""
        patience = broker.patience()
        while True:
            jetstream = self._nats.jetstream(timeout=next(patience))
            try:
                state = (await jetstream.stream_info(self._stream)).state
                cursor = self._store.cursor
                if cursor.seq > state.last_seq or (
                    cursor.seq > 0 and cursor.seq >= state.first_seq and not await self._is_at(cursor.seq, cursor.last)
                ):
                    self._log.error("the stream has been reset: reading it from its start", cursor=cursor.seq)
                    cursor.seq = 0
                elif state.first_seq > cursor.seq + 1 and state.last_seq > 0:
                    self._retention = True  # holes that show now have this cause
                    self._log.error("the stream forgot messages before they were archived", first_seq=state.first_seq)
                info = await jetstream.add_consumer(
                    self._stream,
                    ConsumerConfig(
                        name=f"archiver-{time.time_ns():x}",
                        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                        opt_start_seq=cursor.seq + 1,
                        ack_policy=AckPolicy.NONE,
                        inactive_threshold=60,
                        mem_storage=True,
                        max_deliver=-1,
                    ),
                )
                break
            except NotFoundError:  # a power cut took a young stream: its frames are in the connector's journal
                await self._ensure_stream()
            except (NatsError, TimeoutError, APIError) as e:
                self._log.warning("cannot read the stream yet", error=f"{type(e).__name__}: {e}")
                await asyncio.sleep(0.5)
        self._consumer = info.name
        self._deliveries.consume(info.name)
        self._pending = info.num_pending or 0
        self._requests.clear()
        self._consumer_gone = False
        self._delivered = 0
        await self._ask()

    async def _ask(self) -> None:
        """Keep enough pull requests outstanding."""
        while not self._consumer_gone and len(self._requests) < REQUESTS and self._store.buffered_bytes < BUFFER_BYTES:
            self._request_number += 1
            self._requests[self._request_number] = (time.monotonic(), REQUEST_MESSAGES)
            body = b'{"batch":%d,"expires":%d,"max_bytes":%d}' % (
                REQUEST_MESSAGES,
                int(REQUEST_SECONDS * SECOND_NS),
                REQUEST_BYTES,
            )
            await self._nats.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                body,
                reply=f"{self._inbox}.{self._request_number}",
            )

    async def _ask_whenever_due(self) -> None:
        while True:
            await self._ask_now.wait()
            self._ask_now.clear()
            await self._ask()

    def _take(self, delivery: Delivery) -> None:
        """Messages have come."""
        count = len(delivery.seqs)
        if delivery.first != self._delivered + 1 or delivery.last != self._delivered + count:
            self._consumer_gone = True  # some went to a connection that was dead already: read them again
            return
        self._delivered = delivery.last
        self._pending = delivery.pending
        try:
            self._store.add_all(delivery.seqs, delivery.subjects, delivery.messages)
        except Exception as e:  # nats-py would swallow it
            self._fail(e)
        while count and self._requests:  # the server works them off in order
            number, (when, left) = next(iter(self._requests.items()))
            if left > count:
                self._requests[number] = (when, left - count)
            else:
                del self._requests[number]
            count = max(0, count - left)
        if len(self._requests) < REQUESTS:
            self._ask_now.set()
        if self._store.buffered_bytes >= self._pace.commit_bytes:
            self._commit_now.set()

    def _ended(self, number: int, status: str, why: str) -> None:
        """A pull request is over: 404, 408, 409, or 503 if nobody was there to take it."""
        self._requests.pop(number, None)
        if status == "503" or why in CONSUMER_GONE:
            self._consumer_gone = True  # asking it again would be answered at once, for ever
        if status == "409" and why != "Batch Completed" and "MaxBytes" not in why:
            self._log.info("pull request ended", why=why)
        self._ask_now.set()

    def _fail(self, error: Exception) -> None:
        """End the process, for a reason that arose where nobody would see it."""
        if not self._failed.done():
            self._failed.set_exception(error)

    def _nats_back(self) -> None:
        self._consumer_gone = True  # what was on its way to the old connection is lost, and a consumer may be, too

    async def _catch_up(self) -> None:
        """Wait until everything the stream holds now has been taken."""
        last = (await self._nats.jetstream().stream_info(self._stream)).state.last_seq
        while self._store.cursor.seq < last:  # noqa: ASYNC110  # rare and short
            await asyncio.sleep(0.01)

    # --------------------------------------------------------------------------------------------------- commit

    async def _commit_regularly(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.commit_seconds):
                    await self._commit_now.wait()
            except TimeoutError:
                pass
            self._commit_now.clear()
            await self._commit(finish=self._due)

    def _due(self) -> list[Key]:
        rotate_ns = int(self._pace.rotate_seconds * SECOND_NS)
        return self._store.due(time.time_ns(), rotate_ns, self._pace.rotate_bytes)

    async def _commit(
        self, finish: Callable[[], list[Key]] | None = None, seal: Sequence[str] = ()
    ) -> dict[str, Manifest]:
        """Make what is buffered durable; `finish` is asked at that moment, as frames come while we wait our turn."""
        async with self._commit_lock:
            if self._failed.done():  # what a failed commit took is nowhere: nothing may be written after it
                self._failed.result()
            commit = self._store.begin(finish() if finish is not None else (), seal)
            if commit is None:
                return {}
            try:
                manifests = await asyncio.to_thread(self._store.write, commit)
            except Exception as e:  # whoever asked for it, a NATS callback say: the process must end
                self._fail(e)
                raise
            self._finished += len(commit.finished)
            for date, manifest in manifests.items():
                self._store.sealed(date)
                if manifest.sealed:
                    self._log.info("day sealed", date=date, revision=manifest.revision, frames=manifest.frames)
        if commit.archived:
            await self._tell(subjects.archived(self._env, self._feed), commit.archived)
        await self._ask()
        return manifests

    async def _tell(self, subject: str, archived: dict[str, Ranges]) -> None:
        try:
            await self._nats.publish(subject, msgspec.json.encode(archived))
        except (NatsError, OSError) as e:
            self._log.warning("cannot confirm to the connector; it will ask", error=str(e))

    async def _on_archived_get(self, msg: Msg) -> None:
        """A connector has started: commit, then say all that is safe."""
        await self._commit()
        await msg.respond(msgspec.json.encode(self._store.committed()))

    # --------------------------------------------------------------------------------------------- housekeeping

    async def _keep_house(self) -> None:
        purged = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            if not self._nats.is_connected:
                continue
            now = time.monotonic()
            if self._consumer_gone or any(now - when > DEAD_SECONDS for when, _ in self._requests.values()):
                self._log.warning("no answer from the consumer: opening a new one")
                await self._open_consumer()
            await self._ask()
            await self._ask_for_holes()
            if self._pending == 0 and not self._asking():
                over = self._store.over(time.time_ns(), int(SEAL_GRACE_SECONDS * SECOND_NS))
                if over:
                    await self._commit(seal=over)
            if now - purged > PURGE_SECONDS:
                purged = now
                self._store.forget(time.time_ns())
                await self._purge()

    async def _ask_for_holes(self) -> None:
        """Ask the connector for frames that should be here; it has them in its journal."""
        now = time.monotonic()
        holes = {(conn, a, b) for conn in list(self._store.cursor.conns) for a, b in self._store.holes(conn)}
        self._asked = {hole: asked for hole, asked in self._asked.items() if hole in holes}
        given_up = []
        for hole in holes:
            times, when = self._asked.setdefault(hole, (0, now))
            if now - when < HOLE_SECONDS or times > HOLE_TRIES:
                continue
            if times == HOLE_TRIES:
                self._asked[hole] = (times + 1, now)
                given_up.append(hole)
                continue
            self._asked[hole] = (times + 1, now)
            conn, first, last = hole
            self._log.warning("frames are missing: asking the connector", conn=conn, first=first, last=last)
            request = msgspec.json.encode({"conn": conn, "first": first, "last": last})
            await self._nats.publish(subjects.replay(self._env, self._feed), request)
        if given_up:
            try:
                await self._write_lost(given_up)
            except (NatsError, TimeoutError, APIError) as e:
                self._log.warning("cannot enter lost frames yet", error=f"{type(e).__name__}: {e}")
                for hole in given_up:
                    self._asked[hole] = (HOLE_TRIES, now)

    def _asking(self) -> bool:
        """Whether frames are still being looked for."""
        return any(times < HOLE_TRIES for times, _ in self._asked.values())

    async def _write_lost(self, holes: list[tuple[str, int, int]]) -> None:
        """Enter in the ledger what can be had nowhere, by way of the stream like every other row.

        The rows are a connection of their own, closed at once: no day has to wait for it.
        """
        cause: GapCause = "retention" if self._retention else "lost"
        why = "NATS had removed them" if self._retention else "the stream has a hole there"
        rows = [
            gap
            for conn, a, b in holes
            if (gap := self._store.lost(conn, a, b, cause, f"frames {a} to {b}: {why}, and no journal has them"))
        ]
        if not rows:
            return
        now = time.time_ns()
        ts_recv = max(row.end or row.start for row in rows)  # in the day of the holes, under whatever clock
        conn = frames.conn_id(f"{self._feed}-archiver", 0, now, random.getrandbits(16))
        close = Session("close", self._feed, conn, frames=len(rows) + 1, reason="a note of the archiver's")
        bodies = [(frames.GAP, msgspec.json.encode(row)) for row in rows]
        for n, (channel, body) in enumerate([*bodies, (frames.SESSION, msgspec.json.encode(close))], 1):
            subject = subjects.frame(self._env, self._feed, channel, None)
            message = frames.message(ts_recv, conn.encode(), n, body)
            await self._nats.jetstream().publish(subject, message, timeout=5)
        self._log.error("frames are lost", holes=[f"{conn} {a}..{b}" for conn, a, b in holes])

    async def _purge(self) -> None:
        """Let the stream forget old archived frames, and only those."""
        keep_from = self._store.committed_seq - KEEP_MESSAGES
        if keep_from > 1:
            try:
                await self._nats.jetstream().purge_stream(self._stream, seq=keep_from)
            except (NatsError, TimeoutError, APIError) as e:
                self._log.warning("cannot purge the stream", error=str(e))

    # --------------------------------------------------------------------------------------------------- sealing

    async def _on_seal(self, msg: Msg) -> None:
        """Seal a day now: first everything the stream holds, then the manifest."""
        try:
            date = msgspec.json.decode(msg.data, type=SealRequest).date
            await self._catch_up()
            manifest = (await self._commit(seal=[date])).get(date)
            if manifest is None or not manifest.segments:
                answer: dict[str, object] = {"error": f"{self._feed} has no frames of {date}"}
            else:
                answer = {"ok": True, "revision": manifest.revision, "frames": manifest.frames}
        except (msgspec.DecodeError, NatsError, APIError, TimeoutError) as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        except durable.DiskFailed as e:
            answer = {"error": str(e)}
            self._fail(e)
        await msg.respond(msgspec.json.encode(answer))

    async def _on_finish(self, msg: Msg) -> None:
        """Let readers have a day's frames now: first everything the stream holds, then its parts become segments."""
        try:
            date = msgspec.json.decode(msg.data, type=SealRequest).date
            await self._catch_up()
            await self._commit(finish=lambda: self._store.of_day(date))
            answer: dict[str, object] = {"ok": True}
        except (msgspec.DecodeError, NatsError, APIError, TimeoutError) as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        except durable.DiskFailed as e:
            answer = {"error": str(e)}
            self._fail(e)
        await msg.respond(msgspec.json.encode(answer))

    # ------------------------------------------------------------------------------------------------- telemetry

    def _problems(self) -> list[str]:
        wrong = []
        if self._ready and not self._nats.is_connected:
            wrong.append(f"not connected to NATS at {self._nats_url}")
        lost = [hole for hole, (times, _) in self._asked.items() if times >= HOLE_TRIES]
        if lost:
            wrong.append(f"{len(lost)} holes could not be filled, the first: {lost[0]}")
        return wrong

    def _waiting(self) -> list[str]:
        return [] if self._ready else [self._wait.sentence]

    def _status(self) -> dict[str, object]:
        store = self._store
        return {
            "feed": self._feed,
            "archived": store.records,
            "stream_seq": store.cursor.seq,
            "pending": self._pending,
            "lag_ms": max(0, time.time_ns() - store.last_ts_recv) // 1_000_000 if self._pending else 0,
            "segments": self._finished,
            "parts": len(store.of_day(None)),
            "buffered_bytes": store.buffered_bytes,
            "duplicates": store.duplicates,
            "holes": len(self._asked),
            "days": [
                {"date": date, "frames": sum(c for _, _, c in day.conns.values()), "sealed": day.sealed}
                for date, day in sorted(store.cursor.days.items())
            ],
        }


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
