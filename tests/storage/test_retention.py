"""ApplyRetention: only what the store has whole, now, goes here; and nothing that is known of a day goes with it."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import msgspec
import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from activities.processes import Processes
from activities.storage import Storage
from services.archiver.store import Store as ArchiverStore
from services.worker.local import Local
from ssmd import archive, config, durable, frames, jobs, journal, lake, moved, published
from ssmd.clock import date_of
from ssmd.config import Places
from ssmd.up import servers
from tests.lake.archives import DATE, FEED
from tests.lake.captures import NEXT, captured
from tests.storage.stores import DAY_VIEWS, Setting, damage, first_day, write_environment
from tests.workflows.workers import ROOT, is_ready, running_worker, write_addresses
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
KEEP = {"archive_days": 30, "lake_days": 30}


@pytest.fixture(scope="module")
def published_day(tmp_path_factory: pytest.TempPathFactory, s3_server: object) -> Setting:
    folder = tmp_path_factory.mktemp("published")
    with Processes(2) as processes:
        data = captured(folder / "data", processes)
    made = Setting(data, folder / "config", s3_server, f"s3://ssmd-test/{folder.name}")
    done = made.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def setting(published_day: Setting, tmp_path: Path, s3_server: object) -> Setting:
    """A copy of the day, published, with everything in it long expired."""
    shutil.copytree(published_day.data, tmp_path / "data")
    url = f"s3://ssmd-test/{tmp_path.name}"
    return published_day.copied(tmp_path / "data", tmp_path / "config", s3_server, url, retention=KEEP)


def here(setting: Setting) -> set[str]:
    """Which of the published day's files are in the data folder."""
    return {path for path in setting.named() if (setting.data / path).exists()}


def retain(setting: Setting, *, dry_run: bool = False, **days: int) -> jobs.Retained:
    """Run the job in this process; `days` instead of the environment's."""
    kept = config.Retention(**days) if days else setting.environment.retention
    storage = Storage(Places(setting.data), setting.environment.model_copy(update={"retention": kept}))

    async def run() -> bytes:
        given = msgspec.json.encode(jobs.Retention("local", dry_run)).decode()
        local = Local([storage.probe_store, storage.find_expired, storage.retire])
        return await local.run("ApplyRetention", given, asyncio.Event())

    return msgspec.json.decode(asyncio.run(run()), type=jobs.Retained)


def manifests() -> set[str]:
    return {published.archive_manifest(FEED, DATE), published.lake_manifest(FEED, DATE)}


def test_what_is_published_and_whole_goes_and_is_still_read(setting: Setting) -> None:
    with lake.connect(setting.data) as before:
        rows = {view: first_day(before, view) for view in DAY_VIEWS}
    named = setting.named()

    dry = retain(setting, dry_run=True)
    assert (dry.days, dry.files) == (1, len(named) - 2)
    assert here(setting) == named.keys(), "a dry run removes nothing"

    told = retain(setting)
    assert (told.days, told.files, told.bytes) == (dry.days, dry.files, dry.bytes)
    assert {path for path in named if (setting.data / path).exists()} == manifests()
    assert told.kept == []
    assert list((setting.data / "archive" / FEED / NEXT).glob("*.jsonl.gz*")), "what is not published stays"
    assert retain(setting).files == 0

    os.environ["SSMD_CONFIG"] = setting.variables["SSMD_CONFIG"]
    try:
        with lake.connect(setting.data) as after:
            assert {view: first_day(after, view) for view in DAY_VIEWS} == rows
    finally:
        del os.environ["SSMD_CONFIG"]

    verified = setting.ssmd("verify", FEED, DATE, "--local")
    assert verified.returncode == 0, verified.stdout
    assert "4 hours of tables made again" in verified.stdout


def test_a_damaged_object_keeps_its_day_here(setting: Setting) -> None:
    segment = next(path for path in setting.named() if path.endswith(".jsonl.gz"))
    damage(setting.store, segment)
    done = setting.ssmd("retention", "--local")
    assert done.returncode == 1
    assert f"{setting.store.url}/{segment} is damaged: remove that object" in done.stdout
    assert {path for path in here(setting) if path.startswith("archive")} == {
        path for path in setting.named() if path.startswith("archive")
    }
    assert not any(path.endswith(".parquet") for path in here(setting)), "the tables are whole there"

    # As it says: without the damaged object it is published anew, and then it may go.
    setting.store.remove(segment)
    assert setting.ssmd("publish", FEED, DATE, "--local").returncode == 0
    assert retain(setting).files == sum(path.endswith(".jsonl.gz") for path in setting.objects())


@pytest.mark.parametrize("lost", ["object", "record"])
def test_what_the_store_lost_stays_here(setting: Setting, lost: str) -> None:
    tables = [path for path in setting.named() if path.endswith(".parquet")]
    setting.store.remove(tables[0] if lost == "object" else published.record_path(FEED, DATE))
    told = retain(setting)
    assert any("is not there" in k.kept or "is not published" in k.kept for k in told.kept)
    assert set(tables) <= here(setting)


def test_a_newer_revision_is_published_first(setting: Setting) -> None:
    path = archive.manifest_path(setting.data / "archive", FEED, DATE)
    manifest = archive.load_manifest(path)
    archive.save_manifest(path, msgspec.structs.replace(manifest, revision=2))
    told = retain(setting)
    [kept] = [k for k in told.kept if (k.date, k.kind) == (DATE, "archive")]
    assert kept.kept == f"what is published is not revision 2: `ssmd publish {FEED} {DATE}`"


