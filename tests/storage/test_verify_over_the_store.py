"""VerifyArchive over what is published: the same scrub, from an empty machine."""

from pathlib import Path

import pytest

from activities.processes import Processes
from ssmd import archive
from tests.lake.archives import DATE, FEED
from tests.lake.captures import captured
from tests.storage.stores import Machine, Setting, damage


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, s3_server: object) -> Setting:
    folder = tmp_path_factory.mktemp("published")
    with Processes(2) as processes:
        data = captured(folder / "data", processes)
    made = Setting(data, folder / "config", s3_server, f"s3://ssmd-test/{folder.name}")
    done = made.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    return made


def test_what_is_damaged_there_is_told(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    machine = Machine(tmp_path, s3_server, setting.store.url)
    done = machine.ssmd("verify", FEED)
    assert done.returncode == 0, done.stderr
    frames = archive.load_manifest(archive.manifest_path(setting.data / "archive", FEED, DATE)).frames
    assert done.stdout.startswith(f"{FEED} {DATE} is whole: {frames:,} frames in ")
    assert ", 4 hours of tables made again, 0 journal records" in done.stdout

    segment = next(path for path in setting.named() if path.endswith(".jsonl.gz"))
    tables = [path for path in setting.named() if path.endswith(".parquet")]
    damage(setting.store, segment)
    damage(setting.store, tables[0])
    setting.store.remove(tables[1])
    done = machine.ssmd("verify", FEED, DATE)
    assert done.returncode == 1
    found = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("s3://")]
    assert {f"{setting.store.url}/{path}" for path in (segment, *tables[:2])} <= set(found)
    assert f"second-copy: remove that object, and `ssmd publish {FEED} {DATE}` where the day is whole" in done.stdout


def test_what_is_not_published_is_told(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    done = Machine(tmp_path, s3_server, setting.store.url).ssmd("verify", FEED, "2020-01-01")
    assert done.returncode == 2
    assert f"{FEED} 2020-01-01 is not published in {setting.store.url}" in done.stderr
