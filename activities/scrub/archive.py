"""A day's archive: manifest, cursor, segments, frame numbers and strays."""

import contextlib
import hashlib
import mmap
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from isal import isal_zlib

from activities.processes import Board
from activities.scrub.findings import (
    ASIDE_SECONDS,
    NAMED_MAX,
    SETTLE_SECONDS,
    DayTask,
    Findings,
    age,
    cursor_at,
    manifest_at,
)
from activities.scrub.journal import Journal
from activities.scrub.numbers import Marks, Numbers, Ranges, common, holes, how_many, in_words, minus
from ssmd import archive, checked_json, coverage, frames, jobs
from ssmd.clock import DAY_NS, date_of

BLOCK_BYTES = 1 << 20
HOUR_NS = DAY_NS // 24
MAGIC = b"\x1f\x8b\x08"


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
            expected.append(archive.Connection(conn, first, last, count, holes(archived.ranges, first, last)))
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
            self._broken.append((path, "; ".join(wrong), "; ".join(where[:NAMED_MAX])))

    def _read_members(self, data: bytes, expected: _Expected, wrong: list[str], where: list[str]) -> int:
        """Unpack member by member, past damaged ones; returns how many whole lines there are."""
        seqs, times, hours = _Range(), _Range(), set[int]()
        members = lines = raw_bytes = 0
        start_ns = coverage.midnight(self._task.date)
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
            gone = minus(minus(marks.missing(), c.holes), self._elsewhere(c.conn))
            if gone:
                missing[c.conn] = gone
            if marks.count + how_many(gone) != c.frames:
                self._numbers(f"the day should hold {c.frames} frames, but has {marks.count}", c.conn, gone)
        for conn, numbers in self._unknown.items():
            self._numbers("frames of a connection that the day does not name", conn, numbers.ranges)
        if sum(map(how_many, missing.values())) > self._lost:
            for conn, gone in missing.items():
                self._numbers("frames are missing that no manifest names as missing", conn, gone)
        return missing

    def _numbers(self, what: str, conn: str, ranges: Ranges) -> None:
        self._found.add(
            "numbers",
            self._manifest_path,
            what,
            in_words(conn, ranges),
            "second-copy",
            "compare the day with a copy; this is no flipped bit but a fault in ssmd: please report it",
        )

    def _elsewhere(self, conn: str) -> Ranges:
        """Frames of a connection that other days hold: it crossed midnight while our clock went back."""
        ranges = Numbers()
        for path in self._folder.parent.glob("????-??-??/manifest.json"):
            if path != self._manifest_path and (manifest := manifest_at(path)) is not None:
                ranges.add_ranges([(c.first, c.last) for c in manifest.connections if c.conn == conn])
        return ranges.ranges

    def _tell_broken(self, missing: dict[str, Ranges]) -> None:
        """The damaged files, and what can mend them."""
        if not self._broken:
            return
        lost = sum(map(how_many, missing.values()))
        held = Journal(self._task.places, self._task.feed).numbers if lost else {}
        there = sum(how_many(common(gone, held[conn].ranges)) for conn, gone in missing.items() if conn in held)
        told = "; ".join(in_words(conn, gone) for conn, gone in list(missing.items())[:NAMED_MAX])
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
        cursor = cursor_at(self._cursor_path)
        manifest = manifest_at(self._manifest_path)
        named = finished | {"manifest.json"} | {s.name for s in (manifest.segments if manifest else [])}
        for p in cursor.parts if cursor else []:
            if p.date == self._task.date:
                named |= {p.name, f"{p.name}.part"}
        return {p for p in there if p.name not in named and not (p.name[0] == "." and age(p) < ASIDE_SECONDS)}


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
    """A file's bytes without holding them; a slice of it is a copy. A part may be finished as we look for it."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            if path.suffix != ".part":
                raise
            file = stack.enter_context(path.with_suffix("").open("rb"))
        if os.fstat(file.fileno()).st_size == 0:
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


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
