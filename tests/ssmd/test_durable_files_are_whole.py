"""A file is there whole or not at all, one process owns a folder, a full disk says so."""

import os
from pathlib import Path

import pytest

from ssmd import durable
from ssmd.errors import Permanent


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


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    refused = pytest.raises(Permanent, match=rf"already in use by archiver kalshi \(process {os.getpid()}\)")
    with durable.Lock(tmp_path, "archiver kalshi"), refused:
        durable.Lock(tmp_path, "another").__enter__()
    with durable.Lock(tmp_path, "another"):
        pass
