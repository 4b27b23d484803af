"""The archive, as jobs see it: a day is waited for until it is sealed, and verified before anything is made from it."""

import asyncio
import datetime
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from isal import igzip
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from temporalio import activity
from temporalio.exceptions import CancelledError

from ssmd import archive, broker, config, coverage, jobs, subjects
from ssmd.clock import DAY_NS
from ssmd.errors import Permanent, Transient

CONNECT_SECONDS = 3.0
LOOK_SECONDS = 1.0  # how often a manifest is looked at while its day is waited for
SEAL_SECONDS = 60.0  # an archiver first archives all that the stream holds: at 70k frames/s that is 4 M frames
NOTHING_SECONDS = 3600.0  # an archiver that was down needs less to catch up with its stream
READ_BYTES = 4 << 20


class Archive:
    """The archive under a data folder, and the environment whose archivers fill it."""

    def __init__(self, places: config.Places, environment: str, nats_url: str) -> None:
        self._places = places
        self._environment = environment
        self._nats_url = nats_url

    @activity.defn(no_thread_cancel_exception=True)
    def await_seal(self, day: jobs.Day) -> int:
        """Wait until the day is sealed (ask for it first, if the job says so); returns the manifest's revision.

        With `if_any`: 0 as soon as it is clear that nothing is archived of that day.
        """
        check_day(day)
        began = time.monotonic()
        path = archive.manifest_path(self._places.archive, day.feed, day.date)
        revision = 0
        if day.seal:
            activity.heartbeat(jobs.Progress(f"asking the archiver to seal {day.feed} {day.date}"))
            revision = self._seal(day, path)
        seen: tuple[int, int] | None = None
        while True:
            mark = _mark(path)
            if mark != seen and mark is not None:
                manifest = archive.load_manifest(path)
                if manifest.sealed and manifest.revision >= revision:
                    return manifest.revision
            elif mark is None and day.if_any:
                long = time.monotonic() - began > NOTHING_SECONDS
                if passed(self._places.archive, day.feed, day.date, long):
                    return 0
            seen = mark
            activity.heartbeat(jobs.Progress(f"waiting until {day.feed} {day.date} is sealed"))
            activity.wait_for_cancelled_sync(LOOK_SECONDS)
            if activity.is_cancelled():
                raise CancelledError(f"waiting for the seal of {day.feed} {day.date}: cancelled")
            if activity.is_worker_shutdown():
                raise Transient(f"this worker stops; {day.feed} {day.date} is waited for by the next")

    @activity.defn(no_thread_cancel_exception=True)
    def verify(self, day: jobs.Day) -> jobs.Sealed:
        """Hash, unpack and count every segment of a sealed day. Raises Permanent naming the first that is damaged."""
        manifest = archive.load_manifest(archive.manifest_path(self._places.archive, day.feed, day.date))
        folder = archive.day_folder(self._places.archive, day.feed, day.date)
        doing = f"verifying {day.feed} {day.date}"
        total = sum(s.bytes for s in manifest.segments)
        done = 0
        for segment in manifest.segments:

            def look(read: int, before: int = done) -> None:
                activity.heartbeat(jobs.Progress(doing, before + read, total))
                if activity.is_cancelled():
                    raise CancelledError(f"{doing}: cancelled")

            _verify(folder / segment.name, segment, look)
            done += segment.bytes
        return jobs.Sealed(
            feed=day.feed,
            date=day.date,
            revision=manifest.revision,
            segments=len(manifest.segments),
            frames=manifest.frames,
            hours=sorted({hour for s in manifest.segments for hour in s.hours}),
        )

    def _seal(self, day: jobs.Day, path: Path) -> int:
        """Ask the archiver; returns the revision that it sealed."""
        if not self._nats_url:
            raise Permanent(
                f"nothing runs on {self._places.data}, so there is no archiver to seal {day.feed} {day.date}"
            )
        try:
            answer = asyncio.run(self._request_seal(day))
        except NoRespondersError:
            if path.exists() and archive.load_manifest(path).sealed:
                return 0  # nobody is there who could have added to it
            raise Transient(
                f"no archiver of {day.feed} answers at {self._nats_url}: start it (`ssmd up`), or leave out the seal"
            ) from None
        except (NatsError, OSError, TimeoutError) as e:
            raise Transient(
                f"cannot ask the archiver of {day.feed} at {self._nats_url} to seal {day.date}: "
                f"{e or type(e).__name__}: start NATS and the archiver (`ssmd up`)"
            ) from e
        if "error" in answer:
            raise Permanent(f"the archiver will not seal {day.feed} {day.date}: {answer['error']}")
        revision = answer.get("revision", 0)
        return revision if isinstance(revision, int) else 0

    async def _request_seal(self, day: jobs.Day) -> dict[str, object]:
        client = await broker.connect_once(self._nats_url, "worker", CONNECT_SECONDS)
        try:
            subject = subjects.seal(self._environment, day.feed)
            request = asyncio.ensure_future(
                client.request(subject, msgspec.json.encode({"date": day.date}), timeout=SEAL_SECONDS)
            )
            while not request.done():
                await asyncio.wait([request], timeout=LOOK_SECONDS)
                activity.heartbeat(jobs.Progress(f"asking the archiver to seal {day.feed} {day.date}"))
                if activity.is_cancelled():
                    request.cancel()
                    raise CancelledError(f"sealing {day.feed} {day.date}: cancelled")
            return msgspec.json.decode(request.result().data, type=dict[str, object])
        finally:
            await client.close()


def passed(root: Path, feed: str, date: str, long: bool = False) -> bool:
    """Whether nothing of a day was archived and nothing will be: the archiver has heard a later one (or: `long`)."""
    try:
        cursor = archive.load_cursor(archive.cursor_path(root, feed))
    except FileNotFoundError:
        return long
    over = coverage.midnight(date) + DAY_NS
    return date not in cursor.days and (long or any(c.last_ts_recv >= over for c in cursor.conns.values()))


def check_day(day: jobs.Day) -> None:
    """Raise Permanent unless there is such a feed and such a date."""
    config.load_feed(day.feed)
    try:
        known = datetime.date.fromisoformat(day.date).isoformat() == day.date
    except ValueError:
        known = False
    if not known:
        raise Permanent(f"{day.date!r} is no date: write it as YYYY-MM-DD, as in 2026-11-20")


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _verify(path: Path, segment: archive.Segment, look: Callable[[int], None]) -> None:
    """Compare a segment with its manifest entry; `look` is told how many of its bytes have been read."""
    again = "restore it from a copy, or have the archiver make the day again"
    digest = hashlib.sha256()
    size = lines = raw_bytes = 0
    try:
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                size += len(block)
                digest.update(block)
                look(size)
    except OSError as e:
        raise Permanent(f"{path} cannot be read ({e.strerror}): {archive.bring_back(path)}") from e
    if size != segment.bytes or digest.hexdigest() != segment.sha256:
        raise Permanent(
            f"{path} is not what its manifest says: {size} bytes with SHA-256 {digest.hexdigest()[:16]}…, "
            f"but it should be {segment.bytes} bytes with {segment.sha256[:16]}…: {again}"
        )
    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            while block := file.read(READ_BYTES):
                raw_bytes += len(block)
                lines += block.count(b"\n")
                look(size)
    except archive.DAMAGE as e:
        raise Permanent(f"{path} is no whole gzip file ({e}): {again}") from e
    if lines != segment.records or raw_bytes != segment.raw_bytes:
        raise Permanent(
            f"{path} holds {lines} lines of {raw_bytes} bytes, but its manifest says {segment.records} "
            f"of {segment.raw_bytes}: {again}"
        )
