"""What is sent to the lines: a tape at its own pace, at a multiple of it, or as fast as the sockets drain; or a
generated market in real time."""

import asyncio
from collections.abc import Callable, Collection, Iterator

from exchanges.port import Record, Simulator
from services.simulator.line import Line
from services.simulator.tape import Played

BATCH_FRAMES = 1000
BATCH_BYTES = 256 << 10  # one write; a megabyte may wait in the transport
FOLD_FRAMES = 2000  # between two looks at the event loop while winding: 10 ms
PACE_SECONDS = 0.05  # the longest sleep while waiting for a frame's time
GENERATE_SECONDS = 0.01
BACKLOG_BYTES_MAX = 8 << 20  # of a generated market; then the venue ends the subscriptions of a client that slow

Lines = Callable[[], Collection[Line]]


class TapePlayer:
    """Plays a recording, once. It stands still unless `playing` is set; a client that lost frames winds it back."""

    def __init__(
        self, tape: Played, simulator: Simulator, lines: Lines, speed: float | None, wall_ns: Callable[[], int] | None
    ) -> None:
        """`speed` None: as fast as it goes. `wall_ns` None: frames leave at their recorded time."""
        self._tape = tape
        self._simulator = simulator
        self._lines = lines
        self._speed = speed
        self._wall_ns = wall_ns
        self.contents = tape.contents()
        self.playing = asyncio.Event()
        self.position = 0  # the next place
        self.sent = 0  # frames before it
        self.began_ns = self.contents.first_ns  # what came before is not sent
        self.passed_over = 0  # frames before `began_ns`
        self.done = False
        self.seconds = 0.0  # that it has played
        self._winding = asyncio.Lock()
        self._tape_ns = self.contents.first_ns
        self._origin: tuple[float, int] | None = None  # loop time and recorded time at which pacing (re)started
        self._records: Iterator[tuple[int, Record]] = iter(())
        self._peeked: tuple[int, Record] | None = None
        self._rewind()

    def now_ns(self) -> int:
        """The time of frames that are not on the tape."""
        return self._tape_ns if self._wall_ns is None else self._wall_ns()

    def pause(self) -> None:
        self.playing.clear()
        self._origin = None

    async def play(self) -> None:
        """For ever: even when the tape is over, a client may come back for what it lost."""
        while True:
            await self.playing.wait()
            if not self.playing.is_set():  # set and cleared before it was our turn
                continue
            began = asyncio.get_running_loop().time()
            wait = self._send_batch()
            lines = list(self._lines())
            await asyncio.gather(*(line.drain() for line in lines))
            await asyncio.sleep(wait)
            self.seconds += asyncio.get_running_loop().time() - began
            if self.done:
                self.pause()

    def _send_batch(self) -> float:
        """Send what is due; returns how long to sleep, in seconds."""
        lines = list(self._lines())
        size = count = 0
        wait = 0.0
        while count < BATCH_FRAMES and size < BATCH_BYTES:
            entry = self._peek()
            if entry is None:
                break
            place, record = entry
            wait = self._early(record)
            if wait > 0:
                break
            self._peeked = None
            self._happen(place, record)
            ts_ns = record.ts_ns if self._wall_ns is None else self._wall_ns()
            for line in lines:
                if line.next <= place:
                    line.market(record, ts_ns, place)
                    line.next = place + 1
            count += 1
            size += len(record.wire)
        for line in lines:
            line.flush()
        return min(wait, PACE_SECONDS)

    def _happen(self, place: int, record: Record) -> None:
        self._simulator.apply(record)
        self._tape_ns = max(self._tape_ns, record.ts_ns)
        self.position = place + 1
        self.sent += 1

    def _early(self, record: Record) -> float:
        """How long before its time it is, in seconds."""
        if self._speed is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        if self._origin is None:
            self._origin = now, record.ts_ns
        began, origin_ns = self._origin
        return began + (record.ts_ns - origin_ns) / 1e9 / self._speed - now

    def _peek(self) -> tuple[int, Record] | None:
        if self._peeked is None:
            self._peeked = next(self._records, None)
            self.done = self._peeked is None
        return self._peeked

    # -------------------------------------------------------------------------------------------------- winding

    async def begin_at(self, ts_ns: int) -> None:
        """Let all that came before happen unseen: who subscribes finds the books of that time."""
        async with self._winding:
            self.began_ns = ts_ns
            while (entry := self._peek()) is not None and entry[1].ts_ns < ts_ns:
                self._peeked = None
                self._happen(*entry)
                if self.sent % FOLD_FRAMES == 0:
                    await asyncio.sleep(0)
            self.passed_over = self.sent

    async def wind_to(self, place: int) -> None:
        """Go back so that `place` is the next; books are made anew from the start. Going ahead is left to playing."""
        async with self._winding:
            if place >= self.position:
                return
            self.pause()
            self._rewind()
            folded = 0
            while (entry := self._peek()) is not None and entry[0] < place:
                self._peeked = None
                self._happen(*entry)
                folded += 1
                if folded % FOLD_FRAMES == 0:
                    await asyncio.sleep(0)
            self.position = place

    def _rewind(self) -> None:
        contents = self.contents
        self._simulator.load(contents.instruments, contents.first_ns, contents.last_ns)
        self._records = self._tape.records()
        self._peeked = None
        self._tape_ns = contents.first_ns
        self.position = self.sent = 0
        self.done = False

    @property
    def winding(self) -> bool:
        return self._winding.locked()


class MarketPlayer:
    """Sends a generated market, live: it waits for nobody."""

    def __init__(self, simulator: Simulator, lines: Lines, wall_ns: Callable[[], int]) -> None:
        self._simulator = simulator
        self._lines = lines
        self.now_ns = wall_ns
        simulator.generate(wall_ns())  # the markets are there before the first client

    async def play(self) -> None:
        while True:
            records = self._simulator.generate(self.now_ns())
            for line in list(self._lines()):
                for record in records:
                    line.market(record, record.ts_ns)
                if line.unsent_bytes > BACKLOG_BYTES_MAX:
                    line.put(line.grammar.overflow(), self.now_ns())
                line.flush()
            await asyncio.sleep(GENERATE_SECONDS)
