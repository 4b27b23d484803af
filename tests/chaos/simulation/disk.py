"""A disk with a page cache: a killed process leaves the cache alone, a power cut leaves a legal part of it.

Since its last fsync each write of a file may survive whole, as a prefix, or not at all (then a later one leaves
zeros before it); each new name, rename or removal may survive or not, unless the folder was synced since.
A truncation that is lost takes the file's later writes with it.

`ssmd.durable` is the only module that writes, so its `os` and `fcntl` are replaced (`System`); everybody else
reads through paths (`SimPath`).
"""

import errno
import fnmatch
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from random import Random
from types import SimpleNamespace
from typing import Any

from tests.chaos.simulation.scheduler import Killed, Loop, Scheduler


class File:
    def __init__(self) -> None:
        self.data = bytearray()  # as every process sees it
        self.synced = bytearray()  # as the platter has it for certain
        self.pending: list[tuple[int, bytes | None]] = []  # offset and bytes; None: cut to the offset
        self.locked_by: Loop | None = None

    def write(self, offset: int, data: bytes) -> None:
        _put(self.data, offset, data)
        self.pending.append((offset, data))

    def cut(self, size: int) -> None:
        _cut(self.data, size)
        self.pending.append((size, None))

    def sync(self) -> None:
        for offset, data in self.pending:
            if data is None:
                _cut(self.synced, offset)
            else:
                _put(self.synced, offset, data)
        self.pending.clear()

    def lose_power(self, rng: Random) -> None:
        luck = rng.choice((0.0, 0.5, 0.9, 1.0))
        for offset, data in self.pending:
            if data is None:
                if rng.random() >= luck:
                    break
                _cut(self.synced, offset)
            elif rng.random() < luck:
                _put(self.synced, offset, data)
            elif rng.random() < 0.3:
                _put(self.synced, offset, data[: rng.randrange(len(data) + 1)])
        self.pending.clear()
        self.data = bytearray(self.synced)
        self.locked_by = None


def _put(into: bytearray, offset: int, data: bytes) -> None:
    if data:
        if offset > len(into):
            into.extend(bytes(offset - len(into)))
        into[offset : offset + len(data)] = data


def _cut(what: bytearray, size: int) -> None:
    if size < len(what):
        del what[size:]
    else:
        what.extend(bytes(size - len(what)))


class Folder:
    def __init__(self) -> None:
        self.names: dict[str, File | Folder] = {}
        self.synced: dict[str, File | Folder] = {}
        self.pending: list[tuple[str, str | None, File | Folder | None]] = []  # new name, old name, what

    def add(self, name: str, node: "File | Folder") -> None:
        self.names[name] = node
        self.pending.append((name, None, node))

    def drop(self, name: str) -> None:
        del self.names[name]
        self.pending.append((name, None, None))

    def rename(self, old: str, new: str) -> None:
        node = self.names[new] = self.names.pop(old)
        self.pending.append((new, old, node))

    def sync(self) -> None:
        for change in self.pending:
            self._apply(*change)
        self.pending.clear()

    def _apply(self, new: str, old: str | None, node: "File | Folder | None") -> None:
        if node is None:
            self.synced.pop(new, None)
            return
        self.synced[new] = node
        if old is not None and self.synced.get(old) is node:
            del self.synced[old]

    def lose_power(self, rng: Random) -> None:
        luck = rng.choice((0.0, 0.5, 0.9, 1.0))
        for change in self.pending:
            if rng.random() < luck:
                self._apply(*change)
        self.pending.clear()
        self.names = dict(self.synced)
        for node in self.names.values():
            node.lose_power(rng)


class Opened:
    def __init__(self, node: File | Folder, by: Loop | None, append: bool) -> None:
        self.node, self.by, self.append, self.position = node, by, append, 0


