"""Object storage, as jobs see it: days are published whole, and read back before anyone relies on them."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from temporalio import activity
from temporalio.exceptions import CancelledError

from activities.archive import check_day
from ssmd import __version__, archive, checked_json, config, jobs, published, storage, tables
from ssmd.errors import Permanent, Transient
from ssmd.published import Named, Object, Published
from ssmd.storage import Store

LOOK_SECONDS = 1.0

R = TypeVar("R")


class Storage:
    """The store of an environment, and the data folder whose days go there."""

    def __init__(self, places: config.Places, environment: config.Environment, endpoint_url: str = "") -> None:
        self._places = places
        self._environment = environment
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._probed = False

    @activity.defn(no_thread_cancel_exception=True)
    def probe_store(self) -> str:
        """Try whether the store does what is relied on; returns its address. Raises Permanent if it does not."""
        store = self._open()
        activity.heartbeat(jobs.Progress(f"probing {store.url}"))
        with self._lock:
            if not self._probed:
                storage.probe(store)
                self._probed = True
        return store.url

    @activity.defn(no_thread_cancel_exception=True)
    def await_rollup(self, day: jobs.Publication) -> int:
        """Wait until the day is sealed and rolled up; returns the archive manifest's revision."""
        check_day(jobs.Day(day.feed, day.date))
        while True:
            with contextlib.suppress(FileNotFoundError):
                manifest = archive.load_manifest(archive.manifest_path(self._places.archive, day.feed, day.date))
                lake = tables.load_day(self._places.lake / tables.manifest_path(day.feed, day.date))
                if manifest.sealed and lake.revision == manifest.revision:
                    return manifest.revision
            activity.heartbeat(jobs.Progress(f"waiting until {day.feed} {day.date} is rolled up"))
            activity.wait_for_cancelled_sync(LOOK_SECONDS)
            _go_on(f"waiting for the rollup of {day.feed} {day.date}")

    @activity.defn(no_thread_cancel_exception=True)
    def store_day(self, day: jobs.Publication, revision: int) -> jobs.Published:
        """Store what the day's manifests name, read it back, then the manifests, then the record that readers go by.

        Objects that are there already are only read back, so that it may be done again at any time.
        """
        store = self._open()
        texts = self._manifests(day)
        manifest = checked_json.decode(texts[0], archive.Manifest)
        lake = checked_json.decode(texts[1], tables.LakeDay)
        if not manifest.revision == lake.revision == revision:
            raise Permanent(
                f"{day.feed} {day.date} was sealed anew (revision {manifest.revision}) while revision {revision} was "
                "published: start it again"
            )
        path = published.record_path(day.feed, day.date)
        tag = store.stat(path)
        before = published.load(store, day.feed, day.date)
        if before is not None and before.revision > revision:
            raise Permanent(
                f"{store.url} has revision {before.revision} of {day.feed} {day.date}, newer than {revision} here: is "
                "it another machine's? give each a prefix of its own"
            )
        files = [*published.archive_files(manifest), *published.lake_files(lake)]
        known = {o.path: o for o in before.objects} if before is not None else {}
        objects, new = self._objects(store, day, files, known)
        for name, text in (
            (published.lake_manifest(day.feed, day.date), texts[1]),
            (published.archive_manifest(day.feed, day.date), texts[0]),
        ):
            _bring(store, name, text)
        record = Published(
            feed=day.feed,
            date=day.date,
            revision=revision,
            archive=texts[0].decode(),
            lake=texts[1].decode(),
            objects=objects,
            published_at=time.time_ns(),
            software=__version__,
        )
        if before is None or (before.archive, before.lake, before.objects) != (record.archive, record.lake, objects):
            store.replace(path, checked_json.encode(record), tag.etag if tag is not None else None)
        return jobs.Published(day.feed, day.date, store.url, revision, len(objects), new, record.bytes)

    # ------------------------------------------------------------------------------------------------- objects

    def _objects(
        self, store: Store, day: jobs.Publication, files: list[Named], known: dict[str, Object]
    ) -> tuple[list[Object], int]:
        """Have every file in the store; returns the objects, and how many of them are new there."""
        with _Together(self._parallel, f"publishing {day.feed} {day.date}", sum(f.bytes for f in files)) as together:
            done = together.run(lambda file: self._object(store, file, known.get(file.path), together), files)
        return [o for o, _ in done], sum(new for _, new in done)

    def _object(self, store: Store, file: Named, known: Object | None, together: "_Together") -> tuple[Object, bool]:
        """Have one file in the store, whole; whether it is new there."""
        source = self._places.data / file.path
        there = store.stat(file.path)
        if known is not None and (known.bytes, known.sha256) == (file.bytes, file.sha256) and there is not None:
            together.tell(file.bytes)
            return known, False  # read back when it was published; `ssmd verify` reads it again
        try:
            size, sha256, blocks = published.digests(source, lambda read: together.tell(0))
        except OSError as e:
            raise Permanent(
                f"{source} cannot be read ({e.strerror}): run `ssmd verify {file.path.split('/')[1]}` for what mends it"
            ) from e
        if (size, sha256) != (file.bytes, file.sha256):
            raise Permanent(f"{source} is damaged (it is not what its manifest says): it is not published")
        new = there is None and store.create(file.path, source, sha256)
        if self._read_back(store, file, new, together) != sha256:
            raise Permanent(
                f"{store.url}/{file.path} gives back other bytes than were sent: the store or the way to it is damaged"
                if new
                else f"{store.url}/{file.path} is there already with other content: if it is damaged, remove that "
                "object and publish again; if it is another machine's, give each a prefix of its own"
            )
        return Object(file.path, size, sha256, blocks), new

    def _read_back(self, store: Store, file: Named, new: bool, together: "_Together") -> str:
        """The SHA-256 of what the store has."""
        setting = self._environment.storage
        if new and setting is not None and setting.read_back == "checksum":
            said = store.checksum(file.path)
            if said is not None:
                together.tell(file.bytes)
                return said
        found = store.stat(file.path)
        size = found.bytes if found is not None else 0
        return storage.sha256_of(store, file.path, size, together.tell)

    # --------------------------------------------------------------------------------------------------- parts

    def _manifests(self, day: jobs.Publication) -> tuple[bytes, bytes]:
        """The bytes of the archive's and the lake's manifest, checked."""
        paths = published.archive_manifest(day.feed, day.date), published.lake_manifest(day.feed, day.date)
        archive.load_manifest(self._places.data / paths[0])
        tables.load_day(self._places.data / paths[1])
        return (self._places.data / paths[0]).read_bytes(), (self._places.data / paths[1]).read_bytes()

    @property
    def _parallel(self) -> int:
        return self._environment.storage.parallel if self._environment.storage is not None else 1

    def _open(self) -> Store:
        with self._lock:
            if self._store is None:
                if self._environment.storage is None:
                    raise Permanent(
                        f"environment {self._environment.name} names no `storage`: give it one, such as "
                        "`storage: {url: s3://bucket/prefix}`"
                    )
                self._store = storage.open_store(self._environment.storage, self._places.data, self._endpoint_url)
            return self._store


