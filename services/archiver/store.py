"""The archiver's files: parts being written, the cursor that says how much of them counts, manifests.

One commit is: a gzip member appended to each part that has news and forced to disk, then the cursor replaced.
The cursor alone says what is archived: up to which stream sequence, which `(conn, n)`, and how long each part
is. After a crash the parts are cut to what it says, and everything after is read from the stream again.

A commit works on a snapshot taken in one step (`begin`), so that frames may go on arriving while a thread
compresses and syncs (`write`); only what the snapshot held is ever confirmed.
"""

import calendar
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from isal import igzip

from services.archiver.ranges import Numbers
from services.archiver.salvage import salvage
from ssmd import __version__, archive, checked_json, durable, frames, moved, subjects
from ssmd.archive import Connection, ConnState, Cursor, DayState, Manifest, PartState, Ranges, Segment
from ssmd.clock import DAY_NS, SECOND_NS, date_of
from ssmd.errors import Permanent
from ssmd.events import Gap, GapCause, Session

# igzip on recorded Kalshi frames: 2.0 GB/s a core, to a fifteenth of the size. Level 3 gains 4 % at a quarter of the
# speed, level 0 is hardly faster and its output 40 % larger; zlib at its level 6 does 0.16 GB/s and gains 7 %.
GZIP_LEVEL = 2
HOUR_NS = 3600 * SECOND_NS
MS_NS = SECOND_NS // 1000
REBUILD_DAYS = 3  # older frames are neither in the stream nor in a journal any more
FORGET_NS = 2 * DAY_NS  # a finished connection or sealed day leaves the cursor after so long


class _Head(msgspec.Struct, gc=False):
    """The part of a message that the archiver needs."""

    ts_recv: int
    conn: str
    n: int


@dataclass(slots=True)
class _Part:
    """A part, and what came for it since the last commit: the lines, the symbol of each."""

    state: PartState
    seq_last: int
    ts_first: int
    ts_last: int
    appender: durable.Appender | None = None
    lines: list[bytes] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, state: PartState, appender: durable.Appender | None = None) -> "_Part":
        return cls(state, state.seq_last, state.ts_recv_first, state.ts_recv_last, appender)

    def take(self) -> list[bytes]:
        """Count what came into the state, and hand over its lines."""
        lines, state = self.lines, self.state
        state.records += len(lines)
        state.raw_bytes += sum(map(len, lines)) + len(lines)
        state.members += 1
        state.seq_last, state.ts_recv_first, state.ts_recv_last = self.seq_last, self.ts_first, self.ts_last
        for symbol, count in Counter(self.symbols).items():
            state.symbols[symbol] = state.symbols.get(symbol, 0) + count
        self.lines, self.symbols = [], []
        return lines


Key = tuple[str, str]  # date, channel


@dataclass(frozen=True)
class Commit:
    """A snapshot to be made durable: lines per part, the cursor as of then, what it makes safe."""

    batches: list[tuple[_Part, list[bytes]]]
    cursor: Cursor
    archived: dict[str, Ranges]
    parts: dict[Key, _Part]
    finished: list[_Part]
    seals: list[str]