class Disk:
    """One host's disk. `on_death` ends the process that uses it, at the step where `dies_in` reaches nought."""

    def __init__(self, name: str, scheduler: Scheduler, trace: Callable[[str], None]) -> None:
        self.name = name
        self.root = Folder()
        self.owner: Loop | None = None
        self.full = False
        self.broken = False  # every fsync fails
        self.dies_in: int | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.operations = 0
        self._scheduler = scheduler
        self._trace = trace

    def before(self, what: str, path: object, tear: Callable[[], None] | None = None) -> None:
        """A step that changes the disk: the owner may die here, anyone else is dead already."""
        if self._scheduler.current is not self.owner or self.owner is None or self.owner.dead:
            raise Killed
        self.operations += 1
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                self.dies_in = None
                self._trace(f"{self.name} dies at {what} {path}")
                if tear is not None and self._scheduler.rng.random() < 0.5:
                    tear()
                self.on_death()
                raise Killed

    def lose_power(self, rng: Random) -> None:
        self.root.lose_power(rng)

    def find(self, path: "SimPath") -> File | Folder | None:
        node: File | Folder | None = self.root
        for name in path.parts[2:]:
            if not isinstance(node, Folder):
                return None
            node = node.names.get(name)
        return node

    def parent(self, path: "SimPath") -> Folder:
        node = self.find(path.parent)
        if not isinstance(node, Folder):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return node

    def no_space(self, path: object) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


DISKS: dict[str, Disk] = {}  # by the first part of a path


class SimPath(PurePosixPath):
    """A path on a simulated disk, with what our code asks of `pathlib.Path`; anything else fails loudly."""

    __slots__ = ()

    @property
    def _disk(self) -> Disk:
        return DISKS[self.parts[1]]

    def _node(self) -> File | Folder:
        node = self._disk.find(self)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(self))
        return node

    def _file(self) -> File:
        node = self._node()
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(self))
        return node

    def exists(self) -> bool:
        return self._disk.find(self) is not None

    def is_dir(self) -> bool:
        return isinstance(self._disk.find(self), Folder)

    def is_file(self) -> bool:
        return isinstance(self._disk.find(self), File)

    def stat(self) -> os.stat_result:
        return _stat(self._node())

    def read_bytes(self) -> bytes:
        return bytes(self._file().data)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "r", **_: Any) -> Any:
        if mode != "rb":
            raise NotImplementedError(f"{self}: only ssmd.durable writes, and text is not read (mode {mode})")
        return io.BytesIO(self.read_bytes())

    def iterdir(self) -> Iterator["SimPath"]:
        node = self._node()
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(self))
        yield from [self / name for name in node.names]

    def glob(self, pattern: str) -> Iterator["SimPath"]:
        yield from _glob(self, self._disk.find(self), pattern.split("/"))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        disk = self._disk
        disk.before("mkdir", self)
        if self.is_dir():
            if not exist_ok:
                raise FileExistsError(errno.EEXIST, "File exists", str(self))
            return
        disk.no_space(self)
        disk.parent(self).add(self.name, Folder())

    def rename(self, target: "SimPath") -> "SimPath":
        disk = self._disk
        self._node()
        assert self.parent == target.parent, "renames stay within one folder"
        disk.before("rename", self)
        disk.parent(self).rename(self.name, target.name)
        return target

    replace = rename

    def unlink(self, missing_ok: bool = False) -> None:
        disk = self._disk
        disk.before("unlink", self)
        if not self.exists():
            if missing_ok:
                return
            self._node()
        disk.parent(self).drop(self.name)


def _glob(path: SimPath, node: File | Folder | None, patterns: list[str]) -> Iterator[SimPath]:
    if not isinstance(node, Folder):
        return
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        yield from _glob(path, node, rest)
        for name, child in list(node.names.items()):
            yield from _glob(path / name, child, patterns)
        return
    for name, child in list(node.names.items()):
        if fnmatch.fnmatchcase(name, first):
            if rest:
                yield from _glob(path / name, child, rest)
            else:
                yield path / name


def _stat(node: File | Folder) -> os.stat_result:
    size = len(node.data) if isinstance(node, File) else 0
    mode = stat.S_IFREG | 0o644 if isinstance(node, File) else stat.S_IFDIR | 0o755
    return os.stat_result((mode, id(node), 1, 1, 0, 0, size, 0, 0, 0))


