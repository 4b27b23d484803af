"""Whoever waits for a job sees how far it is and how long it takes yet; Ctrl-C ends the wait and loses nothing."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from ssmd import progress
from ssmd.jobs import Progress
from tests.cli.terminals import CTRL_C, Terminal
from tests.lake.archives import DATE, FEED, GOLD, SILVER, ArchivedDay, a_day
from tests.workflows.workers import is_ready, running_worker, write_addresses

SSMD = Path(sys.executable).parent / "ssmd"
BAR = r"━.* \d:\d\d:\d\d left [-\d]"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a day of work for some seconds."""
    folder = tmp_path_factory.mktemp("busy")
    day = ArchivedDay()
    day.at(0).session("open", endpoint="wss://example/ws", subscription={"trade": [GOLD]}).session("connected")
    for hour, count in enumerate((1_000, 1_000, 40_000, 1_000, 1_000)):
        day.at(hour, 1)
        for i in range(count):
            size = f"{i % 50 + 1}.00" if i % 64 else "1e0"  # not known to the grammar, so all are read one by one
            day.trade(GOLD if i % 3 else SILVER, f"0.{10 + i % 80}00", size)
    day.session("close", frames=day.n, reason="stopped").write(folder / "archive", per_segment=50_000)
    return folder


def test_a_local_job_has_bars_on_a_terminal_and_ctrl_c_says_what_becomes_of_it(busy: Path, tmp_path: Path) -> None:
    command = [str(SSMD), "rollup", FEED, DATE, "--local", "--data", str(busy)]
    terminal = Terminal(command, tmp_path, columns=140)
    terminal.until(rf"^rolling up +{BAR}")
    terminal.until(rf"^rolling up {FEED} {DATE} \d\d:00 +{BAR}")
    terminal.type(CTRL_C)
    assert terminal.ended() == 130
    [said] = [line for line in terminal.lines() if line != "^C"]
    assert said.startswith("RollupDay was interrupted: what was finished is kept, nothing half-done is published;")
    assert not list(busy.glob("lake/days/*/*/manifest.json"))
    terminal = Terminal(command, tmp_path, columns=140)
    terminal.until("44,003 frames became 3 sessions, 43,")
    assert terminal.ended() == 0
    assert not any("━" in line for line in terminal.lines()), "the bars are gone when it is done"


def test_elsewhere_it_is_lines(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive")
    command = [str(SSMD), "rollup", FEED, DATE, "--local", "--json", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["frames"] == 22
    assert f"rolling up {FEED} {DATE} 04:00: " in done.stderr and "━" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(set(lines)) == len(lines), "nothing is said twice"


def test_lines_tell_a_change_once_a_second(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = progress.Lines()
    for done, later in ((0, 0.5), (1, 0.4), (2, 0.2), (3, 2.0), (3, 2.0), (4, 0.0)):
        lines.tell(Progress("counting", done, 4))
        now[0] += later
    lines.tell(Progress("reading", 5_000, 10_000))
    lines.tell(Progress("waiting"))
    told = capsys.readouterr().err.splitlines()
    assert told == ["counting: 0 of 4", "counting: 3 of 4", "counting: 4 of 4", "reading: 50 %", "waiting"]


@pytest.fixture
def platform(busy: Path, temporal_server: object) -> Iterator[Path]:
    """The busy folder, with a worker at a real Temporal."""
    write_addresses(busy, temporal_server.address)  # type: ignore[attr-defined]
    with running_worker(busy) as worker:
        worker.until("/ready", is_ready)
        yield busy


def test_at_temporal_heartbeats_are_bars_and_the_job_goes_on_after_ctrl_c(
    platform: Path, temporal_server: object, tmp_path: Path
) -> None:
    address = str(temporal_server.address)  # type: ignore[attr-defined]
    command = [str(SSMD), "rollup", FEED, DATE, "--data", str(platform)]
    terminal = Terminal(command, tmp_path, columns=200)
    terminal.until(rf"^rolling up +{BAR}")
    terminal.until(rf"^rolling up {FEED} {DATE} \d\d:00 +{BAR}")  # what an activity's heartbeat says
    terminal.type(CTRL_C)
    assert terminal.ended() == 130
    id_ = f"rollup/{FEED}/{DATE}"
    said = " ".join(line for line in terminal.lines() if line != "^C")
    assert said.startswith(f"{id_} goes on at Temporal: `ssmd rollup {FEED} {DATE}` waits for it again,")
    assert f"`temporal workflow cancel --workflow-id {id_} --address {address}` ends it" in said

    async def finished() -> WorkflowExecutionStatus | None:
        handle = (await Client.connect(address)).get_workflow_handle(id_)
        await handle.result()
        return (await handle.describe()).status

    assert asyncio.run(finished()) == WorkflowExecutionStatus.COMPLETED
    assert list(platform.glob("lake/days/*/*/manifest.json"))


def test_sigint_without_a_terminal_ends_it_in_the_same_way(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive", sealed=False)
    command = [str(SSMD), "rollup", FEED, DATE, "--local", "--data", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as job:
        assert job.stderr is not None
        assert "is not sealed yet" in job.stderr.readline()
        assert "waiting until" in job.stderr.readline()
        import os

        os.killpg(job.pid, signal.SIGINT)
        told = job.stderr.read()
        assert job.wait(30) == 130
    assert told.splitlines()[-1].startswith("RollupDay was interrupted: ")
    assert not (tmp_path / "lake").exists()