def test_a_crash_in_the_middle_costs_nothing(setting: Setting) -> None:
    """What is noted as moved is read from the store, whether or not it has been removed; the next run removes it."""
    record = published.load(setting.store, FEED, DATE)
    assert record is not None
    segments = [o for o in record.objects if o.path.startswith("archive")]
    moved.save(moved.of_archive(Places(setting.data), FEED, DATE), moved.Moved(setting.store.url, segments))
    durable.remove(setting.data / segments[0].path)
    assert retain(setting).days == 1
    assert not any((setting.data / o.path).exists() for o in segments)


def test_the_archiver_does_not_miss_what_has_moved(setting: Setting) -> None:
    """A day that it still knows of: it neither asks for the segments again nor takes them out of the manifest."""
    retain(setting)
    path = archive.manifest_path(setting.data / "archive", FEED, DATE)
    before = archive.load_manifest(path)
    store = ArchiverStore(setting.data / "archive", FEED)
    mended = store.recover()
    store.close()
    assert not any(DATE in told for told in mended)
    assert archive.load_manifest(path) == before

    moved.of_archive(Places(setting.data), FEED, DATE).unlink()  # the control
    again = ArchiverStore(setting.data / "archive", FEED)
    assert any("is missing" in told for told in again.recover())
    again.close()


def test_the_journal_goes_where_no_connector_runs_and_all_is_published(setting: Setting) -> None:
    """Here its first files are of the published day alone; the next has a frame of the day after."""
    folder = setting.data / "journal" / FEED
    files = sorted(folder.glob("*.journal"))
    with durable.Lock(folder, "connector"):
        [kept] = retain(setting, journal_days=30).kept
    assert "is already in use by connector" in kept.kept
    assert sorted(folder.glob("*.journal")) == files

    last = [date_of(frames.parse(list(journal.read(file))[-1][1].message).ts_recv) for file in files]  # type: ignore[union-attr]
    published_alone = last.count(DATE)
    assert 0 < published_alone < len(files) - 1
    told = retain(setting, journal_days=30)
    assert told.files == published_alone
    assert [k.kept for k in told.kept] == [f"it is not published in {setting.store.url}: `ssmd publish {FEED} {NEXT}`"]
    assert sorted(folder.glob("*.journal")) == files[published_alone:]


def test_without_a_storage_nothing_goes(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    folder = tmp_path / "without"
    write_environment(folder, s3_server, "", retention=KEEP)
    setting.variables["SSMD_CONFIG"] = str(folder)
    done = setting.ssmd("retention", "--local")
    assert done.returncode == 2
    assert "environment local names no `storage`" in done.stderr
    assert here(setting) == setting.named().keys()


def test_what_went_comes_back(setting: Setting) -> None:
    """And before it does, whoever needs a segment here is told how."""
    before = setting.named()
    retain(setting)
    done = setting.ssmd("rollup", FEED, DATE, "--local")
    assert done.returncode == 2
    assert f"it has moved to object storage, `ssmd restore {FEED} {DATE}` brings it back" in done.stderr

    damaged = next(path for path in before if path.endswith(".parquet"))
    content = setting.store.read(damaged)
    damage(setting.store, damaged)
    done = setting.ssmd("restore", FEED, DATE, "--local")
    assert done.returncode == 2
    assert f"{damaged} is damaged: it is not brought back" in done.stderr
    assert not (setting.data / damaged).exists()

    setting.store.remove(damaged)
    setting.store.replace(damaged, content, None)
    done = setting.ssmd("restore", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    assert setting.named() == before
    assert not list(setting.data.rglob("moved.json"))


def test_a_folder_is_a_store_too(published_day: Setting, tmp_path: Path, s3_server: object) -> None:
    shutil.copytree(published_day.data, tmp_path / "data")
    own = published_day.copied(
        tmp_path / "data", tmp_path / "config", s3_server, str(tmp_path / "store"), retention=KEEP
    )
    with lake.connect(own.data) as before:
        rows = {view: first_day(before, view) for view in DAY_VIEWS}
    assert retain(own).days == 1
    with lake.connect(own.data) as after:
        assert {view: first_day(after, view) for view in DAY_VIEWS} == rows
    table = next(path for path in own.named() if "/trades_" in path)
    damage(own.store, table)
    with lake.connect(own.data) as damaged, pytest.raises(duckdb.Error, match="is damaged"):
        damaged.sql("select count(price) from trades").fetchall()


async def test_started_by_hand(setting: Setting, temporal_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSMD_CONFIG", setting.variables["SSMD_CONFIG"])
    write_addresses(setting.data, temporal_server.address)  # type: ignore[attr-defined]
    given = jobs.Retention("local")
    with running_worker(setting.data) as worker:
        await asyncio.to_thread(worker.until, "/ready", is_ready)
        command = [servers.find_binary("temporal"), "workflow", "start", "--task-queue", "ssmd"]
        command += ["--type", "ApplyRetention", "--input", '{"environment":"local"}']
        command += ["--workflow-id", given.retention_id, "--address", temporal_server.address]  # type: ignore[attr-defined]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        client = await Client.connect(temporal_server.address)  # type: ignore[attr-defined]
        handle = client.get_workflow_handle(given.retention_id, result_type=jobs.Retained)
        told = await asyncio.wait_for(handle.result(), 60)
        day = jobs.Restoration(FEED, DATE)
        restoring = await client.start_workflow("RestoreDay", day, id=day.restore_id, task_queue=jobs.TASK_QUEUE)
        await asyncio.wait_for(restoring.result(), 60)
        back = await restoring.fetch_history()
    assert told.days == 1
    assert here(setting) == setting.named().keys()
    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        kept = re.sub(r"/tmp/[^ \"\\]*/data", "data", kept)  # nor its folders
        (HISTORIES / "apply_retention.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', back.to_json())
        (HISTORIES / "restore_day.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")
