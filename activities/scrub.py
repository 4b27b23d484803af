"""What is kept of a day, read through: pure CPU and files, made to run in a process of its own; nothing is modified.

Each function gives findings, never errors: a scrub that stopped at the first damage would hide the second.
"""

import calendar
import contextlib
import hashlib
import mmap
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from activities.processes import Board
from activities.replay import HourTask, replay_hour
from ssmd import __version__, archive, checked_json, config, frames, jobs, journal, tables
from ssmd.clock import DAY_NS, SECOND_NS, date_of
from ssmd.errors import Permanent

FINDINGS_MAX = 50  # of one step: its answer travels through Temporal and must stay small
NUMBERS_MAX = 5  # ranges of frame numbers that a finding names
BLOCK_BYTES = 1 << 20
SETTLE_SECONDS = 0.5  # what a running platform is writing just now looks whole after so long
ASIDE_SECONDS = 60.0  # a file written aside is renamed within a second; an older one was left by a crash
HOUR_NS = DAY_NS // 24
MAGIC = b"\x1f\x8b\x08"

Ranges = archive.Ranges


@dataclass(frozen=True)
class DayTask:
    """Which day of which data folder; `damaged` are the paths already known to be so."""

    places: config.Places
    feed: str
    date: str
    damaged: list[str]


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


class Findings:
    """Findings of one step, the first ones kept, all of them counted."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.kept: list[jobs.Finding] = []
        self.count = 0

    def add(self, kind: str, path: Path, what: str, where: str, mend: str, advice: str) -> None:
        self.count += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(jobs.Finding(kind, self.relative(path), what, where, mend, advice))

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self._data)) if path.is_relative_to(self._data) else str(path)

    @property
    def more(self) -> int:
        return self.count - len(self.kept)


# --------------------------------------------------------------------------------------------------- frame numbers


class Numbers:
    """Which `n` of a connection are here, as ranges; they nearly always come in ascending order."""

    def __init__(self) -> None:
        self._ranges: Ranges = []
        self._sorted = True

    def add(self, n: int) -> None:
        ranges = self._ranges
        if ranges and n == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], n)
        elif not (ranges and ranges[-1][0] <= n <= ranges[-1][1]):
            self._sorted = self._sorted and (not ranges or n > ranges[-1][1])
            ranges.append((n, n))

    def add_ranges(self, more: Ranges) -> None:
        self._ranges += more
        self._sorted = False

    @property
    def ranges(self) -> Ranges:
        """Inclusive, ascending, not touching."""
        if not self._sorted:
            merged: Ranges = []
            for a, b in sorted(self._ranges):
                if merged and a <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
                else:
                    merged.append((a, b))
            self._ranges, self._sorted = merged, True
        return self._ranges

    def holds(self, first: int, last: int) -> bool:
        return any(a <= first and last <= b for a, b in self.ranges)


class Marks:
    """Which of the frames `first`..`last` of a connection were met: a byte for each, because channels interleave."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self._met = bytearray(last - first + 1)
        self.doubled = Numbers()
        self.outside = Numbers()

    def meet(self, n: int) -> None:
        i = n - self.first
        if not 0 <= i < len(self._met):
            self.outside.add(n)
        elif self._met[i]:
            self.doubled.add(n)
        else:
            self._met[i] = 1

    @property
    def count(self) -> int:
        return self._met.count(1)

    def missing(self) -> Ranges:
        """What was not met, as ranges."""
        return [
            (self.first + run.start(), self.first + run.end() - 1) for run in re.finditer(rb"\x00+", bytes(self._met))
        ]

    def met(self, first: int, last: int) -> bool:
        """Whether any of these frames was met."""
        return any(self._met[max(0, first - self.first) : max(0, last - self.first + 1)])