class _Together:
    """Work on many files at once, a bounded number, from within an activity: with heartbeats, stopped with it."""

    def __init__(self, parallel: int, doing: str, total: int) -> None:
        self._threads = ThreadPoolExecutor(parallel, "storage")
        self._doing = doing
        self._total = total
        self._lock = threading.Lock()
        self._done = 0
        self._stopped = False

    def __enter__(self) -> "_Together":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def tell(self, more: int) -> None:
        """Called by the work every few MB. Raises Transient if it shall stop."""
        if self._stopped:
            raise Transient(f"{self._doing}: stopped")
        with self._lock:
            self._done += more

    def run(self, work: Callable[[Named], R], files: list[Named]) -> list[R]:
        """The results in order. The first failure ends all of it."""
        futures = [self._threads.submit(work, file) for file in files]
        waiting: set[Future[R]] = set(futures)
        while waiting:
            activity.heartbeat(jobs.Progress(self._doing, self._done, self._total))
            finished, waiting = wait(waiting, LOOK_SECONDS / 2, FIRST_COMPLETED)
            for future in finished:
                future.result()
            _go_on(self._doing)
        return [future.result() for future in futures]


def _go_on(doing: str) -> None:
    """Raise if the activity shall end."""
    if activity.is_cancelled():
        raise CancelledError(f"{doing}: cancelled")
    if activity.is_worker_shutdown():
        raise Transient(f"this worker stops; {doing} is gone on with by the next")


def _bring(store: Store, path: str, text: bytes) -> None:
    """Make an object's content this; who wrote it meanwhile is not written over."""
    found = store.stat(path)
    if found is None or store.read(path) != text:
        store.replace(path, text, found.etag if found is not None else None)
