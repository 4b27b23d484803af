"""From journal to JetStream: a window of unacknowledged publishes, and the journal as the queue behind it.

Frames just journalled are handed over in memory. When NATS is slow or away, more than `QUEUE_BYTES` would pile
up: then what waits in memory is dropped and read from the journal again, in order, until it has caught up. A
start after a crash is the same: catch up from the oldest segment. Nothing counts as sent before its PubAck.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ssmd.journal import Journal, Position, Record

QUEUE_BYTES = 16 << 20  # waiting in memory before the journal takes over: 0.5 s at 100k frames/s of 300 bytes
UNSYNCED_SECONDS = 150.0  # nats-server's default sync_interval is 2 minutes
WINDOW = 2048  # unacknowledged publishes: covers 20 ms of round trip at 100k/s
ACK_SECONDS = 5.0  # a full disk gives no answer at all (measured with nats-server 2.15); then send again
REFUSED_SECONDS = 1.0  # an explicit refusal (stream full, no stream yet): send again after this
LOOK_SECONDS = 0.25  # how often overdue acknowledgements are looked for when nothing else happens


class Batch(NamedTuple):
    """Records that lie together in the journal from `position` on; None: not to be dropped for the journal."""

    position: Position | None
    records: Sequence[Record]
    bytes: int


class _PubAck(msgspec.Struct):
    seq: int = 0
    error: dict[str, object] | None = None


class Publisher:
    """Publishes records in order, each until it is acknowledged."""

    def __init__(
        self, journal: Journal, archived: Callable[[bytes], bool], log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._nats: Client
        self._journal = journal
        self._log = log
        self._queue: deque[Batch] = deque()
        self._queued_bytes = 0
        self._current: Iterator[Record] = iter(())
        self._behind: Position | None = None  # where in the journal to read on; None: the rest is in the queue
        self._archived = archived
        self._begun: deque[tuple[float, Position]] = deque()  # when the publishing of what stands there began
        self._flight: dict[int, tuple[float, Record]] = {}  # by send order, so the first is the oldest
        self._number = 0
        self._inbox = ""
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._decode = msgspec.json.Decoder(_PubAck).decode
        self._loop = asyncio.get_running_loop()
        self._last_ack = self._loop.time()  # or since when nothing was in flight
        self.published = 0
        self.acked = 0
        self.last_error = ""

    @property
    def unacked(self) -> int:
        return len(self._flight)

    @property
    def waiting_seconds(self) -> float:
        """How long the frames in flight have waited for any acknowledgement; 0 if none are."""
        return self._loop.time() - self._last_ack if self._flight else 0.0

    @property
    def catching_up(self) -> bool:
        """It reads from the journal, not from memory."""
        return self._behind is not None

    def catch_up(self) -> None:
        """Begin with what the journal holds from a former run, but not messages that are archived already."""
        self._behind = self._journal.start()
        self._drained.clear()

    def put(self, position: Position, records: Sequence[Record]) -> None:
        """Take over records which the journal holds from `position` on."""
        self._drained.clear()
        self._wake.set()
        if self._behind is not None:
            return  # they will be read from the journal
        size = sum(len(r.message) for r in records)
        self._queue.append(Batch(position, records, size))
        self._queued_bytes += size
        if self._queued_bytes > QUEUE_BYTES:
            self._fall_back()

    def again(self, records: Sequence[Record]) -> None:
        """Publish records of the journal a second time, after what is queued."""
        self._drained.clear()
        self._queue.append(Batch(None, records, 0))
        self._wake.set()

    def resend(self) -> None:
        """After a reconnect: everything goes out once more that is unacknowledged, or that NATS may have lost.

        It syncs lazily: what it acknowledged in the last minutes is gone after a power cut, unless archived.
        """
        self._flight = {number: (0.0, record) for number, (_, record) in self._flight.items()}
        position = self._journal.start()
        for begun, place in self._begun:
            if begun <= self._loop.time() - UNSYNCED_SECONDS:
                position = max(position, place)
        self._behind = position if self._behind is None else min(position, self._behind)
        self._queue = deque(b for b in self._queue if b.position is None)
        self._queued_bytes = 0
        self._current = iter(())
        self._drained.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until everything taken over is acknowledged."""
        await self._drained.wait()

    async def run(self, nats: Client) -> None:
        """Publish for ever."""
        self._nats = nats
        self._inbox = self._nats.new_inbox()
        # No limits: what can arrive is bounded by WINDOW, and a dropped acknowledgement would be a resend.
        await self._nats.subscribe(
            f"{self._inbox}.*", cb=self._acknowledged, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        while True:
            if not self._nats.is_connected or len(self._flight) >= WINDOW:
                await self._pause()
                continue
            record = next(self._current, None) or self._next_record()
            if record is None:
                if not self._flight:
                    self._drained.set()
                await self._pause()
            elif not await self._send(record):
                await self._pause()

    def _next_record(self) -> Record | None:
        """Begin the next batch: from memory, else from the journal."""
        while self._queue or self._behind is not None:
            if self._queue:
                batch = self._queue.popleft()
                self._queued_bytes -= batch.bytes
                if batch.position is not None:
                    self._note(batch.position)
                self._current = iter(batch.records)
            else:
                assert self._behind is not None
                self._note(self._behind)
                records, after = self._journal.read_from(self._behind)
                self._current = iter([r for r in records if not self._archived(r.message)])
                self._behind = None if after == self._journal.end() else after
            record = next(self._current, None)
            if record is not None:
                return record
        return None

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

    async def _pause(self) -> None:
        """Wait for something to happen, and send again what nobody acknowledged."""
        self._wake.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
        now = self._loop.time()
        overdue = []
        for number, (due, record) in self._flight.items():
            if due > now:
                break
            overdue.append((number, record))
        for number, record in overdue:
            if not self._nats.is_connected:
                break
            del self._flight[number]
            await self._send(record)

    async def _send(self, record: Record) -> bool:
        """Publish and remember. False if NATS took it not; it is then sent again when overdue."""
        if not self._flight:
            self._last_ack = self._loop.time()
        self._number = number = self._number + 1
        self._flight[number] = (self._loop.time() + ACK_SECONDS, record)
        try:
            await self._nats.publish(record.subject, record.message, reply=f"{self._inbox}.{number}")
        except (NatsError, OSError) as e:
            self.last_error = f"{type(e).__name__}: {e}"
            return False
        self.published += 1
        return True

    async def _acknowledged(self, msg: Msg) -> None:
        number = int(msg.subject.rpartition(".")[2])
        flying = self._flight.pop(number, None)
        if flying is None:
            return  # sent again meanwhile; both copies may be stored, the archiver drops one
        ack = self._decode(msg.data) if msg.data else _PubAck(error={"description": "no stream takes this subject"})
        if ack.error is None:
            self.acked += 1
            self._last_ack = self._loop.time()
            self.last_error = ""
            self._wake.set()
            return
        text = str(ack.error.get("description"))
        if text != self.last_error:
            self._log.warning("JetStream refused a frame; it is sent again", error=text)
        self.last_error = text
        # First in the order of due times again: it goes out before anything younger.
        self._flight = {number: (self._loop.time() + REFUSED_SECONDS, flying[1]), **self._flight}
