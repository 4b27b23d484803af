"""A store's published days, read from anywhere: their manifests are kept here, their files stay where they are.

    ssmd.lake.connect("s3://bucket/prefix")

The manifests are a cache under ~/.cache/ssmd ($XDG_CACHE_HOME), as new as the store at each opening: a listing says
which records have changed. Of the files only those blocks are fetched that a question needs, and each is compared with
its SHA-256 in the record, so that nothing damaged is ever served.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from fsspec import AbstractFileSystem

from ssmd import checked_json, config, published, storage, versions
from ssmd.errors import Permanent
from ssmd.published import Published, Versions
from ssmd.storage import Missing, Object, Store

CACHED_BYTES_MAX = 256 << 20  # of blocks, per opened mirror: DuckDB comes back for neighbouring columns
FETCHED_AT_ONCE = 16

_VERSIONED = {table.name: table for table in versions.TABLES}

# By its address: in which store (opened when it is first needed) an object is, and what it must be.
Find = Callable[[str], tuple[Callable[[], Store], Object]]


class Mirror(config.Places):
    """What a store has published, as a data folder that holds the manifests alone."""

    def __init__(self, store: Store, folder: Path | None = None) -> None:
        super().__init__(folder or _cache_folder(store.url))
        self.store = store
        self._objects = functools.lru_cache(maxsize=32)(self._load)
        self._refresh()

    def check(self, environment: str | None = None) -> None:
        """There is no mark to check: the records' own format was."""

    def where(self, path: Path) -> str:
        """The address of a file that a manifest here names."""
        return f"{self.store.url}/{path.relative_to(self.data)}"

    def object(self, path: str) -> Object:
        """What the day's record says of an object. Raises Permanent if there is nothing."""
        feed, of = _record_of(path)
        found = self._objects(feed, of).get(path)
        if found is None:
            raise Permanent(f"{self.store.url}/{path} is in no record of {feed} {of}: open the store again")
        return found

    def find(self, address: str) -> tuple[Callable[[], Store], Object]:
        """As `Files` asks for it."""
        return lambda: self.store, self.object(address.removeprefix(f"{self.store.url}/"))

    # ------------------------------------------------------------------------------------------------ manifests

    def _refresh(self) -> None:
        """Have the manifests of all published days here, as the store has them now, and no others."""
        tags_path = self.data / "tags.json"
        try:
            known = msgspec.json.decode(tags_path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError):
            known = {}
        listed = {(feed, date): etag for feed, date, etag in published.records(self.store)}
        stale = [day for day, etag in listed.items() if known.get("/".join(day)) != etag or not self._whole(*day)]
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
            for _ in threads.map(lambda day: self._fetch(*day), stale):
                pass
        for name in known.keys() - {"/".join(day) for day in listed}:
            self._forget(*name.split("/"))
        if stale or known.keys() != {"/".join(day) for day in listed}:
            _write(tags_path, msgspec.json.encode({"/".join(day): etag for day, etag in listed.items()}))

    def _whole(self, feed: str, of: str) -> bool:
        return all((self.data / path).exists() for path in (published.record_path(feed, of), *_manifests(feed, of)[:1]))

    def _fetch(self, feed: str, of: str) -> None:
        found = self._published(feed, of)
        if found is None:  # removed since it was listed
            self._forget(feed, of)
            return
        texts = (found.archive, found.lake) if isinstance(found, Published) else (found.manifest,)
        for path, text in zip(_manifests(feed, of), texts, strict=True):
            if text is not None:
                _write(self.data / path, text.encode())
        _write(self.data / published.record_path(feed, of), checked_json.encode(found))

    def _forget(self, feed: str, of: str) -> None:
        for path in (published.record_path(feed, of), *_manifests(feed, of)):
            (self.data / path).unlink(missing_ok=True)

    def _load(self, feed: str, of: str) -> dict[str, Object]:
        found: Published | Versions | None
        try:
            cached = (self.data / published.record_path(feed, of)).read_bytes()
            found = (
                checked_json.decode(cached, Versions) if of in _VERSIONED else checked_json.decode(cached, Published)
            )
        except (OSError, msgspec.DecodeError):
            found = self._published(feed, of)
        return {o.path: o for o in found.objects} if found is not None else {}

    def _published(self, feed: str, of: str) -> Published | Versions | None:
        if of in _VERSIONED:
            return published.load_versions(self.store, feed, of)
        return published.load(self.store, feed, of)


def at(url: str, data: Path = Path("data")) -> Mirror:
    """The published days at `s3://bucket/prefix`.

    An environment whose `storage` it is says where it is and with which key ({data} is `data`); without one,
    AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and the rest do, as for the AWS tools. Raises Permanent if that is refused.
    """
    if not url.startswith("s3://"):
        raise Permanent(f"{url} is no address of an object store: write it as s3://bucket/prefix")
    return Mirror(open_store(url, data))


def open_store(url: str, data: Path = Path("data")) -> Store:
    """The store at that address, with what an environment says of it. Raises Permanent if that is refused."""
    wanted, endpoint_url = _storage_of(url, data)
    return storage.open_store(wanted, data, endpoint_url)


