"""The one place that writes files which must survive a crash.

A file is either appended to and synced, or written aside, synced, renamed, and its folder synced. A failed
write or fsync is never retried (after a failed fsync the kernel may have dropped the pages): it raises
`DiskFailed`, and the process that owns the file ends and recovers from what is on disk.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ssmd.errors import Permanent, Transient

LEFT_SECONDS = 10.0  # what was not written to for so long has lost its writer


class DiskFailed(Transient):
    """The disk took no more: end the process, make space or mend the disk, start again."""

    def __init__(self, path: Path, error: OSError) -> None:
        what = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        super().__init__(
            f"cannot write {path}: {what}; free or mend the disk, then start again: nothing confirmed is lost"
        )
        self.path = path
        self.errno = error.errno


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise DiskFailed(folder, e) from e


def sync(path: Path) -> None:
    """Force to disk what a process that died may have left in the page cache."""
    appender = Appender(path)
    try:
        appender.sync()
    finally:
        appender.close()


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents so that they survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    try:
        for f in reversed(missing):
            f.mkdir(exist_ok=True)
            sync_folder(f.parent)
    except OSError as e:
        raise DiskFailed(folder, e) from e


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Give `path` this content, whole or not at all."""
    replace_by(path, lambda file: file.write(data), mode)


def replace_by(path: Path, write: Callable[[BinaryIO], object], mode: int = 0o644) -> None:
    """As `replace`, for content that `write` produces into an open file."""
    aside = _aside(path)
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as e:
        aside.unlink(missing_ok=True)
        raise DiskFailed(path, e) from e
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _aside(path: Path) -> Path:
    """Where a file is written first. Process ids are the same in containers, and on machines that share a folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


def sweep(folder: Path, just_written: Path) -> None:
    """Remove what writers that died have left aside in `folder`; one that still writes did so a moment ago.

    That moment is by the clock of the file system, which may be another machine's: that of a file `just_written`.
    """
    now = just_written.stat().st_mtime
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if now - left.stat().st_mtime > LEFT_SECONDS:
                remove(left)


def create_by(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `replace_by`, but raises FileExistsError, and changes nothing, if `path` exists by then."""
    aside = _aside(path)
    try:
        replace_by(aside, write)
        os.link(aside, path)  # unlike a rename it never replaces
    except FileExistsError:
        raise
    except OSError as e:
        raise DiskFailed(path, e) from e
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_by_name(path: Path, write: Callable[[Path], object], *, over: bool) -> None:
    """As `replace_by`, for what something else writes under the name that it is given.

    Unless it may go `over` it, raises FileExistsError, and changes nothing, if `path` exists by then.
    """
    aside = _aside(path)
    try:
        write(aside)
        sync(aside)
        if over:
            aside.rename(path)
        else:
            os.link(aside, path)
    except FileExistsError:
        raise
    except OSError as e:
        raise DiskFailed(path, e) from e
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename(old: Path, new: Path) -> None:
    """Rename within one folder, surviving a power cut; the file itself must be synced already."""
    try:
        old.rename(new)
    except OSError as e:
        raise DiskFailed(new, e) from e
    sync_folder(new.parent)


def remove(path: Path) -> None:
    """Remove a file. Its name may come back after a power cut; the owner must cope, so no sync here."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise DiskFailed(path, e) from e


class Appender:
    """A file that grows at its end: `append` reaches the kernel, `sync` the disk (call it off the event loop)."""

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Open or create `path`; cut it to `size` bytes first if given (recovery to the last committed length)."""
        self.path = path
        try:
            self._created = not path.exists()  # its name is not on disk yet
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if size is not None and size != os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, size)
                os.fsync(self._fd)  # or a power cut brings back what was cut
            self.size = os.fstat(self._fd).st_size
        except OSError as e:
            raise DiskFailed(path, e) from e

    def append(self, data: bytes) -> None:
        try:
            done = os.write(self._fd, data)
            while done < len(data):
                done += os.write(self._fd, memoryview(data)[done:])
        except OSError as e:
            raise DiskFailed(self.path, e) from e
        self.size += len(data)

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as e:
            raise DiskFailed(self.path, e) from e
        if self._created:
            sync_folder(self.path.parent)
            self._created = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Lock:
    """Only one process at a time may own a folder: held by the kernel, so it ends with the process."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = folder / ".lock"
        self._owner = owner
        self._fd = -1

    def __enter__(self) -> "Lock":
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise DiskFailed(self.path, e) from e
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise Permanent(
                f"{self.path.parent} is already in use by {holder or 'another process'}: "
                f"stop it before starting {self._owner}"
            ) from e
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{self._owner} (process {os.getpid()})\n".encode(), 0)
        except OSError as e:
            os.close(self._fd)
            raise DiskFailed(self.path, e) from e
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
