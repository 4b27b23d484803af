"""From frames to tables: hours are replayed into Parquet, and a day is published when all of them are whole."""

import datetime
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from temporalio import activity

from activities.processes import Processes, in_a_process
from activities.replay import MEMORY_BYTES, HourTask, replay_hour
from ssmd import __version__, archive, config, coverage, durable, jobs, tables
from ssmd.clock import SECOND_NS
from ssmd.errors import Permanent


class Rollup:
    """The lake under a data folder, and the processes that fill it."""

    def __init__(self, places: config.Places, processes: Processes, memory_bytes: int = MEMORY_BYTES) -> None:
        self._places = places
        self._processes = processes
        self._memory_bytes = memory_bytes

    @in_a_process
    @activity.defn(no_thread_cancel_exception=True)
    def rollup_hour(self, hour: jobs.Hour) -> jobs.RolledHour:
        """Replay one hour of a sealed day through its venue's grammar into Parquet."""
        feed = config.load_feed(hour.feed)
        manifest = self._manifest(hour.feed, hour.date, hour.revision)
        segments = sorted((s for s in manifest.segments if hour.hour in s.hours), key=lambda s: s.name)
        task = HourTask(
            archive=self._places.archive,
            lake=self._places.lake,
            feed=feed.name,
            venue=feed.venue,
            date=hour.date,
            day_start_ns=_day_start_ns(hour.date),
            hour=hour.hour,
            precision=feed.precision,
            segments=[(s.name, s.channel, s.sha256) for s in segments],
            memory_bytes=self._memory_bytes,
        )
        doing = f"rolling up {hour.feed} {hour.date} {hour.hour:02d}:00"
        return self._processes.run(doing, sum(s.records for s in segments), replay_hour, task)

    @activity.defn(no_thread_cancel_exception=True)
    def publish_day(self, day: jobs.Sealed, hours: list[jobs.RolledHour]) -> jobs.RolledUp:
        """Check that the hours hold all of the day's frames and files, then replace the lake's manifest of the day."""
        manifest = self._manifest(day.feed, day.date, day.revision)
        precision = config.load_feed(day.feed).precision
        hours = sorted(hours, key=lambda h: h.hour)
        frames = sum(h.frames for h in hours)
        if frames != manifest.frames:
            raise Permanent(
                f"{day.feed} {day.date}: the hours hold {frames} frames, but the archive {manifest.frames}: "
                "a segment's hours in the archive manifest are wrong; run `ssmd verify` on that day"
            )
        quarantined, events = Counter[str](), Counter[str]()
        for hour in hours:
            quarantined.update(hour.quarantined)
            events.update(hour.events)
        parts = sorted((part for hour in hours for part in hour.parts), key=lambda part: part.path)
        for i, part in enumerate(parts):
            activity.heartbeat(jobs.Progress(f"publishing {day.feed} {day.date}", i, len(parts)))
            _read_back(self._places.lake / part.path, part, precision)
        lake_day = tables.LakeDay(
            feed=day.feed,
            date=day.date,
            revision=day.revision,
            inputs={s.name: s.sha256 for s in manifest.segments},
            files=[tables.LakeFile(p.table, p.path, p.rows, p.bytes, p.sha256) for p in parts],
            frames=frames,
            with_events=sum(h.with_events for h in hours),
            control=sum(h.control for h in hours),
            quarantined=dict(sorted(quarantined.items())),
            events=dict(sorted(events.items())),
            software=__version__,
            coverage=_coverage(manifest),
            precision=(precision.price, precision.size, precision.digits),
        )
        path = tables.save_day(self._places.lake, lake_day)
        for table in tables.TABLES:
            # A worker that was killed in the middle of an hour left its files aside.
            folder = (self._places.lake / tables.file_path(table, day.feed, day.date, 0, "")).parent
            durable.sweep(folder, self._places.lake / path)
        return jobs.RolledUp(
            feed=day.feed,
            date=day.date,
            revision=day.revision,
            manifest=str(path),
            frames=frames,
            rows=lake_day.events,
            quarantined=lake_day.quarantined,
        )

    def _manifest(self, feed: str, date: str, revision: int) -> archive.Manifest:
        manifest = archive.load_manifest(archive.manifest_path(self._places.archive, feed, date))
        if manifest.revision != revision or not manifest.sealed:
            raise Permanent(
                f"{feed} {date} was sealed anew (revision {manifest.revision}) while revision {revision} was rolled "
                "up: start the rollup of that day again"
            )
        return manifest


def _coverage(manifest: archive.Manifest) -> list[tables.Covered]:
    """The completeness statement, from the manifest alone: the same archive always gives the same."""
    return [
        tables.Covered(list(c.symbols), c.condition, c.covered_ns, c.gap_ns_by_cause, len(c.gaps))
        for c in coverage.coverage(coverage.of_manifest(manifest))
    ]


def _read_back(path: Path, part: jobs.Part, precision: config.Precision) -> None:
    if not path.exists() or archive.sha256_of(path) != part.sha256:
        raise Permanent(f"{path} is not what was written there: roll the day up again, and check the disk")
    if not pq.read_schema(path).equals(tables.schema(part.table, precision)):
        raise Permanent(f"{path} was made with another precision than the feed's YAML has now: roll the day up again")


def _day_start_ns(date: str) -> int:
    midnight = datetime.datetime.combine(datetime.date.fromisoformat(date), datetime.time(), datetime.UTC)
    return int(midnight.timestamp()) * SECOND_NS
