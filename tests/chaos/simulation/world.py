"""One world: a seed decides the market, the faults, every delay and what survives a crash."""

import asyncio
import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from services.archiver import delivery
from services.archiver.archiver import Archiver
from services.connector import connector as connector_module
from services.connector import lanes as lanes_module
from services.connector import publisher as publisher_module
from services.connector.connector import Connector
from ssmd import broker, config, durable, subjects
from ssmd import journal as journal_module
from ssmd.clock import SECOND_NS
from ssmd.telemetry import Telemetry
from tests.chaos.simulation.broker import Client, Msg, Server, subscribe
from tests.chaos.simulation.disk import DISKS, Disk, SimPath, System
from tests.chaos.simulation.proof import Proof
from tests.chaos.simulation.scheduler import Killed, Loop, Scheduler
from tests.chaos.simulation.venue import ClientVenue, Exchange

NOON_NS = 1_786_449_600 * SECOND_NS  # 2026-08-11T12:00:00Z
ENV, FEED = "sim", "fake"
_ARCHIVED = subjects.archived(ENV, FEED)
TROUBLE_SECONDS = (4.0, 12.0)  # how long frames and faults come
RESTART_SECONDS = 2.0
HEAL_SECONDS = 90.0  # by then, with all faults gone, everything must be archived without anybody's help
STOP_SECONDS = 30.0
MB = 1 << 20


class Broken(AssertionError):
    """A promise was not kept in this world."""


