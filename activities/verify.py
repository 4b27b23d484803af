"""The scrub of a day: everything kept of it is read again, and nothing is changed."""

import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from temporalio import activity

from activities import scrub, together
from activities.archive import check_day
from activities.processes import Processes, in_a_process
from ssmd import archive, config, durable, jobs, mirror, moved, published, tables
from ssmd.errors import Permanent
from ssmd.published import Named


class Verify:
    """A data folder, and the processes that read through it."""

    def __init__(self, places: config.Places, processes: Processes) -> None:
        self._places = places
        self._processes = processes

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_archive(self, day: jobs.Scrub) -> jobs.Scrubbed:
        """Read manifest, cursor, every segment and every frame's number.

        Of a day that is not there: Permanent, or with `if_any` an empty answer.
        """
        check_day(jobs.Day(day.feed, day.date))
        if self._elsewhere(day.feed, day.date, day.store):
            with self._brought(day.feed, day.date, day.store, published.archive_files) as aside:
                scrubbed = self._scrub_archive(day, aside.places)
                return aside.told(scrubbed)
        folder = archive.day_folder(self._places.archive, day.feed, day.date)
        if not folder.is_dir() and not (self._places.lake / tables.manifest_path(day.feed, day.date)).exists():
            if day.if_any:
                return jobs.Scrubbed()
            raise Permanent(
                f"nothing of {day.feed} is archived for {day.date} in {self._places.archive}: "
                "`ssmd data list` shows what is"
            )
        return self._scrub_archive(day, self._places)

    def _scrub_archive(self, day: jobs.Scrub, places: config.Places) -> jobs.Scrubbed:
        total = _bytes(archive.day_folder(places.archive, day.feed, day.date).glob("*.jsonl.gz*"))
        task = scrub.DayTask(places, day.feed, day.date, [])
        return self._processes.run(f"reading the archive of {_of(day)}", total, scrub.archive_day, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_journal(self, day: jobs.Scrub) -> jobs.Scrubbed:
        """Read every record of the feed's journal, whatever its day; a store has none."""
        if day.store:
            return jobs.Scrubbed()
        task = scrub.DayTask(self._places, day.feed, day.date, [])
        total = _bytes(scrub.journal_files(task.places.journal, day.feed))
        return self._processes.run(f"reading the journal of {day.feed}", total, scrub.journal_folder, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_lake(self, day: jobs.Scrub, found: jobs.Scrubbed) -> jobs.Scrubbed:
        """Read every table file of the day; `found` is what the archive's scrub did."""
        damaged = [f.path for f in found.findings]
        doing = f"reading the tables of {_of(day)}"
        if self._elsewhere(day.feed, day.date, day.store):
            with self._brought(day.feed, day.date, day.store, lake=published.lake_files) as aside:
                task = scrub.DayTask(aside.places, day.feed, day.date, damaged)
                return aside.told(self._processes.run(doing, 0, scrub.lake_day, task))
        return self._processes.run(doing, 0, scrub.lake_day, scrub.DayTask(self._places, day.feed, day.date, damaged))

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def make_again(self, hour: jobs.Hour) -> jobs.Scrubbed:
        """Make an hour's tables again, aside, from what the published ones were made from; compare their bytes."""
        if self._elsewhere(hour.feed, hour.date, hour.store):
            with self._brought(hour.feed, hour.date, hour.store, lambda m: _of_hour(m, hour.hour)) as aside:
                return aside.told(self._make_again(hour, aside.places))
        return self._make_again(hour, self._places)

    def _make_again(self, hour: jobs.Hour, places: config.Places) -> jobs.Scrubbed:
        feed = config.load_feed(hour.feed)
        lake_day = tables.load_day(places.lake / tables.manifest_path(hour.feed, hour.date))
        manifest = archive.load_manifest(archive.manifest_path(places.archive, hour.feed, hour.date))
        inputs = {s.name: s for s in manifest.segments if s.name in lake_day.inputs and hour.hour in s.hours}
        task = scrub.HourAgain(
            places=places,
            feed=feed,
            date=hour.date,
            hour=hour.hour,
            day_start_ns=scrub.day_start_ns(hour.date),
            segments=[(name, inputs[name].channel, inputs[name].sha256) for name in sorted(inputs)],
            published=[f for f in lake_day.files if tables.hour_of(f) == hour.hour],
            software=lake_day.software,
        )
        doing = f"making the tables of {hour.feed} {hour.date} {hour.hour:02d}:00 again"
        return self._processes.run(doing, sum(s.records for s in inputs.values()), scrub.make_again, task)

    # ------------------------------------------------------------------------------------------------ in a store

    def _elsewhere(self, feed: str, date: str, store: str) -> str:
        """The address of the store that has the day's files; empty where they are here."""
        if store:
            return store
        for path in (moved.of_archive(self._places, feed, date), moved.of_lake(self._places, feed, date)):
            if (found := moved.load(path)) is not None:
                return found.store
        return ""

    @contextlib.contextmanager
    def _brought(
        self,
        feed: str,
        date: str,
        store: str,
        segments: Callable[[archive.Manifest], list[Named]] = lambda _: [],
        lake: Callable[[tables.LakeDay], list[Named]] = lambda _: [],
    ) -> "Iterator[_Aside]":
        """A data folder with the day's manifests and those of its files, as a store gives them now."""
        there = mirror.open_store(self._elsewhere(feed, date, store), self._places.data)
        record = published.load(there, feed, date)
        if record is None:
            raise Permanent(f"{feed} {date} is not published in {there.url}: `ssmd publish {feed} {date}`")
        with tempfile.TemporaryDirectory(prefix="ssmd-verify-") as folder:
            places = config.Places(Path(folder))
            lake_day = record.lake_day()
            wanted = segments(record.manifest()) + (lake(lake_day) if lake_day is not None else [])
            together.fetch(there, wanted, places.data, f"fetching {feed} {date} from {there.url}", lacking=True)
            for other in _neighbours(date):  # a connection may have crossed midnight
                _lay(places, published.load(there, feed, other))
            _lay(places, record)
            yield _Aside(places, there.url, feed, date)


@dataclass(frozen=True)
class _Aside:
    """A day's files, brought here from a store."""

    places: config.Places
    store: str
    feed: str
    date: str

    def told(self, scrubbed: jobs.Scrubbed) -> jobs.Scrubbed:
        """The findings as those of the store's objects."""
        advice = f"remove that object, and `ssmd publish {self.feed} {self.date}` where the day is whole stores it anew"
        findings = [
            dataclasses.replace(f, path=f"{self.store}/{f.path}", mend="second-copy", advice=advice)
            for f in scrubbed.findings
        ]
        return dataclasses.replace(scrubbed, findings=findings)


def _lay(places: config.Places, record: published.Published | None) -> None:
    """Write a record's manifests where a data folder has them."""
    if record is None:
        return
    texts = {published.archive_manifest(record.feed, record.date): record.archive}
    if record.lake is not None:
        texts[published.lake_manifest(record.feed, record.date)] = record.lake
    for path, text in texts.items():
        durable.make_folder((places.data / path).parent)
        durable.replace(places.data / path, text.encode())


def _neighbours(date: str) -> list[str]:
    day = datetime.date.fromisoformat(date)
    return [(day + datetime.timedelta(days=days)).isoformat() for days in (-1, 1)]


def _of_hour(manifest: archive.Manifest, hour: int) -> list[Named]:
    """The segments that hold frames of an hour."""
    names = {s.name for s in manifest.segments if hour in s.hours}
    return [f for f in published.archive_files(manifest) if f.path.rpartition("/")[2] in names]


def _of(day: jobs.Scrub) -> str:
    return f"{day.feed} {day.date}"


def _bytes(paths: Iterable[Path]) -> int:
    """The size of files, as far as they are still there: a running platform renames and frees them."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
