"""RollupDay on a real Temporal server: started by hand, seen, queried, retried only where that helps."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from ssmd import archive, config, jobs, tables
from ssmd.up import servers
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import RunningWorker, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = Path(__file__).resolve().parents[1] / "replay" / "histories"
DAY = jobs.Day(FEED, DATE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def worker(data: Path, temporal_server: object) -> Iterator[RunningWorker]:
    write_addresses(data, temporal_server.address)  # type: ignore[attr-defined]
    with running_worker(data) as running:
        running.until("/ready", is_ready)
        yield running


@pytest.fixture
async def client(temporal_server: object) -> Client:
    return await Client.connect(temporal_server.address)  # type: ignore[attr-defined]


async def start(client: Client, day: jobs.Day, name: str) -> WorkflowHandle[object, jobs.RolledUp]:
    return await client.start_workflow(
        "RollupDay", day, id=f"{day.rollup_id}/{name}", task_queue=jobs.TASK_QUEUE, result_type=jobs.RolledUp
    )


async def test_started_by_hand_it_gives_a_published_day(
    worker: RunningWorker, data: Path, temporal_server: object, client: Client
) -> None:
    day = a_day()
    day.write(data / "archive")
    temporal = [servers.find_binary("temporal"), "workflow"]
    address = ["--address", temporal_server.address]  # type: ignore[attr-defined]
    given = json.dumps({"feed": FEED, "date": DATE})
    by_hand = ["--type", "RollupDay", "--task-queue", "ssmd", "--workflow-id", DAY.rollup_id, "--input", given]
    await asyncio.to_thread(subprocess.run, [*temporal, "start", *by_hand, *address], check=True, capture_output=True)
    handle = client.get_workflow_handle(DAY.rollup_id, result_type=jobs.RolledUp)
    rolled = await asyncio.wait_for(handle.result(), 60)
    assert rolled.frames == day.n
    assert tables.load_day(data / "lake" / rolled.manifest).revision == 1

    shown = await asyncio.to_thread(
        subprocess.run, [*temporal, "show", "--workflow-id", DAY.rollup_id, *address], check=True, capture_output=True
    )
    assert b"WorkflowExecutionCompleted" in shown.stdout
    told = await handle.query("progress", result_type=jobs.Progress)
    assert told == jobs.Progress("done", 3, 3)

    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / "rollup_day.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")
    payloads = [e.ByteSize() for e in history.events]
    assert max(payloads) < 64 << 10


async def test_the_command_starts_it_and_waits(worker: RunningWorker, data: Path, client: Client) -> None:
    date = "2026-08-16"
    a_day(date).write(data / "archive")
    command = [sys.executable, "-c", "from ssmd.cli import main; main()", "rollup", FEED, date, "--data", str(data)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{FEED} {date}: 22 frames became 6 book_deltas, 3 book_snapshots")
    assert (await client.get_workflow_handle(f"rollup/{FEED}/{date}").describe()).status is not None

    path = archive.day_folder(data / "archive", FEED, date) / "trade_000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1])
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: rollup/{FEED}/{date} failed: ")
    assert "trade_000.jsonl.gz is not what its manifest says" in done.stderr


async def test_it_is_found_by_feed_and_date(worker: RunningWorker, data: Path, client: Client) -> None:
    a_day().write(data / "archive")
    handle = await start(client, DAY, "found")
    await handle.result()
    for _ in range(50):
        found = [run.id async for run in client.list_workflows(f"Feed = '{FEED}' AND TradingDate = '{DATE}'")]
        if handle.id in found:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{handle.id} is not among {found}")


async def test_an_unsealed_day_waits_and_says_so(worker: RunningWorker, data: Path, client: Client) -> None:
    day = jobs.Day(FEED, "2026-08-12")
    a_day(day.date).write(data / "archive", sealed=False)
    handle = await start(client, day, "waits")
    await _until(lambda: _said(handle), "waiting until the day is sealed")
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    a_day(day.date).write(data / "archive", sealed=True)
    rolled = await asyncio.wait_for(handle.result(), 60)
    assert rolled.date == day.date


async def test_a_damaged_day_fails_at_once_and_publishes_nothing(
    worker: RunningWorker, data: Path, client: Client
) -> None:
    day = jobs.Day(FEED, "2026-08-13")
    a_day(day.date).write(data / "archive")
    path = archive.day_folder(data / "archive", FEED, day.date) / "trade_000.jsonl.gz"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    handle = await start(client, day, "damaged")
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 30)
    cause: BaseException = failure.value
    while cause.__cause__ is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    assert isinstance(cause, ApplicationError)
    assert "trade_000.jsonl.gz is not what its manifest says" in str(cause)
    tries = [
        e.activity_task_started_event_attributes.attempt
        for e in (await handle.fetch_history()).events
        if e.HasField("activity_task_started_event_attributes")
    ]
    assert set(tries) == {1}, "what is permanent was tried again"
    assert not (data / "lake" / tables.manifest_path(FEED, day.date)).exists()


async def test_a_busy_world_is_tried_again(worker: RunningWorker, data: Path, client: Client) -> None:
    """The control to the one above: no NATS answers, so the seal is asked for again and again."""
    day = jobs.Day(FEED, "2026-08-14", seal=True)
    a_day(day.date).write(data / "archive", sealed=False)
    handle = await start(client, day, "busy")

    async def attempts() -> bool:
        pending = (await handle.describe()).raw_description.pending_activities
        return bool(pending) and pending[0].attempt >= 2

    await _until(attempts)
    await handle.terminate()


async def test_a_killed_worker_costs_nothing_but_time(
    data: Path, temporal_server: object, client: Client, tmp_path: Path
) -> None:
    """kill -9 while it waits; the next worker goes on, and the files are those of an undisturbed run."""
    write_addresses(tmp_path, temporal_server.address)  # type: ignore[attr-defined]
    day = jobs.Day(FEED, "2026-08-15")
    a_day(day.date).write(tmp_path / "archive", sealed=False)
    handle = await client.start_workflow(
        "RollupDay", day, id=f"{day.rollup_id}/killed", task_queue="killed", result_type=jobs.RolledUp
    )
    environments = tmp_path / "config" / "environments"
    environments.mkdir(parents=True)
    local = (config.config_folder() / "environments" / "local.yaml").read_text()
    (environments / "local.yaml").write_text(local + "\ntemporal: {task_queue: killed}\n")
    (tmp_path / "config" / "feeds").symlink_to(config.config_folder() / "feeds")
    os.environ["SSMD_CONFIG"] = str(tmp_path / "config")
    try:
        with running_worker(tmp_path) as first:
            first.until("/ready", is_ready)
            await _until(lambda: _said(handle), "waiting until the day is sealed")
            first.process.send_signal(signal.SIGKILL)
        a_day(day.date).write(tmp_path / "archive", sealed=True)
        with running_worker(tmp_path) as second:
            second.until("/ready", is_ready)
            rolled = await asyncio.wait_for(handle.result(), 90)
    finally:
        del os.environ["SSMD_CONFIG"]
    there = {f.path: f.sha256 for f in tables.load_day(tmp_path / "lake" / rolled.manifest).files}

    other = tmp_path / "other"
    a_day(day.date).write(other / "archive")
    command = [sys.executable, "-m", "services.worker", "--data", str(other), "--local", "RollupDay"]
    given = json.dumps({"feed": FEED, "date": day.date})
    await asyncio.to_thread(
        subprocess.run, [*command, given], check=True, capture_output=True, cwd=Path(__file__).parents[2]
    )
    assert {f.path: f.sha256 for f in tables.load_day(other / "lake" / rolled.manifest).files} == there


async def _said(handle: WorkflowHandle[object, jobs.RolledUp]) -> str:
    from temporalio.service import RPCError

    try:
        return (await handle.query("progress", result_type=jobs.Progress)).doing
    except RPCError:
        return ""


async def _until(ask: Callable[[], object], good: object = True, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = await ask()  # type: ignore[misc]
        if said == good:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"still {said!r}, not {good!r}")
