"""SyncSecmaster and SyncFees on a real Temporal server, and without one."""

import asyncio
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec
import nats
import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer

import ssmd.lake
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Answer, Simulation
from ssmd import changes, cli, config, jobs, subjects
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
    tmp_path: Path, asked: Asked, nats_server, temporal_server
) -> None:
    write_addresses(tmp_path, asked, temporal_server.address, nats_server.url)
    heard: list[changes.Changes] = []
    client = await nats.connect(nats_server.url)

    async def hear(msg: nats.aio.msg.Msg) -> None:
        heard.append(msgspec.json.decode(msg.data, type=changes.Changes))

    await client.subscribe(subjects.secmaster_changes("local"), cb=hear)
    await client.flush()
    with running_worker(tmp_path) as worker:
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


async def test_the_next_worker_goes_on_where_the_last_one_stopped(  # type: ignore[no-untyped-def]
    tmp_path: Path, asked: Asked, nats_server, temporal_server
) -> None:
    """A venue with a slow page for each market; the worker is told to stop in the middle of them."""
    with urllib.request.urlopen(f"{asked.url}/trade-api/v2/markets?status=open") as answer:
        markets = json.load(answer)["markets"]

    def slowly(target: str) -> Answer:
        time.sleep(0.4)
        number = int(dict(parse_qsl(target.partition("?")[2])).get("cursor", "0"))
        following = str(number + 1) if number + 1 < len(markets) else ""
        return Answer(200, json.dumps({"markets": [markets[number]], "cursor": following}).encode())

    asked.targets.clear()
    asked.fault = slowly
    write_addresses(tmp_path, asked, temporal_server.address, nats_server.url)
    temporal = await Client.connect(temporal_server.address)
    with running_worker(tmp_path, "--grace", "5") as worker:
        worker.until("/ready", is_ready)
        handle = await temporal.start_workflow(
            "SyncSecmaster",
            jobs.Listing(FEED),
            id="secmaster/stopped",
            task_queue=jobs.TASK_QUEUE,
            result_type=jobs.Synced,
        )
        while len(asked.targets) < 6:
            await asyncio.sleep(0.05)
        worker.process.terminate()
        worker.process.wait(15)
    with running_worker(tmp_path) as worker:
        synced = await handle.result()
    assert (synced.pages, synced.listed, synced.whole) == (12, 12, True)
    assert len(asked.targets) <= 12 + 4, asked.targets  # what the last heartbeat knew of was not asked for again


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `ssmd …` on the test's data folder."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = cli.run([*arguments, "--data", str(tmp_path)])
        return Done(code, *capsys.readouterr())

    return run


def test_the_command_line_syncs_lists_and_finds(tmp_path: Path, asked: Asked, nats_server, command: Command) -> None:  # type: ignore[no-untyped-def]
    nothing = command("secmaster", "list")
    assert nothing.returncode == 0 and "ssmd secmaster sync" in nothing.stderr
    write_addresses(tmp_path, asked, "127.0.0.1:1", nats_server.url)
    first = command("secmaster", "sync", FEED, "--full", "--local")
    assert (first.returncode, first.stdout) == (0, "kalshi: 12 instruments read in 4 pages: 12 new\n"), first.stderr
    again = command("secmaster", "sync", FEED, "--local", "--json")
    assert json.loads(again.stdout)["changed"] == 0
    listed = json.loads(command("secmaster", "list", FEED, "--status", "open", "--json").stdout)
    assert len(listed) == 12 and listed[0]["tick_size"] == "0.01"
    alive = json.loads(command("secmaster", "list", "--series", "KXBTCD", "--as-of", "now", "--json").stdout)
    assert alive and all(row["series"] == ["KXBTCD"] for row in alive)
    found = json.loads(command("secmaster", "search", "bitcoin", "--json").stdout)
    assert found and all("Bitcoin" in row["title"] for row in found)
    symbol = found[0]["symbol"]
    shown = command("secmaster", "show", FEED, symbol)
    assert symbol in shown.stdout and "listed" in shown.stdout
    [version] = json.loads(command("secmaster", "show", FEED, symbol, "--json").stdout)
    assert version["raw"]["ticker"] == symbol
    past = command("secmaster", "show", FEED, symbol, "--as-of", "2020-01-01")
    assert past.returncode == 2 and "as of 2020-01-01" in past.stderr
    counted = json.loads(command("secmaster", "stats", "--json").stdout)
    assert counted[0]["open"] == 12 and counted[0]["whole_ns"] > 0
    for wrong in (["--status", "shut"], ["--as-of", "yesterdayish"]):
        refused = command("secmaster", "list", *wrong)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and wrong[1] in refused.stderr
    fees = command("fees", "sync", FEED, "--local")
    assert fees.returncode == 0, fees.stderr
    series = json.loads(command("fees", "show", FEED, symbol, "--json").stdout)
    assert series and series[0]["symbol"] == symbol.partition("-")[0]
    assert "p(1-p)" in command("fees", "list", FEED).stdout


def test_what_was_read_counts_and_the_rest_is_told(tmp_path: Path, asked: Asked, nats_server, command: Command) -> None:  # type: ignore[no-untyped-def]
    write_addresses(tmp_path, asked, "127.0.0.1:1", nats_server.url)
    asked.fault = lambda target: Answer(403, b"") if "status=closed" in target else None
    half = command("secmaster", "sync", FEED, "--full", "--local")
    assert half.returncode == 1 and "12 new" in half.stdout
    assert "not read: /markets?" in half.stderr and "nothing was taken for gone" in half.stderr
