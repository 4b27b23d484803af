"""The scrub of a day: everything kept of it is read again, and nothing is changed."""

import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from temporalio import activity

from activities import together
from activities.archive import check_day
from activities.processes import Processes, in_a_process
from activities.scrub.archive import archive_day
from activities.scrub.findings import DayTask
from activities.scrub.journal import journal_files, journal_folder
from activities.scrub.lake import HourAgain, lake_day, make_again
from activities.scrub.versions import version_tables
from ssmd import archive, checked_json, config, coverage, durable, jobs, mirror, moved, published, tables, versions
from ssmd.errors import Permanent
from ssmd.published import Named
from ssmd.storage import Missing, Store

RECORD = "record"  # the kind of finding that leaves nothing to be looked at


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
        if store := self._elsewhere(day.feed, day.date, day.store):
            try:
                with self._brought(day.feed, day.date, day.store, published.archive_files) as aside:
                    scrubbed = self._scrub_archive(day, aside.places)
                    return aside.told(scrubbed, aside.copies())
            except Permanent as e:
                if not isinstance(e.__cause__, msgspec.DecodeError):
                    raise
                path = f"{store}/{published.record_path(day.feed, day.date)}"
                what = f"is damaged: {e.__cause__}; without it the day cannot be judged"
                return jobs.Scrubbed(findings=[jobs.Finding(RECORD, path, what, "", "second-copy", _again(day))])
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
        task = DayTask(places, day.feed, day.date, [])
        return self._processes.run(f"reading the archive of {_of(day)}", total, archive_day, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_journal(self, day: jobs.Scrub) -> jobs.Scrubbed:
        """Read every record of the feed's journal, whatever its day; a store has none."""
        if day.store:
            return jobs.Scrubbed()
        task = DayTask(self._places, day.feed, day.date, [])
        total = _bytes(journal_files(task.places.journal, day.feed))
        return self._processes.run(f"reading the journal of {day.feed}", total, journal_folder, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_lake(self, day: jobs.Scrub, found: jobs.Scrubbed) -> jobs.Scrubbed:
        """Read every table file of the day; `found` is what the archive's scrub did."""
        if any(f.kind == RECORD for f in found.findings):
            return jobs.Scrubbed()  # it names the tables, too
        damaged = [f.path for f in found.findings]
        doing = f"reading the tables of {_of(day)}"
        if self._elsewhere(day.feed, day.date, day.store):
            with self._brought(day.feed, day.date, day.store, lake=published.lake_files) as aside:
                task = DayTask(aside.places, day.feed, day.date, damaged)
                return aside.told(self._processes.run(doing, 0, lake_day, task))
        return self._processes.run(doing, 0, lake_day, DayTask(self._places, day.feed, day.date, damaged))

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_versions(self, day: jobs.Scrub) -> jobs.Scrubbed:
        """Read every version of the feed's instruments and fees, whatever its day."""
        doing = f"reading the instruments and fees of {day.feed}"
        if not day.store:
            return self._processes.run(doing, 0, version_tables, DayTask(self._places, day.feed, day.date, []))
        there = mirror.open_store(day.store, self._places.data)
        with tempfile.TemporaryDirectory(prefix="ssmd-verify-") as folder:
            places = config.Places(Path(folder))
            texts: dict[str, str] = {}
            damaged = []
            for table in versions.TABLES:
                try:
                    record = published.load_versions(there, day.feed, table.name)
                except Permanent as e:
                    path = published.record_path(day.feed, table.name)
                    damaged.append(jobs.Finding(RECORD, path, f"is damaged: {e.__cause__ or e}", "", "", ""))
                    continue
                if record is not None:
                    manifest = checked_json.decode(record.manifest.encode(), versions.Manifest)
                    together.fetch(there, published.version_files(manifest), places.data, doing, lacking=True)
                    texts[published.version_manifest(day.feed, table)] = record.manifest
            _lay(places, texts)
            aside = _Aside(places, there, day, texts)
            task = DayTask(places, day.feed, day.date, [])
            return aside.told(self._processes.run(doing, 0, version_tables, task), [*damaged, *aside.copies()])

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
        task = HourAgain(
            places=places,
            feed=feed,
            date=hour.date,
            hour=hour.hour,
            day_start_ns=coverage.midnight(hour.date),
            segments=[(name, inputs[name].channel, inputs[name].sha256) for name in sorted(inputs)],
            published=[f for f in lake_day.files if tables.hour_of(f) == hour.hour],
            software=lake_day.software,
        )
        doing = f"making the tables of {hour.feed} {hour.date} {hour.hour:02d}:00 again"
        return self._processes.run(doing, sum(s.records for s in inputs.values()), make_again, task)

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
                with contextlib.suppress(Permanent):  # a damaged one is told with its own day
                    _lay(places, _manifests(published.load(there, feed, other)))
            texts = _manifests(record)
            _lay(places, texts)
            yield _Aside(places, there, jobs.Scrub(feed, date), texts)


@dataclass(frozen=True)
class _Aside:
    """What a store has published, brought here: its files, and by their paths the manifests that its records hold."""

    places: config.Places
    store: Store
    day: jobs.Scrub
    manifests: dict[str, str]

    def copies(self) -> list[jobs.Finding]:
        """Those manifests lie beside the files, too, for whoever looks into the store: are they the same there?"""
        found = []
        for path, text in self.manifests.items():
            try:
                what = "" if self.store.read(path) == text.encode() else "is not what its record says"
            except Missing:
                what = "is missing"
            if what:
                found.append(jobs.Finding("manifest", path, what, "", "", ""))
        return found

    def told(self, scrubbed: jobs.Scrubbed, more: Iterable[jobs.Finding] = ()) -> jobs.Scrubbed:
        """The findings as those of the store's objects."""
        findings = [
            dataclasses.replace(f, path=f"{self.store.url}/{f.path}", mend="second-copy", advice=_again(self.day))
            for f in [*scrubbed.findings, *more]
        ]
        return dataclasses.replace(scrubbed, findings=findings)


def _again(day: jobs.Scrub) -> str:
    return f"remove that object, and `ssmd publish {day.feed} {day.date}` where the day is whole stores it anew"


def _manifests(record: published.Published | None) -> dict[str, str]:
    """A record's manifests, by where a data folder has them."""
    if record is None:
        return {}
    texts = {published.archive_manifest(record.feed, record.date): record.archive}
    if record.lake is not None:
        texts[published.lake_manifest(record.feed, record.date)] = record.lake
    return texts


def _lay(places: config.Places, manifests: dict[str, str]) -> None:
    """Write manifests where a data folder has them."""
    for path, text in manifests.items():
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
