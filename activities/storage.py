"""Object storage, as jobs see it: days are published whole, and read back before anyone relies on them."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio import activity

from activities.archive import check_day, passed
from activities.together import Together, beating, fetch, go_on, meanwhile
from ssmd import (
    __version__,
    archive,
    checked_json,
    config,
    durable,
    frames,
    jobs,
    journal,
    moved,
    published,
    storage,
    tables,
    versions,
)
from ssmd.clock import date_of
from ssmd.errors import Permanent
from ssmd.published import Named, Published, Versions
from ssmd.storage import Object, Store

LOOK_SECONDS = 1.0
EXPIRED_MAX = 300  # of one run, which is daily: their names travel through Temporal


class Storage:
    """The store of an environment, and the data folder whose days go there."""

    def __init__(
        self,
        places: config.Places,
        environment: config.Environment,
        endpoint_url: str = "",
        open_store: Callable[[config.Storage, Path, str], Store] = storage.open_store,
    ) -> None:
        self._open_store = open_store
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
        """Wait until the day is sealed and rolled up; returns the archive manifest's revision.

        With `if_any`: 0 as soon as it is clear that nothing is archived of that day.
        """
        check_day(jobs.Day(day.feed, day.date))
        while True:
            with contextlib.suppress(FileNotFoundError):
                manifest = archive.load_manifest(archive.manifest_path(self._places.archive, day.feed, day.date))
                lake = tables.load_day(self._places.lake / tables.manifest_path(day.feed, day.date))
                if manifest.sealed and lake.revision == manifest.revision:
                    return manifest.revision
            if day.if_any and passed(self._places.archive, day.feed, day.date):
                return 0
            activity.heartbeat(jobs.Progress(f"waiting until {day.feed} {day.date} is rolled up"))
            activity.wait_for_cancelled_sync(LOOK_SECONDS)
            go_on(f"waiting for the rollup of {day.feed} {day.date}")

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
        for table in versions.TABLES:
            self._store_versions(store, day, table)
        return jobs.Published(day.feed, day.date, store.url, revision, len(objects), new, record.bytes)

    def _store_versions(self, store: Store, day: jobs.Publication, table: versions.Table) -> None:
        """Bring a table of versions there up to what is here: files that are there stay, the record names the new."""
        manifest = versions.load(self._places.lake, table, day.feed)
        if not manifest.files:
            return
        text = checked_json.encode(manifest, indent=1)
        path = published.record_path(day.feed, table.name)
        tag = store.stat(path)
        before = published.load_versions(store, day.feed, table.name)
        known = {o.path: o for o in before.objects} if before is not None else {}
        objects, _ = self._objects(store, day, published.version_files(manifest), known)
        _bring(store, published.version_manifest(day.feed, table), text)
        if before is None or before.manifest.encode() != text:
            record = Versions(day.feed, table.name, text.decode(), objects, time.time_ns(), __version__)
            store.replace(path, checked_json.encode(record), tag.etag if tag is not None else None)

    # ----------------------------------------------------------------------------------------------- retention

    @activity.defn(no_thread_cancel_exception=True)
    def find_expired(self, retention: jobs.Retention) -> list[jobs.Expired]:
        """What is older than the environment keeps here, oldest first: at most EXPIRED_MAX days."""
        if retention.environment != self._environment.name:
            raise Permanent(
                f"this worker is of environment {self._environment.name}: retention of {retention.environment!r} is "
                "for its own worker"
            )
        self._open()  # without a store nothing may go
        return meanwhile("looking for what may go", lambda: self._expired(retention))

    def _expired(self, retention: jobs.Retention) -> list[jobs.Expired]:
        kept = self._environment.retention
        found = []
        for kind, days, listed in (
            ("archive", kept.archive_days, self._archived),
            ("lake", kept.lake_days, self._rolled_up),
            ("journal", kept.journal_days, self._journalled),
        ):
            if days is not None:
                last = (datetime.now(UTC).date() - timedelta(days=days + 1)).isoformat()
                found += [jobs.Expired(feed, date, kind, retention.dry_run) for feed, date in listed(last)]
        return sorted(found, key=lambda e: (e.date, e.feed, e.kind))[:EXPIRED_MAX]

    @activity.defn(no_thread_cancel_exception=True)
    def retire(self, expired: jobs.Expired) -> jobs.Retired:
        """Remove a day's files here, once each is found whole in the store, now; or say why not."""
        store = self._open()
        try:
            return (
                self._retire_journal(store, expired) if expired.kind == "journal" else self._retire_day(store, expired)
            )
        except Permanent as e:
            return jobs.Retired(expired.feed, expired.date, expired.kind, kept=str(e))

    def _retire_day(self, store: Store, expired: jobs.Expired) -> jobs.Retired:
        record, note, files = self._published_as_here(store, expired)
        before = moved.load(note)
        away = {o.path for o in before.objects} if before is not None and before.store == store.url else set()
        going = [file for file in files if (self._places.data / file.path).exists()]
        self._verify(store, expired, [file for file in going if file.path not in away])
        retired = jobs.Retired(expired.feed, expired.date, expired.kind, len(going), sum(f.bytes for f in going))
        if expired.dry_run or not going:
            return retired
        named = {file.path for file in files}
        moved.save(note, moved.Moved(store.url, [o for o in record.objects if o.path in named]))
        for file in going:
            durable.remove(self._places.data / file.path)
        return retired

    def _published_as_here(self, store: Store, expired: jobs.Expired) -> tuple[Published, Path, list[Named]]:
        """The day's record, where it is noted what has moved, and the files that may. Raises Permanent if not so."""
        feed, date = expired.feed, expired.date
        record = published.load(store, feed, date)
        if record is None:
            raise Permanent(f"it is not published in {store.url}: `ssmd publish {feed} {date}`")
        if expired.kind == "archive":
            manifest = archive.load_manifest(archive.manifest_path(self._places.archive, feed, date))
            if not manifest.sealed or manifest != record.manifest():
                raise Permanent(f"what is published is not revision {manifest.revision}: `ssmd publish {feed} {date}`")
            return record, moved.of_archive(self._places, feed, date), published.archive_files(manifest)
        lake = tables.load_day(self._places.lake / tables.manifest_path(feed, date))
        if lake != record.lake_day():
            raise Permanent(f"what is published is not what the tables are now: `ssmd publish {feed} {date}`")
        return record, moved.of_lake(self._places, feed, date), published.lake_files(lake)

    def _verify(self, store: Store, expired: jobs.Expired, files: list[Named]) -> None:
        """Read the files' objects in the store. Raises Permanent for the first that is not what the manifest says."""
        doing = f"verifying {expired.kind} {expired.feed} {expired.date} in {store.url}"

        def whole(file: Named) -> None:
            if storage.sha256_of(store, file.path, file.bytes, together.tell) != file.sha256:
                raise Permanent(
                    f"{store.url}/{file.path} is damaged: remove that object, and `ssmd publish {expired.feed} "
                    f"{expired.date}` stores it anew"
                )

        with Together(self._parallel, doing, sum(f.bytes for f in files)) as together:
            together.run(whole, files)

    def _archived(self, last: str) -> list[tuple[str, str]]:
        """Days up to `last` of which segments are here."""
        return [
            (m.feed, m.date)
            for m in archive.manifests(self._places.archive, until=last)
            if any((archive.day_folder(self._places.archive, m.feed, m.date) / s.name).exists() for s in m.segments)
        ]

    def _rolled_up(self, last: str) -> list[tuple[str, str]]:
        """Days up to `last` of which tables are here."""
        lake = self._places.lake
        return [
            (d.feed, d.date)
            for d in tables.days(lake)
            if d.date <= last and any((lake / f.path).exists() for f in d.files)
        ]

    @activity.defn(no_thread_cancel_exception=True)
    def restore(self, day: jobs.Restoration) -> jobs.Restored:
        """Bring back the files of a day that retention removed here; each is what its manifest says, or none counts."""
        check_day(jobs.Day(day.feed, day.date))
        store = self._open()
        files = size = 0
        for note in (
            moved.of_archive(self._places, day.feed, day.date),
            moved.of_lake(self._places, day.feed, day.date),
        ):
            gone = moved.load(note)
            if gone is None:
                continue
            if gone.store != store.url:
                raise Permanent(f"{note} names {gone.store}, but this environment's storage is {store.url}")
            absent = [o for o in gone.objects if not (self._places.data / o.path).exists()]
            wanted = [Named(o.path, o.bytes, o.sha256) for o in absent]
            fetch(store, wanted, self._places.data, f"fetching {day.feed} {day.date} from {store.url}")
            for file in wanted:
                path = self._places.data / file.path
                if archive.sha256_of(path) != file.sha256:
                    durable.remove(path)
                    raise Permanent(
                        f"{store.url}/{file.path} is damaged: it is not brought back; `ssmd verify` says more"
                    )
            durable.remove(note)  # last: until then the day is read from the store
            files += len(wanted)
            size += sum(file.bytes for file in wanted)
        return jobs.Restored(day.feed, day.date, store.url, files, size)

    # ------------------------------------------------------------------------------------------------- journal

    def _journalled(self, last: str) -> list[tuple[str, str]]:
        """Feeds with journal files that end on or before `last`; the date is the latest such end."""
        found: dict[str, str] = {}
        for folder, file in self._old_journals():
            feed = folder.name.partition(".")[0]
            ended = _dates(file)[-1:]
            if ended and ended[0] <= last:
                found[feed] = max(found.get(feed, ""), ended[0])
        return sorted(found.items())

    def _old_journals(self, feed: str = "*") -> list[tuple[Path, Path]]:
        """Each journal folder's files but its newest, from which the next connector learns how the last one ended."""
        folders = {*self._places.journal.glob(feed), *self._places.journal.glob(f"{feed}.*")}
        return [(folder, file) for folder in sorted(folders) for file in sorted(folder.glob("*.journal"))[:-1]]

    def _retire_journal(self, store: Store, expired: jobs.Expired) -> jobs.Retired:
        """Journal files whose every frame is in a published day, where a connector that ended has left them."""
        going: list[Path] = []
        kept = ""
        verified: dict[str, list[archive.Connection]] = {}
        with contextlib.ExitStack() as locks:
            for folder in sorted({folder for folder, _ in self._old_journals(expired.feed)}):
                locks.enter_context(durable.Lock(folder, "retention"))
            for _, file in self._old_journals(expired.feed):
                try:
                    if self._is_published(store, expired, file, verified):
                        going.append(file)
                except Permanent as e:
                    kept = kept or str(e)
            size = sum(file.stat().st_size for file in going)
            if not expired.dry_run:
                for file in going:
                    durable.remove(file)
        return jobs.Retired(expired.feed, expired.date, "journal", len(going), size, kept)

    def _is_published(
        self, store: Store, expired: jobs.Expired, file: Path, verified: dict[str, list[archive.Connection]]
    ) -> bool:
        """Whether a journal file is old, and the store has each of its frames. Raises Permanent if it has not."""
        doing = f"looking through {file.name} of {expired.feed}'s journal"
        dates = meanwhile(doing, lambda: _dates(file))
        if not dates or dates[-1] > expired.date:
            return False
        for date in dates:
            if date not in verified:
                day = jobs.Expired(expired.feed, date, "archive", expired.dry_run)
                record, _, files = self._published_as_here(store, day)
                self._verify(store, day, files)
                verified[date] = record.manifest().connections
        for conn, n in beating(doing, _frames(file)):
            if not any(_holds(c, conn, n) for date in dates for c in verified[date]):
                raise Permanent(f"{file} holds frame {n} of {conn}, which is not published")
        return True

    # ------------------------------------------------------------------------------------------------- objects

    def _objects(
        self, store: Store, day: jobs.Publication, files: list[Named], known: dict[str, Object]
    ) -> tuple[list[Object], int]:
        """Have every file in the store; returns the objects, and how many of them are new there."""
        with Together(self._parallel, f"publishing {day.feed} {day.date}", sum(f.bytes for f in files)) as together:
            done = together.run(lambda file: self._object(store, file, known.get(file.path), together), files)
        return [o for o, _ in done], sum(new for _, new in done)

    def _object(self, store: Store, file: Named, known: Object | None, together: "Together") -> tuple[Object, bool]:
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

    def _read_back(self, store: Store, file: Named, new: bool, together: "Together") -> str:
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
                self._store = self._open_store(self._environment.storage, self._places.data, self._endpoint_url)
            return self._store


def _frames(file: Path) -> Iterator[tuple[str, int]]:
    """The identity of every frame in a journal file. Raises Permanent if a record is damaged."""
    for _, record in journal.read(file):
        if record is None:
            raise Permanent(f"{file} is damaged: `ssmd verify` says what that means")
        head = frames.parse(record.message)
        yield head.conn, head.n


def _dates(file: Path) -> list[str]:
    """The dates of a journal file's frames, in order."""
    return sorted({date_of(frames.parse(r.message).ts_recv) for _, r in journal.read(file) if r is not None})


def _holds(known: archive.Connection, conn: str, n: int) -> bool:
    """Whether a day has a frame."""
    inside = known.conn == conn and known.first <= n <= known.last
    return inside and not any(a <= n <= b for a, b in known.holes)


def _bring(store: Store, path: str, text: bytes) -> None:
    """Make an object's content this; who wrote it meanwhile is not written over."""
    found = store.stat(path)
    if found is None or store.read(path) != text:
        store.replace(path, text, found.etag if found is not None else None)
