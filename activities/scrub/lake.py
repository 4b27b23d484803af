"""A day's tables: their manifest, their files, and whether the archive gives the same bytes again."""

import contextlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from activities.processes import Board
from activities.replay import HourTask, replay_hour
from activities.scrub.findings import NAMED_MAX, DayTask, Findings, manifest_at
from activities.scrub.parquet import check_parquet
from ssmd import __version__, archive, config, jobs, tables
from ssmd.errors import Permanent


@dataclass(frozen=True)
class HourAgain:
    """An hour to be made again, and the files it has to give."""

    places: config.Places
    feed: config.Feed
    date: str
    hour: int
    day_start_ns: int
    segments: list[tuple[str, str, str]]
    published: list[tables.LakeFile]
    software: str


def lake_day(task: DayTask, board_path: Path) -> jobs.Scrubbed:
    """The lake's manifest of the day and every file it names; `hours` of the result can be made again."""
    with contextlib.closing(Board(board_path)) as board:
        found = Findings(task.places.data)
        path = task.places.lake / tables.manifest_path(task.feed, task.date)
        again = f"run `ssmd rollup {task.feed} {task.date}` to make it again"
        if not path.exists():
            return jobs.Scrubbed()  # not rolled up yet
        try:
            day = tables.load_day(path)
        except Permanent as e:
            found.add("lake manifest", path, f"is damaged: {e.__cause__ or e}", "", *_rebuild(task, again))
            return jobs.Scrubbed(findings=found.kept)
        _check_lake_sums(found, path, day, _rebuild(task, again))
        size = 0
        for file in day.files:
            check_parquet(found, task.places.lake / file.path, file, _rebuild(task, again))
            size += file.bytes
            board.tell(size)
        hours = _check_inputs(found, path, task, day, _rebuild(task, again))
        return jobs.Scrubbed(
            revision=day.revision,
            files=len(day.files),
            bytes=size,
            frames=day.frames,
            hours=hours,
            findings=found.kept,
            more=found.more,
        )


def _rebuild(task: DayTask, again: str) -> tuple[str, str]:
    """What mends a table: the archive, if that is whole itself."""
    if any(p.startswith(f"archive/{task.feed}/{task.date}/") for p in task.damaged):
        return "second-copy", "restore it from a copy; or mend the day's archive first, then " + again
    return "lake-rebuild", again


def _check_lake_sums(found: Findings, path: Path, day: tables.LakeDay, mend: tuple[str, str]) -> None:
    rows = Counter[str]()
    for file in day.files:
        rows[file.table] += file.rows
    if {table: count for table, count in day.events.items() if count} != dict(rows):
        found.add("lake manifest", path, f"has rows {dict(rows)}, but events {day.events}", "", *mend)
    quarantined = sum(day.quarantined.values())
    if day.frames != day.with_events + day.control + quarantined:
        what = f"has {day.frames} frames, but {day.with_events} + {day.control} + {quarantined} of all kinds"
        found.add("lake manifest", path, what, "", *mend)


def _check_inputs(found: Findings, path: Path, task: DayTask, day: tables.LakeDay, mend: tuple[str, str]) -> list[int]:
    """Are its inputs the archive's segments? Returns the hours whose segments are whole."""
    manifest = manifest_at(archive.manifest_path(task.places.archive, task.feed, task.date))
    if manifest is None:
        return []
    there = {s.name: s.sha256 for s in manifest.segments}
    strange = [name for name, sha256 in day.inputs.items() if there.get(name) != sha256]
    same = manifest.sealed and manifest.revision == day.revision
    if strange or (same and there != day.inputs):
        names = ", ".join(strange[:NAMED_MAX] or sorted(there.keys() - day.inputs.keys())[:NAMED_MAX])
        found.add("inputs", path, "was made from other segments than the archive has", names, *mend)
        return []
    hurt = {name for name in day.inputs if f"archive/{task.feed}/{task.date}/{name}" in task.damaged}
    inputs = [s for s in manifest.segments if s.name in day.inputs]
    unsafe = {hour for s in inputs if s.name in hurt for hour in s.hours}
    return sorted({hour for s in inputs for hour in s.hours} - unsafe)


def make_again(task: HourAgain, board_path: Path) -> jobs.Scrubbed:
    """Replay an hour into a temporary folder with the rollup's own code, and compare the files' bytes."""
    found = Findings(task.places.data)
    manifest = task.places.lake / tables.manifest_path(task.feed.name, task.date)
    again = f"run `ssmd rollup {task.feed.name} {task.date}` to make it again"
    if task.software != __version__:
        again += f" (it was made by ssmd {task.software}, this is {__version__})"
    where = f"{task.hour:02d}:00"
    with tempfile.TemporaryDirectory(prefix="ssmd-verify-") as aside:
        hour = HourTask(
            archive=task.places.archive,
            lake=Path(aside),
            feed=task.feed.name,
            venue=task.feed.venue,
            date=task.date,
            day_start_ns=task.day_start_ns,
            hour=task.hour,
            precision=task.feed.precision,
            segments=task.segments,
        )
        try:
            made = replay_hour(hour, board_path)
        except Permanent as e:
            found.add("derivation", manifest, f"cannot be made again: {e}", where, "none", "see what it says")
            return jobs.Scrubbed(findings=found.kept)
    tables_made = {part.table: part for part in made.parts}
    published = {file.table: file for file in task.published}
    for table in sorted(tables_made.keys() | published.keys()):
        part, file = tables_made.get(table), published.get(table)
        if part is None or file is None:
            path = manifest if file is None else task.places.lake / file.path
            what = (
                f"{table}: the archive gives {part.rows if part else 0} rows, but {file.rows if file else 0} are there"
            )
            found.add("derivation", path, what, where, "lake-rebuild", again)
        elif part.sha256 != file.sha256:
            what = f"made again from the archive it has other bytes ({part.rows} rows; published are {file.rows})"
            found.add("derivation", task.places.lake / file.path, what, where, "lake-rebuild", again)
    return jobs.Scrubbed(files=len(made.parts), frames=made.frames, findings=found.kept, more=found.more)
