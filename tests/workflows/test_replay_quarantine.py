"""ReplayQuarantine on a real Temporal server."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from ssmd import jobs
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import ROOT, RunningWorker, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
DAY = jobs.Quarantined(FEED, DATE)


@pytest.fixture
def worker(tmp_path: Path, temporal_server: object) -> Iterator[RunningWorker]:
    a_day().write(tmp_path / "archive")
    write_addresses(tmp_path, temporal_server.address)  # type: ignore[attr-defined]
    with running_worker(tmp_path) as running:
        running.until("/ready", is_ready)
        yield running


async def test_it_says_what_would_parse(worker: RunningWorker, temporal_server: object) -> None:
    client = await Client.connect(temporal_server.address)  # type: ignore[attr-defined]
    handle = await client.start_workflow(
        "ReplayQuarantine", DAY, id=DAY.replay_id, task_queue=jobs.TASK_QUEUE, result_type=jobs.Replayed
    )
    told = await handle.result()
    assert told == jobs.Replayed(
        FEED, DATE, 2, 0, [jobs.SecondChance("not JSON", 1, {}), jobs.SecondChance("not UTF-8", 1, {})]
    )
    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / "replay_quarantine.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")