def _told(conn: str, ranges: Ranges) -> str:
    """Frame numbers for a reader."""
    named = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges[:NUMBERS_MAX])
    more = f" and {len(ranges) - NUMBERS_MAX} more ranges" if len(ranges) > NUMBERS_MAX else ""
    return f"{conn} n {named}{more}"


def _size(ranges: Ranges) -> int:
    return sum(b - a + 1 for a, b in ranges)


# --------------------------------------------------------------------------------------------------------- archive


class _Expected(NamedTuple):
    """What a file should hold."""

    name: str
    channel: str
    bytes: int
    raw_bytes: int
    records: int
    members: int
    seq_first: int
    seq_last: int
    ts_recv_first: int
    ts_recv_last: int
    hours: list[int]
    sha256: str | None  # of a segment
    crc32: int | None  # of a part


def archive_day(task: DayTask, board_path: Path) -> jobs.Scrubbed:
    """Manifest, cursor, segments, frame numbers and strays of one day."""
    with contextlib.closing(Board(board_path)) as board:
        return _ArchiveDay(task, board).scrub()


class _ArchiveDay:
    def __init__(self, task: DayTask, board: Board) -> None:
        self._task = task
        self._board = board
        self._folder = archive.day_folder(task.places.archive, task.feed, task.date)
        self._manifest_path = archive.manifest_path(task.places.archive, task.feed, task.date)
        self._cursor_path = archive.cursor_path(task.places.archive, task.feed)
        self._found = Findings(task.places.data)
        self._read = 0
        self._bytes = 0
        self._records = 0
        self._lost = 0  # frames that damaged files should hold and do not
        self._broken: list[tuple[Path, str, str]] = []  # damaged files: path, what, where
        self._marks: dict[str, Marks] = {}
        self._unknown: dict[str, Numbers] = {}

    def scrub(self) -> jobs.Scrubbed:
        manifest, cursor = self._state()
        if manifest is None:
            return self._result(archive.Manifest(self._task.feed, self._task.date), 0)
        self._check_sums(manifest)
        parts = [p for p in (cursor.parts if cursor else []) if p.date == self._task.date]
        finished = {s.name for s in manifest.segments}
        parts = [p for p in parts if p.name not in finished and p.records]
        expected = self._expected(manifest, cursor, bool(parts))
        self._marks = {c.conn: Marks(c.first, c.last) for c in expected}
        for s in manifest.segments:
            self._segment(self._folder / s.name, _expectation(s, s.sha256, None))
        for p in parts:
            self._segment(self._part_path(p), _expectation(p, None, p.crc32))
        missing = self._check_numbers(expected)
        self._tell_broken(missing)
        self._check_strays(finished)
        return self._result(manifest, len(manifest.segments) + len(parts))

    def _result(self, manifest: archive.Manifest, files: int) -> jobs.Scrubbed:
        return jobs.Scrubbed(
            revision=manifest.revision,
            sealed=manifest.sealed,
            files=files,
            bytes=self._bytes,
            frames=self._records,
            findings=self._found.kept,
            more=self._found.more,
        )

    # ------------------------------------------------------------------------------------- manifest and cursor

    def _state(self) -> tuple[archive.Manifest | None, archive.Cursor | None]:
        """Manifest and cursor of the same moment (an archiver may be running). A damaged one is a finding."""
        while True:
            before = _content(self._cursor_path)
            data = _content(self._manifest_path)
            if _content(self._cursor_path) == before:
                break
        cursor = None
        if before is not None:
            try:
                cursor = checked_json.decode(before, archive.Cursor)
            except msgspec.DecodeError as e:
                self._found.add(
                    "cursor",
                    self._cursor_path,
                    f"is damaged: {e}",
                    "",
                    "second-copy",
                    "stop the archiver and restore it from a copy of this very moment; without one, move the feed's "
                    "archive folder away, so that the archiver makes it anew from the stream",
                )
        if data is None:
            started = cursor is not None and any(p.date == self._task.date for p in cursor.parts)
            if started:
                return archive.Manifest(self._task.feed, self._task.date), cursor
            self._found.add("manifest", self._manifest_path, "is missing", "", "second-copy", "restore it from a copy")
            return None, cursor
        try:
            manifest = checked_json.decode(data, archive.Manifest)
        except msgspec.DecodeError as e:
            self._found.add(
                "manifest",
                self._manifest_path,
                f"is damaged: {e}; without it the rest of the day cannot be judged",
                "",
                "second-copy",
                "restore it from a copy, then verify again: the segments beside it are their own files",
            )
            return None, cursor
        return manifest, cursor

    def _check_sums(self, manifest: archive.Manifest) -> None:
        """Does the manifest agree with itself?"""
        counts, symbols = Counter[str](), Counter[str]()
        for s in manifest.segments:
            counts[s.channel] += s.records
            symbols.update(s.symbols)
            if s.symbols and sum(s.symbols.values()) != s.records:
                self._disagrees(f"{s.name} has {s.records} frames, but its symbols {sum(s.symbols.values())}")
        said = {name: count for name, count in manifest.counts.items() if count}
        if said != dict(counts):
            self._disagrees(f"the channels' counts are {said}, but those of the segments {dict(counts)}")
        if manifest.symbols != dict(symbols):
            self._disagrees("the symbols' counts are not the sums of those of the segments")
        bad = sum(manifest.quarantined.values())
        if manifest.sealed and bad != counts[frames.BAD]:
            self._disagrees(f"{bad} frames are named as quarantined, but channel {frames.BAD} has {counts[frames.BAD]}")
        names = [s.name for s in manifest.segments]
        if len(set(names)) != len(names) or any("/" in name for name in names):
            self._disagrees("a segment is named twice, or outside of the day's folder")
        if manifest.sealed and sum(c.frames for c in manifest.connections) != manifest.frames:
            self._disagrees(
                f"its connections have {sum(c.frames for c in manifest.connections)} frames, "
                f"its segments {manifest.frames}"
            )
        if (manifest.feed, manifest.date) != (self._task.feed, self._task.date):
            self._disagrees(f"it is that of {manifest.feed} {manifest.date}")

    def _disagrees(self, what: str) -> None:
        self._found.add(
            "manifest",
            self._manifest_path,
            f"does not agree with itself: {what}",
            "",
            "second-copy",
            "restore it from a copy; if that says the same, this is a fault in ssmd: please report it",
        )

    def _expected(
        self, manifest: archive.Manifest, cursor: archive.Cursor | None, running: bool
    ) -> list[archive.Connection]:
        """What the day holds of each connection: as the manifest says, or the cursor while frames still come."""
        day = cursor.days.get(self._task.date) if cursor is not None else None
        if cursor is None or day is None or not (running or not manifest.sealed):
            return manifest.connections
        expected = []
        for conn, (first, last, count) in day.conns.items():
            archived = Numbers()
            archived.add_ranges(list(cursor.conns.get(conn, archive.ConnState()).archived))
            expected.append(archive.Connection(conn, first, last, count, _holes(archived.ranges, first, last)))
        return expected

    def _part_path(self, part: archive.PartState) -> Path:
        path = self._folder / f"{part.name}.part"
        return path if path.exists() else self._folder / part.name  # finished meanwhile

    # ------------------------------------------------------------------------------------------------- segments

    def _segment(self, path: Path, expected: _Expected) -> None:
        """One file against what is said of it; every frame it gives is marked."""
        wrong: list[str] = []
        where: list[str] = []
        lines = 0
        try:
            with _mapped(path) as data:
                if len(data) < expected.bytes or (expected.sha256 is not None and len(data) != expected.bytes):
                    wrong.append(f"has {len(data)} bytes instead of {expected.bytes}")
                view = data[: expected.bytes] if expected.sha256 is None else data[:]
                self._bytes += len(view)
                if expected.sha256 is not None and hashlib.sha256(view).hexdigest() != expected.sha256:
                    wrong.append("its SHA-256 is not what its manifest says")
                if expected.crc32 is not None and zlib.crc32(view) != expected.crc32:
                    wrong.append("its CRC-32 is not what the cursor says")
                lines = self._read_members(view, expected, wrong, where)
        except OSError as e:
            wrong.append("is missing" if isinstance(e, FileNotFoundError) else f"cannot be read ({e.strerror})")
        self._records += lines
        if wrong:
            self._lost += max(0, expected.records - lines)
            self._broken.append((path, "; ".join(wrong), "; ".join(where[:NUMBERS_MAX])))

    def _read_members(self, data: bytes, expected: _Expected, wrong: list[str], where: list[str]) -> int:
        """Unpack member by member, past damaged ones; returns how many whole lines there are."""
        seqs, times, hours = _Range(), _Range(), set[int]()
        members = lines = raw_bytes = 0
        start_ns = day_start_ns(self._task.date)
        reported = False
        for start, end, raw, error in _members(data, self._tell):
            members += 1
            if raw is None:
                wrong.append(f"gzip member {members} is damaged ({error})")
                where.append(f"bytes {start}-{end} (member {members})")
                continue
            raw_bytes += len(raw)
            for number, line in _lines(raw, lines + 1):
                lines += 1
                if isinstance(line, str):
                    wrong.append(f"line {number} is no frame line ({line})")
                    where.append(f"line {number} (member {members})")
                    lines -= 1
                    continue
                self._mark(line.conn, line.n)
                seqs.meet(line.seq)
                times.meet(line.ts_recv)
                hours.add((line.ts_recv - start_ns) // HOUR_NS)
                if not reported and not start_ns <= line.ts_recv < start_ns + DAY_NS:
                    reported = True
                    wrong.append(f"line {number} is of {date_of(line.ts_recv)}")
                    where.append(f"line {number}")
        said = [
            ("gzip members", members, expected.members),
            ("lines", lines, expected.records),
            ("unpacked bytes", raw_bytes, expected.raw_bytes),
            ("first seq", seqs.low, expected.seq_first),
            ("last seq", seqs.high, expected.seq_last),
            ("first ts_recv", times.low, expected.ts_recv_first),
            ("last ts_recv", times.high, expected.ts_recv_last),
            ("hours", sorted(hours), sorted(expected.hours)),
        ]
        if not where:  # else they follow from it
            wrong += [f"{what}: {found}, but {should} were written" for what, found, should in said if found != should]
        return lines

    def _mark(self, conn: str, n: int) -> None:
        marks = self._marks.get(conn)
        if marks is None:
            self._unknown.setdefault(conn, Numbers()).add(n)
        else:
            marks.meet(n)

    def _tell(self, more: int) -> None:
        self._read += more
        self._board.tell(self._read)

    # --------------------------------------------------------------------------------------------- frame numbers

    def _check_numbers(self, expected: list[archive.Connection]) -> dict[str, Ranges]:
        """Every frame once, holes only where they are named. Returns what is missing without being named."""
        missing: dict[str, Ranges] = {}
        for c in expected:
            marks = self._marks[c.conn]
            if marks.doubled.ranges:
                self._numbers("frames are archived twice", c.conn, marks.doubled.ranges)
            if marks.outside.ranges:
                self._numbers(f"frames beyond the connection's {c.first}-{c.last}", c.conn, marks.outside.ranges)
            wrongly = [(a, b) for a, b in c.holes if marks.met(a, b)]
            if wrongly:
                self._numbers("frames that are named as missing are here", c.conn, wrongly)
            gone = _minus(_minus(marks.missing(), c.holes), self._elsewhere(c.conn))
            if gone:
                missing[c.conn] = gone
            if marks.count + _size(gone) != c.frames:
                self._numbers(f"the day should hold {c.frames} frames, but has {marks.count}", c.conn, gone)
        for conn, numbers in self._unknown.items():
            self._numbers("frames of a connection that the day does not name", conn, numbers.ranges)
        if sum(map(_size, missing.values())) > self._lost:
            for conn, gone in missing.items():
                self._numbers("frames are missing that no manifest names as missing", conn, gone)
        return missing

    def _numbers(self, what: str, conn: str, ranges: Ranges) -> None:
        self._found.add(
            "numbers",
            self._manifest_path,
            what,
            _told(conn, ranges),
            "second-copy",
            "compare the day with a copy; this is no flipped bit but a fault in ssmd: please report it",
        )

    def _elsewhere(self, conn: str) -> Ranges:
        """Frames of a connection that other days hold: it crossed midnight while our clock went back."""
        ranges = Numbers()
        for path in self._folder.parent.glob("????-??-??/manifest.json"):
            if path != self._manifest_path and (manifest := _manifest(path)) is not None:
                ranges.add_ranges([(c.first, c.last) for c in manifest.connections if c.conn == conn])
        return ranges.ranges

    def _tell_broken(self, missing: dict[str, Ranges]) -> None:
        """The damaged files, and what can mend them."""
        if not self._broken:
            return
        lost = sum(map(_size, missing.values()))
        held = _Journal(self._task.places, self._task.feed).numbers if lost else {}
        there = sum(_size(_common(gone, held[conn].ranges)) for conn, gone in missing.items() if conn in held)
        told = "; ".join(_told(conn, gone) for conn, gone in list(missing.items())[:NUMBERS_MAX])
        for path, what, where in self._broken:
            kind = "part" if path.name.endswith(".part") else "segment"
            if lost and there == lost:
                mend = "journal"
                advice = (
                    f"all {lost} frames that cannot be read are still in the journal: copy "
                    f"{self._found.relative(self._task.places.journal / self._task.feed)} aside before it is freed"
                )
            elif lost:
                mend = "second-copy"
                advice = f"restore it from a copy: of {lost} frames that cannot be read the journal holds {there}"
            else:
                mend = "second-copy"
                advice = "restore it from a copy: all its frames can still be read, but no reader will take it so"
            affected = f"frames {told}" if lost else ""
            self._found.add(kind, path, what, "; ".join(filter(None, [where, affected])), mend, advice)

    # ---------------------------------------------------------------------------------------------------- strays

    def _check_strays(self, finished: set[str]) -> None:
        """Files that neither manifest nor cursor name: an archiver that writes one just now has soon done so."""
        strays = self._strays(finished)
        if strays:
            time.sleep(SETTLE_SECONDS)
            strays &= self._strays(finished)
        for path in sorted(strays):
            self._found.add(
                "stray",
                path,
                "no manifest names it",
                "",
                "none",
                "nobody reads it; find out who put it there, then move it away",
            )

    def _strays(self, finished: set[str]) -> set[Path]:
        there = set(self._folder.iterdir())
        cursor = _cursor(self._cursor_path)
        manifest = _manifest(self._manifest_path)
        named = finished | {"manifest.json"} | {s.name for s in (manifest.segments if manifest else [])}
        for p in cursor.parts if cursor else []:
            if p.date == self._task.date:
                named |= {p.name, f"{p.name}.part"}
        return {p for p in there if p.name not in named and not (p.name[0] == "." and _age(p) < ASIDE_SECONDS)}


class _Range:
    """The least and greatest of what was met; 0 if nothing was."""

    def __init__(self) -> None:
        self.low = self.high = 0
        self._met = False

    def meet(self, value: int) -> None:
        if not self._met:
            self.low = self.high = value
            self._met = True
        elif value > self.high:
            self.high = value
        elif value < self.low:
            self.low = value


def _expectation(said: archive.Segment | archive.PartState, sha256: str | None, crc32: int | None) -> _Expected:
    return _Expected(
        name=said.name,
        channel=said.channel,
        bytes=said.bytes,
        raw_bytes=said.raw_bytes,
        records=said.records,
        members=said.members,
        seq_first=said.seq_first,
        seq_last=said.seq_last,
        ts_recv_first=said.ts_recv_first,
        ts_recv_last=said.ts_recv_last,
        hours=said.hours,
        sha256=sha256,
        crc32=crc32,
    )


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A file's bytes without holding them; a slice of it is a copy."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            yield memory


def _members(data: bytes, tell: Callable[[int], None]) -> Iterator[tuple[int, int, bytes | None, str]]:
    """Each gzip member: where it starts and ends, its content; None and the reason if it is damaged.

    Behind a damaged one the next beginning that unpacks is looked for.
    """
    start = 0
    while start < len(data):
        raw, end, error = _member(data, start)
        if raw is None:
            end = data.find(MAGIC, start + 1)
            while end >= 0 and _member(data, end)[0] is None:
                end = data.find(MAGIC, end + 1)
            end = len(data) if end < 0 else end
        tell(end - start)
        yield start, end, raw, error
        start = end


def _member(data: bytes, start: int) -> tuple[bytes | None, int, str]:
    """One gzip member from `start`: its content and end, or the reason why not."""
    unpacker = isal_zlib.decompressobj(wbits=31)
    pieces = []
    at = start
    try:
        while not unpacker.eof and at < len(data):
            pieces.append(unpacker.decompress(data[at : at + BLOCK_BYTES]))
            at += BLOCK_BYTES
    except archive.DAMAGE as e:
        return None, start, str(e)
    if not unpacker.eof:
        return None, start, "it is cut off"
    return b"".join(pieces), min(at, len(data)) - len(unpacker.unused_data), ""


def _lines(raw: bytes, number: int) -> Iterator[tuple[int, frames.Line | str]]:
    """The frame lines of a member's content with their numbers; the reason instead, if one is none."""
    try:
        lines = frames.parse_lines(raw)
        if len(lines) == raw.count(b"\n") and raw.endswith(b"\n") and all(map(_is_frame, lines)):
            yield from enumerate(lines, number)
            return
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # one by one, to find which
    for at, line in enumerate(raw.splitlines(keepends=True), number):
        try:
            parsed = frames.parse(line)
            whole = line.endswith(b"\n") and _is_frame(parsed)
            yield at, parsed if whole else "it is cut off, or no frame"
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            yield at, str(e)


def _is_frame(line: frames.Line) -> bool:
    bodies = bool(line.frame) + (line.text is not None) + (line.b64 is not None)
    return bool(line.conn) and line.n >= 1 and line.ts_recv > 0 and bodies == 1


def _holes(ranges: Ranges, first: int, last: int) -> Ranges:
    """What is missing of first..last."""
    return _minus([(first, last)], ranges)


def _minus(ranges: Ranges, less: Ranges) -> Ranges:
    """`ranges` without `less`; both ascending."""
    left: Ranges = []
    i = 0
    for first, last in ranges:
        at = first
        while i < len(less) and less[i][1] < at:
            i += 1
        j = i
        while j < len(less) and less[j][0] <= last:
            if less[j][0] > at:
                left.append((at, less[j][0] - 1))
            at = max(at, less[j][1] + 1)
            j += 1
        if at <= last:
            left.append((at, last))
    return left


def _common(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in both."""
    return _minus(ranges, _minus(ranges, others))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _manifest(path: Path) -> archive.Manifest | None:
    """A manifest, if it is there and whole."""
    try:
        return archive.load_manifest(path)
    except (OSError, Permanent):
        return None


def _cursor(path: Path) -> archive.Cursor | None:
    """The cursor, if it is there and whole."""
    try:
        return archive.load_cursor(path)
    except (OSError, Permanent):
        return None


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def day_start_ns(date: str) -> int:
    return calendar.timegm(time.strptime(date, "%Y-%m-%d")) * SECOND_NS


# --------------------------------------------------------------------------------------------------------- journal


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


class _Journal:
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
        read = _Journal(task.places, task.feed, board.tell)
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
                    _told(conn, gone),
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
    cursor = _cursor(archive.cursor_path(task.places.archive, task.feed))
    for conn, state in (cursor.conns if cursor is not None else {}).items():
        archived.setdefault(conn, Numbers()).add_ranges(list(state.archived))
    since = _first_date(journal_files(task.places.journal, task.feed))
    for path in sorted((task.places.archive / task.feed).glob("????-??-??/manifest.json")):
        manifest = _manifest(path) if path.parent.name >= since else None
        for c in manifest.connections if manifest is not None else []:
            archived.setdefault(c.conn, Numbers()).add_ranges(_minus([(c.first, c.last)], c.holes))
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
    where += "; " + "; ".join(_told(conn, ranges) for conn, ranges in affected.items())
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
        f"behind byte {hole.since_offset}; {_told(hole.conn, [(hole.first, hole.last)])}",
        mend,
        advice,
    )


def _verdict(safe: bool) -> tuple[str, str]:
    if safe:
        return "none", "nothing is lost: the archive has these frames"
    return "second-copy", "the archive does not have these frames: only another capture of the same time has them"


# ------------------------------------------------------------------------------------------------------------ lake


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
            _check_parquet(found, task.places.lake / file.path, file, _rebuild(task, again))
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


def _check_parquet(found: Findings, path: Path, file: tables.LakeFile, mend: tuple[str, str]) -> None:
    """Presence, size, SHA-256, every page's checksum, row count."""
    wrong: list[str] = []
    where = ""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            wrong.append(f"has {size} bytes instead of {file.bytes}")
        if archive.sha256_of(path) != file.sha256:
            wrong.append("its SHA-256 is not what its manifest says")
        rows, bad = _read_pages(path)
        if bad:
            wrong.append("a page's checksum is wrong, or it cannot be read")
            where = "; ".join(bad[:NUMBERS_MAX])
        elif rows != file.rows:
            wrong.append(f"has {rows} rows instead of {file.rows}")
    except FileNotFoundError:
        wrong.append("is missing")
    except (OSError, pa.ArrowException) as e:
        wrong.append(f"cannot be read ({' '.join(str(e).split())[:120]})")
    if wrong:
        found.add("parquet", path, "; ".join(wrong), where, *mend)


def _read_pages(path: Path) -> tuple[int, list[str]]:
    """How many rows a file's metadata counts, and which of its column chunks cannot be read whole."""
    bad = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        rows = 0
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        for group in range(file.num_row_groups):
            rows += file.metadata.row_group(group).num_rows
            for name in dict.fromkeys(leaf.partition(".")[0] for leaf in leaves):
                try:
                    if len(file.read_row_group(group, columns=[name])) != file.metadata.row_group(group).num_rows:
                        bad.append(f"row group {group}, column {name}")
                except (OSError, pa.ArrowException):
                    bad.append(f"row group {group}, column {name}")
        return rows, bad


def _check_inputs(found: Findings, path: Path, task: DayTask, day: tables.LakeDay, mend: tuple[str, str]) -> list[int]:
    """Are its inputs the archive's segments? Returns the hours whose segments are whole."""
    manifest = _manifest(archive.manifest_path(task.places.archive, task.feed, task.date))
    if manifest is None:
        return []
    there = {s.name: s.sha256 for s in manifest.segments}
    strange = [name for name, sha256 in day.inputs.items() if there.get(name) != sha256]
    same = manifest.sealed and manifest.revision == day.revision
    if strange or (same and there != day.inputs):
        names = ", ".join(strange[:NUMBERS_MAX] or sorted(there.keys() - day.inputs.keys())[:NUMBERS_MAX])
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