class System:
    """Stands in for the modules `os` and `fcntl` in `ssmd.durable`."""

    LOCK_EX, LOCK_NB = 2, 4

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._opened: dict[int, tuple[Opened, Disk, SimPath]] = {}
        self._next = 1000

    def __getattr__(self, name: str) -> Any:
        value = getattr(os, name)
        if callable(value):
            raise NotImplementedError(f"the simulated disk does not know os.{name}: teach it in disk.py")
        return value

    def getpid(self) -> int:
        return 1

    def urandom(self, size: int) -> bytes:
        return bytes(size)  # a world is the same each time; nobody else writes to its disk

    def fspath(self, path: object) -> str:
        return str(path)

    def open(self, path: SimPath, flags: int, mode: int = 0o777) -> int:
        disk = path._disk
        node = disk.find(path)
        if node is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            disk.before("create", path)
            disk.no_space(path)
            node = File()
            disk.parent(path).add(path.name, node)
        elif flags & os.O_TRUNC and isinstance(node, File):
            disk.before("truncate", path)
            node.cut(0)
        self._next += 1
        self._opened[self._next] = (Opened(node, self._scheduler.current, bool(flags & os.O_APPEND)), disk, path)
        return self._next

    def _file(self, fd: int) -> tuple[Opened, File, Disk, SimPath]:
        if fd not in self._opened:
            raise OSError(errno.EBADF, "Bad file descriptor")
        opened, disk, path = self._opened[fd]
        if opened.by is not None and opened.by.dead:
            raise Killed
        assert isinstance(opened.node, File)
        return opened, opened.node, disk, path

    def write(self, fd: int, data: Any) -> int:
        opened, file, disk, path = self._file(fd)
        data = bytes(data)
        at = len(file.data) if opened.append else opened.position
        rng = self._scheduler.rng
        disk.before("write", path, lambda: file.write(at, data[: rng.randrange(len(data) + 1)]))
        if disk.full:
            if rng.random() < 0.5 or len(data) < 2:
                disk.no_space(path)
            data = data[: rng.randrange(1, len(data))]  # the last free bytes; the next call fails
        file.write(at, data)
        opened.position = at + len(data)
        return len(data)

    def fsync(self, fd: int) -> None:
        if fd not in self._opened:
            raise OSError(errno.EBADF, "Bad file descriptor")
        opened, disk, path = self._opened[fd]
        if opened.by is not None and opened.by.dead:
            raise Killed
        disk.before("fsync", path)
        if disk.broken:
            raise OSError(errno.EIO, "Input/output error", str(path))
        opened.node.sync()

    fdatasync = fsync

    def ftruncate(self, fd: int, size: int) -> None:
        _, file, disk, path = self._file(fd)
        if size != len(file.data):
            disk.before("ftruncate", path)
            file.cut(size)

    def fstat(self, fd: int) -> os.stat_result:
        return _stat(self._opened[fd][0].node)

    def close(self, fd: int) -> None:
        opened, _, _ = self._opened.pop(fd, (None, None, None))
        if opened is not None and isinstance(opened.node, File) and opened.node.locked_by is opened.by:
            opened.node.locked_by = None

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self._file(fd)[1].data[offset : offset + size])

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        _, file, disk, path = self._file(fd)
        disk.before("write", path)
        disk.no_space(path)
        file.write(offset, data)
        return len(data)

    def fdopen(self, fd: int, mode: str) -> "Writing":
        return Writing(self, fd)

    def flock(self, fd: int, how: int) -> None:
        opened, file, _, path = self._file(fd)
        if file.locked_by is not None and not file.locked_by.dead and file.locked_by is not opened.by:
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable", str(path))
        file.locked_by = opened.by

    def modules(self) -> SimpleNamespace:
        """What to put in the place of `fcntl`."""
        return SimpleNamespace(flock=self.flock, LOCK_EX=self.LOCK_EX, LOCK_NB=self.LOCK_NB)


class Writing:
    """The file object of `os.fdopen(fd, "wb")`."""

    def __init__(self, system: System, fd: int) -> None:
        self._system, self._fd = system, fd

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: object) -> None:
        self._system.close(self._fd)

    def write(self, data: Any) -> int:
        data = bytes(data)
        done = self._system.write(self._fd, data)
        while done < len(data):
            done += self._system.write(self._fd, data[done:])
        return done

    def flush(self) -> None:
        """Nothing is buffered here."""

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        self._system.close(self._fd)
