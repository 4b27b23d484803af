"""A file is there whole or not at all, one process owns a folder, a full disk says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from ssmd import durable
from ssmd.errors import Permanent
from tests.chaos.simulation.disk import DISKS, Disk, SimPath, System
from tests.chaos.simulation.scheduler import Loop, Scheduler


@contextmanager
def disk_without_power(seed: int) -> Iterator[Disk]:
    """A disk at /disk whose power can be cut (`lose_power`): the seed decides what of its page cache survives."""
    scheduler = Scheduler(Random(seed))
    disk = DISKS["disk"] = Disk("disk", scheduler, lambda _: None)
    scheduler.current = disk.owner = Loop(scheduler, "test")
    system = System(scheduler)
    with mock.patch.object(durable, "os", system), mock.patch.object(durable, "fcntl", system.modules()):
        yield disk


def test_replace_keeps_the_old_file_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    durable.replace(path, b"old")

    def half(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        durable.replace_by(path, half)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_full_disk_is_one_sentence() -> None:
    appender = durable.Appender(Path("/dev/full"))
    with pytest.raises(durable.DiskFailed, match="cannot write /dev/full: no space left; free or mend"):
        appender.append(b"x")


def test_an_appender_is_cut_to_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    path.write_bytes(b"committed+torn")
    appender = durable.Appender(path, size=9)
    appender.append(b"!")
    appender.sync()
    assert path.read_bytes() == b"committed!"


def cut_then_lose_power(seed: int) -> bytes:
    path = SimPath("/disk/a.part")
    with disk_without_power(seed) as disk:
        appender = durable.Appender(path)  # type: ignore[arg-type]
        appender.append(b"committed+torn")
        appender.sync()
        durable.Appender(path, size=9)  # type: ignore[arg-type]
        disk.lose_power(Random(seed))
        return path.read_bytes()


def test_what_was_cut_does_not_come_back_after_a_power_cut() -> None:
    assert {cut_then_lose_power(seed) for seed in range(20)} == {b"committed"}


def test_without_a_sync_of_the_cut_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: `fdatasync` alone stays."""
    monkeypatch.setattr(
        System, "fsync", lambda self, fd: self._opened[fd][0].node.sync() if _is_folder(self, fd) else 0
    )
    assert b"committed+torn" in {cut_then_lose_power(seed) for seed in range(20)}


def _is_folder(system: System, fd: int) -> bool:
    return not hasattr(system._opened[fd][0].node, "data")


def test_what_a_dead_writer_left_aside_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    for name in ("whole", ".hidden", "left.tmp"):
        durable.replace(tmp_path / name, b"1")
    aside = [durable._aside(tmp_path / "whole") for _ in range(2)]
    for path in aside:
        path.write_bytes(b"half")
    os.utime(aside[0], (0, durable.LEFT_SECONDS * 1000))  # long ago, by whatever clock
    durable.sweep(tmp_path, tmp_path / "whole")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"whole", ".hidden", "left.tmp", aside[1].name}, "another may be at work on its file"
    durable.sweep(tmp_path / "nowhere", tmp_path / "whole")


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    refused = pytest.raises(Permanent, match=rf"already in use by archiver kalshi \(process {os.getpid()}\)")
    with durable.Lock(tmp_path, "archiver kalshi"), refused:
        durable.Lock(tmp_path, "another").__enter__()
    with durable.Lock(tmp_path, "another"):
        pass