class Store:
    """The archive folder of one feed, owned by this process alone.

    `add`, `add_all` and `begin` run on the event loop, `write` in a thread; only one commit at a time.
    """

    def __init__(self, archive_folder: Path, feed: str) -> None:
        self._archive = archive_folder
        self._folder = archive_folder / feed
        self._cursor_path = archive.cursor_path(archive_folder, feed)
        self._parts: dict[Key, _Part] = {}
        self._next_number: dict[Key, int] = {}
        self._numbers: dict[str, Numbers] = {}
        self._head = msgspec.json.Decoder(_Head).decode
        self._date = ""
        self._hour = (0, 0)  # ns range of an hour of that day, to which the routes belong
        self._routes: dict[bytes, tuple[_Part, str]] = {}  # subject -> where its frames go, their symbol
        self._changed: set[str] = set()
        self._jumps: dict[tuple[str, int, int], tuple[int, int]] = {}  # hole -> ts_recv before and after it
        durable.make_folder(self._folder)
        self.cursor = Cursor(feed)
        self._committed = self.cursor
        self.duplicates = 0
        self.buffered_bytes = 0
        self.records = 0
        self.last_ts_recv = 0

    # ------------------------------------------------------------------------------------------------- recovery

    def recover(self) -> list[str]:
        """Take up the committed state: cut parts to it, finish renames that a crash left half done.

        What is damaged is cut to its whole members or set aside, and reading starts early enough that the stream,
        or else the connector's journal, brings its frames again. Returns what had to be mended, in words.
        """
        mended = self._load_cursor()
        self._numbers = {conn: Numbers(state.archived) for conn, state in self.cursor.conns.items()}
        doubtful: set[str] = set()
        finished: list[PartState] = []
        for state in list(self.cursor.parts):
            final = self._day_folder(state.date) / state.name
            part = final.with_name(final.name + ".part")
            if not part.exists() and final.exists():
                finished.append(state)
                continue
            wrong = self._take_part(state, part)
            if wrong is not None:
                mended.append(wrong)
                doubtful.add(state.date)
        self.cursor.parts = [s for s in self.cursor.parts if s in finished or (s.date, s.channel) in self._parts]
        if finished:
            self._enter(self.cursor, finished)
            self.cursor.parts = [p.state for p in self._parts.values()]
        for date in self.cursor.days:
            wrong_segments = self._drop_damaged_segments(date)
            if wrong_segments:
                mended += wrong_segments
                doubtful.add(date)
        self._set_strays_aside()
        for date in sorted(doubtful):
            self._count_again(date)
        # What was seen here may be in the page cache only: the last run may have died between a rename and its sync.
        for folder in (self._folder, *map(self._day_folder, self.cursor.days)):
            if folder.is_dir():
                durable.sync_folder(folder)
        if finished or mended:
            self._save_cursor(self.cursor)
        self._committed = _copy(self.cursor)
        return mended

    def _load_cursor(self) -> list[str]:
        """The committed state; made anew from the newest days if it is damaged or missing."""
        try:
            self.cursor = archive.load_cursor(self._cursor_path)
            return []
        except FileNotFoundError:
            wrong = f"{self._cursor_path} is missing"
        except archive.NewerFormat:
            raise
        except Permanent as e:
            wrong = str(e)
            durable.rename(self._cursor_path, self._cursor_path.with_name("cursor.json.damaged"))
        newest = list(archive.manifests(self._archive, self.cursor.feed))[-REBUILD_DAYS:]
        if not newest:
            return []
        for manifest in newest:
            self.cursor.days[manifest.date] = _day_of(manifest)
            for c in manifest.connections:
                _learn(self.cursor.conns.setdefault(c.conn, ConnState()), c)
        return [f"{wrong}: it was made anew from the manifests of {len(newest)} days, and the stream is read again"]

    def _take_part(self, state: PartState, path: Path) -> str | None:
        """Go on with a part, cut to what was committed; says what is wrong if less than that is there."""
        if path.exists() and path.stat().st_size >= state.bytes:
            with path.open("rb") as file:
                intact = state.crc32 is None or zlib.crc32(file.read(state.bytes)) == state.crc32
            if intact:
                self._open_part(state, path, state.bytes)
                return None
        self.cursor.seq = min(self.cursor.seq, state.seq_first - 1)
        if not path.exists():
            return f"{path} is missing, {state.records} committed frames with it"
        kept = salvage(path, state.bytes)
        lost = state.records - len(kept.lines)
        durable.replace(path.with_name(path.name + ".damaged"), path.read_bytes())
        if not kept.lines:
            durable.remove(path)
            return f"{path} is damaged: all of its {lost} committed frames"
        state.bytes, state.raw_bytes, state.members, state.crc32 = kept.bytes, kept.raw_bytes, kept.members, kept.crc32
        state.records, state.symbols = len(kept.lines), {}
        state.ts_recv_first = min(line.ts_recv for line in kept.lines)
        state.ts_recv_last = max(line.ts_recv for line in kept.lines)
        state.seq_last = max(line.seq for line in kept.lines)
        self._open_part(state, path, kept.bytes)
        return f"{path} is damaged: {len(kept.lines)} of its frames were kept, {lost} are fetched again"

    def _open_part(self, state: PartState, path: Path, size: int) -> None:
        self._parts[state.date, state.channel] = _Part.of(state, durable.Appender(path, size=size))
        self._next_number[state.date, state.channel] = _number(state.name) + 1

    def _drop_damaged_segments(self, date: str) -> list[str]:
        """Finished segments that are gone or not of their size leave the manifest, so that their frames come again."""
        try:
            manifest = self._manifest(date)
        except Permanent as e:
            return [str(e)]
        wrong = {}
        away = moved.names(self._day_folder(date))
        for segment in manifest.segments:
            if segment.name in away:
                continue
            path = self._day_folder(date) / segment.name
            size = path.stat().st_size if path.exists() else None
            if size != segment.bytes:
                wrong[segment.name] = f"{path} is {'missing' if size is None else 'damaged'}: {segment.records} frames"
                self.cursor.seq = min(self.cursor.seq, segment.seq_first - 1)
                if size is not None:
                    durable.rename(path, path.with_name(path.name + ".damaged"))
        if wrong:
            self.cursor.days[date].sealed = False
            segments = [s for s in manifest.segments if s.name not in wrong]
            self._save_manifest(self.cursor, date, segments, manifest.revision, sealed=False)
        return list(wrong.values())

    def _set_strays_aside(self) -> None:
        """Files that neither cursor nor manifest names: an uncommitted part goes, a segment gets another name."""
        named = {self._day_folder(s.date) / (s.name + ".part") for s in self.cursor.parts}
        for stray in set(self._folder.glob("*/*.part")) - named:
            durable.remove(stray)  # begun, never committed: the stream still has it
        for date in self.cursor.days:
            known = {s.name for s in self._manifest(date).segments}
            for path in self._day_folder(date).glob("*.jsonl.gz"):
                if path.name not in known:
                    durable.rename(path, path.with_name(path.name + ".stray"))

    def _count_again(self, date: str) -> None:
        """Which frames of a day are really here: forget those that are not, so that they are taken again."""
        day, folder = self.cursor.days[date], self._day_folder(date)
        if moved.names(folder):
            raise Permanent(
                f"{folder} has damaged files, and others of that day have moved to object storage: "
                f"`ssmd restore {self.cursor.feed} {date}` brings them back, then start again"
            )
        paths = [folder / s.name for s in self._manifest(date).segments]
        paths += [folder / (p.state.name + ".part") for key, p in self._parts.items() if key[0] == date]
        here: dict[str, set[int]] = {conn: set() for conn in day.conns}
        for path in paths:
            for line in salvage(path, path.stat().st_size).lines:
                here.setdefault(line.conn, set()).add(line.n)
        for conn, (first, last, _) in day.conns.items():
            found = Numbers()
            for n in sorted(here[conn]):
                found.add(n)
            numbers = self._numbers.get(conn, Numbers()).without(found.holes(first, last))
            self._numbers[conn] = numbers
            self.cursor.conns.setdefault(conn, ConnState()).archived = numbers.ranges
            day.conns[conn] = (first, last, len(here[conn]))

    # ------------------------------------------------------------------------------------------------- one frame

    def add(self, seq: int, channel: str, symbol: str, message: bytes) -> None:
        """Take one message from the stream; a frame that is here already is dropped."""
        self._add(seq, channel, symbol, frames.line(seq, message), self._head(message))

    def add_all(self, seqs: Sequence[int], subjects: Sequence[bytes], messages: Sequence[bytes]) -> None:
        """Do as `add` does with each; faster where frames follow one another within the hour, as nearly all do."""
        routes = self._routes
        if seqs[0] <= self.cursor.seq:  # the stream has been reset: no part may take its numbers for rising
            routes.clear()
        begin, end = self._hour
        conn, first, following, heard = "", 0, -1, 0  # the frames first..following-1 of conn are not counted yet
        lines = frames.lines(seqs, messages)
        counted = 0
        for seq, subject, line, head in zip(seqs, subjects, lines, map(self._head, messages), strict=True):
            n, ts_recv = head.n, head.ts_recv
            route = routes.get(subject)
            if n == following and route is not None and begin <= ts_recv < end and head.conn == conn:
                following = n + 1
                part, symbol = route
                part.lines.append(line)
                part.symbols.append(symbol)
                # Not max and min: three calls for each frame would cost as much as all of the above.
                if seq > part.seq_last:  # noqa: PLR1730
                    part.seq_last = seq
                if ts_recv > part.ts_last:
                    part.ts_last = ts_recv
                elif ts_recv < part.ts_first:
                    part.ts_first = ts_recv
                if ts_recv > heard:  # noqa: PLR1730
                    heard = ts_recv
                continue
            self._count(conn, first, following - 1, heard)
            channel, symbol = _named(subject)
            added = self._add(seq, channel, symbol, line, head)
            counted += len(line)
            begin, end = self._hour
            conn, heard, following = head.conn, ts_recv, -1
            if added is not None:
                first = following = self._numbers[conn].last + 1
                if channel[0] != "_":
                    routes[subject] = added, symbol
        self._count(conn, first, following - 1, heard)
        self.buffered_bytes += sum(map(len, lines)) - counted
        self.cursor.seq, self.cursor.last = seqs[-1], (head.conn, head.n)

    def _count(self, conn: str, first: int, last: int, ts_recv: int) -> None:
        """Enter frames that followed the last one of their connection within the hour."""
        if last < first:
            return
        numbers, state, day = self._numbers[conn], self.cursor.conns[conn], self.cursor.days[self._date]
        numbers.grow(last)
        state.last_ts_recv = max(state.last_ts_recv, ts_recv)
        known = day.conns[conn]
        day.conns[conn] = (known[0], last, known[2] + last - first + 1)
        self._changed.add(conn)
        self.records += last - first + 1
        self.last_ts_recv = ts_recv

    def _add(self, seq: int, channel: str, symbol: str, line: bytes, head: _Head) -> _Part | None:
        """Take a frame, whatever is new about it; None if it is here already."""
        cursor, conn, n, ts_recv = self.cursor, head.conn, head.n, head.ts_recv
        cursor.seq, cursor.last = seq, (conn, n)
        numbers = self._numbers.get(conn) or self._meet(conn)
        expected = numbers.last + 1
        if not numbers.add(n):
            self.duplicates += 1
            return None
        state = cursor.conns[conn]
        if n > expected:
            self._jumps[conn, expected, n - 1] = (state.last_ts_recv or ts_recv, ts_recv)
        state.last_ts_recv = max(state.last_ts_recv, ts_recv)
        self._changed.add(conn)
        if not self._hour[0] <= ts_recv < self._hour[1]:
            begin = ts_recv - ts_recv % HOUR_NS
            self._date, self._hour = date_of(ts_recv), (begin, begin + HOUR_NS)
            self._routes.clear()
        date = self._date
        part = self._parts.get((date, channel)) or self._new_part(date, channel, seq, ts_recv)
        part.lines.append(line)
        part.symbols.append(symbol)
        part.state.seq_first, part.seq_last = min(part.state.seq_first, seq), max(part.seq_last, seq)
        part.ts_first, part.ts_last = min(part.ts_first, ts_recv), max(part.ts_last, ts_recv)
        self.buffered_bytes += len(line)
        hour = ts_recv % DAY_NS // HOUR_NS
        if hour not in part.state.hours:
            part.state.hours.append(hour)
        day = cursor.days[date]
        known = day.conns.get(conn)
        if known is None and n > 1:
            self._carry_on(day, date, conn)
        day.conns[conn] = (n, n, 1) if known is None else (min(known[0], n), max(known[1], n), known[2] + 1)
        if channel[0] == "_":
            self._note_own(day, channel, line)
        self.records += 1
        self.last_ts_recv = ts_recv
        return part

    def _meet(self, conn: str) -> Numbers:
        """A connection that is new here: or it was forgotten, and a journal that kept its frames sends them again."""
        self.cursor.conns.setdefault(conn, ConnState())
        self._numbers[conn] = Numbers()
        if time.time_ns() - frames.opened_ms(conn) * MS_NS > FORGET_NS:
            self._recall([conn])
        return self._numbers[conn]

    def _recall(self, conns: Iterable[str]) -> None:
        """Learn of connections what the manifests know of them."""
        states = {conn: self.cursor.conns.setdefault(conn, ConnState()) for conn in conns}
        opened_ms = min(map(frames.opened_ms, states), default=0)
        for manifest in archive.manifests(self._archive, self.cursor.feed, since=date_of(opened_ms * MS_NS)):
            for c in manifest.connections:
                if c.conn in states:
                    _learn(states[c.conn], c)
        for conn, state in states.items():
            state.touched_ns = time.time_ns()
            self._numbers[conn] = Numbers(state.archived)

    def _new_part(self, date: str, channel: str, seq: int, ts_recv: int) -> _Part:
        day = self.cursor.days.get(date) or self._begin_day(date)
        if day.sealed:
            day.sealed = False  # late frames: the day will be sealed again, as a new revision
        if (date, channel) not in self._next_number:
            used = [_number(s.name) for s in self._manifest(date).segments if s.channel == channel]
            self._next_number[date, channel] = max(used, default=-1) + 1
        name = archive.segment_name(channel, self._next_number[date, channel])
        self._next_number[date, channel] += 1
        state = PartState(
            date, channel, name, seq_first=seq, ts_recv_first=ts_recv, ts_recv_last=ts_recv,
            started_ns=time.time_ns(), crc32=0,
        )  # fmt: skip
        part = self._parts[date, channel] = _Part.of(state)
        self.cursor.parts.append(state)
        return part

    def _begin_day(self, date: str) -> DayState:
        """A day that the cursor does not know: one that it has let go of; or a new one.

        The gaps that are open at midnight are the new day's own too.
        """
        manifest = self._manifest(date)
        day = self.cursor.days[date] = _day_of(manifest)
        unknown = [conn for conn in day.conns if conn not in self._numbers]
        if unknown:
            self._recall(unknown)
        before = max((d for d in self.cursor.days if d < date), default=None)
        gaps = {} if before is None or manifest.segments else self.cursor.days[before].gaps
        day.gaps |= {name: raw for name, raw in gaps.items() if msgspec.json.decode(raw, type=Gap).end is None}
        return day

    def _carry_on(self, day: DayState, date: str, conn: str) -> None:
        """A connection of an earlier day goes on: what it is subscribed to is that day's to know too."""
        before = max((d for d, other in self.cursor.days.items() if d < date and conn in other.conns), default=None)
        for raw in reversed(self.cursor.days[before].sessions if before is not None else []):
            session = msgspec.json.decode(raw, type=Session)
            if session.conn == conn and session.type == "connected":
                day.sessions.append(raw)
                break

    def _note_own(self, day: DayState, channel: str, raw: bytes) -> None:
        line = frames.parse(raw)
        if channel == frames.BAD:
            reason = line.reason or "unknown"
            day.quarantined[reason] = day.quarantined.get(reason, 0) + 1
        elif channel == frames.GAP:
            gap = msgspec.json.decode(line.frame, type=Gap)
            for date, other in self.cursor.days.items():
                if other is day or (not other.sealed and _touches(gap, date)):
                    other.gaps[gap.gap] = msgspec.Raw(bytes(line.frame))
        elif channel == frames.SESSION:
            session = msgspec.json.decode(line.frame, type=Session)
            if session.type != "alive":
                day.sessions.append(archive.timed_session(line.ts_recv, bytes(line.frame)))
            if session.type == "close":
                closed = self.cursor.conns.setdefault(session.conn, ConnState())
                closed.frames, closed.closed = session.frames, session.reason

    # --------------------------------------------------------------------------------------------------- commit

    def begin(self, finish: Iterable[Key] = (), seal: Iterable[str] = ()) -> Commit | None:
        """Snapshot what is buffered, which parts to finish and days to seal; None if there is nothing to do."""
        seals = list(seal)
        finishing = [key for key in self._parts if key in set(finish) or key[0] in seals]
        news = [part for part in self._parts.values() if part.lines]
        if not (news or finishing or seals or self._changed):
            return None
        now = time.time_ns()
        for conn in self._changed:
            state = self.cursor.conns[conn]
            state.archived, state.touched_ns = self._numbers[conn].ranges, now
        batches = [(part, part.take()) for part in news]
        for part in news:
            self.cursor.days[part.state.date].touched_ns = now
        archived = {conn: list(self._numbers[conn].ranges) for conn in self._changed}
        open_parts = dict(self._parts)
        snapshot = _copy(self.cursor)
        # From here on the live state goes its own way; frames for a finishing part begin the next one.
        finished = [self._parts.pop(key) for key in finishing]
        if finished:
            self._routes.clear()
        self.cursor.parts = [part.state for part in self._parts.values()]
        self._changed = set()
        self.buffered_bytes = 0
        return Commit(batches, snapshot, archived, open_parts, finished, seals)

    def write(self, commit: Commit) -> dict[str, Manifest]:
        """Make a snapshot durable (in a thread, one at a time); returns the manifests of the sealed days.

        Raises DiskFailed: then the process must end, and the next start goes on from the last cursor.
        """
        cursor = commit.cursor
        for part, lines in commit.batches:
            if part.appender is None:
                folder = self._day_folder(part.state.date)
                durable.make_folder(folder)
                part.appender = durable.Appender(folder / (part.state.name + ".part"), size=0)
            lines.append(b"")
            member = igzip.compress(b"\n".join(lines), GZIP_LEVEL)
            lines.clear()
            part.appender.append(member)
            if part.state.crc32 is not None:
                part.state.crc32 = zlib.crc32(member, part.state.crc32)
        for part, _ in commit.batches:
            assert part.appender is not None
            part.appender.sync()
        for state in cursor.parts:
            part = commit.parts[state.date, state.channel]
            state.bytes = part.state.bytes = part.appender.size if part.appender is not None else 0
            state.crc32 = part.state.crc32
        self._save_cursor(cursor)
        if commit.finished:
            for part in commit.finished:
                assert part.appender is not None
                part.appender.close()
                durable.rename(part.appender.path, part.appender.path.with_name(part.state.name))
            names = {(part.state.date, part.state.name) for part in commit.finished}
            states = [s for s in cursor.parts if (s.date, s.name) in names]
            self._enter(cursor, states)
            cursor.parts = [s for s in cursor.parts if s not in states]
            self._save_cursor(cursor)
        return {date: self._seal(cursor, date) for date in commit.seals}

    def sealed(self, date: str) -> None:
        """Remember that a day was sealed, unless frames for it came meanwhile."""
        if date in self.cursor.days and not self.of_day(date):
            self.cursor.days[date].sealed = True

    def _save_cursor(self, cursor: Cursor) -> None:
        durable.replace(self._cursor_path, checked_json.encode(cursor))
        self._committed = cursor

    def _enter(self, cursor: Cursor, states: Sequence[PartState]) -> None:
        """Enter finished segments in their days' manifests; those that are there already stay."""
        for date in sorted({s.date for s in states}):
            manifest = self._manifest(date)
            known = {s.name for s in manifest.segments}
            new = [self._segment(s) for s in states if s.date == date and s.name not in known]
            if new:
                segments = sorted([*manifest.segments, *new], key=lambda s: s.name)
                self._save_manifest(cursor, date, segments, manifest.revision, sealed=False)

    def _seal(self, cursor: Cursor, date: str) -> Manifest:
        """Declare a day complete. Again with nothing new: the same manifest."""
        manifest = self._manifest(date)
        if manifest.sealed or not manifest.segments:
            return manifest
        return self._save_manifest(cursor, date, manifest.segments, manifest.revision + 1, sealed=True)

    def _segment(self, s: PartState) -> Segment:
        return Segment(
            name=s.name,
            channel=s.channel,
            records=s.records,
            bytes=s.bytes,
            raw_bytes=s.raw_bytes,
            members=s.members,
            sha256=archive.sha256_of(self._day_folder(s.date) / s.name),
            seq_first=s.seq_first,
            seq_last=s.seq_last,
            ts_recv_first=s.ts_recv_first,
            ts_recv_last=s.ts_recv_last,
            symbols=s.symbols,
            hours=sorted(s.hours),
        )

    def _manifest(self, date: str) -> Manifest:
        try:
            return archive.load_manifest(archive.manifest_path(self._archive, self.cursor.feed, date))
        except FileNotFoundError:
            return Manifest(self.cursor.feed, date)

    def _save_manifest(
        self, cursor: Cursor, date: str, segments: list[Segment], revision: int, *, sealed: bool
    ) -> Manifest:
        day = cursor.days.get(date, DayState())
        counts: dict[str, int] = {}
        symbols: dict[str, int] = {}
        for s in segments:
            counts[s.channel] = counts.get(s.channel, 0) + s.records
            for symbol, count in s.symbols.items():
                symbols[symbol] = symbols.get(symbol, 0) + count
        manifest = Manifest(
            feed=cursor.feed,
            date=date,
            revision=revision,
            sealed=sealed,
            sealed_at=time.time_ns() if sealed else None,
            software=__version__,
            segments=segments,
            connections=[_connection(cursor, date, conn) for conn in sorted(day.conns)],
            sessions=list(day.sessions),
            gaps=list(day.gaps.values()),
            counts=dict(sorted(counts.items())),
            symbols=dict(sorted(symbols.items())),
            quarantined=dict(sorted(day.quarantined.items())),
        )
        archive.save_manifest(archive.manifest_path(self._archive, cursor.feed, date), manifest)
        return manifest

    # ------------------------------------------------------------------------------------- rotation and sealing

    def due(self, now_ns: int, rotate_ns: int, rotate_bytes: int) -> list[Key]:
        """The parts that are old or large enough to be finished."""
        return [
            key
            for key, part in self._parts.items()
            if now_ns - part.state.started_ns >= rotate_ns or part.state.raw_bytes >= rotate_bytes
        ]

    def of_day(self, date: str | None) -> list[Key]:
        """The parts of a day, or all."""
        return [key for key in self._parts if date is None or key[0] == date]

    def over(self, now_ns: int, grace_ns: int) -> list[str]:
        """Unsealed days that are over: every connection has closed or passed midnight, and nothing came lately."""
        dates = []
        for date, day in self.cursor.days.items():
            end = _end_of(date)
            if day.sealed or now_ns < end or now_ns - day.touched_ns < grace_ns:
                continue
            states = [self.cursor.conns.get(conn) for conn in day.conns]
            if all(s is None or s.closed is not None or s.last_ts_recv >= end for s in states):
                dates.append(date)
        return dates

    def forget(self, now_ns: int) -> None:
        """Let go of connections and days that are long finished."""
        cursor = self.cursor
        for conn, state in list(cursor.conns.items()):
            if state.closed is not None and now_ns - state.touched_ns > FORGET_NS and not self.holes(conn):
                del cursor.conns[conn]
                self._numbers.pop(conn, None)
        for date, day in list(cursor.days.items()):
            if day.sealed and now_ns - max(day.touched_ns, _end_of(date)) > FORGET_NS:
                del cursor.days[date]

    def _day_folder(self, date: str) -> Path:
        return archive.day_folder(self._archive, self.cursor.feed, date)

    # ---------------------------------------------------------------------------------------------------- holes

    def holes(self, conn: str) -> Ranges:
        """Frames of a connection that must exist but are not here."""
        numbers, state = self._numbers.get(conn), self.cursor.conns.get(conn)
        if state is None:
            return []
        last = max(numbers.last if numbers is not None else 0, state.frames or 0)
        return (numbers or Numbers()).holes(1, last)

    def lost(self, conn: str, first: int, last: int, cause: GapCause, evidence: str) -> Gap | None:
        """The row for a hole that nobody can fill; None if it is in the ledger already."""
        name = f"{conn}-lost-{first}-{last}"
        if any(name in day.gaps for day in self.cursor.days.values()):
            return None
        heard = self.cursor.conns[conn].last_ts_recv
        before, after = self._jumps.get((conn, first, last), (heard, heard))
        return Gap(name, self.cursor.feed, conn, [], before, max(before, after), cause, evidence)

    def committed(self) -> dict[str, Ranges]:
        """Which frames are safe, per connection, as of the last commit."""
        return {conn: state.archived for conn, state in self._committed.conns.items()}

    @property
    def committed_seq(self) -> int:
        return self._committed.seq

    def close(self) -> None:
        for part in self._parts.values():
            if part.appender is not None:
                part.appender.close()


