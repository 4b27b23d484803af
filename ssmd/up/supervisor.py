"""`ssmd up`: starts every part after what it needs, keeps it running, shows how it is, and stops all of it."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ssmd import config, durable
from ssmd.cli.schedule import NOTHING
from ssmd.errors import Permanent, SsmdError
from ssmd.up import keys, plan, ports, servers
from ssmd.up.once import Once
from ssmd.up.plan import Part
from ssmd.up.processes import Process
from ssmd.up.status import Display
from ssmd.up.summary import Summary
from ssmd.up.wanted import SIMULATOR, Wanted, starts_s3, usual_ports
from ssmd.up.watch import ASK_SECONDS, Watch

if TYPE_CHECKING:
    from temporalio.client import Client

EXIT_MISSING = 1  # frames that were sent are not in the archive
EXIT_INTERRUPTED = 130
UNWELL_LOOKS = 3  # that often in a row a server says that it cannot do its work, then it is started anew
ROOM_BYTES = 16 << 20  # if its disk has so much space: without, it would be no better
# When each must have stopped, in seconds after Ctrl-C: all of it in under 10. Whoever needs longer is killed, which
# loses nothing: the journal is the truth until frames are archived.
STOP_BY = {
    "worker": 4.0,
    "connector": 6.0,
    "normalizer": 6.0,
    SIMULATOR: 8.0,
    "temporal": 7.0,
    "archiver": 8.8,
    "nats": 9.6,
    "s3": 6.0,  # it would take 15: what it acknowledged is on disk
}
ANSWER_SECONDS = 30.0  # for a service's first answer; measured: 0.4 to 1.5 s on two busy cores

PartsOf = Callable[[Wanted, Mapping[str, ports.Chosen], Mapping[str, tuple[str, Path]]], list[Part]]


class Up:
    """One run of the platform in one data folder."""

    def __init__(self, wanted: Wanted, display: Callable[[], Display], parts: PartsOf = plan.parts) -> None:
        self.wanted = wanted
        self.places = config.Places(wanted.data)
        self.watch = Watch(wanted.environment.name, time.monotonic())
        self.parts: Sequence[Part] = ()
        self.chosen: dict[str, ports.Chosen] = {}
        self.keepers: set[asyncio.Task[None]] = set()
        self._display = display
        self._parts_of = parts
        self._interrupted = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._killed = False

    async def run(self) -> tuple[int, str, str]:
        """The exit code, what was done, and what is wrong with it (empty: nothing)."""
        self.places.create(self.wanted.environment.name)
        began = time.time()
        with durable.Lock(self.places.run, "ssmd up"), self._signals():
            chosen = ports.choose(usual_ports(self.wanted.environment, self.wanted.sources), self.wanted.ports)
            made = keys.make_missing(self.wanted.sources, self.places)
            if self.wanted.environment.storage is not None and starts_s3(self.wanted.environment):
                keys.make_storage_key(self.wanted.environment.storage, self.wanted.data)
            addresses = plan.addresses(self.wanted, chosen, os.getpid())
            self.chosen = chosen
            self.parts = self.watch.parts = self._parts_of(self.wanted, chosen, made)
            self.watch.places = where(self.wanted, addresses)
            for port in chosen.values():
                if port.replaced:
                    self.watch.tell(f"port {port.usual} is taken: {port.name} listens on {port.port} instead")
            for source in self.wanted.sources:
                plan.truth_path(self.places, source.name).unlink(missing_ok=True)  # an earlier run's
            durable.replace(config.addresses_path(self.wanted.data), _pretty(addresses))
            summary = Summary(self.wanted, self.watch, began)
            try:
                code = await self._shown(addresses, summary)
            finally:
                config.addresses_path(self.wanted.data).unlink(missing_ok=True)
            return code, summary.text(), summary.missing

    # ------------------------------------------------------------------------------------------------- the run

    async def _shown(self, addresses: config.Addresses, summary: Summary) -> int:
        display = self._display()
        showing = asyncio.create_task(self._show(display))
        try:
            return await self._until_the_end(addresses, summary, showing)
        finally:
            await self._stop_all()
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            await self.watch.close()
            display.close()
            if self._failed.done():
                self._failed.exception()  # a part that failed while stopping changes nothing any more

    async def _until_the_end(self, addresses: config.Addresses, summary: Summary, showing: "asyncio.Task[None]") -> int:
        """Run the script until it ends, someone interrupts, or a part cannot go on."""
        script = asyncio.create_task(self._script(addresses, summary))
        interrupted = asyncio.create_task(self._interrupted.wait())
        ends: list[asyncio.Future[Any]] = [script, interrupted, self._failed, showing]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (script, interrupted):
            task.cancel()
        await asyncio.gather(script, interrupted, return_exceptions=True)
        for end in (self._failed, showing):  # first: a script that waits for a part fails because the part did
            if end.done():
                end.result()
        if not script.cancelled():
            return script.result()
        return EXIT_INTERRUPTED if self.wanted.once else 0

    async def _script(self, addresses: config.Addresses, summary: Summary) -> int:
        await self._start_all(addresses)
        self.watch.temporal = await self._temporal_client(addresses)
        await self._all_ready()
        summary.ready_seconds = self.watch.snapshot(time.monotonic()).seconds
        self.watch.doing = "ready"
        if self.wanted.once:
            await Once(self, summary, addresses.temporal).run()
            return EXIT_MISSING if summary.missing else 0
        scheduling = asyncio.create_task(self._schedule())
        try:
            await asyncio.sleep(self.wanted.seconds if self.wanted.seconds is not None else float("inf"))
        finally:
            scheduling.cancel()
            await asyncio.gather(scheduling, return_exceptions=True)
        return 0

    async def _temporal_client(self, addresses: config.Addresses) -> "Client":
        from ssmd import temporal  # noqa: PLC0415 - 0.2 s, and needs the server anyway

        _quiet_temporal()
        return await temporal.connect(self.wanted.environment.temporal, addresses.temporal, lazy=True)

    async def _schedule(self) -> None:
        """Make the environment's schedules at Temporal. Capture goes on without them, and it is said.

        A process of its own, for it loads all that the jobs need.
        """
        command = [sys.executable, "-m", "ssmd", "schedule", "apply", "--data", str(self.wanted.data)]
        applying = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            printed, _ = await applying.communicate()
        finally:
            if applying.returncode is None:
                applying.kill()
        last = printed.decode(errors="replace").strip().rpartition("\n")[2]
        if applying.returncode or last != NOTHING:
            self.watch.tell(f"schedules: {last}")

    async def _all_ready(self) -> None:
        """A real venue may be away for hours: its connector goes on trying, and nothing here waits for it."""
        simulated = {source.name for source in self.wanted.sources if source.simulated}
        awaited = [part for part in self.parts if part.kind != "connector" or part.feed in simulated]
        while waiting := [part.name for part in awaited if not self.watch.ready(part)]:
            self.watch.doing = f"starting: {', '.join(waiting)}"
            await self.watch.next_round()

    async def _show(self, display: Display) -> None:
        while True:
            started = time.monotonic()
            await self.watch.ask()
            self._mend_servers()
            try:
                display.show(self.watch.snapshot(time.monotonic()))
            except BrokenPipeError:  # whoever read our lines has gone, as a terminal that hangs up
                self._interrupted.set()
            hurry = self.watch.doing.startswith("starting")
            await asyncio.sleep(max(0.05, (0.25 if hurry else ASK_SECONDS) - (time.monotonic() - started)))

    def _mend_servers(self) -> None:
        """nats-server takes nothing more after a failed write, even when there is space again: start it anew then."""
        for part in self.parts:
            looks = self.watch.unwell_looks(part)
            if looks < UNWELL_LOOKS or self._stopping:
                continue
            assert part.folder is not None
            if shutil.disk_usage(part.folder).free >= ROOM_BYTES:
                self.watch.tell(
                    f"{part.name} says that it is not healthy ({self.watch.problems(part)}); starting it anew"
                )
                self.watch.forget(part.name)
                self.watch.processes[part.name].again()

    # ------------------------------------------------------------------------------------------------ starting

    async def _start_all(self, addresses: config.Addresses) -> None:
        """Each part as soon as what it needs is there: those that need nothing of each other start together."""
        started = {part.name: asyncio.Event() for part in self.parts}

        async def start(part: Part) -> None:
            for name in part.needs:
                await started[name].wait()
            await self._start(part, addresses)
            started[part.name].set()

        async with asyncio.TaskGroup() as group:
            for part in self.parts:
                group.create_task(start(part))

    async def _start(self, part: Part, addresses: config.Addresses) -> None:
        process = Process(
            part.name,
            part.command,
            self.places.logs / f"{part.name}.log",
            tell=self.watch.tell,
            folder=config.application_folder(),
            variables=_variables(),
        )
        self.watch.processes[part.name] = process
        self.keep(process)
        if part.kind == "nats":
            await servers.nats_ready(self.chosen["nats-monitor"].port)
        elif part.kind == "s3":
            await servers.s3_ready(self.chosen["s3"].port, self.chosen["s3-filer"].port)
        elif part.kind == "temporal":
            _quiet_temporal()
            await servers.temporal_ready(addresses.temporal, self.wanted.environment.temporal)
        else:
            await self._first_answer(part)
            if part.kind == "archiver":
                self.watch.remember_days(part)
            return
        process.was_ready = True

    def keep(self, process: Process) -> None:
        """Start a process; if it cannot be kept running, the whole run ends with its sentence."""
        keeper = process.start()
        self.keepers.add(keeper)
        keeper.add_done_callback(self._keeper_ended)

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        self.keepers.discard(keeper)
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _first_answer(self, part: Part) -> None:
        """What others need must be ready; what nobody needs, or what reaches out to a venue, must only answer."""
        needed = any(part.name in other.needs for other in self.parts)

        async def there() -> bool:
            return self.watch.ready(part) if needed else self.watch.answers(part)

        try:
            await servers.wait_ready(part.name, there, ANSWER_SECONDS)
        except Permanent:
            why = self.watch.problems(part) or "it does not answer"
            log = self.places.logs / f"{part.name}.log"
            raise Permanent(f"{part.name} was not ready within {ANSWER_SECONDS:.0f} s: {why}; see {log}") from None

    # ------------------------------------------------------------------------------------------------ stopping

    async def _stop_all(self) -> None:
        """Each part before what it needs; whatever has not ended after its time is killed."""
        self._stopping = True
        self.watch.doing = "stopping"
        self.watch.temporal = None  # it will not answer much longer
        stopped = {part.name: asyncio.Event() for part in self.parts}
        began = time.monotonic()

        async def stop(part: Part) -> None:
            try:
                for other in self.parts:
                    if part.name in other.needs:
                        await stopped[other.name].wait()
                process = self.watch.processes.get(part.name)
                if process is not None:
                    left = began + STOP_BY[part.kind] - time.monotonic()
                    await process.stop(0.0 if self._killed else max(0.5, left))
            finally:
                stopped[part.name].set()

        await asyncio.gather(*(stop(part) for part in self.parts))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C (and SIGTERM, SIGHUP) stops everything in order; the second time at once."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

        def asked() -> None:
            if self._interrupted.is_set() or self._stopping:
                self._killed = True
                for process in self.watch.processes.values():
                    process.kill()
            self._interrupted.set()

        for sig in caught:
            loop.add_signal_handler(sig, asked)
        try:
            yield
        finally:
            for sig in caught:
                loop.remove_signal_handler(sig)


def run(wanted: Wanted, display: Callable[[], Display]) -> tuple[int, str, str]:
    """Run the platform: see `Up.run`. Raises SsmdError where it cannot go on."""

    async def main() -> tuple[int, str, str]:
        return await Up(wanted, display).run()

    try:
        return asyncio.run(main())
    except ExceptionGroup as group:
        raise _first(group) from group


def where(wanted: Wanted, addresses: config.Addresses) -> tuple[tuple[str, str], ...]:
    """Where everything is, for people."""
    told = [("NATS", addresses.nats), ("Temporal", addresses.temporal)]
    if addresses.temporal_ui:
        told[-1] = ("Temporal", f"{addresses.temporal}, web UI {addresses.temporal_ui}")
    told += [(f"{name} (simulated)", address.ws) for name, address in addresses.feeds.items()]
    if wanted.environment.storage is not None:
        told += [("storage", f"{wanted.environment.storage.url} {addresses.storage}".rstrip())]
    told += [("data", str(wanted.data))]
    return tuple(told)


@functools.cache
def _quiet_temporal() -> None:
    """Its client would write warnings over the status; what is wrong with Temporal shows there anyway."""
    from temporalio.runtime import Runtime, TelemetryConfig  # noqa: PLC0415

    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)), error_if_already_set=False)


def _variables() -> dict[str, str]:
    """What a child's environment has beyond ours: its output unbuffered, our relative paths made absolute."""
    named = {"SSMD_CONFIG": str(config.config_folder().resolve()), "PYTHONUNBUFFERED": "1"}
    if home := os.environ.get("SSMD_HOME"):
        named["SSMD_HOME"] = str(Path(home).resolve())
    return named


def _pretty(addresses: config.Addresses) -> bytes:
    return msgspec.json.format(msgspec.json.encode(addresses), indent=1) + b"\n"


def _first(group: "ExceptionGroup[Exception]") -> BaseException:
    """The sentence for the reader, out of several failures at once."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = next((e for e in found.exceptions if isinstance(e, SsmdError)), found.exceptions[0])
    return found
