"""Small disks that a test may fill, freeze and copy; root is needed, and loop devices for some."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


def _try(*command: str | Path) -> None:
    """Skip the test where this is not permitted."""
    try:
        _run(*command)
    except OSError as e:
        pytest.skip(f"needs to mount file systems of its own, which is not permitted here ({e})")


@contextlib.contextmanager
def tmpfs(folder: Path, megabytes: int) -> Iterator[None]:
    """A small disk on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _try("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ssmd-chaos", folder)
    try:
        yield
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    with contextlib.suppress(OSError):
        _run("umount", folder)
        return
    _run("umount", "-l", folder)


def fill(folder: Path) -> Path:
    """Use up the last byte; the file to remove for space."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return ballast


class PowerlessDisk:
    """An ext4 image that can be copied as a power cut would leave it: what was not forced to disk is not in it.

    The image lies on a file system of its own, which is frozen for the copy: at one instant nothing more reaches
    the image, while what the kernel has not written yet stays in its memory.
    """

    def __init__(self, folder: Path, megabytes: int = 384) -> None:
        memory = Path("/dev/shm")
        self._files = memory / f"ssmd-chaos-{os.getpid()}" if memory.is_dir() else folder / "images"
        self._megabytes = megabytes
        self._outer = folder / "outer"
        self.mounted = folder / "disk"
        self._count = 0

    def __enter__(self) -> "PowerlessDisk":
        for made in (self._files, self._outer, self.mounted):
            made.mkdir(parents=True, exist_ok=True)
        outer = self._files / "outer.img"
        _try("truncate", "-s", f"{3 * self._megabytes}M", outer)
        _try("mkfs.ext4", "-q", "-F", outer)
        _try("mount", "-o", "loop", outer, self._outer)
        image = self._image()
        _run("truncate", "-s", f"{self._megabytes}M", image)
        _run("mkfs.ext4", "-q", "-F", image)
        _try("mount", "-o", "loop", image, self.mounted)
        return self

    def __exit__(self, *_: object) -> None:
        for mounted in (self.mounted, self._outer):
            with contextlib.suppress(OSError):
                unmount(mounted)
        shutil.rmtree(self._files, ignore_errors=True)

    def _image(self) -> Path:
        return self._outer / f"{self._count}.img"

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """The power fails: inside, nothing reaches the image any more, and its copy is made."""
        fd = os.open(self._outer, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FIFREEZE, 0)
            try:
                self._saved = self._files / "saved.img"
                _run("cp", "--sparse=always", self._image(), self._saved)
                yield
            finally:
                fcntl.ioctl(fd, _FITHAW, 0)
        finally:
            os.close(fd)

    def power_on(self) -> None:
        """What the cut left takes the place of the old disk; ext4 recovers by its own journal."""
        _run("umount", self.mounted)
        self._image().unlink()
        self._count += 1
        shutil.copyfile(self._saved, self._image())
        _run("mount", "-o", "loop", self._image(), self.mounted)