def _copy(cursor: Cursor) -> Cursor:
    """The cursor as it is now, whatever becomes of it."""
    replace = msgspec.structs.replace
    return replace(
        cursor,
        conns={conn: replace(state, archived=list(state.archived)) for conn, state in cursor.conns.items()},
        parts=[replace(part, symbols=dict(part.symbols), hours=list(part.hours)) for part in cursor.parts],
        days={
            date: replace(
                day,
                conns=dict(day.conns),
                sessions=list(day.sessions),
                gaps=dict(day.gaps),
                quarantined=dict(day.quarantined),
            )
            for date, day in cursor.days.items()
        },
    )


def _day_of(manifest: Manifest) -> DayState:
    """What a manifest knows of its day."""
    return DayState(
        conns={c.conn: (c.first, c.last, c.frames) for c in manifest.connections},
        sessions=[raw.copy() for raw in manifest.sessions],  # or each would keep the whole file in memory
        gaps={msgspec.json.decode(raw, type=Gap).gap: raw.copy() for raw in manifest.gaps},
        quarantined=dict(manifest.quarantined),
        sealed=manifest.sealed,
    )


def _learn(state: ConnState, c: Connection) -> None:
    """Add what a day's manifest knows of a connection."""
    here = Numbers([(c.first, c.last)]).without(c.holes)
    state.archived = Numbers(sorted(state.archived + here.ranges)).joined().ranges
    state.last_ts_recv = max(state.last_ts_recv, c.heard)
    if c.closed is not None:
        state.closed = c.closed
        state.frames = max(state.frames or 0, c.last, *(last for _, last in c.holes))


