"""What a store has of a day, in one record that is written last: who reads the record finds the whole day, or none.

    archive/…, lake/…                  as in a data folder: segments and tables, each written once; the manifests
    published/{feed}/{date}.json       the record: the manifests themselves, and every object with its hashes
    published/{feed}/{table}.json      the same of a table whose rows have versions (instruments, fees), as of then

A record has a SHA-256 for each block of each object, so that a reader who needs a few columns reads only these, and
still never takes a flipped bit for data.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from ssmd import archive, checked_json, tables
from ssmd.archive import Manifest, NewerFormat
from ssmd.errors import Permanent
from ssmd.storage import BLOCK_BYTES, Missing, Object, Store
from ssmd.tables import LakeDay

if TYPE_CHECKING:
    from ssmd import versions

FORMAT = 1
FOLDER = "published"


class Published(msgspec.Struct, frozen=True):
    """A published day: the bytes of its manifests (`lake` None: not rolled up), and what they name."""

    feed: str  # as in feeds/
    date: str  # the UTC day
    revision: int  # of the archive manifest
    archive: str  # the archive's manifest, as it is
    lake: str | None  # the lake's, as it is; null: not rolled up
    objects: list[Object]  # every file that they name
    published_at: int = 0  # ns
    software: str = ""  # that wrote it
    format: int = FORMAT  # of this file

    @property
    def bytes(self) -> int:
        return sum(o.bytes for o in self.objects)

    def manifest(self) -> Manifest:
        return checked_json.decode(self.archive.encode(), Manifest)

    def lake_day(self) -> LakeDay | None:
        return None if self.lake is None else checked_json.decode(self.lake.encode(), LakeDay)


class Versions(msgspec.Struct, frozen=True):
    """A published table of versions (ssmd.versions): the bytes of its manifest, and what that names."""

    feed: str  # as in feeds/
    table: str  # instruments or fees
    manifest: str  # as it is
    objects: list[Object]  # every file that it names
    published_at: int = 0  # ns
    software: str = ""  # that wrote it
    format: int = FORMAT  # of this file


T = TypeVar("T", Published, Versions)


class Named(NamedTuple):
    """A file that a manifest names: its path under data folder and store, and what it must be."""

    path: str
    bytes: int
    sha256: str


def record_path(feed: str, of: str) -> str:
    """The path of the record of a day, or of a table of versions."""
    return f"{FOLDER}/{feed}/{of}.json"


def version_manifest(feed: str, table: "versions.Table") -> str:
    """The path of a versioned table's manifest under data folder and store."""
    from ssmd import versions  # noqa: PLC0415 - brings Arrow, which an archiver has no use for

    return str(versions.manifest_path(Path("lake"), table, feed))


def archive_files(manifest: Manifest) -> list[Named]:
    """What an archive manifest names."""
    folder = f"archive/{manifest.feed}/{manifest.date}"
    return [Named(f"{folder}/{s.name}", s.bytes, s.sha256) for s in manifest.segments]


def lake_files(day: LakeDay) -> list[Named]:
    """What a lake manifest names."""
    return [Named(f"lake/{f.path}", f.bytes, f.sha256) for f in day.files]


def version_files(manifest: "versions.Manifest") -> list[Named]:
    """What the manifest of a versioned table names."""
    return [Named(f"lake/{f.path}", f.bytes, f.sha256) for f in manifest.files]


def archive_manifest(feed: str, date: str) -> str:
    """The path of a day's archive manifest under data folder and store."""
    return str(archive.manifest_path(Path("archive"), feed, date))


def lake_manifest(feed: str, date: str) -> str:
    """The path of a day's lake manifest under data folder and store."""
    return str(Path("lake") / tables.manifest_path(feed, date))


def load(store: Store, feed: str, date: str) -> Published | None:
    """A day's record; None if it is not published. Raises Permanent if it is damaged or of a newer format."""
    return _load(store, record_path(feed, date), Published, f"`ssmd publish {feed} {date}`")


def load_versions(store: Store, feed: str, table: str) -> Versions | None:
    """As `load`, of a table of versions."""
    return _load(store, record_path(feed, table), Versions, f"`ssmd publish {feed} DATE` of any day")


def _load(store: Store, path: str, kind: type[T], again: str) -> T | None:
    try:
        data = store.read(path)
    except Missing:
        return None
    try:
        record = checked_json.decode(data, kind)
    except msgspec.DecodeError as e:
        raise Permanent(f"{store.url}/{path} is damaged ({e}): remove that object, and {again} writes it anew") from e
    if record.format > FORMAT:
        raise NewerFormat(
            f"{store.url}/{path} has format {record.format}, this ssmd reads up to {FORMAT}: upgrade ssmd"
        )
    return record


def records(store: Store) -> Iterator[tuple[str, str, str]]:
    """Every record: feed, date or table, and the tag that changes with it."""
    for path, found in store.list(FOLDER):
        _, _, rest = path.partition("/")
        feed, _, name = rest.partition("/")
        if name.endswith(".json"):
            yield feed, name.removesuffix(".json"), found.etag


def digests(
    source: Path, look: Callable[[int], None] = lambda read: None, block_bytes: int = BLOCK_BYTES
) -> tuple[int, str, list[str]]:
    """A file's size, its SHA-256 and that of each block; `look` is told how many bytes were read."""
    whole, blocks, size = hashlib.sha256(), [], 0
    with source.open("rb") as file:
        while block := file.read(block_bytes):
            whole.update(block)
            blocks.append(hashlib.sha256(block).hexdigest())
            size += len(block)
            look(len(block))
    return size, whole.hexdigest(), blocks
