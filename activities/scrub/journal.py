"""A feed's journal: every record of it."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from activities.processes import Board
from activities.scrub.findings import SETTLE_SECONDS, DayTask, Findings, cursor_at, manifest_at
from activities.scrub.numbers import Numbers, Ranges, in_words, minus
from ssmd import archive, config, frames, jobs, journal
from ssmd.clock import date_of


class _Hole(NamedTuple):
    """Frames that the journal lost between two records."""

    conn: str
    first: int
    last: int
    segment: int  # index of the file in which the next record stands
    offset: int
    since_segment: int  # and the record before
    since_offset: int


@dataclass
class _DamagedRecord:
    path: Path
    segment: int
    start: int
    end: int
    torn: bool
    affected: dict[str, Ranges] = field(default_factory=dict)


def journal_files(root: Path, feed: str) -> list[Path]:
    """The journal segments of a feed, over all of its shards."""
    folders = [root / feed, *sorted(root.glob(f"{feed}.*"))]
    return [path for folder in folders for path in sorted(folder.glob("*.journal"))]


class Journal:
    """A feed's journal, read through."""

    def __init__(self, places: config.Places, feed: str, tell: Callable[[int], None] = lambda read: None) -> None:
        self.numbers: dict[str, Numbers] = {}
        self.damaged: list[_DamagedRecord] = []
        self.holes: list[_Hole] = []
        self.empty: list[Path] = []
        self.last: dict[str, tuple[int, Path]] = {}
        self.records = 0
        self.bytes = 0
        self._tell = tell
        self._at: dict[str, tuple[int, int, int]] = {}  # conn -> last n, where that record ends
        files = journal_files(places.journal, feed)
        newest = {path.parent: path for path in files}
        for index, path in enumerate(files):
            with contextlib.suppress(FileNotFoundError):  # freed meanwhile: the archive has it
                self._read(index, path, newest[path.parent] == path)

    def _read(self, index: int, path: Path, newest: bool) -> None:
        start = self._read_from(index, path, 0)
        size = path.stat().st_size
        if newest and (start < size or size == 0):  # perhaps being written just now
            time.sleep(SETTLE_SECONDS)
            start = self._read_from(index, path, start)
            size = path.stat().st_size
        if size == 0:
            self.empty.append(path)
        elif start < size:
            self.damaged.append(_DamagedRecord(path, index, start, size, torn=True))
        self.bytes += size

    def _read_from(self, index: int, path: Path, start: int) -> int:
        """Read the whole lines from an offset; returns where they end."""
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end = start + len(line)
                record = journal.decode(line[:-1])
                # Read back as written, to the bit: `decode` takes an upper-case checksum for the same number.
                if record is None or journal.encode(record.subject.encode(), record.message) != line:
                    self.damaged.append(_DamagedRecord(path, index, start, end, torn=False))
                else:
                    self._note(index, path, start, end, record)
                start = end
                if not self.records % 1000:
                    self._tell(self.bytes + start)
        return start

    def _note(self, index: int, path: Path, start: int, end: int, record: journal.Record) -> None:
        head = frames.parse(record.message)
        conn, n = head.conn, head.n
        self.records += 1
        before = self._at.get(conn)
        if before is not None and n > before[0] + 1:
            self.holes.append(_Hole(conn, before[0] + 1, n - 1, index, start, before[1], before[2]))
        if before is None or n > before[0]:
            self._at[conn] = (n, index, end)
            self.last[conn] = (n, path)
        self.numbers.setdefault(conn, Numbers()).add(n)

    def attribute(self) -> list[_Hole]:
        """Give each damaged record the frames missing around it; returns the holes that no damage explains."""
        unexplained = []
        for hole in self.holes:
            inside = [
                d
                for d in self.damaged
                if (hole.since_segment, hole.since_offset) <= (d.segment, d.start) < (hole.segment, hole.offset)
            ]
            for damaged in inside:
                damaged.affected.setdefault(hole.conn, []).append((hole.first, hole.last))
            if not inside:
                unexplained.append(hole)
        return unexplained


