"""A trading day on a real Temporal server: it says what is, obeys what may be asked, lives once, never grows old."""

import asyncio
import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Replayer

from ssmd import archive, config, jobs
from ssmd.cli import run
from ssmd.up import servers
from tests.lake.archives import DATE, FEED, a_day
from tests.workflows.workers import ROOT, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
ENV = "quay"
YAML = f"name: {ENV}\ntemporal: {{task_queue: {ENV}}}\nfeeds: [{{feed: {FEED}, endpoint: simulator}}]\n"


class Services:
    """What connector and archiver say at /status."""

    def __init__(self) -> None:
        self.says: dict[str, dict[str, object]] = {"connector": {"connected": False, "gaps_open": 1}, "archiver": {}}
        says = self.says

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(says[self.path.split("/")[1]]).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def all_is_well(self, frames: int = 0) -> None:
        today = datetime.now(UTC).date().isoformat()
        self.says["connector"] = {"connected": True, "gaps_open": 0}
        self.says["archiver"] = {"archived": frames, "days": [{"date": today, "frames": frames, "sealed": False}]}


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    services = Services()
    yield services
    services.server.shutdown()


@contextlib.contextmanager
def quay(folder: Path, address: str, services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with a worker of its own environment."""
    shutil.copytree(ROOT / "exchanges" / "feeds", folder / "config" / "feeds")
    (folder / "config" / "environments").mkdir()
    (folder / "config" / "environments" / f"{ENV}.yaml").write_text(YAML)
    monkeypatch.setenv("SSMD_CONFIG", str(folder / "config"))
    telemetry = {f"{name}-{FEED}": f"{services.url}/{name}" for name in services.says}
    data = folder / "data"
    path = config.addresses_path(data)
    path.parent.mkdir(parents=True)
    addresses = config.Addresses(ENV, "nats://127.0.0.1:1", address, "", {}, telemetry)
    path.write_bytes(msgspec.json.encode(addresses))
    with running_worker(data) as worker:
        worker.until("/ready", is_ready)
        yield data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, temporal_server: Any, services: Services) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("quay")
    with pytest.MonkeyPatch.context() as patch, quay(folder, temporal_server.address, services, patch) as data:
        yield data


def ssmd(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["day", *arguments, "--data", str(data)])
    told = capsys.readouterr()
    return code, told.out + told.err


def until(capsys: pytest.CaptureFixture[str], data: Path, date: str, state: str) -> jobs.DayStatus:
    """Wait until a day is in a state."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        code, told = ssmd(capsys, data, "status", date, "--json")
        if code == 0 and (found := msgspec.json.decode(told, type=jobs.DayStatus)).state == state:
            return found
        time.sleep(0.1)
    raise AssertionError(f"still {told}")


def by_hand(address: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The `temporal` binary, as anybody would call it."""
    command = [str(servers.find_binary("temporal")), "workflow", *arguments, "--address", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def replayed(client: Client, id_: str, name: str, run_id: str | None = None) -> None:
    """What a run did replays; it is kept where histories are recorded anew (see tests/replay)."""
    history = await client.get_workflow_handle(id_, run_id=run_id).fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):
        text = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / f"{name}.json").write_text(json.dumps(json.loads(text), indent=1) + "\n")


def today(days: int = 0) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def at(address: str, work: Callable[[Client], Any]) -> Any:
    async def there() -> Any:
        return await work(await Client.connect(address))

    return asyncio.run(there())


def test_a_day_is_lived_from_start_to_tables(
    data: Path, services: Services, temporal_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = ssmd(capsys, data, "status")
    assert (code, "is not open" in told) == (2, True)
    assert ssmd(capsys, data, "start")[0] == 0
    starting = until(capsys, data, "today", "starting")
    assert starting.waits_for == [f"the connector of {FEED}"]
    assert (starting.feeds[0].connected, starting.feeds[0].archiving, starting.feeds[0].gaps_open) == (False, False, 1)

    services.all_is_well(frames=22)
    active = until(capsys, data, "today", "active")
    assert active.feeds[0] == jobs.FeedSeen(FEED, True, True, 0, 22)
    assert ssmd(capsys, data, "start")[0] == 0, "it is joined, not started again"

    code, told = ssmd(capsys, data, "end", "--reason", "the venue closed early")
    assert (code, "is ending since" in told, "the venue closed early" in told) == (0, True, True)
    assert "waits for the seal" in told
    a_day(today()).write(data / "archive")
    end = time.monotonic() + 30
    while until(capsys, data, "today", "ending").waits_for != [f"the rollup of {FEED}"]:
        assert time.monotonic() < end
    assert (
        by_hand(
            temporal_server.address,
            "execute",
            "--type",
            "RollupDay",
            "--task-queue",
            ENV,
            "--workflow-id",
            f"rollup/{FEED}/{today()}",
            "--input",
            json.dumps({"feed": FEED, "date": today()}),
        ).returncode
        == 0
    )
    complete = until(capsys, data, "today", "complete")
    assert [t.state for t in complete.turns] == ["pending", "starting", "active", "ending", "complete"]
    assert [t.why for t in complete.turns][3:] == ["the venue closed early", "every feed is sealed and rolled up"]
    assert complete.feeds[0].rolled_up == complete.feeds[0].revision == 1

    async def kept(client: Client) -> None:
        handle = client.get_workflow_handle(f"day/{ENV}/{today()}", result_type=jobs.DayStatus)
        assert await handle.result() == complete
        seen = await handle.describe()
        assert (seen.search_attributes["TradingDate"], await seen.static_summary()) == ([today()], f"{ENV} {today()}")
        await replayed(client, handle.id, "trading_day")

    at(temporal_server.address, kept)
    code, told = ssmd(capsys, data, "history", "today")
    assert [line.split()[1] for line in told.splitlines()[1:]] == [t.state for t in complete.turns]
    code, told = ssmd(capsys, data, "show", "today")
    assert told.splitlines()[1].split()[:4] == [FEED, "yes", "yes", "22"]


def test_by_hand_with_plain_json(data: Path, temporal_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Any id opens the day under its own; query, signal, update, list and describe take and give plain JSON."""
    address, date = temporal_server.address, today(2)
    given = json.dumps({"environment": ENV, "date": date})
    for name in ("one", "two"):
        started = by_hand(
            address,
            "execute",
            "--type",
            "TradingDay",
            "--task-queue",
            ENV,
            "--workflow-id",
            name,
            "--input",
            given,
            "-o",
            "json",
        )
        assert json.loads(started.stdout)["result"]["opened"] == f"day/{ENV}/{date}", started.stderr
    assert until(capsys, data, date, "pending").waits_for == []
    at(address, lambda client: replayed(client, "one", "trading_day_opened"))

    this = ["--workflow-id", f"day/{ENV}/{date}"]
    asked = by_hand(address, "query", *this, "--type", "status", "-o", "json")
    assert json.loads(asked.stdout)["queryResult"][0]["state"] == "pending"
    assert (
        by_hand(
            address, "signal", *this, "--name", "note", "--input", '{"text":"the venue says: maintenance"}'
        ).returncode
        == 0
    )
    refused = by_hand(address, "update", "execute", *this, "--name", "end", "--input", "{}")
    assert refused.returncode != 0
    assert f"{date} is pending: only a day that has begun can be ended" in refused.stderr
    said = json.dumps({"state": "complete", "reason": "a holiday"})
    forced = by_hand(address, "update", "execute", *this, "--name", "force", "--input", said, "-o", "json")
    assert json.loads(forced.stdout)["result"]["state"] == "complete", forced.stderr
    found = until(capsys, data, date, "complete")
    assert [t.why for t in found.turns] == ["opened", "the venue says: maintenance", "forced: a holiday"]

    listed = by_hand(
        address, "list", "--query", f"TradingDate = '{date}' AND WorkflowType = 'TradingDay'", "-o", "json"
    )
    assert {w["execution"]["workflowId"] for w in json.loads(listed.stdout)} == {"one", "two", this[1]}
    described = json.loads(by_hand(address, "describe", *this, "-o", "json").stdout)
    assert described["result"]["state"] == "complete"


def test_a_past_day_waits_for_nothing_that_is_done_and_refuses_what_makes_no_sense(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day(DATE).write(data / "archive")
    assert ssmd(capsys, data, "start", DATE)[0] == 0
    assert until(capsys, data, DATE, "ending").waits_for == [f"the rollup of {FEED}"]
    for arguments, said in [
        (("end", DATE), "only a day that has begun can be ended"),
        (("force", "active", DATE, "--reason", "x"), "a day does not go back"),
        (("force", "closed", DATE, "--reason", "x"), "'closed' is no state of a day"),
        (("force", "complete", DATE), "forced for a reason"),
    ]:
        code, told = ssmd(capsys, data, *arguments)
        assert (code, said in told) == (2, True), told
    code, told = ssmd(capsys, data, "roll", DATE, "--reason", "by hand")
    following = (datetime.fromisoformat(DATE) + timedelta(days=1)).date().isoformat()
    assert (code, told) == (0, f"day/{ENV}/{following} is open\n")
    assert ssmd(capsys, data, "force", "complete", DATE, "--reason", "enough")[0] == 0
    until(capsys, data, following, "ending")
    assert ssmd(capsys, data, "force", "complete", following, "--reason", "enough")[0] == 0
    code, told = ssmd(capsys, data, "history")
    rows = [line.split()[:2] for line in told.splitlines()[1:]]
    assert [DATE, "complete"] in rows
    assert [following, "complete"] in rows


def test_damage_is_told_and_the_day_goes_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    date = "2026-08-01"
    a_day(date).write(data / "archive")
    path = archive.manifest_path(data / "archive", FEED, date)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"trade", b"trude"))
    assert ssmd(capsys, data, "start", date)[0] == 0
    [trouble] = until(capsys, data, date, "ending").waits_for
    assert f"{path} is damaged" in trouble
    assert trouble in ssmd(capsys, data, "show", date)[1]
    path.write_bytes(whole)
    end = time.monotonic() + 30
    while until(capsys, data, date, "ending").waits_for != [f"the rollup of {FEED}"]:
        assert time.monotonic() < end
    assert ssmd(capsys, data, "force", "complete", date, "--reason", "enough")[0] == 0


def test_another_environments_day_fails_with_one_sentence(data: Path, temporal_server: Any) -> None:
    given = json.dumps({"environment": "elsewhere", "date": DATE})
    started = by_hand(
        temporal_server.address,
        "execute",
        "--type",
        "TradingDay",
        "--task-queue",
        ENV,
        "--workflow-id",
        f"day/elsewhere/{DATE}",
        "--input",
        given,
    )
    assert started.returncode != 0
    assert f"this worker serves the environment {ENV}, not 'elsewhere'" in started.stdout + started.stderr


def test_without_a_server_it_says_what_is_on_disk(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_day(DATE).write(data / "archive")
    code, told = ssmd(capfd, data, "status", DATE, "--local")
    assert code == 0, told
    assert f"{ENV} {DATE} is ending, waits for the rollup of {FEED}" in told.splitlines()


@pytest.mark.parametrize("command", ["status", "end"])
def test_without_a_worker_it_is_one_sentence(
    tmp_path: Path,
    temporal_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.delenv("SSMD_CONFIG", raising=False)
    monkeypatch.setattr("ssmd.cli.day.ANSWER_SECONDS", 1.0)
    write_addresses(tmp_path, temporal_server.address)

    join = WorkflowIDConflictPolicy.USE_EXISTING

    async def start(client: Client) -> None:
        day = jobs.TradingDay("local", today())
        await client.start_workflow("TradingDay", day, id=day.day_id, task_queue="nobody", id_conflict_policy=join)

    async def end(client: Client) -> None:
        await client.get_workflow_handle(f"day/local/{today()}").terminate()

    at(temporal_server.address, start)
    try:
        code, told = ssmd(capsys, tmp_path, command)
    finally:
        at(temporal_server.address, end)
    assert (code, told) == (2, f"error: no answer for day/local/{today()}: is there a worker? `ssmd up` starts one\n")


def test_a_long_day_continues_as_new_and_forgets_nothing(
    tmp_path: Path,
    services: Services,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a server that suggests it early: the runs follow each other, the day and its turns are one."""
    port, ui = free_port(), free_port()
    command = servers.temporal_command(servers.find_binary("temporal"), tmp_path / "temporal", port, ui)
    command += ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=12"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"127.0.0.1:{port}"
    services.says |= {"connector": {"connected": False}, "archiver": {}}
    try:
        asyncio.run(servers.temporal_ready(address))
        with quay(tmp_path, address, services, monkeypatch) as data:
            assert ssmd(capsys, data, "start")[0] == 0
            since = until(capsys, data, "today", "starting").turns

            async def runs(client: Client) -> list[tuple[str, str]]:
                """Status and run id, the latest first."""
                ours = f"WorkflowId = 'day/{ENV}/{today()}'"
                found = [run async for run in client.list_workflows(ours)]
                return [(run.status.name, run.run_id) for run in found if run.status is not None]

            end = time.monotonic() + 60
            while len(at(address, runs)) < 2:
                assert time.monotonic() < end
                time.sleep(0.2)
            services.all_is_well()
            assert until(capsys, data, "today", "active").turns[:-1] == since
            [latest, *before] = at(address, runs)
            assert (latest[0], {status for status, _ in before}) == ("RUNNING", {"CONTINUED_AS_NEW"})
            assert ssmd(capsys, data, "force", "complete", "--reason", "enough")[0] == 0
            at(address, lambda client: replayed(client, f"day/{ENV}/{today()}", "trading_day_continues", before[-1][1]))
            at(address, lambda client: replayed(client, f"day/{ENV}/{today()}", "trading_day_continued", latest[1]))
    finally:
        server.kill()
        server.wait()
