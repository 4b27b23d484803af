"""The journal: every frame on local disk before anything else, kept until the archive has it.

Append-only segments `{first:020d}.journal` of text lines, one per frame, so that a person can read them:

    <crc32, 8 hex digits> <subject> <message>\\n

The checksum covers subject, space and message. `append` hands a batch to the kernel (survives kill -9), `sync`
forces it to disk (survives a power cut); the connector syncs at most every 50 ms in a thread. After a crash a
torn tail is cut to the last whole record, and the cut is reported. A segment is removed once the archiver has
confirmed every `(conn, n)` in it.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from ssmd import durable, frames, subjects
from ssmd.events import Gap, Session

READ_BYTES = 256 << 10  # 2 ms of work: whoever reads lets others have their turn in between
SEGMENT_BYTES = 64 << 20  # small enough to free space soon, large enough to be rare (about 200k Kalshi frames)


class Record(NamedTuple):
    """One journalled frame."""

    subject: str
    message: bytes


@dataclass
class Segment:
    """A journal file, and which frames it holds: ranges of `n` per connection (several after a power cut)."""

    path: Path
    bytes: int = 0
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    venue: bool = False  # there are frames of the venue's in it, not our own rows alone
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = int(self.path.stem)

    def note(self, conn: str, first: int, last: int) -> None:
        known = self.ranges.setdefault(conn, [])
        if known and known[-1][1] + 1 == first:
            known[-1] = (known[-1][0], last)
        else:
            known.append((first, last))


class Position(NamedTuple):
    """A place in the journal: a segment's number and a byte offset in it."""

    segment: int
    offset: int


@dataclass
class Former:
    """What a former run left of one place among its connections."""

    conn: str  # the latest connection
    first: int  # ts_recv of the oldest record that is still here
    heard: int = 0  # ts_recv of the latest frame from the venue: our own rows go on when its connection is dead
    venue_crc32: int | None = None  # of the latest connection's last frame from the venue, as sent


@dataclass
class Recovery:
    """What a former run left: its connections with their last `n`, and how many bytes of torn tail were cut."""

    records: int = 0
    last: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    cut_bytes: int = 0
    ts_recv: int = 0  # of the latest record
    places: dict[str, Former] = field(default_factory=dict)  # by what their connections' names begin with
    open_gaps: dict[str, Gap] = field(default_factory=dict)  # by id


def encode(subject: bytes, message: bytes) -> bytes:
    """One journal line."""
    return b"%08x %s %s\n" % (zlib.crc32(message, zlib.crc32(b"%s " % subject)), subject, message)


def decode(line: bytes) -> Record | None:
    """The record of a journal line without its newline; None if it is damaged."""
    if len(line) < 10 or line[8] != 0x20:
        return None
    body = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(body):
            return None
    except ValueError:
        return None
    subject, _, message = body.partition(b" ")
    return Record(subject.decode(), message)


def read(path: Path) -> Iterator[tuple[int, Record | None]]:
    """Each line's end offset and record (None if damaged); a last line without newline counts as damaged."""
    with path.open("rb") as file:
        end = 0
        for line in file:
            end += len(line)
            yield end, decode(line[:-1]) if line.endswith(b"\n") else None