class Log:
    """structlog's interface, into the world's trace."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def _write(self, event: str, **told: object) -> None:
        self._say(f"{event} {told or ''}")

    debug = info = warning = error = exception = critical = _write

    def bind(self, **told: object) -> "Log":
        return self


class Process:
    """A service under a supervisor that starts it again."""

    def __init__(self, world: "World", name: str, disk: Disk, start: Callable[["Process"], Any]) -> None:
        self.world, self.name, self.disk, self._start = world, name, disk, start
        self.loop: Loop | None = None
        self.service: Any = None  # of the present or last run
        self.stop: asyncio.Event | None = None
        self.wanted = True
        self.clients: list[Client] = []
        self.starts = 0

    @property
    def alive(self) -> bool:
        return self.loop is not None and not self.loop.dead

    def start(self) -> None:
        if self.alive or not self.wanted:
            return
        world = self.world
        self.starts += 1
        loop = self.loop = Loop(world.scheduler, f"{self.name}{self.starts}")
        loop.thread_seconds = world.thread_seconds
        loop.connect = lambda factory: world.exchange.accept(factory, loop)
        loop.unhandled = self._unhandled  # type: ignore[method-assign]
        self.disk.owner = loop
        self.clients = []
        self.service = None
        world.trace(f"{loop.name} starts")
        world.scheduler.after(0.0, self._begin, loop, loop=loop)

    def _begin(self, loop: Loop) -> None:
        self.stop = asyncio.Event()
        task = loop.create_task(self._main())
        task.add_done_callback(lambda t: self._ended(loop, t))

    async def _main(self) -> None:
        assert self.stop is not None
        self.service = self._start(self)
        await self.service.run(self.stop, Telemetry(self.name))

    def _unhandled(self, error: BaseException) -> None:
        self.world.fail(f"{self.name}: asyncio would only log {error!r}", error)

    def _ended(self, loop: Loop, task: "asyncio.Task[None]") -> None:
        if loop.dead or task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Killed):
            return
        why = f"ends: {error}" if error is not None else "ends in good order"
        if error is not None and not isinstance(error, durable.DiskFailed):
            self.world.fail(f"{self.name} died of {error!r}", error)
        self.kill(why)

    def kill(self, why: str, power: bool = False) -> None:
        """End it here and now; with `power`, its host too."""
        world = self.world
        if not self.alive:
            if power:
                world.trace(f"{self.name}'s host loses power")
                if self.name == "connector":
                    world.proof.power_lost()
                self.disk.lose_power(world.rng)
            return
        loop = self.loop
        assert loop is not None
        world.trace(f"{loop.name} {why}{', and its host loses power' if power else ''}")
        if self.name == "connector":
            world.proof.connector_died(power)
        self.disk.dies_in = None
        self.disk.owner = None
        loop.dead = True
        for client in self.clients:
            client.is_closed = True
            if client in world.server.clients:
                world.server.clients.remove(client)
        if power:
            self.disk.lose_power(world.rng)
        for line in world.exchange.lines:
            if line._loop is loop:
                line.over = True
        world.scheduler.after(0.0, loop.die)
        if self.wanted:
            world.scheduler.after(world.rng.uniform(0.1, 1.5), self.start)

    def terminate(self) -> None:
        if self.alive and self.stop is not None:
            self.world.trace(f"{self.name} is asked to stop")
            assert self.loop is not None
            self.world.scheduler.after(0.0, self.stop.set, loop=self.loop)


class World:
    def __init__(
        self,
        seed: int,
        mutation: Callable[["World"], Any] | None = None,
        faults: "tuple[Callable[[World], None], ...] | None" = None,
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.scheduler = Scheduler(rng)
        self.lines: list[str] = []
        self.failure: tuple[str, BaseException | None] | None = None
        self._mutation = mutation
        self._kinds = faults or FAULTS
        self.base_ns = NOON_NS
        if rng.random() < 0.15:  # midnight falls into the trouble
            self.base_ns += 12 * 3600 * SECOND_NS - int(rng.uniform(1, 9) * SECOND_NS)
        self.thread_seconds = rng.choice(((0.0, 0.002), (0.0, 0.02), (0.0, 0.3)))
        self.archive_disk = Disk("archive", self.scheduler, self.trace)
        self.capture_disk = Disk("capture", self.scheduler, self.trace)
        DISKS.clear()
        DISKS.update(capture=self.capture_disk, archive=self.archive_disk)
        self.server = Server(self.scheduler, self.trace)
        self.server.silent_without_consumer = rng.random() < 0.3
        self.server.takes_batches = rng.random() < 0.8
        self.exchange = Exchange(self.scheduler, self.trace)
        self.proof = Proof(self)
        self.server.seen = self._seen
        self.server.answered = self._answered
        self.connector = Process(self, "connector", self.capture_disk, self._new_connector)
        self.archiver = Process(self, "archiver", self.archive_disk, self._new_archiver)
        self.segment_bytes = rng.choice((1500, 4000, 16_000, MB))
        self.queue_bytes = rng.choice((600, 3000, 16 * MB, 16 * MB))
        self.window = rng.choice((4, 32, 2048, 2048))
        self.flow = min(rng.choice((1, 3, 10, 100)), self.window)
        self.read_bytes = rng.choice((300, 2000, MB))
        archiving = config.Archiving(
            commit_seconds=rng.choice((0.2, 0.5, 1.0)),
            commit_bytes=rng.choice((500, 5000, 8 * MB)),
            rotate_seconds=rng.choice((1.0, 3.0, 900.0)),
            rotate_bytes=rng.choice((2000, 20_000, 256 * MB)),
        )
        self.environment = _ENVIRONMENT.model_copy(update={"archiving": archiving})
        self.faults = 0

    # ---------------------------------------------------------------------------------------------------- telling

    def trace(self, what: str) -> None:
        self.lines.append(f"{self.scheduler.now:9.4f} {what}")

    def fail(self, what: str, error: BaseException | None = None) -> None:
        self.trace(f"FAILED: {what}")
        if self.failure is None:
            self.failure = (what, error)

    def now_ns(self) -> int:
        return self.base_ns + int(self.scheduler.now * SECOND_NS)

    # -------------------------------------------------------------------------------------------------- processes

    def _log(self, process: Process) -> Any:
        return Log(lambda text: self.trace(f"{process.name}: {text}"))

    def _new_connector(self, process: Process) -> Connector:
        return Connector(
            self.environment, _FEED, _ADDRESSES, SimPath("/capture/data"), ClientVenue(), self, self._log(process)  # type: ignore[arg-type]
        )  # fmt: skip

    def _new_archiver(self, process: Process) -> Archiver:
        return Archiver(self.environment, FEED, "nats://sim", SimPath("/archive/archive"), self._log(process))  # type: ignore[arg-type]

    async def _connect(self, url: str, name: str, log: Any, reconnected: Any = None, *_: Any, **__: Any) -> Client:
        process = self.connector if name.startswith("connector") else self.archiver
        assert process.loop is not None and self.scheduler.current is process.loop

        def callback_failed(error: BaseException) -> None:
            if isinstance(error, durable.DiskFailed):
                self.trace(f"{process.name}: a NATS callback raised {error!r}")  # its process must end by itself
                return
            self.fail(f"{process.name}: a NATS callback raised {error!r}", error)

        client = Client(self.server, process.loop, process.loop.name, reconnected, callback_failed)
        process.clients.append(client)
        self.server.clients.append(client)
        client.try_to_connect()
        await client.connected_once
        return client

    def _seen(self, msg: Msg) -> None:
        if msg.subject == _ARCHIVED:
            self.proof.confirmed(msg.data)

    def _answered(self, subject: str, data: bytes) -> None:
        if subject == f"{_ARCHIVED}.get":
            self.proof.confirmed(data)

    @staticmethod
    def _disk_usage(path: SimPath) -> Any:
        free = 0 if path._disk.full else 1 << 40
        return SimpleNamespace(total=1 << 40, used=(1 << 40) - free, free=free)

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        """Our clock, disk, network and sizes in the places of the real ones."""
        system = System(self.scheduler)
        journal = connector_module.Journal
        state = random.getstate()
        random.seed(self.seed)

        def small_journal(folder: Any, *args: Any, **more: Any) -> Any:
            return journal(folder, *args, **{"segment_bytes": self.segment_bytes, **more})

        with (
            mock.patch.object(time, "time_ns", self.now_ns),
            mock.patch.object(time, "time", lambda: self.now_ns() / 1e9),
            mock.patch.object(time, "monotonic", lambda: 1000.0 + self.scheduler.now),
            mock.patch.object(durable, "os", system),
            mock.patch.object(durable, "fcntl", system.modules()),
            mock.patch.object(shutil, "disk_usage", self._disk_usage),
            mock.patch.object(broker, "connect", self._connect),
            mock.patch.object(delivery, "subscribe", subscribe),
            mock.patch.object(broker, "write", Client.write),
            mock.patch.object(connector_module, "Journal", small_journal),
            mock.patch.object(publisher_module, "QUEUE_BYTES", self.queue_bytes),
            mock.patch.object(lanes_module, "WINDOW", self.window),
            mock.patch.object(lanes_module, "FLOW", self.flow),
            mock.patch.object(journal_module.Journal.read_from, "__defaults__", (self.read_bytes,)),
        ):
            try:
                yield
            finally:
                for process in (self.connector, self.archiver):
                    if process.loop is not None:
                        process.loop.die()  # before the real `os` is back
                random.setstate(state)

    # ----------------------------------------------------------------------------------------------------- faults

    def _plan(self, until: float) -> None:
        """Frames and faults, each at its time."""
        rng, at = self.rng, self.scheduler.at
        frames = rng.randint(30, 250)
        while frames > 0:
            count = min(frames, rng.choice((1, 1, 1, 2, 3, 5, 12)))
            frames -= count
            at(rng.uniform(0.3, until), self.exchange.burst, count)
        for _ in range(rng.choice((0, 0, 1, 2))):
            at(rng.uniform(0.5, until), self.exchange.skip)
        sync = rng.choice((0.3, 1.5, 5.0, 1000.0))
        moment = sync
        while moment < until:
            at(moment, self.server.sync)
            moment += sync
        self.faults = rng.randint(1, 6)
        for _ in range(self.faults):
            at(rng.uniform(0.05, until), rng.choice(self._kinds), self)

    def run(self) -> None:
        """Raises Broken if a promise was not kept."""
        with self._in_force():
            if self._mutation is not None:
                with self._mutation(self):
                    self._live()
            else:
                self._live()

    def _live(self) -> None:
        scheduler, rng = self.scheduler, self.rng
        until = rng.uniform(*TROUBLE_SECONDS)
        for process in (self.connector, self.archiver):
            scheduler.at(rng.uniform(0.0, 0.4), process.start)
        self._plan(until)
        scheduler.run_until(lambda: self.failure is not None, until)
        self._check_failure()
        self._heal()
        # First everybody is back: who was ending, and who is stopped and will find frames in its socket.
        stopped = max((p.loop.stopped_until for p in (self.connector, self.archiver) if p.loop is not None), default=0)
        scheduler.run_until(lambda: self.failure is not None, max(until + RESTART_SECONDS, stopped))
        if not scheduler.run_until(lambda: self.failure is not None or self.proof.all_archived(), until + HEAL_SECONDS):
            self.fail(f"{HEAL_SECONDS:.0f} s after the last fault {self.proof.unarchived()}")
        self._check_failure()
        self._stop(self.connector)
        self._stop(self.archiver)
        try:
            self.proof.check()
        except Exception as e:  # a segment that cannot even be read, say
            self.fail(str(e) if isinstance(e, AssertionError) else repr(e), e)
        self._check_failure()

    def _stop(self, process: Process) -> None:
        process.wanted = False
        process.terminate()
        until = self.scheduler.now + STOP_SECONDS
        if not self.scheduler.run_until(lambda: self.failure is not None or not process.alive, until):
            self.fail(f"{process.name} does not stop")
        self._check_failure()

    def _check_failure(self) -> None:
        if self.failure is not None:
            what, error = self.failure
            raise Broken(what) from error

    def _heal(self) -> None:
        self.trace("all faults end")
        self.server.up = True
        self.server.full = self.server.refuses = False
        self.server.lost_acks = self.server.slow_seconds = 0.0
        self.exchange.up = True
        for process in (self.connector, self.archiver):
            process.disk.full = False
            process.disk.dies_in = None
            for client in process.clients:
                client._blocked_until = min(client._blocked_until, self.scheduler.now)
            self.scheduler.after(RESTART_SECONDS, process.start)

    def report(self, error: BaseException) -> str:
        """The failing world, to be read from its top."""
        cause = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ is not None else ""
        return "\n".join([f"seed {self.seed}: {error}", *self.lines, cause])


# ---------------------------------------------------------------------------------------------------- the faults


def _some(world: World) -> Process:
    return world.rng.choice((world.connector, world.archiver))


def kill_one(world: World) -> None:
    _some(world).kill("is killed")


def lose_power(world: World) -> None:
    _some(world).kill("is killed", power=True)


def die_at_a_step(world: World) -> None:
    """Death in the middle of what it does next on its disk."""
    process = _some(world)
    if process.alive:
        power = world.rng.random() < 0.5
        process.disk.dies_in = world.rng.randint(1, 12)
        process.disk.on_death = lambda: process.kill("is killed at this step", power=power)


def ask_to_stop(world: World) -> None:
    _some(world).terminate()


def stop_for_a_while(world: World) -> None:
    """SIGSTOP for a while."""
    process = _some(world)
    if process.alive and process.loop is not None and process.loop.stopped_until <= world.scheduler.now:
        process.loop.stopped_from = world.scheduler.now
        process.loop.stopped_until = world.scheduler.now + world.rng.choice((0.5, 3.0, 9.0))
        world.trace(f"{process.name} is stopped until {process.loop.stopped_until:.3f}")


def full_disk(world: World) -> None:
    disk = _some(world).disk
    disk.full = True
    world.trace(f"disk {disk.name} is full")

    def free() -> None:
        disk.full = False
        world.trace(f"disk {disk.name} has space again")

    world.scheduler.after(world.rng.uniform(0.2, 4.0), free)


def nats_is_killed(world: World, power: bool = False) -> None:
    if not world.server.up:
        return
    world.trace(f"nats {'loses power' if power else 'is killed'}")
    if power:
        world.server.lose_power()
    else:
        world.server.stop()

    def start() -> None:
        world.server.start()
        world.trace("nats is back")

    world.scheduler.after(world.rng.uniform(0.1, 4.0), start)


def nats_loses_power(world: World) -> None:
    nats_is_killed(world, power=True)


def cut_off_from_nats(world: World) -> None:
    seconds = world.rng.choice((0.3, 2.0, 7.0))
    for client in list(world.server.clients):
        if world.rng.random() < 0.6:
            world.trace(f"{client.name} is cut off from nats for {seconds} s")
            client.cut_off(seconds)


def drop_nats_connections(world: World) -> None:
    for client in list(world.server.clients):
        if world.rng.random() < 0.6:
            client.disconnect("connection reset")


def jetstream_trouble(world: World) -> None:
    server, rng = world.server, world.rng
    what = rng.choice(("full", "refuses", "lost_acks", "slow_seconds", "batches"))
    if what == "batches":
        world.trace("nats forgets its batches")
        for stream in server.streams.values():
            stream.batches.clear()
        return
    value: Any = {"full": True, "refuses": True, "lost_acks": 0.5, "slow_seconds": 1.5}[what]
    setattr(server, what, value)
    world.trace(f"nats: {what} = {value}")

    def mend() -> None:
        setattr(server, what, type(value)(0))
        world.trace(f"nats: {what} is over")

    world.scheduler.after(rng.uniform(0.2, 5.0), mend)


def nats_removes_consumers(world: World) -> None:
    if world.server.up:
        world.trace("nats removes its consumers")
        world.server.remove_consumers()


def venue_drops(world: World) -> None:
    line = world.exchange.line
    if line is not None:
        how = world.rng.choice(("reset", "eof", "silence"))
        world.trace(f"venue: connection {line.number}: {how}")
        if how == "silence":
            line.fall_silent()
        else:
            line.drop(ConnectionResetError("reset by peer") if how == "reset" else None)


def venue_goes_away(world: World) -> None:
    world.trace("venue is away")
    world.exchange.up = False
    for line in world.exchange.lines:
        line.drop(None)

    def back() -> None:
        world.exchange.up = True
        world.trace("venue is back")

    world.scheduler.after(world.rng.uniform(0.2, 3.0), back)


FAULTS = (
    kill_one, kill_one, lose_power, lose_power, die_at_a_step, die_at_a_step, die_at_a_step, ask_to_stop,
    stop_for_a_while, full_disk, full_disk, nats_is_killed, nats_loses_power, nats_loses_power, cut_off_from_nats,
    drop_nats_connections, jetstream_trouble, nats_removes_consumers, venue_drops, venue_drops, venue_goes_away,
)  # fmt: skip

_ENVIRONMENT = config.Environment(
    name=ENV,
    nats="nats://sim",
    feeds=[config.EnvironmentFeed(feed=FEED, endpoint="simulator", symbols=config.Symbols(names=["S0", "S1", "S2"]))],
)
_FEED = config.Feed(
    name=FEED,
    venue=FEED,
    title="Fake",
    precision=config.Precision(price=2, size=2),
    versions=[config.FeedVersion(effective_from="2020-01-01", endpoints={}, channels=["trade"], silence_seconds=6)],
)
_ADDRESSES = config.Addresses(
    ENV, "nats://sim", "", "", {FEED: config.FeedAddress("ws://venue:80/ws", "http://venue:80")}, {}
)