def _named(subject: bytes) -> tuple[str, str]:
    """The channel and the symbol in a raw frame's subject."""
    channel, token = subject.decode().rsplit(".", 2)[1:]
    return channel, subjects.symbol(token)


def _connection(cursor: Cursor, date: str, conn: str) -> Connection:
    """What a day holds of a connection; what is missing before its first or after its last frame is a hole too."""
    first, last, count = cursor.days[date].conns[conn]
    state = cursor.conns.get(conn, ConnState())
    days = [d for d, day in cursor.days.items() if conn in day.conns]
    # A hole at midnight belongs to the later day.
    before = [cursor.days[d].conns[conn][1] + 1 for d in days if d < date]
    low = min(first, max(before)) if before else 1
    high = max(last, state.frames or 0) if date == max(days) else last
    return Connection(
        conn, first, last, count, Numbers(state.archived).holes(low, high), state.closed, state.last_ts_recv
    )


def _touches(gap: Gap, date: str) -> bool:
    """Whether something of a gap lies on a UTC date."""
    end = _end_of(date)
    return gap.start < end and (gap.end is None or gap.end >= end - DAY_NS)


def _number(name: str) -> int:
    """The number in a segment's name."""
    return int(name.split(".", maxsplit=1)[0].rsplit("_", 1)[1])


def _end_of(date: str) -> int:
    """The ns at which a UTC date ends."""
    return calendar.timegm(time.strptime(date, "%Y-%m-%d")) * SECOND_NS + DAY_NS
