"""The scrub of a day: everything kept of it is read again, and nothing is changed."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from temporalio import activity

from activities import scrub
from activities.archive import check_day
from activities.processes import Processes, in_a_process
from ssmd import archive, config, jobs, tables
from ssmd.errors import Permanent


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
        folder = archive.day_folder(self._places.archive, day.feed, day.date)
        if not folder.is_dir() and not (self._places.lake / tables.manifest_path(day.feed, day.date)).exists():
            if day.if_any:
                return jobs.Scrubbed()
            raise Permanent(
                f"nothing of {day.feed} is archived for {day.date} in {self._places.archive}: "
                "`ssmd data list` shows what is"
            )
        total = _bytes(folder.glob("*.jsonl.gz*"))
        task = self._task(day)
        return self._processes.run(f"reading the archive of {_of(day)}", total, scrub.archive_day, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_journal(self, day: jobs.Scrub) -> jobs.Scrubbed:
        """Read every record of the feed's journal, whatever its day."""
        task = self._task(day)
        total = _bytes(scrub.journal_files(task.places.journal, day.feed))
        return self._processes.run(f"reading the journal of {day.feed}", total, scrub.journal_folder, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def scrub_lake(self, day: jobs.Scrub, found: jobs.Scrubbed) -> jobs.Scrubbed:
        """Read every table file of the day; `found` is what the archive's scrub did."""
        task = self._task(day, [f.path for f in found.findings])
        return self._processes.run(f"reading the tables of {_of(day)}", 0, scrub.lake_day, task)

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def make_again(self, hour: jobs.Hour) -> jobs.Scrubbed:
        """Make an hour's tables again, aside, from what the published ones were made from; compare their bytes."""
        feed = config.load_feed(hour.feed)
        lake_day = tables.load_day(self._places.lake / tables.manifest_path(hour.feed, hour.date))
        manifest = archive.load_manifest(archive.manifest_path(self._places.archive, hour.feed, hour.date))
        inputs = {s.name: s for s in manifest.segments if s.name in lake_day.inputs and hour.hour in s.hours}
        task = scrub.HourAgain(
            places=self._places,
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

    def _task(self, day: jobs.Scrub, damaged: list[str] | None = None) -> scrub.DayTask:
        return scrub.DayTask(self._places, day.feed, day.date, damaged or [])


def _of(day: jobs.Scrub) -> str:
    return f"{day.feed} {day.date}"


def _bytes(paths: Iterable[Path]) -> int:
    """The size of files, as far as they are still there: a running platform renames and frees them."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
