"""From journal to JetStream: a window of unacknowledged publishes, and the journal as the queue behind it.

Frames just journalled are handed over in memory and go out within the call. When NATS is slow or away, more than
`QUEUE_BYTES` would pile up: then what waits in memory is dropped and read from the journal again, in order, until it
has caught up. A start after a crash is the same: catch up from the oldest segment. Nothing counts as sent before it
is acknowledged; how, is a matter of the lane (`lanes.py`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.connector.lanes import FLOW, BatchLane, Lane, SingleLane
from ssmd import broker
from ssmd.journal import Journal, Position, Record

QUEUE_BYTES = 16 << 20  # waiting in memory before the journal takes over: 0.5 s at 100k frames/s of 300 bytes
FLIGHT_BYTES = 8 << 20  # unacknowledged, or one frame
UNSYNCED_SECONDS = 150.0  # nats-server's default sync_interval is 2 minutes
ACK_SECONDS = 5.0  # a full disk gives no answer at all (measured with nats-server 2.15); then send again
END_SECONDS = 0.25  # a batch without an acknowledgement for so long is ended, which acknowledges the rest of it
REFUSED_SECONDS = 1.0  # an explicit refusal (stream full, no stream yet): send again after this
LOOK_SECONDS = 0.1  # how often overdue acknowledgements are looked for


class Batch(NamedTuple):
    """Records that lie together in the journal from `position` on; None: not to be dropped for the journal."""

    position: Position | None
    records: Sequence[Record]
    bytes: int


class Publisher:
    """Publishes records in order, each until it is acknowledged."""

    def __init__(
        self,
        journal: Journal,
        ends: str,
        archived: Callable[[bytes], bool],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        """`ends` is the subject where batches are ended; `archived` says which messages need not be sent again."""
        self._nats: Client
        self._journal = journal
        self._log = log
        self._queue: deque[Batch] = deque()
        self._queued_bytes = 0
        self._current: Iterator[Record] = iter(())
        self._behind: Position | None = None  # where in the journal to read on; None: the rest is in the queue
        self._ends = ends
        self._archived = archived
        self._begun: deque[tuple[float, Position]] = deque()  # when the publishing of what stands there began
        self._lane: Lane | None = None  # None: not connected yet, or resting after a refusal
        self._lanes = 0
        self._flight: deque[Record] = deque()  # what the lane has not acknowledged, oldest first
        self._flight_bytes = 0
        self._again: deque[Record] = deque()  # what a lane that is over had not acknowledged: goes first
        self._batches = False  # the stream takes them
        self._prepared = False
        self._rest_until = 0.0
        self._inbox = ""
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()  # when the lane last made progress, or began to have something in flight
        self._last_ack = self._loop.time()  # or when, after a quiet time, there was something to send again
        self.published = 0
        self.acked = 0
        self.last_error = ""

    @property
    def unacked(self) -> int:
        return len(self._flight) + len(self._again)

    @property
    def waiting_seconds(self) -> float:
        """How long frames that should be in JetStream have waited for any acknowledgement; 0 if there are none."""
        return 0.0 if self._drained.is_set() else self._loop.time() - self._last_ack

    @property
    def catching_up(self) -> bool:
        """It reads from the journal, not from memory."""
        return self._behind is not None

    def catch_up(self) -> None:
        """Begin with what the journal holds from a former run, but not messages that are archived already."""
        self._behind = self._journal.start()
        self._begin()

    def put(self, position: Position, records: Sequence[Record]) -> None:
        """Take over records which the journal holds from `position` on; they go out now if there is room."""
        self._begin()
        if self._behind is not None:
            return  # they will be read from the journal
        size = sum([len(message) for _, message in records])
        self._queue.append(Batch(position, records, size))
        self._queued_bytes += size
        self._pump()
        if self._queued_bytes > QUEUE_BYTES:
            self._fall_back()

    def again(self, records: Sequence[Record]) -> None:
        """Publish records of the journal a second time, after what is queued."""
        self._begin()
        self._queue.append(Batch(None, records, 0))
        self._wake.set()

    def resend(self) -> None:
        """After a reconnect: everything goes out once more that is unacknowledged, or that NATS may have lost.

        It syncs lazily: what it acknowledged in the last minutes is gone after a power cut, unless archived.
        """
        self._give_up()
        self._prepared = False
        position = self._journal.start()
        for begun, place in self._begun:
            if begun <= self._loop.time() - UNSYNCED_SECONDS:
                position = max(position, place)
        self._behind = position if self._behind is None else min(position, self._behind)
        self._queue = deque(b for b in self._queue if b.position is None)
        self._queued_bytes = 0
        self._current = iter(())
        self._begin()

    async def drained(self) -> None:
        """Wait until everything taken over is acknowledged."""
        await self._drained.wait()

    async def run(self, nats: Client, prepare: Callable[[], Awaitable[bool]]) -> None:
        """Publish for ever. `prepare` makes sure that there is a stream, and says whether it takes batches."""
        self._nats = nats
        self._inbox = nats.new_inbox()
        # No limits: what can arrive is bounded by the window, and a dropped acknowledgement would be a resend.
        await nats.subscribe(f"{self._inbox}.>", cb=self._answered, pending_msgs_limit=-1, pending_bytes_limit=-1)
        while True:
            if not self._prepared:
                self._prepared = True  # unless there is a reconnect meanwhile
                self._batches = await prepare()
                continue
            self._look()
            if self._pump() and self._behind is not None:
                self._read_on(self._behind)
                await asyncio.sleep(0)  # a piece at a time: capture must not wait
            else:
                await self._pause()

    async def _pause(self) -> None:
        """Until something happens that is not dealt with where it happens."""
        self._wake.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------------------------------------------- what to send

    def _begin(self) -> None:
        """There is something to send."""
        if self._drained.is_set():
            self._drained.clear()
            self._last_ack = self._loop.time()

    def _take(self, room: int) -> list[Record]:
        """The next records, at most `room` of them and from one batch."""
        again, queue = self._again, self._queue
        if again:
            return [again.popleft() for _ in range(min(room, len(again)))]
        records = list(islice(self._current, room))
        while not records and queue:
            batch = queue.popleft()
            self._queued_bytes -= batch.bytes
            if batch.position is not None:
                self._note(batch.position)
            self._current = iter(batch.records)
            records = list(islice(self._current, room))
        return records

    def _read_on(self, behind: Position) -> None:
        """The next piece of the journal."""
        self._note(behind)
        if not self.unacked:
            self._last_ack = self._loop.time()  # it is the journal that is waited for
        records, after = self._journal.read_from(behind)
        self._current = iter([r for r in records if not self._archived(r.message)])
        self._behind = None if after == self._journal.end() else after

    def _note(self, position: Position) -> None:
        """Remember, once a second, where publishing was."""
        now, begun = self._loop.time(), self._begun
        if not begun or now - begun[-1][0] >= 1.0:
            begun.append((now, position))
            while len(begun) > 1 and begun[1][0] <= now - UNSYNCED_SECONDS:
                begun.popleft()

    def _fall_back(self) -> None:
        """Forget what waits in memory; the journal has it."""
        first = next(b.position for b in self._queue if b.position is not None)
        self._queue = deque(b for b in self._queue if b.position is None)
        self._queued_bytes = 0
        self._behind = first
        self._log.info("publisher fell behind: it reads on from the journal", segment=first.segment)

    # ---------------------------------------------------------------------------------------------------- the lane

    def _room(self) -> int:
        lane = self._lane
        if lane is None or self._flight_bytes >= FLIGHT_BYTES or not self._nats.is_connected:
            return 0
        return lane.room

    def _pump(self) -> bool:
        """Send what there is room for; returns whether there is room for more than there is in memory."""
        while room := self._room():
            records = self._take(room)
            if not records:
                if not self.unacked and self._behind is None:
                    self._drained.set()
                return True
            self._send(records)
        if self._flight_bytes >= FLIGHT_BYTES and len(self._flight) < FLOW:
            self._end()  # nothing more goes out before an acknowledgement, and none would come by itself
        return False

    def _send(self, records: Sequence[Record]) -> None:
        assert self._lane is not None
        sizes = [len(message) for _, message in records]
        if max(sizes) > self._nats.max_payload:
            if records := self._without_too_large(records):
                self._send(records)
            return
        if not self._flight:
            self._heard = self._loop.time()
        self._flight.extend(records)
        self._flight_bytes += sum(sizes)
        broker.write(self._nats, self._lane.publish(records))
        self.published += len(records)

    def _without_too_large(self, records: Sequence[Record]) -> list[Record]:
        """NATS would break the connection off. The archiver asks for them in vain, and enters them in the ledger."""
        limit = self._nats.max_payload
        for subject, message in records:
            if len(message) > limit:
                self.last_error = f"{subject}: a frame of {len(message):,} bytes, NATS takes {limit:,} (max_payload)"
                self._log.error("a frame is not published", reason=self.last_error)
        return [record for record in records if len(record.message) <= limit]

    async def _answered(self, msg: Msg) -> None:
        lane = self._lane
        if lane is None or not msg.subject.startswith(lane.inbox):
            return  # of a lane that was given up; both copies may be stored, the archiver drops one
        before = lane.acked
        lane.answered(msg.subject, msg.data)
        self._advance(lane.acked - before)
        if lane.over:
            if lane.refusal:
                self._refused(lane)
            else:
                self._new_lane()
        self._pump()
        if self._behind is not None:
            self._wake.set()

    def _advance(self, count: int) -> None:
        if count:
            for _ in range(count):
                self._flight_bytes -= len(self._flight.popleft().message)
            self.acked += count
            self._heard = self._last_ack = self._loop.time()
            self.last_error = ""

    def _refused(self, lane: Lane) -> None:
        if lane.unsupported:
            self._batches = False
        if lane.refusal != self.last_error:
            self._log.warning("JetStream refused frames; they are sent again", error=lane.refusal)
        self.last_error = lane.refusal
        self._give_up(0.0 if lane.unsupported else REFUSED_SECONDS)

    def _give_up(self, rest_seconds: float = 0.0) -> None:
        """Whatever the lane has not acknowledged goes out again, in a new one."""
        self._again.extendleft(reversed(self._flight))
        self._flight.clear()
        self._flight_bytes = 0
        self._lane = None
        self._rest_until = self._loop.time() + rest_seconds
        self._wake.set()

    def _new_lane(self) -> None:
        self._lanes += 1
        # The token before the last dot names the batch to the server, which knows those of all connections.
        name = f"{self._inbox.rpartition('.')[2]}-{self._lanes}"
        inbox = f"{self._inbox}.{name}."
        self._lane = BatchLane(inbox, self._ends) if self._batches else SingleLane(inbox)
        self._heard = self._loop.time()

    def _look(self) -> None:
        """What the passing of time asks for: a new lane, the end of one, or giving up on answers."""
        lane, now = self._lane, self._loop.time()
        if not self._nats.is_connected:
            return
        if lane is None:
            if now >= self._rest_until:
                self._new_lane()
        elif (self._flight or lane.ending) and now - self._heard >= ACK_SECONDS:
            self._give_up()
        elif now - self._heard >= END_SECONDS:
            self._end()

    def _end(self) -> None:
        """Ask for the end of the batch: then all of it is acknowledged."""
        assert self._lane is not None
        if self._nats.is_connected and (protocol := self._lane.end()):
            broker.write(self._nats, protocol)