class Journal:
    """The journal of one connector, in one folder that it alone owns."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._total_bytes = 0
        self._appender: durable.Appender | None = None
        self._dirty: list[durable.Appender] = []
        durable.make_folder(folder)

    def recover(self) -> Recovery:
        """Read what a former run left, cut a torn tail. Call once, before the first append."""
        found = Recovery()
        for path in sorted(self.folder.glob("*.journal")):
            segment = Segment(path)
            good_end = 0
            for end, record in read(path):
                if record is None:
                    continue  # damage before a good record stays in place: replay skips it, n shows the hole
                good_end = end
                self._note(found, segment, record)
            size = path.stat().st_size
            if good_end < size:
                found.cut_bytes += size - good_end
                durable.Appender(path, size=good_end).close()
            segment.bytes = good_end
            if good_end:
                durable.sync(path)  # the last run may have died before it did: what is confirmed now must stay
                self._segments.append(segment)
                self._total_bytes += good_end
            else:
                durable.remove(path)
        durable.sync_folder(self.folder)
        return found

    @staticmethod
    def _note(found: Recovery, segment: Segment, record: Record) -> None:
        line = frames.parse(record.message)
        segment.note(line.conn, line.n, line.n)
        found.records += 1
        found.last[line.conn] = max(found.last.get(line.conn, 0), line.n)
        found.ts_recv = max(found.ts_recv, line.ts_recv)
        former = found.places.setdefault(frames.place(line.conn), Former(line.conn, line.ts_recv))
        if line.conn != former.conn:
            former.conn, former.venue_crc32 = line.conn, None
        channel = subjects.channel_of(record.subject)
        if channel == frames.SESSION:
            session = msgspec.json.decode(line.frame, type=Session)
            if session.type == "close":
                found.closed.add(session.conn)
        elif channel == frames.GAP:
            gap = msgspec.json.decode(line.frame, type=Gap)
            if gap.end is None:
                found.open_gaps[gap.gap] = gap
            else:
                found.open_gaps.pop(gap.gap, None)
        elif not frames.is_rest(wire := line.wire()):
            segment.venue = True
            former.heard = max(former.heard, line.ts_recv)
            former.venue_crc32 = zlib.crc32(wire)

    @property
    def total_bytes(self) -> int:
        """How much disk the journal takes."""
        return self._total_bytes

    @property
    def newest(self) -> int:
        """The number of the newest segment, 0 if there is none."""
        return self._segments[-1].number if self._segments else 0

    @property
    def segments(self) -> int:
        return len(self._segments)

    def append(self, conn: str, first: int, last: int, lines: Iterable[bytes], *, venue: bool = True) -> None:
        """Hand a batch of encoded lines, the frames `first`..`last` of one connection, to the kernel.

        `venue`: some of them are the venue's, not our own rows alone.
        """
        data = b"".join(lines)
        appender = self._appender
        if appender is None or self._segments[-1].bytes >= self._segment_bytes:
            appender = self._next_segment()
        appender.append(data)
        segment = self._segments[-1]
        segment.bytes += len(data)
        self._total_bytes += len(data)
        segment.note(conn, first, last)
        segment.venue |= venue

    def _next_segment(self) -> durable.Appender:
        number = self._segments[-1].number + 1 if self._segments else 1
        if self._appender is not None:
            self._dirty.append(self._appender)
        path = self.folder / f"{number:020d}.journal"
        self._appender = durable.Appender(path)
        self._segments.append(Segment(path))
        return self._appender

    def syncs(self) -> Callable[[], None]:
        """What to run (in a thread) to force everything appended so far to disk."""
        finished, self._dirty = self._dirty, []
        current = self._appender

        def sync() -> None:
            for appender in finished:
                appender.sync()
                appender.close()
            if current is not None:
                current.sync()

        return sync

    def confirm(self, archived: Callable[[str, int, int], bool]) -> list[Path]:
        """Forget the oldest segments whose frames the archive has; returns their files, for the caller to remove.

        `archived(conn, first, last)` says whether all of these frames are safe. The newest segment stays, and that
        with the venue's latest frame: the next start learns from them which connection was the last, and until when
        the venue was heard on it.

        Removing a segment of 64 MB takes 13 ms: do it off the event loop. One that stays by accident is read again
        by the next start, and confirmed again.
        """
        gone = []
        heard = next((s for s in reversed(self._segments) if s.venue), None)
        while len(self._segments) > 1 and self._segments[0] is not heard:
            segment = self._segments[0]
            if not all(archived(conn, a, b) for conn, known in segment.ranges.items() for a, b in known):
                break
            self._segments.pop(0)
            self._total_bytes -= segment.bytes
            gone.append(segment.path)
        return gone

    def start(self) -> Position:
        """The oldest place."""
        return Position(self._segments[0].number, 0) if self._segments else self.end()

    def end(self) -> Position:
        """The place where the next record will stand."""
        if not self._segments:
            return Position(1, 0)
        last = self._segments[-1]
        if self._appender is None:
            return Position(last.number + 1, 0)
        return Position(last.number, last.bytes)

    def read_from(self, position: Position, max_bytes: int = READ_BYTES) -> tuple[list[Record], Position]:
        """The whole records after `position`, about `max_bytes` of them, and the place after these."""
        for i, segment in enumerate(self._segments):
            if segment.number < position.segment:
                continue
            offset = position.offset if segment.number == position.segment else 0
            if offset >= segment.bytes:
                continue
            with segment.path.open("rb") as file:
                file.seek(offset)
                data = file.read(min(max_bytes, segment.bytes - offset))
                if not data.endswith(b"\n"):
                    data += file.readline()
            records = [r for r in map(decode, data.split(b"\n")[:-1]) if r is not None]
            after = Position(segment.number, offset + len(data))
            if after.offset >= segment.bytes and i + 1 < len(self._segments):
                after = Position(self._segments[i + 1].number, 0)
            return records, after
        return [], self.end()

    def find(self, conn: str, first: int, last: int) -> Iterator[Record]:
        """The records of frames `first`..`last` of a connection, as far as they are still here."""
        for segment in list(self._segments):
            if any(a <= last and first <= b for a, b in segment.ranges.get(conn, ())):
                for _, record in read(segment.path):
                    if record is not None:
                        line = frames.parse(record.message)
                        if line.conn == conn and first <= line.n <= last:
                            yield record

    def close(self) -> None:
        self.syncs()()
        if self._appender is not None:
            self._appender.close()
            self._appender = None
