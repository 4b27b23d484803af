"""Days of any venue: what its simulator says to its adapter, of a recording or made up, archived and rolled up.

In the middle of each a gap begins, yet frames go on; a second connection takes the place later, with new books.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from activities.processes import Processes
from exchanges.port import Simulation, Simulator
from services.simulator.tape import Tape
from ssmd import archive, clock, config, jobs
from ssmd.events import Gap
from tests.exchanges.venues import NOW_NS, ROOT, SECOND_NS, Known, Talk
from tests.lake.archives import ArchivedDay
from tests.lake.captures import roll_up

FRAME_NS = 1_000_003  # what each frame of an ArchivedDay adds


@dataclass(frozen=True)
class Case:
    """A feed, its channels, and its recording among the venue's fixtures; made up if there is none."""

    feed: str
    channels: tuple[str, ...]
    recording: str = ""
    symbols: tuple[str, ...] = ()  # else: all there are

    @property
    def known(self) -> Known:
        return Known(config.load_feed(self.feed).venue, [])


@dataclass(frozen=True)
class Talked:
    """What is in the data folder: the gap [broken, mended), and all of it from `start` until before `end`."""

    data: Path
    feed: str
    date: str
    symbols: tuple[str, ...]
    start: int
    broken: int
    mended: int
    end: int


class Talking:
    """A simulated venue, and one connection after the other, each archived as it speaks."""

    def __init__(self, case: Case, now_ns: int, simulator: Simulator, symbols: tuple[str, ...]) -> None:
        self.case, self.now_ns, self.simulator, self.symbols = case, now_ns, simulator, symbols
        self.day = ArchivedDay(clock.date_of(now_ns), case.feed)
        self.connections: list[archive.Connection] = []
        self.talk: Talk | None = None

    def connect(self) -> None:
        self._leave()
        day = self.day
        day.conn, day.n = f"{self.case.feed}-0-0198964b3f2-000{len(self.connections) + 1}", 0
        self._at().session("open")
        self._at().session(
            "connected", subscription={"channels": list(self.case.channels), "symbols": list(self.symbols)}
        )
        adapter = self.case.known.adapter(self.case.channels, self.symbols)
        self.talk = Talk(self.case.known, self.simulator, adapter, self.now_ns)
        self.archive()

    def archive(self) -> None:
        """What was said since the last time."""
        assert self.talk is not None
        assert self.talk.bad == []
        assert [n for n in self.talk.notices if n.kind != "warning"] == []
        for channel, wire in zip(self.talk.routes, self.talk.wires, strict=True):
            self._at().frame(channel, wire, json=wire[:1] in b"{[")
        self.talk.wires.clear()
        self.talk.routes.clear()

    def gap(self, gap: Gap) -> None:
        self._at().gap(gap)

    def publish(self, data: Path, processes: Processes) -> None:
        self._leave()
        manifest = msgspec.structs.replace(self.day.write(data / "archive"), connections=self.connections)
        archive.save_manifest(archive.manifest_path(data / "archive", self.day.feed, self.day.date), manifest)
        roll_up(data, processes, jobs.Day(self.day.feed, self.day.date))

    def _leave(self) -> None:
        if self.talk is not None:
            self._at().session("close", frames=self.day.n + 1, reason="stopped")
            day = self.day
            self.connections.append(archive.Connection(day.conn, 1, day.n, day.n, heard=self.now_ns))

    def _at(self) -> ArchivedDay:
        self.day.now = self.now_ns - FRAME_NS
        return self.day


def talked(data: Path, processes: Processes, case: Case, seconds: int = 40) -> Talked:
    """Write the day. Several frames have the same time."""
    venue = case.known
    simulator = venue.venue.simulator(Simulation(seed=7, markets=3, frames_per_second=60))
    steps, start, symbols = _recorded(venue, simulator, case) if case.recording else _made_up(simulator, seconds)
    symbols = case.symbols or symbols
    talking = Talking(case, start, simulator, symbols)
    talking.connect()
    broken = mended = 0
    for part, now_ns in steps(talking):
        talking.now_ns = now_ns
        if part >= 0.5 and not broken:
            broken = now_ns
            talking.gap(Gap("g1", case.feed, talking.day.conn, [], broken, None, "sequence", "1 missing"))
        if part >= 0.7 and not mended:
            mended = now_ns
            talking.connect()
            talking.gap(Gap("g1", case.feed, talking.connections[0].conn, [], broken, mended, "sequence", "1 missing"))
        talking.archive()
    talking.publish(data, processes)
    return Talked(data, case.feed, talking.day.date, symbols, start, broken, mended, talking.now_ns + 1)


Steps = Callable[[Talking], Iterator[tuple[float, int]]]  # how much of it is over, and what time it is


def _made_up(simulator: Simulator, seconds: int) -> tuple[Steps, int, tuple[str, ...]]:
    def steps(talking: Talking) -> Iterator[tuple[float, int]]:
        for i in range(seconds * 10):
            assert talking.talk is not None
            talking.talk.tick(0.1)
            yield i / (seconds * 10), talking.talk.now_ns

    before = [record for i in range(50) for record in simulator.generate(NOW_NS - (50 - i) * SECOND_NS // 10)]
    symbols = tuple(sorted({record.symbol for record in before if record.symbol}))
    return steps, NOW_NS, symbols


def _recorded(venue: Known, simulator: Simulator, case: Case) -> tuple[Steps, int, tuple[str, ...]]:
    tape = Tape([ROOT / "exchanges" / venue.name / "fixtures" / case.recording], simulator.record)
    contents = tape.contents()
    simulator.load(contents.instruments, contents.first_ns, contents.last_ns)

    def steps(talking: Talking) -> Iterator[tuple[float, int]]:
        for i, (_, record) in enumerate(tape.records()):
            assert talking.talk is not None
            simulator.apply(record)
            talking.talk.pass_time(max(record.ts_ns - talking.talk.now_ns, 0) / SECOND_NS, [record])
            yield i / contents.frames, talking.talk.now_ns

    symbols = tuple(sorted({symbol for _, symbol in contents.instruments if symbol}))
    return steps, contents.first_ns, symbols
