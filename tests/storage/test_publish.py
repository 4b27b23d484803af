"""PublishArchive: a day goes to the store whole and once, whatever dies on the way; readers see all of it or none."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer

from activities.processes import Processes
from activities.storage import Storage
from ssmd import archive, config, jobs, lake, mirror, published, storage
from ssmd.errors import Transient
from ssmd.up import servers
from tests.lake.archives import DATE, FEED
from tests.lake.captures import captured
from tests.storage.proxies import stripping
from tests.storage.stores import Setting, first_day
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
    with running_worker(setting.data) as running:
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
    assert next(iter(published.records(setting.store)))[:2] == (FEED, DATE)
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
    publisher = Storage(config.Places(setting.data), setting.environment)
    first = ActivityEnvironment().run(publisher.store_day, DAY, 1)
    before = dict(setting.store.list("published"))
    again = ActivityEnvironment().run(publisher.store_day, DAY, 1)
    assert (first.new, again.new) == (first.objects, 0)
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


def test_a_store_that_ignores_conditions_is_told_at_start_and_refused(
    data: Path,
    tmp_path: Path,
    s3_server: object,
    temporal_server: object,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through a proxy that strips If-None-Match (and the signature, which would notice)."""
    url = f"s3://ssmd-open/{tmp_path.name}"
    direct = Setting(data, tmp_path / "direct", s3_server, url)
    with stripping(free_port(), s3_server.endpoint, (b"Authorization", b"If-None-Match")) as endpoint:  # type: ignore[attr-defined]
        through = dataclasses.replace(s3_server, endpoint=endpoint)  # type: ignore[type-var]
        setting = Setting(data, tmp_path / "through", through, url)
        monkeypatch.setenv("SSMD_CONFIG", setting.variables["SSMD_CONFIG"])
        write_addresses(data, temporal_server.address)  # type: ignore[attr-defined]
        with running_worker(data) as worker:
            worker.until("/health", lambda status, body: status != 200 and "does not honour If-None-Match" in str(body))
        done = setting.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 2
    assert "does not honour If-None-Match: *" in done.stderr
    assert "use a store that does" in done.stderr
    assert [path for path, _ in direct.store.list("archive")] == []


class Dying(storage.Folder):
    """A store that takes so many writes, and then is away; it knows how many came at once."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.writes = writes
        self.at_once = self.most_at_once = 0
        self._count = threading.Lock()

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        with self._count:
            self.writes -= 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.writes < 0:
                raise Transient("away")
            time.sleep(0.001)
            yield
        finally:
            with self._count:
                self.at_once -= 1

    def create(self, path: str, source: Path | bytes, sha256: str) -> bool:
        with self._write():
            return super().create(path, source, sha256)

    def replace(self, path: str, data: bytes, etag: str | None) -> None:
        with self._write():
            super().replace(path, data, etag)


def test_whenever_it_ends_readers_see_the_whole_day_or_nothing(data: Path, tmp_path: Path) -> None:
    """Ended after each number of writes; what is not read back then is read back the next time."""
    wanted = config.Environment.model_validate(
        {"name": "local", "feeds": [{"feed": FEED, "endpoint": "x"}], "storage": {"url": "x", "parallel": 3}}
    )
    with lake.connect(data) as here:
        rows = first_day(here, "trades")
    total = len(list((data / "archive" / FEED / DATE).glob("*.gz"))) + len(list((data / "lake").rglob("*.parquet"))) + 3
    seen = set()
    for writes in [*range(0, total - 4, 8), *range(total - 4, total + 1)]:
        root = tmp_path / str(writes)
        store = Dying(root, writes)
        publisher = Storage(config.Places(data), wanted, open_store=lambda *_, store=store: store)
        with contextlib.suppress(Transient):
            ActivityEnvironment().run(publisher.store_day, DAY, 1)
        store.writes = total
        with lake.connect(mirror.Mirror(store, tmp_path / f"cache-{writes}")) as there:
            found = there.sql("select count(*) from coverage").fetchall() != [(0,)]
        seen.add(found)
        assert found == (writes == total)
        assert store.most_at_once <= 3
        assert ActivityEnvironment().run(publisher.store_day, DAY, 1).objects == total - 3
        with lake.connect(root) as whole:  # a plain copy of the store is a data folder
            assert first_day(whole, "trades") == rows
    assert seen == {True, False}
