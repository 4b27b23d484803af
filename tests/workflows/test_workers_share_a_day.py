"""A day's hours are spread over all workers of a queue, and none of them is needed: the bytes are always the same."""

import asyncio
import collections
import contextlib
import hashlib
import shutil
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.client import Client, WorkflowHandle

from ssmd import config, jobs
from tests.lake.archives import DATE, FEED, GOLD, SILVER, ArchivedDay
from tests.workflows.workers import RunningWorker, is_ready, running_worker, write_addresses

DAY = jobs.Day(FEED, DATE)
HOURS = 16
FRAMES = 1500  # an hour: enough that none is over before the other worker has one
FRAMES_IN_ALL = HOURS * (FRAMES + 4)
Handle = WorkflowHandle[object, jobs.RolledUp]


def a_long_day() -> ArchivedDay:
    day = ArchivedDay()
    for hour in range(HOURS):
        day.at(hour).session("open" if hour == 0 else "alive", endpoint="wss://example/ws", connected=True)
        for market in (GOLD, SILVER):
            day.snapshot(market, [["0.2800", "69.00"]], [["0.4800", "41.26"]])
        for i in range(FRAMES):
            day.delta((GOLD, SILVER)[i % 2], ("yes", "no")[i % 3 % 2], f"0.{1000 + i}", f"{i % 17 + 1}.00")
        day.trade(GOLD, "0.5100", "7.00")
    return day


@dataclass
class Shop:
    """Workers on a queue of their own, all of one data folder, and a day to be rolled up there."""

    data: Path
    workers: dict[str, RunningWorker]  # by what Temporal calls them
    client: Client
    queue: str

    async def rollup(self, name: str) -> Handle:
        return await self.client.start_workflow(
            "RollupDay",
            DAY,
            id=f"{DAY.rollup_id}/{self.queue}/{name}",
            task_queue=self.queue,
            result_type=jobs.RolledUp,
        )

    def files(self) -> dict[str, str]:
        """Every file of the lake with its SHA-256; what a killed worker left aside must be gone."""
        lake = self.data / "lake"
        found = (path for path in lake.rglob("*") if path.is_file())
        return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@contextlib.asynccontextmanager
async def shop(folder: Path, count: int, address: str) -> AsyncIterator[Shop]:
    data, settings, queue = folder / "data", folder / "config", folder.name
    (settings / "environments").mkdir(parents=True)
    local = yaml.safe_load((config.config_folder() / "environments" / "local.yaml").read_text())
    local |= {"temporal": {"task_queue": queue}, "rolling_up": {"processes": 1}}
    (settings / "environments" / "local.yaml").write_text(yaml.safe_dump(local))
    (settings / "feeds").symlink_to(config.config_folder() / "feeds")
    data.mkdir()
    write_addresses(data, address)
    a_long_day().write(data / "archive")
    with contextlib.ExitStack() as stack:
        variables = {"SSMD_CONFIG": str(settings)}
        workers = [stack.enter_context(running_worker(data, variables=variables)) for _ in range(count)]
        for worker in workers:
            await asyncio.to_thread(worker.until, "/ready", is_ready, 60)
        named = {str(worker.process.pid): worker for worker in workers}
        yield Shop(data, named, await Client.connect(address), queue)


def pid(identity: str) -> str:
    """Temporal calls a worker `process@host`."""
    return identity.partition("@")[0]


async def in_hand(handle: Handle) -> collections.Counter[str]:
    """How many hours each worker has taken and not answered."""
    pending = (await handle.describe()).raw_description.pending_activities
    return collections.Counter(
        pid(a.last_worker_identity)
        for a in pending
        if a.activity_type.name == "rollup_hour" and a.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    )


async def killed_in_the_middle(handle: Handle, name: str, worker: RunningWorker, data: Path) -> None:
    """kill -9, at a moment when it has an hour in hand for certain."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not (await in_hand(handle))[name]:
            continue
        worker.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)  # what it had said is heard by now
        if (await in_hand(handle))[name]:
            left = data / "lake/trades" / f"feed={FEED}" / f"date={DATE}" / f".trades_99.{name}.tmp"
            left.parent.mkdir(parents=True, exist_ok=True)
            left.write_bytes(b"half a file")  # as it may have one at that moment
            worker.process.kill()
            return
        worker.process.send_signal(signal.SIGCONT)
    raise AssertionError(f"worker {name} never had an hour in hand: {worker.log.read_text()[-2000:]}")


async def by_worker(handle: Handle) -> tuple[dict[str, int], int]:
    """How many hours each worker did, and how many needed a second try, from the history."""
    events = (await handle.fetch_history()).events
    names = {
        e.event_id: e.activity_task_scheduled_event_attributes.activity_type.name
        for e in events
        if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    }
    done: collections.Counter[str] = collections.Counter()
    again = 0
    for event in events:
        started = event.activity_task_started_event_attributes
        if started.scheduled_event_id and names[started.scheduled_event_id] == "rollup_hour":
            done[pid(started.identity)] += 1
            again += started.attempt > 1
    return dict(done), again


async def deciding(handle: Handle) -> str:
    """The worker that has the workflow in its memory."""
    events = (await handle.fetch_history()).events
    decided = [e.workflow_task_completed_event_attributes.identity for e in events]
    return pid(next(identity for identity in decided if identity))


async def shared(shop: Shop) -> dict[str, str]:
    """What the workers made of the day together."""
    handle = await shop.rollup("shared")
    result = asyncio.ensure_future(handle.result())
    while not result.done():
        taken = await in_hand(handle)
        assert all(count <= 1 for count in taken.values()), f"hours wait for a worker with one process: {taken}"
        await asyncio.sleep(0.05)
    assert result.result().frames == FRAMES_IN_ALL
    done, again = await by_worker(handle)
    assert set(done) == set(shop.workers), f"one worker did all of it: {done}"
    assert not again
    return shop.files()


async def disturbed(shop: Shop, *, decider: bool) -> dict[str, str]:
    """Of two workers the one that decides, or the other one, is killed; what the one that is left made."""
    handle = await shop.rollup("disturbed")
    while not await in_hand(handle):
        await asyncio.sleep(0.02)
    decides = await deciding(handle)
    victim = next(name for name in shop.workers if (name == decides) == decider)
    (other,) = set(shop.workers) - {victim}
    await killed_in_the_middle(handle, victim, shop.workers[victim], shop.data)
    rolled = await asyncio.wait_for(handle.result(), 120)
    assert rolled.frames == FRAMES_IN_ALL
    done, again = await by_worker(handle)
    assert done[other] and again, (done, again)
    return shop.files()


@pytest.mark.timeout(240)
async def test_two_workers_share_a_day_and_either_may_be_killed(tmp_path: Path, temporal_server: object) -> None:
    address = temporal_server.address  # type: ignore[attr-defined]

    async def one() -> list[dict[str, str]]:
        async with shop(tmp_path / "one", 1, address) as alone:
            await asyncio.wait_for((await alone.rollup("alone")).result(), 120)
            return [alone.files()]

    async def two(decider: bool) -> list[dict[str, str]]:
        async with shop(tmp_path / f"two-{decider}", 2, address) as pair:
            together = await shared(pair)
            shutil.rmtree(pair.data / "lake")
            return [together, await disturbed(pair, decider=decider)]

    (alone,), *others = await asyncio.gather(one(), two(True), two(False))
    assert len(alone) > HOURS
    assert any(name.endswith(".json") for name in alone), sorted(alone)
    for pair in others:
        assert pair == [alone, alone]
