"""VerifyArchive on a real Temporal server and without any: started by hand, seen, and told by exit code."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Replayer

from activities.processes import Processes
from ssmd import archive, jobs
from ssmd.up import servers
from ssmd.versions import MERGE_FILES
from tests.lake.archives import DATE, FEED
from tests.lake.captures import NEXT, captured, listed, manifest
from tests.workflows.workers import ROOT, RunningWorker, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
DAY = jobs.Scrub(FEED, DATE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Processes(2) as processes:
        return listed(captured(tmp_path_factory.mktemp("data"), processes))


@pytest.fixture(scope="module")
def worker(data: Path, temporal_server: object) -> Iterator[RunningWorker]:
    write_addresses(data, temporal_server.address)  # type: ignore[attr-defined]
    with running_worker(data) as running:
        running.until("/ready", is_ready)
        yield running


@pytest.fixture
async def client(temporal_server: object) -> Client:
    return await Client.connect(temporal_server.address)  # type: ignore[attr-defined]


async def ssmd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from ssmd.cli import main; main()", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )


def segment(data: Path) -> Path:
    return archive.day_folder(data / "archive", FEED, DATE) / "trade_001.jsonl.gz"


async def test_started_by_hand_it_says_that_all_is_whole(
    worker: RunningWorker, data: Path, temporal_server: object, client: Client
) -> None:
    temporal = [servers.find_binary("temporal"), "workflow", "start", "--address", temporal_server.address]  # type: ignore[attr-defined]
    given = json.dumps({"feed": FEED, "date": DATE})
    by_hand = ["--type", "VerifyArchive", "--task-queue", "ssmd", "--workflow-id", DAY.verify_id, "--input", given]
    await asyncio.to_thread(subprocess.run, [*temporal, *by_hand], check=True, capture_output=True)
    handle = client.get_workflow_handle(f"verify/{FEED}/{DATE}", result_type=jobs.Verified)
    verified = await asyncio.wait_for(handle.result(), 60)
    assert verified.whole
    assert verified.frames == manifest(data).frames
    assert verified.segments == len(manifest(data).segments)
    assert verified.hours_made_again == 4
    assert verified.journal_records > 0
    assert verified.versions == 4 * (MERGE_FILES + 1)
    assert await handle.query("progress", result_type=jobs.Progress) == jobs.Progress("done", 4, 4)

    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / "verify_archive.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")
    assert max(e.ByteSize() for e in history.events) < 64 << 10


async def test_findings_are_a_result_and_no_failure(worker: RunningWorker, data: Path, client: Client) -> None:
    path = segment(data)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        handle = await client.start_workflow(
            "VerifyArchive", DAY, id=f"{DAY.verify_id}/cut", task_queue=jobs.TASK_QUEUE, result_type=jobs.Verified
        )
        verified = await asyncio.wait_for(handle.result(), 60)
    finally:
        path.write_bytes(whole)
    assert [(f.kind, f.path, f.mend) for f in verified.findings] == [
        ("segment", f"archive/{FEED}/{DATE}/{path.name}", "journal")
    ]
    assert verified.hours_made_again < 4, "what is made from a damaged segment cannot be compared"


async def test_a_day_that_is_not_there_fails_at_once(worker: RunningWorker, client: Client) -> None:
    day = jobs.Scrub(FEED, "2020-01-01")
    handle = await client.start_workflow("VerifyArchive", day, id=day.verify_id, task_queue=jobs.TASK_QUEUE)
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 30)


async def test_the_command_starts_it_and_its_exit_code_tells(worker: RunningWorker, data: Path) -> None:
    done = await ssmd("verify", FEED, "--data", str(data))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{FEED} {DATE} to {NEXT} is whole: ")
    assert "no platform" not in done.stderr

    path = segment(data)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        done = await ssmd("verify", FEED, DATE, "--data", str(data))
        as_json = await ssmd("verify", FEED, DATE, "--data", str(data), "--json")
    finally:
        path.write_bytes(whole)
    assert done.returncode == as_json.returncode == 1
    head, row, *_, sentence = done.stdout.splitlines()
    assert head.split() == ["file", "where", "mend", "what"]
    assert row.startswith(f"archive/{FEED}/{DATE}/trade_001.jsonl.gz  bytes ")
    assert sentence.startswith(f"{FEED} {DATE} is damaged: 1 findings in ")
    assert msgspec.json.decode(as_json.stdout, type=jobs.Verified).findings[0].mend == "journal"


async def test_without_a_platform_it_runs_here(tmp_path: Path) -> None:
    with Processes(1) as processes:
        await asyncio.to_thread(captured, tmp_path, processes, 8)
    done = await ssmd("verify", FEED, DATE, "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no platform is running on this data folder: verifying here" in done.stderr
    assert done.stdout.startswith(f"{FEED} {DATE} is whole: ")
    segment(tmp_path).unlink(missing_ok=True)
    cursor = archive.cursor_path(tmp_path / "archive", FEED)
    cursor.write_bytes(cursor.read_bytes()[:-1])
    done = await ssmd("verify", FEED, "all", "--local", "--data", str(tmp_path))
    assert done.returncode == 1
    assert sum(line.startswith(f"archive/{FEED}/cursor.json ") for line in done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "there is no feed 'nosuch'"),
        ([FEED, "2026-13-01"], "'2026-13-01' is no date"),
        ([FEED, "2020-01-01", "--local"], "nothing of kalshi is archived for 2020-01-01"),
        ([FEED], "nothing of kalshi is archived in"),
    ],
)
async def test_what_cannot_be_looked_at_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = await ssmd("verify", *arguments, "--data", str(tmp_path))
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
