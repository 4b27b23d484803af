"""PublishArchive: a day goes to the store whole and once, whatever dies on the way; readers see all of it or none."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from activities.processes import Processes
from ssmd import archive, jobs, published
from ssmd.up import servers
from tests.lake.archives import DATE, FEED
from tests.lake.captures import captured
from tests.storage.stores import Setting
from tests.workflows.workers import ROOT, RunningWorker, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
DAY = jobs.Publication(FEED, DATE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Processes(2) as processes:
        return captured(tmp_path_factory.mktemp("data"), processes)


@pytest.fixture
def setting(data: Path, tmp_path: Path, s3_server: object) -> Setting:
    return Setting(data, tmp_path / "config", s3_server, f"s3://ssmd-test/{tmp_path.name}")


@pytest.fixture
def worker(setting: Setting, temporal_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningWorker]:
    monkeypatch.setenv("SSMD_CONFIG", setting.variables["SSMD_CONFIG"])
    write_addresses(setting.data, temporal_server.address)  # type: ignore[attr-defined]
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    with running_worker(setting.data, port) as running:
        running.until("/ready", is_ready)
        yield running


async def test_started_by_hand_it_stores_the_day(
    worker: RunningWorker, setting: Setting, temporal_server: object, s3_server: object
) -> None:
    client = await Client.connect(temporal_server.address)  # type: ignore[attr-defined]
    temporal = [servers.find_binary("temporal"), "workflow", "start", "--address", temporal_server.address]  # type: ignore[attr-defined]
    given = json.dumps({"feed": FEED, "date": DATE})
    by_hand = ["--type", "PublishArchive", "--task-queue", "ssmd", "--workflow-id", DAY.publish_id, "--input", given]
    await asyncio.to_thread(subprocess.run, [*temporal, *by_hand], check=True, capture_output=True)
    handle = client.get_workflow_handle(DAY.publish_id, result_type=jobs.Published)
    told = await asyncio.wait_for(handle.result(), 60)
    assert (told.feed, told.date, told.store, told.revision) == (FEED, DATE, setting.store.url, 1)
    assert told.objects == told.new == len(setting.named()) - 2
    assert setting.objects() == setting.named()
    assert await handle.query("progress", result_type=jobs.Progress) == jobs.Progress("done")

    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    assert "c4n4ry" not in history.to_json()
    assert "c4n4ry" not in worker.log.read_text()
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / "publish_archive.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")


def test_the_record_has_all_that_a_reader_needs(setting: Setting) -> None:
    done = setting.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{FEED} {DATE} is in {setting.store.url}: revision 1, ")
    assert next(iter(published.days(setting.store)))[:2] == (FEED, DATE)
    record = published.load(setting.store, FEED, DATE)
    assert record is not None
    assert record.manifest() == archive.load_manifest(archive.manifest_path(setting.data / "archive", FEED, DATE))
    assert {o.path for o in record.objects} == setting.named().keys() - {
        published.archive_manifest(FEED, DATE),
        published.lake_manifest(FEED, DATE),
    }
    for o in record.objects:
        assert published.digests(setting.data / o.path) == (o.bytes, o.sha256, o.blocks)


def test_done_again_it_changes_nothing(setting: Setting) -> None:
    assert setting.ssmd("publish", FEED, DATE, "--local").returncode == 0
    before = dict(setting.store.list("published"))
    again = json.loads(setting.ssmd("publish", FEED, DATE, "--local", "--json").stdout)
    assert again["new"] == 0
    assert dict(setting.store.list("published")) == before


def test_killed_in_the_middle_and_done_again_it_is_the_same(setting: Setting) -> None:
    """kill -9 as soon as the first objects are there; no record tells readers of them, and the next run ends it."""
    command = [sys.executable, "-m", "services.worker", "--data", str(setting.data), "--local", "PublishArchive"]
    command += [json.dumps({"feed": FEED, "date": DATE})]
    process = subprocess.Popen(command, cwd=ROOT, env=setting.variables, stdout=subprocess.DEVNULL)
    while not (there := len(list(setting.store.list("archive")))):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < there < len(setting.named())
    assert published.load(setting.store, FEED, DATE) is None

    done = setting.ssmd("publish", FEED, DATE, "--local", "--json")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["new"] < len(setting.named()) - 2
    assert setting.objects() == setting.named()


def test_other_content_under_the_same_name_is_refused(setting: Setting) -> None:
    """As from another machine's archive, or a damaged object: it is not written over, and no record is written."""
    path = next(iter(setting.named()))
    setting.store.replace(path, b"something else", None)
    done = setting.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 2
    assert f"{path} is there already with other content" in done.stderr
    assert setting.store.read(path) == b"something else"
    assert published.load(setting.store, FEED, DATE) is None


def test_what_is_not_rolled_up_is_told(setting: Setting) -> None:
    done = setting.ssmd("publish", FEED, "2020-01-01", "--local")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {FEED} 2020-01-01 is not rolled up in {setting.data}: `ssmd rollup {FEED} 2020-01-01` first\n"
    )


def test_a_folder_is_a_store_too(data: Path, tmp_path: Path, s3_server: object) -> None:
    setting = Setting(data, tmp_path / "config", s3_server, str(tmp_path / "store"))
    done = setting.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    assert setting.objects() == setting.named()
