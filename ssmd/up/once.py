"""`ssmd up --once`: wait for the end of what was asked, archive all of it, seal and roll up its days, prove it."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssmd import jobs
from ssmd.errors import Permanent
from ssmd.up import proof
from ssmd.up.plan import truth_path
from ssmd.up.processes import Process
from ssmd.up.summary import FeedSummary, Summary
from ssmd.up.wanted import SIMULATOR, Source

if TYPE_CHECKING:
    from temporalio.client import Client

    from ssmd.up.supervisor import Up

UNCONNECTED_SECONDS_MAX = 60.0  # a venue that is not reached for so long will not be
HEARTBEATS_MAX = 3  # frames between two rounds after the last of the recording: some venues never fall silent
DRAIN_SECONDS = 60.0  # for the connector to read, journal and publish what was on its way
ARCHIVE_SECONDS_MAX = 120.0  # without one more frame archived while some are waiting
IDLE_ROUNDS = 2  # with nothing waiting: what was acknowledged a moment ago has shown by then
ROLLUP_SECONDS_MAX = 3600.0


class Once:
    """The last acts of a run that ends by itself."""

    def __init__(self, up: "Up", summary: Summary, temporal: str) -> None:
        self._up = up
        self._watch = up.watch
        self._wanted = up.wanted
        self._summary = summary
        self._temporal = temporal
        self._doing: dict[str, str] = {}  # per feed
        self._proving = asyncio.Lock()  # one thread's work: two at once would only slow each other, and us

    async def run(self) -> None:
        """Every feed by itself: the slowest of them is what a run waits for, not their sum."""
        async with asyncio.TaskGroup() as feeds:
            for source in self._wanted.sources:
                feeds.create_task(self._to_the_end(source))

    async def _to_the_end(self, source: Source) -> None:
        told = FeedSummary(tape=await self._all_received(source))
        self._summary.feeds[source.name] = told
        await self._all_archived(source)
        client = self._watch.temporal
        if client is None:
            raise Permanent(f"Temporal at {self._temporal} does not answer: the days are archived but not rolled up")
        for date in self._changed_days(source):
            told.days[date] = await self._roll_up(client, source, date)
        if source.simulated:
            self._tell(source, "proving that all is archived")
            async with self._proving:
                told.proof = await asyncio.to_thread(
                    proof.prove,
                    truth_path(self._up.places, source.name),
                    told.tape,
                    self._up.places.archive,
                    source.name,
                    list(told.days),
                )
        self._tell(source, "done")

    def _tell(self, source: Source, doing: str) -> None:
        """Show what each feed is at, the same in one."""
        self._doing[source.name] = doing
        if len(self._wanted.sources) == 1:
            self._watch.doing = doing
            return
        feeds: dict[str, list[str]] = {}
        for name, what in self._doing.items():
            feeds.setdefault(what, []).append(name)
        alike = len(feeds) == 1
        self._watch.doing = "; ".join(what if alike else f"{what}: {', '.join(names)}" for what, names in feeds.items())

    # ------------------------------------------------------------------------------------------------ receiving

    async def _all_received(self, source: Source) -> int:
        """Until the recording (or the time) is over and the connector has ended well. How many frames the tape had."""
        processes = [self._watch.processes[f"connector-{instance}"] for instance in source.shards]
        tape = 0
        if not self._wanted.replay:
            assert self._wanted.seconds is not None, "checked at the door"
            self._tell(source, f"running for {self._wanted.seconds:g} s")
            await asyncio.sleep(self._wanted.seconds)
        while True:
            if self._wanted.replay:
                tape = await self._tape_done(source)
            self._tell(source, "waiting until all that was received is published")
            codes = await asyncio.gather(*(process.stop(DRAIN_SECONDS) for process in processes))
            if not any(codes):
                return tape
            for process, code in zip(processes, codes, strict=True):
                if code:
                    await self._again(source, process)
            processes = [process for process, code in zip(processes, codes, strict=True) if code]

    async def _again(self, source: Source, process: Process) -> None:
        """It was killed before it was done: it continues from its journal, and a replay from what it had."""
        self._watch.tell(f"{process.name} ended before it had published all; it continues where it was")
        process.restarts += 1
        self._watch.forget(process.name)
        self._up.keep(process)
        while not self._watch.named(process.name).get("connected"):
            await self._watch.next_round()

    async def _tape_done(self, source: Source) -> int:
        """Until the simulator has sent all of the recording, and the connector has read all that was sent."""
        self._tell(source, "replaying")
        last_connected = time.monotonic()
        quiet: int | None = None  # how many frames it had received a round ago, if all were sent then
        while True:
            now = time.monotonic()
            simulator, connector = self._watch.status(SIMULATOR, source.name), self._watch.connector(source.name)
            if connector.get("connected"):
                last_connected = now
            elif now - last_connected > UNCONNECTED_SECONDS_MAX:
                raise Permanent(
                    f"the connector of {source.name} was not connected for {UNCONNECTED_SECONDS_MAX:.0f} s: "
                    f"see {self._up.places.logs / f'connector-{source.name}.log'}"
                )
            tape = simulator.get("tape")
            sent = tape and tape.get("done") and not simulator.get("unsent_bytes")
            safe = connector.get("connected") and int(connector.get("unconfirmed", 0)) <= HEARTBEATS_MAX
            seen = int(connector.get("frames", 0)) if sent and safe else None
            if tape and seen is not None and quiet is not None and seen - quiet <= HEARTBEATS_MAX:
                return int(tape["frames"])
            quiet = seen
            await self._watch.next_round()

    # ------------------------------------------------------------------------------------------------ archiving

    async def _all_archived(self, source: Source) -> None:
        """Until nothing waits in the stream."""
        self._tell(source, "archiving the rest")
        last: tuple[int, float] = (-1, time.monotonic())
        idle = 0
        while True:
            status = self._watch.status("archiver", source.name)
            idle = idle + 1 if status.get("pending") == 0 else 0
            if idle > IDLE_ROUNDS:
                return
            archived = int(status.get("archived", -1))
            if archived != last[0]:
                last = archived, time.monotonic()
            elif time.monotonic() - last[1] > ARCHIVE_SECONDS_MAX:
                raise Permanent(
                    f"the archiver of {source.name} archived nothing for {ARCHIVE_SECONDS_MAX:.0f} s: "
                    f"see {self._up.places.logs / f'archiver-{source.name}.log'}"
                )
            await self._watch.next_round()

    def _changed_days(self, source: Source) -> list[str]:
        """The days that this run brought frames to, or that were never sealed."""
        days = self._watch.status("archiver", source.name).get("days", [])
        before: Mapping[str, int] = self._watch.days_before.get(source.name, {})
        return [d["date"] for d in days if not d["sealed"] or d["frames"] != before.get(d["date"])]

    # --------------------------------------------------------------------------------------------------- rollup

    async def _roll_up(self, client: "Client", source: Source, date: str) -> jobs.RolledUp:
        """Run RollupDay to its end. One that an earlier run left unfinished is ended first: it sealed too early."""
        from datetime import timedelta  # noqa: PLC0415

        from temporalio.client import WorkflowFailureError  # noqa: PLC0415
        from temporalio.common import WorkflowIDConflictPolicy  # noqa: PLC0415
        from temporalio.service import RPCError  # noqa: PLC0415

        day = jobs.Day(source.name, date, seal=True)
        self._tell(source, f"rolling up {date}")
        try:
            handle = await client.start_workflow(
                "RollupDay",
                day,
                id=day.rollup_id,
                task_queue=self._wanted.environment.temporal.task_queue,
                result_type=jobs.RolledUp,
                id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
                execution_timeout=timedelta(seconds=ROLLUP_SECONDS_MAX),
                static_summary=jobs.summary(day),
                static_details="Started by `ssmd up --once`.",
            )
            rolled: jobs.RolledUp = await handle.result()
            return rolled
        except WorkflowFailureError as e:
            cause: BaseException = e
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise Permanent(f"the rollup of {day.feed} {day.date} failed: {cause}") from e
        except RPCError as e:
            raise Permanent(
                f"Temporal at {self._temporal} gave no result for {day.rollup_id} ({e.message}); "
                f"run `ssmd rollup {day.feed} {day.date}`"
            ) from e
