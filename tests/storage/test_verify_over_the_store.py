"""VerifyArchive over what is published: the same scrub, from an empty machine."""

from pathlib import Path

import pytest

from activities.processes import Processes
from ssmd import archive, published, versions
from tests.lake.archives import DATE, FEED
from tests.lake.captures import captured, listed
from tests.storage.stores import Machine, Setting, damage


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, s3_server: object) -> Setting:
    folder = tmp_path_factory.mktemp("published")
    with Processes(2) as processes:
        data = listed(captured(folder / "data", processes))
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
    assert ", 4 hours of tables made again, 0 journal records, 68 versions of instruments and fees" in done.stdout

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


def test_damaged_instruments_and_fees_are_told_there_too(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    store = setting.store
    paths = [f.path for table in versions.TABLES for f in versions.load(setting.data / "lake", table, FEED).files]
    flipped, gone, *_ = (f"lake/{path}" for path in paths)
    copy = published.version_manifest(FEED, versions.INSTRUMENTS)
    day = published.lake_manifest(FEED, DATE)
    for path in (flipped, copy, day, published.record_path(FEED, "fees")):
        damage(store, path)
    store.remove(gone)
    done = Machine(tmp_path, s3_server, store.url).ssmd("verify", FEED, DATE)
    assert done.returncode == 1, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("s3://")]
    for path, what in {
        flipped: "its SHA-256 is not what its manifest says",
        gone: "is missing",
        copy: "is not what its record says",
        day: "is not what its record says",
        "published/kalshi/fees.json": "checksum",
    }.items():
        assert any(line.startswith(f"{store.url}/{path} ") and what in line for line in found), path


def test_a_damaged_record_of_a_day_is_a_finding(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    damage(setting.store, published.record_path(FEED, DATE))
    done = Machine(tmp_path, s3_server, setting.store.url).ssmd("verify", FEED)
    assert done.returncode == 1, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"{setting.store.url}/published/kalshi/2")]
    assert "is damaged: " in line


def test_what_is_not_published_is_told(setting: Setting, tmp_path: Path, s3_server: object) -> None:
    done = Machine(tmp_path, s3_server, setting.store.url).ssmd("verify", FEED, "2020-01-01")
    assert done.returncode == 2
    assert f"{FEED} 2020-01-01 is not published in {setting.store.url}" in done.stderr