def _storage_of(url: str, data: Path) -> tuple[config.Storage, str]:
    """What an environment says of a store, and where the one that a running `ssmd up` started listens."""
    with contextlib.suppress(Permanent):  # only the wheel is installed
        running = config.load_addresses(data)
        for path in sorted((config.config_folder() / "environments").glob("*.yaml")):
            with contextlib.suppress(Permanent):  # a faulty one is told by whoever uses it
                environment = config.load_environment(path.stem)
                if environment.storage is not None and environment.storage.covers(url):
                    ours = running is not None and running.environment == environment.name
                    if environment.storage.server == "local" and not ours and os.environ.get("AWS_ENDPOINT_URL"):
                        continue  # that of another machine's, or of another data folder's `ssmd up`
                    return environment.storage, running.storage if ours and running is not None else ""
    try:
        return config.Storage(url=url.rstrip("/")), ""
    except ValueError:
        raise Permanent(f"{url} is no address of an object store: write it as s3://bucket/prefix") from None


def verify(objects: Iterable[tuple[Callable[[], Store], Object]]) -> None:
    """Read all of these objects. Raises Permanent for the first that is not what its record says."""

    def whole(one: tuple[Callable[[], Store], Object]) -> None:
        store, o = one[0](), one[1]
        if storage.sha256_of(store, o.path, o.bytes) != o.sha256:
            raise Permanent(_damaged(store, o.path))

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
        for _ in threads.map(whole, objects):
            pass


def _cache_folder(url: str) -> Path:
    """Where the manifests of a store are kept; only for this process if the home is not ours to write to."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssmd"
    folder = root / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    temporary = tempfile.mkdtemp(prefix="ssmd-")
    import atexit  # noqa: PLC0415

    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def _write(path: Path, data: bytes) -> None:
    """A cached file: whole or not at all for other readers, but worth no sync."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_bytes(data)
    aside.rename(path)


def _manifests(feed: str, of: str) -> list[str]:
    """The paths of the manifests that a record has."""
    if of in _VERSIONED:
        return [published.version_manifest(feed, _VERSIONED[of])]
    return [published.archive_manifest(feed, of), published.lake_manifest(feed, of)]


def _record_of(path: str) -> tuple[str, str]:
    """To whose record an object belongs: the feed, and the date or the table."""
    parts = path.split("/")
    if parts[0] == "archive":
        return parts[1], parts[2]
    return parts[2].removeprefix("feed="), parts[1] if parts[1] in _VERSIONED else parts[3].removeprefix("date=")


def _damaged(store: Store, path: str) -> str:
    feed, of = _record_of(path)
    return (
        f"{store.url}/{path} is damaged (it is not what was published): remove that object, and publish {feed} {of} "
        "again from a machine that has it"
    )


# ----------------------------------------------------------------------------------------------- for DuckDB to read


class Files(AbstractFileSystem):  # type: ignore[misc]
    """Objects that are known by path, by their addresses, as DuckDB reads them: no listing, no writing."""

    protocol = "s3"
    cachable = False

    def __init__(self, find: Find) -> None:
        super().__init__()
        self._find = find
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://")

    def open(self, path: str, mode: str = "rb", **_: Any) -> "_File":
        return _File(self, path, *self._find(self.unstrip_protocol(path)))

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file that is meant: names have no pattern in them."""
        return [self._strip_protocol(path)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._find(self.unstrip_protocol(path))[1].bytes, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return True

    def modified(self, path: str) -> datetime:
        """Always the same: what has a name never changes."""
        return datetime.fromtimestamp(0, UTC)

    def unstrip_protocol(self, name: str) -> str:
        return f"s3://{self._strip_protocol(name)}"

    def read(self, store: Store, o: Object, start: int, end: int) -> bytes:
        """Bytes of an object, each compared with its record. Raises Permanent if they are damaged or missing."""
        if start >= end:
            return b""
        block_bytes = o.block_bytes
        first, last = start // block_bytes, (end - 1) // block_bytes
        blocks = {i: block for i in range(first, last + 1) if (block := self._cached(o.path, i)) is not None}
        i = first
        while i <= last:
            run = i
            while run <= last and run not in blocks:
                run += 1
            if run > i:
                blocks |= self._fetched(store, o, i, run)
            i = max(run, i + 1)
        whole = b"".join(blocks[i] for i in range(first, last + 1))
        return whole[start - first * block_bytes : end - first * block_bytes]

    def _fetched(self, store: Store, o: Object, first: int, end: int) -> dict[int, bytes]:
        """The blocks `first`..`end`-1, by one request."""
        block_bytes = o.block_bytes
        try:
            data = store.read(o.path, first * block_bytes, min(end * block_bytes, o.bytes))
        except Missing:
            raise Permanent(f"{_damaged(store, o.path)} (it is gone)") from None
        found = {}
        for i in range(first, end):
            block = data[(i - first) * block_bytes : (i - first + 1) * block_bytes]
            if hashlib.sha256(block).hexdigest() != o.blocks[i]:
                raise Permanent(_damaged(store, o.path))
            found[i] = block
            self._keep(o.path, i, block)
        return found

    def _cached(self, path: str, i: int) -> bytes | None:
        with self._lock:
            block = self._blocks.get((path, i))
            if block is not None:
                self._blocks.move_to_end((path, i))
            return block

    def _keep(self, path: str, i: int, block: bytes) -> None:
        with self._lock:
            if (path, i) not in self._blocks:
                self._blocks[path, i] = block
                self._cached_bytes += len(block)
            while self._cached_bytes > CACHED_BYTES_MAX:
                _, gone = self._blocks.popitem(last=False)
                self._cached_bytes -= len(gone)


class _File:
    """An open file, read by DuckDB's threads one at a time."""

    def __init__(self, files: Files, path: str, store: Callable[[], Store], o: Object) -> None:
        self.path = path
        self._store = store
        self._files = files
        self._object = o
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        end = self._object.bytes if count < 0 else min(self._at + count, self._object.bytes)
        data = self._files.read(self._store(), self._object, self._at, end)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._object.bytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """Nothing is held."""
