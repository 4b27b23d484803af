"""The worker waits for Temporal, outlives its absence, says so, and ends at once when it has nothing to do."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.client import Client

from ssmd import jobs
from ssmd.up import servers
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import is_ready, running_worker, write_addresses

ROOT = Path(__file__).resolve().parents[3]


def temporal(folder: Path, port: int, ui: int) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = servers.temporal_command(servers.find_binary("temporal"), folder, port, ui)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def is_red(status: int, body: dict[str, object]) -> bool:
    return status == 503


async def test_it_waits_for_temporal_and_outlives_its_absence(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, ui = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    write_addresses(tmp_path, address)
    a_day().write(tmp_path / "archive")
    with running_worker(tmp_path) as worker:
        body = await asyncio.to_thread(worker.until, "/health", is_red)
        assert f"Temporal at {address} does not answer" in str(body["problems"])
        server = temporal(tmp_path / "server", port, ui)
        try:
            await asyncio.to_thread(worker.until, "/ready", is_ready, 40)
            server.kill()
            server.wait()
            await asyncio.to_thread(worker.until, "/health", is_red)
            server = temporal(tmp_path / "server", port, ui)
            await asyncio.to_thread(worker.until, "/ready", is_ready, 40)

            client = await Client.connect(address)
            day = jobs.Day(FEED, DATE)
            rolled: jobs.RolledUp = await asyncio.wait_for(
                client.execute_workflow(
                    "RollupDay", day, id=day.rollup_id, task_queue=jobs.TASK_QUEUE, result_type=jobs.RolledUp
                ),
                60,
            )
            assert rolled.frames == 22
            status = await asyncio.to_thread(
                worker.until,
                "/status",
                lambda code, told: code == 200 and told["completed"] == 1 and told["last"]["status"] == "completed",
            )
            assert status == {
                "workflows_running": 0,
                "activities_running": 0,
                "completed": 1,
                "failed": 0,
                "last": {"workflow": day.rollup_id, "status": "completed"},
            }
        finally:
            server.kill()
            server.wait()


@pytest.mark.parametrize("waits", [False, True], ids=["idle", "waiting for a seal"])
async def test_it_ends_at_once(tmp_path: Path, temporal_server: object, waits: bool) -> None:
    write_addresses(tmp_path, temporal_server.address)  # type: ignore[attr-defined]
    client = await Client.connect(temporal_server.address)  # type: ignore[attr-defined]
    with running_worker(tmp_path) as worker:
        await asyncio.to_thread(worker.until, "/ready", is_ready)
        handle = None
        if waits:
            day = jobs.Day(FEED, "2026-08-20")
            handle = await client.start_workflow("RollupDay", day, id=day.rollup_id, task_queue=jobs.TASK_QUEUE)
            await asyncio.to_thread(worker.until, "/status", lambda code, told: told["activities_running"] == 1)
        start = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.process.wait, 15) == 0
        assert time.monotonic() - start < 12
        if handle is not None:
            await handle.terminate()


def local(data: Path, job: str, given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.worker", "--data", str(data), "--local", job, given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_local_job_needs_no_server(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive")
    done = local(tmp_path, "RollupDay", json.dumps({"feed": FEED, "date": DATE}))
    assert done.returncode == 0
    assert json.loads(done.stdout)["frames"] == 22
    assert f"rolling up {FEED} {DATE} 04:00" in done.stderr


@pytest.mark.parametrize(
    ("job", "given", "sentence"),
    [
        ("RollUpDay", "{}", "there is no job 'RollUpDay': there is RollupDay"),
        ("RollupDay", "{", "is no input for RollupDay"),
        ("RollupDay", '{"feed":"kalshi"}', "missing required field `date`"),
        ("RollupDay", '{"feed":"kalshi","date":"tomorrow"}', "'tomorrow' is no date"),
        ("RollupDay", '{"feed":"nosuch","date":"2026-08-11"}', "no feed 'nosuch'"),
        ("RollupDay", '{"feed":"kalshi","date":"2026-08-11","seal":true}', "no archiver to seal"),
    ],
)
def test_a_wrong_local_job_is_one_sentence(tmp_path: Path, job: str, given: str, sentence: str) -> None:
    done = local(tmp_path, job, given)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "lake").exists()


def test_an_interrupted_local_job_ends_soon_and_publishes_nothing(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive", sealed=False)
    given = json.dumps({"feed": FEED, "date": DATE})
    command = [sys.executable, "-m", "services.worker", "--data", str(tmp_path), "--local", "RollupDay", given]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as job:
        assert job.stderr is not None
        assert "waiting until" in job.stderr.readline()
        start = time.monotonic()
        job.send_signal(signal.SIGTERM)
        rest = job.stderr.read()
        assert job.wait(10) == 130
    assert time.monotonic() - start < 9
    assert rest.splitlines()[-1].startswith("RollupDay was interrupted: what was finished is kept")
    assert not (tmp_path / "lake").exists()


def test_a_process_of_its_pool_loads_nothing_of_the_worker() -> None:
    as_a_child = "import runpy, sys; runpy.run_module('services.worker.__main__', run_name='__mp_main__')"
    told = "print([m for m in sys.modules if m.startswith(('services.worker.', 'temporalio', 'workflows'))])"
    done = subprocess.run(
        [sys.executable, "-c", f"{as_a_child}; {told}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