def journal_folder(task: DayTask, board_path: Path) -> jobs.Scrubbed:
    """Every record of a feed's journal; what the archive has is known first, so that it cannot run ahead."""
    found = Findings(task.places.data)
    with contextlib.closing(Board(board_path)) as board:
        archived = _archived(task)
        read = Journal(task.places, task.feed, board.tell)
        unexplained = read.attribute()
        files = journal_files(task.places.journal, task.feed)
        for conn, (last, path) in read.last.items():
            beyond = [r for r in archived[conn].ranges if r[1] > last] if conn in archived else []
            if not beyond:
                continue
            gone = [(max(a, last + 1), b) for a, b in beyond]
            after = [d for d in read.damaged if (d.segment, d.start) >= (read._at[conn][1], read._at[conn][2])]
            if after:
                after[0].affected.setdefault(conn, []).extend(gone)
            else:
                found.add(
                    "journal",
                    path,
                    "ends before frames that the archive has",
                    in_words(conn, gone),
                    "none",
                    "nothing is lost: the archive has these frames",
                )
        for d in read.damaged:
            _tell_record(found, d, archived)
        for path in read.empty:
            found.add("journal", path, "is empty", "byte 0", "none", "what it held is lost unless it is archived")
        for hole in unexplained:
            _tell_hole(found, hole, files, archived)
    return jobs.Scrubbed(files=len(files), bytes=read.bytes, frames=read.records, findings=found.kept, more=found.more)


def _archived(task: DayTask) -> dict[str, Numbers]:
    """What the archive has of the days that the journal may hold frames of."""
    archived: dict[str, Numbers] = {}
    cursor = cursor_at(archive.cursor_path(task.places.archive, task.feed))
    for conn, state in (cursor.conns if cursor is not None else {}).items():
        archived.setdefault(conn, Numbers()).add_ranges(list(state.archived))
    since = _first_date(journal_files(task.places.journal, task.feed))
    for path in sorted((task.places.archive / task.feed).glob("????-??-??/manifest.json")):
        manifest = manifest_at(path) if path.parent.name >= since else None
        for c in manifest.connections if manifest is not None else []:
            archived.setdefault(c.conn, Numbers()).add_ranges(minus([(c.first, c.last)], c.holes))
    return archived


def _first_date(files: list[Path]) -> str:
    """The date of the oldest record that can be read; the end of all dates if there is none."""
    dates = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            first = next((record for _, record in journal.read(path) if record is not None), None)
            if first is not None:
                dates.append(date_of(frames.parse(first.message).ts_recv))
    return min(dates, default="9999")


def _tell_record(found: Findings, damaged: _DamagedRecord, archived: dict[str, Numbers]) -> None:
    where = f"bytes {damaged.start}-{damaged.end}"
    what = "ends in half a record" if damaged.torn else "a record is damaged (its CRC-32 is not that of its content)"
    affected = {conn: ranges for conn, ranges in damaged.affected.items() if ranges}
    if not affected:
        advice = (
            "the connector cuts it off at its next start"
            if damaged.torn
            else "which frame it was cannot be told: `ssmd gaps` shows whether one is missing"
        )
        found.add("journal", damaged.path, what, where, "none", advice)
        return
    where += "; " + "; ".join(in_words(conn, ranges) for conn, ranges in affected.items())
    safe = all(archived[conn].holds(a, b) for conn, rs in affected.items() if conn in archived for a, b in rs)
    safe = safe and all(conn in archived for conn in affected)
    mend, advice = _verdict(safe)
    found.add("journal", damaged.path, what, where, mend, advice)


def _tell_hole(found: Findings, hole: _Hole, files: list[Path], archived: dict[str, Numbers]) -> None:
    """Records that are gone without a trace: cut off where one ended, or with their whole file."""
    safe = hole.conn in archived and archived[hole.conn].holds(hole.first, hole.last)
    before, after = files[hole.since_segment], files[hole.segment]
    freed = before.parent == after.parent and int(after.stem) > int(before.stem) + 1
    if safe and freed:
        return  # an archived segment came back after a power cut; those behind it stayed away
    mend, advice = _verdict(safe)
    found.add(
        "journal",
        before,
        "records are missing behind its last one",
        f"behind byte {hole.since_offset}; {in_words(hole.conn, [(hole.first, hole.last)])}",
        mend,
        advice,
    )


def _verdict(safe: bool) -> tuple[str, str]:
    if safe:
        return "none", "nothing is lost: the archive has these frames"
    return "second-copy", "the archive does not have these frames: only another capture of the same time has them"
