"""SyncSecmaster and SyncFees on a real Temporal server, and without one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import nats
import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer

import ssmd.lake
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Answer, Simulation
from ssmd import changes, config, jobs, subjects
from tests.activities.venues import Asked, listening
from tests.exchanges.venues import NOW_NS
from tests.workflows.workers import ROOT, is_ready, running_worker
from workflows import steps
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
FEED = "kalshi"


@pytest.fixture
def asked() -> Iterator[Asked]:
    simulator = KalshiSimulator(Simulation(seed=5, markets=12))
    simulator.generate(NOW_NS)
    with listening(simulator, lambda: NOW_NS) as asked:
        yield asked


def write_addresses(data: Path, asked: Asked, temporal: str, nats_url: str) -> None:
    feeds = {FEED: config.FeedAddress("", f"{asked.url}/trade-api/v2")}
    addresses = config.Addresses("local", nats_url, temporal, "", feeds, {}, supervisor=os.getpid())
    path = config.addresses_path(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(addresses))


async def _kept(handle: WorkflowHandle[object, object], name: str) -> None:
    """The history replays; with SSMD_RECORD it is kept."""
    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / f"{name}.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")


async def test_a_worker_syncs_and_announces(  # type: ignore[no-untyped-def]
    tmp_path: Path, asked: Asked, nats_server, temporal_server, free_port: Callable[[], int]
) -> None:
    write_addresses(tmp_path, asked, temporal_server.address, nats_server.url)
    heard: list[changes.Changes] = []
    client = await nats.connect(nats_server.url)

    async def hear(msg: nats.aio.msg.Msg) -> None:
        heard.append(msgspec.json.decode(msg.data, type=changes.Changes))

    await client.subscribe(subjects.secmaster_changes("local"), cb=hear)
    await client.flush()
    with running_worker(tmp_path, free_port()) as worker:
        worker.until("/ready", is_ready)
        temporal = await Client.connect(temporal_server.address)
        job = {"feed": FEED}  # as it is typed by hand
        handle = await temporal.start_workflow(
            "SyncSecmaster", job, id="secmaster/kalshi", task_queue=jobs.TASK_QUEUE, result_type=jobs.Synced
        )
        synced = await handle.result()
        assert (synced.listed, synced.read, synced.whole, synced.announced) == (12, 12, True, 12)
        await _kept(handle, "sync_secmaster")
        described = await handle.describe()
        assert described.typed_search_attributes.get(steps.FEED) == FEED
        fees = await temporal.start_workflow(
            "SyncFees", job, id="fees/kalshi", task_queue=jobs.TASK_QUEUE, result_type=jobs.Synced
        )
        told = await fees.result()
        assert told.whole and told.listed > 0
        await _kept(fees, "sync_fees")
    await client.flush()
    assert {change.symbol for one in heard for change in one.changes} == {
        symbol for (symbol,) in ssmd.lake.connect(tmp_path).sql("SELECT symbol FROM instruments").fetchall()
    }
    await client.close()


def ssmd_command(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ssmd", *arguments, "--data", str(data)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_line_syncs_lists_and_finds(tmp_path: Path, asked: Asked, nats_server) -> None:  # type: ignore[no-untyped-def]
    nothing = ssmd_command(tmp_path, "secmaster", "list")
    assert nothing.returncode == 0 and "ssmd secmaster sync" in nothing.stderr
    write_addresses(tmp_path, asked, "127.0.0.1:1", nats_server.url)
    first = ssmd_command(tmp_path, "secmaster", "sync", FEED, "--full", "--local")
    assert (first.returncode, first.stdout) == (0, "kalshi: 12 instruments read in 4 pages: 12 new\n"), first.stderr
    again = ssmd_command(tmp_path, "secmaster", "sync", FEED, "--local", "--json")
    assert json.loads(again.stdout)["changed"] == 0
    listed = json.loads(ssmd_command(tmp_path, "secmaster", "list", FEED, "--status", "open", "--json").stdout)
    assert len(listed) == 12 and listed[0]["tick_size"] == "0.01"
    found = json.loads(ssmd_command(tmp_path, "secmaster", "search", "bitcoin", "--json").stdout)
    assert found and all("Bitcoin" in row["title"] for row in found)
    symbol = found[0]["symbol"]
    shown = ssmd_command(tmp_path, "secmaster", "show", FEED, symbol)
    assert symbol in shown.stdout and "listed" in shown.stdout
    [version] = json.loads(ssmd_command(tmp_path, "secmaster", "show", FEED, symbol, "--json").stdout)
    assert version["raw"]["ticker"] == symbol
    past = ssmd_command(tmp_path, "secmaster", "show", FEED, symbol, "--as-of", "2020-01-01")
    assert past.returncode == 2 and "as of 2020-01-01" in past.stderr
    counted = json.loads(ssmd_command(tmp_path, "secmaster", "stats", "--json").stdout)
    assert counted[0]["open"] == 12 and counted[0]["whole_ns"] > 0
    for wrong in (["--status", "shut"], ["--as-of", "yesterdayish"]):
        refused = ssmd_command(tmp_path, "secmaster", "list", *wrong)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and wrong[1] in refused.stderr
    fees = ssmd_command(tmp_path, "fees", "sync", FEED, "--local")
    assert fees.returncode == 0, fees.stderr
    series = json.loads(ssmd_command(tmp_path, "fees", "show", FEED, symbol, "--json").stdout)
    assert series and series[0]["symbol"] == symbol.partition("-")[0]
    assert "p(1-p)" in ssmd_command(tmp_path, "fees", "list", FEED).stdout


def test_what_was_read_counts_and_the_rest_is_told(tmp_path: Path, asked: Asked, nats_server) -> None:  # type: ignore[no-untyped-def]
    write_addresses(tmp_path, asked, "127.0.0.1:1", nats_server.url)
    asked.fault = lambda target: Answer(403, b"") if "status=closed" in target else None
    half = ssmd_command(tmp_path, "secmaster", "sync", FEED, "--full", "--local")
    assert half.returncode == 1 and "12 new" in half.stdout
    assert "not read: /markets?" in half.stderr and "nothing was taken for gone" in half.stderr
