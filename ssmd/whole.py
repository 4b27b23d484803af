"""Which files are whole: hashed once, and known from then on until something touches them.

DuckDB checks neither Parquet's page checksums nor gzip's (seen with DuckDB 2.0: of 100 flipped bits in Parquet it
gave 65 wrong answers, of 200 in gzip 74). So a file is hashed before it is read. That is done once (1.4 GB/s and
core): its size, inode and times of change are remembered in `{data}/run/whole.json`, and while these stay the same
it is not hashed again. A disk that forgets bits without any write is found by hashing anew: `ssmd verify`,
`connect(…, verify=True)`.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ssmd import archive, checked_json, config, durable
from ssmd.errors import Permanent

# File systems tell times no finer than this: a file so young could be changed again without its times showing it.
_TICK_NS = 100_000_000

_Mark = tuple[int, int, int, int]  # size, inode, time of change of content and of inode, in ns


class _Known(msgspec.Struct):
    """What was hashed, by path under the data folder: its SHA-256, and its mark before that was read."""

    files: dict[str, tuple[str, _Mark]] = {}


class Named(msgspec.Struct, frozen=True):
    """A file as a manifest names it, and what to do if it is not so."""

    path: Path
    bytes: int
    sha256: str
    mend: str


class Whole:
    """The files of a data folder that are known to be whole."""

    def __init__(self, places: config.Places) -> None:
        self._root = places.data
        self._path = places.run / "whole.json"
        self._known = self._load()
        self._new: dict[str, tuple[str, _Mark]] = {}

    def check(self, files: Iterable[Named], *, hash_: bool = True, again: bool = False) -> None:
        """Raise Permanent for the first file that is not what its manifest says.

        `hash_` False looks at presence and size alone; `again` hashes also what is known.
        """
        unknown = []
        for file in files:
            mark = _mark(file)
            if hash_ and (again or self._known.get(self._key(file.path)) != (file.sha256, mark)):
                unknown.append((file, mark))
        if unknown:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                for file, mark, sha256 in threads.map(lambda u: (*u, archive.sha256_of(u[0].path)), unknown):
                    if sha256 != file.sha256:
                        raise Permanent(
                            f"{file.path} is damaged (its SHA-256 is not what its manifest says): {file.mend}"
                        )
                    if time.time_ns() - max(mark[2:]) > _TICK_NS:
                        self._new[self._key(file.path)] = (sha256, mark)

    def save(self) -> None:
        """Remember what was found whole. A folder that cannot be written to only costs hashing again."""
        if not self._new:
            return
        merged = self._load() | self._new  # others may have learnt something meanwhile; what is lost is hashed again
        merged = {key: value for key, value in merged.items() if (self._root / key).exists()}
        with contextlib.suppress(durable.DiskFailed):
            durable.make_folder(self._path.parent)
            durable.replace(self._path, checked_json.encode(_Known(merged)))
        self._known |= self._new
        self._new = {}

    def _load(self) -> dict[str, tuple[str, _Mark]]:
        try:
            return checked_json.decode(self._path.read_bytes(), _Known).files
        except (OSError, msgspec.DecodeError):
            return {}

    def _key(self, path: Path) -> str:
        return str(path).removeprefix(f"{self._root}/")  # a tenth of relative_to's time; a lake has many files


def _mark(file: Named) -> _Mark:
    """What changes with every write. Raises Permanent if the file is not there, or not of its size."""
    try:
        found = os.stat(file.path)  # noqa: PTH116 - a lake has many files, and Path.stat takes twice as long
    except OSError as e:
        raise Permanent(
            f"{file.path} is named by its day's manifest but cannot be read ({e.strerror}): {file.mend}"
        ) from e
    if found.st_size != file.bytes:
        raise Permanent(
            f"{file.path} is damaged ({found.st_size} bytes, but its manifest says {file.bytes}): {file.mend}"
        )
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
