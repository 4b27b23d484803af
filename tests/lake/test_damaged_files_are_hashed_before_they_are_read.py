"""A file is hashed once and then known, until anything touches it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssmd import archive, config
from ssmd.errors import Permanent
from ssmd.whole import Named, Whole


@pytest.fixture
def file(tmp_path: Path) -> Named:
    path = tmp_path / "lake" / "file.parquet"
    path.parent.mkdir()
    path.write_bytes(b"content")
    time.sleep(0.15)  # a file as young as this could still be changed without its times showing it
    return Named(path, 7, archive.sha256_of(path), "make it again")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Which files were hashed."""
    done: list[Path] = []
    real = archive.sha256_of
    monkeypatch.setattr(archive, "sha256_of", lambda path: (done.append(path), real(path))[1])
    yield done


def check(root: Path, file: Named, *, hash_: bool = True, again: bool = False) -> None:
    whole = Whole(config.Places(root))
    whole.check([file], hash_=hash_, again=again)
    whole.save()


def test_it_is_hashed_once(tmp_path: Path, file: Named, hashed: list[Path]) -> None:
    check(tmp_path, file)
    check(tmp_path, file)
    assert hashed == [file.path]
    check(tmp_path, file, again=True)
    check(tmp_path, file, hash_=False)
    assert hashed == [file.path] * 2


def test_a_write_makes_it_be_hashed_again_even_if_its_time_is_put_back(tmp_path: Path, file: Named) -> None:
    check(tmp_path, file)
    before = file.path.stat()
    file.path.write_bytes(b"cOntent")
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Permanent, match=r"file\.parquet is damaged .*SHA-256.*make it again"):
        check(tmp_path, file)
    check(tmp_path, file, hash_=False)  # the control: size and presence alone say nothing


def test_another_file_under_its_name_is_hashed(tmp_path: Path, file: Named) -> None:
    check(tmp_path, file)
    other = file.path.with_name("other")
    other.write_bytes(b"cOntent")
    other.replace(file.path)
    with pytest.raises(Permanent, match="SHA-256"):
        check(tmp_path, file)


def test_a_file_just_written_is_not_remembered(tmp_path: Path, file: Named, hashed: list[Path]) -> None:
    os.utime(file.path)
    check(tmp_path, file)
    check(tmp_path, file)
    assert len(hashed) == 2


def test_a_memory_that_is_damaged_or_cannot_be_kept_only_costs_time(
    tmp_path: Path, file: Named, hashed: list[Path]
) -> None:
    check(tmp_path, file)
    memory = tmp_path / "run" / "whole.json"
    content = memory.read_bytes()
    memory.write_bytes(content.replace(b'"lake/', b'"lakE/'))
    check(tmp_path, file)
    assert len(hashed) == 2
    memory.unlink()
    memory.parent.rmdir()
    memory.parent.write_bytes(b"in the way")
    check(tmp_path, file)
    assert len(hashed) == 3


def test_a_missing_or_cut_file_is_told_without_hashing(tmp_path: Path, file: Named, hashed: list[Path]) -> None:
    file.path.write_bytes(b"cut")
    with pytest.raises(Permanent, match="3 bytes, but its manifest says 7"):
        check(tmp_path, file)
    file.path.unlink()
    with pytest.raises(Permanent, match="cannot be read"):
        check(tmp_path, file)
    assert hashed == []
