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

from ssmd import durable, frames

SEGMENT_BYTES = 64 << 20  # small enough to free space soon, large enough to be rare (about 200k Kalshi frames)


class Record(NamedTuple):
    """One journalled frame."""

    subject: str
    message: bytes


@dataclass
class Segment:
    """A journal file, and which frames it holds: first and last `n` per connection."""

    path: Path
    bytes: int = 0
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, conn: str, first: int, last: int) -> None:
        known = self.ranges.get(conn)
        self.ranges[conn] = (first, last) if known is None else (min(known[0], first), max(known[1], last))


@dataclass(frozen=True)
class Recovery:
    """What was found at start: connections with their last `n`, and how many bytes of torn tail were cut."""

    records: int
    last: dict[str, int]
    last_ts_recv: int
    closed: frozenset[str]
    cut_bytes: int


def encode(subject: bytes, message: bytes) -> bytes:
    """One journal line."""
    body = b"%s %s" % (subject, message)
    return b"%08x %s\n" % (zlib.crc32(body), body)


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
        self._appender: durable.Appender | None = None
        self._dirty: list[durable.Appender] = []
        durable.make_folder(folder)

    def recover(self) -> Recovery:
        """Read what a former run left, cut a torn tail. Call once, before the first append."""
        last: dict[str, int] = {}
        closed: set[str] = set()
        last_ts = records = cut = 0
        paths = sorted(self.folder.glob("*.journal"))
        for path in paths:
            segment = Segment(path)
            good_end = 0
            for end, record in read(path):
                if record is None:
                    continue  # damage before a good record stays in place: `scrub` names it, replay skips it
                good_end = end
                line = frames.parse(record.message)
                segment.note(line.conn, line.n, line.n)
                last[line.conn] = max(last.get(line.conn, 0), line.n)
                last_ts = max(last_ts, line.ts_recv)
                records += 1
                if f".{frames.SESSION}." in record.subject:
                    session = msgspec.json.decode(line.frame)
                    if session["type"] == "close":
                        closed.add(session["conn"])
            size = path.stat().st_size
            if good_end < size:
                cut += size - good_end
                durable.Appender(path, size=good_end).close()
            segment.bytes = good_end
            if good_end:
                self._segments.append(segment)
            else:
                durable.remove(path)
        return Recovery(records, last, last_ts, frozenset(closed), cut)

    @property
    def bytes(self) -> int:
        """How much disk the journal takes."""
        return sum(s.bytes for s in self._segments)

    @property
    def segments(self) -> int:
        return len(self._segments)

    def append(self, conn: str, first: int, last: int, lines: Iterable[bytes]) -> None:
        """Hand a batch of encoded lines, the frames `first`..`last` of one connection, to the kernel."""
        data = b"".join(lines)
        appender = self._appender
        if appender is None or self._segments[-1].bytes >= self._segment_bytes:
            appender = self._next_segment()
        appender.append(data)
        segment = self._segments[-1]
        segment.bytes += len(data)
        segment.note(conn, first, last)

    def _next_segment(self) -> durable.Appender:
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
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

    def confirm(self, archived: Callable[[str, int, int], bool]) -> int:
        """Remove every finished segment whose frames the archive has; return how many went.

        `archived(conn, first, last)` says whether all of these frames are safe.
        """
        gone = 0
        while len(self._segments) > 1 or (self._segments and self._appender is None):
            segment = self._segments[0]
            if not all(archived(conn, a, b) for conn, (a, b) in segment.ranges.items()):
                break
            durable.remove(segment.path)
            self._segments.pop(0)
            gone += 1
        return gone

    def records(self, wanted: Callable[[str, int, int], bool] | None = None) -> Iterator[Record]:
        """All whole records in order, of the segments for which `wanted(conn, first, last)` holds for any range."""
        for segment in list(self._segments):
            if wanted is None or any(wanted(c, a, b) for c, (a, b) in segment.ranges.items()):
                for _, record in read(segment.path):
                    if record is not None:
                        yield record

    def close(self) -> None:
        self.syncs()()
        if self._appender is not None:
            self._appender.close()
            self._appender = None
