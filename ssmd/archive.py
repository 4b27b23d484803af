"""The archive on disk: where a day's files lie, what its manifest says, how its lines are read.

{archive}/{feed}/{date}/{channel}_{NNN}.jsonl.gz     finished segments: multi-member gzip, one member per commit
{archive}/{feed}/{date}/{channel}_{NNN}.jsonl.gz.part   the segment being written
{archive}/{feed}/{date}/manifest.json                which segments make up the day; readers go by it alone
{archive}/{feed}/cursor.json                         the archiver's own committed state
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
from isal import igzip, isal_zlib

from ssmd import checked_json, durable, frames
from ssmd.errors import Permanent
from ssmd.events import Session

FORMAT = 1
MOVED = "moved.json"  # in a day's folder, if object storage has its segments: see ssmd.moved
# What reading a segment raises where it is damaged (the stubs have isal_zlib.error as a value, not a type).
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    cast(type[Exception], isal_zlib.error),
    msgspec.DecodeError,
    UnicodeDecodeError,  # msgspec lets it through
)
Ranges = list[tuple[int, int]]  # inclusive, ascending, not touching


class Segment(msgspec.Struct, frozen=True):
    """A finished archive file. `bytes` compressed, `raw_bytes` not; `members` gzip members; ts in ns."""

    name: str  # of the file, beside the manifest
    channel: str  # all its frames are of
    records: int  # lines
    bytes: int  # of the file, compressed
    raw_bytes: int  # of its lines
    members: int  # gzip members: one for each commit
    sha256: str  # of the file
    seq_first: int  # of the NATS stream
    seq_last: int  # of the NATS stream
    ts_recv_first: int  # ns
    ts_recv_last: int  # ns
    symbols: dict[str, int]  # frames of each; `all`: of no single one
    hours: list[int]  # of the UTC day, of which it has frames


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a day holds of one connection: its first and last `n` of that day, and what is missing between.

    `heard` is when its latest frame came (ns), of whatever day; 0 in old manifests.
    """

    conn: str  # its name
    first: int  # the first `n` of that day
    last: int  # the last `n` of that day
    frames: int  # how many are there
    holes: Ranges = []  # first and last `n` of what is missing between
    closed: str | None = None  # why it ended, if it did
    heard: int = 0  # when its latest frame came (ns), of whatever day; 0 in old manifests


class Manifest(msgspec.Struct, frozen=True, omit_defaults=False):
    """Enough to answer "is this day whole?" without opening a file."""

    feed: str  # as in feeds/
    date: str  # the UTC day by `ts_recv`
    format: int = FORMAT  # of this file
    revision: int = 0  # counts up each time that the day changes
    sealed: bool = False  # the day is over: every connection has ended or passed midnight
    sealed_at: int | None = None  # ns
    software: str = ""  # that wrote it
    segments: list[Segment] = []  # every file of the day; readers go by this list
    connections: list[Connection] = []  # what is there of each, and what is missing
    sessions: list[msgspec.Raw] = []  # `_session` rows but for `alive`, each with its time in `ts`
    gaps: list[msgspec.Raw] = []  # `_gap` rows, the latest of each gap
    counts: dict[str, int] = {}  # frames by channel
    symbols: dict[str, int] = {}  # frames by instrument
    quarantined: dict[str, int] = {}  # frames on `_bad` by reason

    @property
    def frames(self) -> int:
        return sum(s.records for s in self.segments)

    @property
    def whole(self) -> bool:
        """No connection has a hole."""
        return not any(c.holes for c in self.connections)


class PartState(msgspec.Struct):
    """What the cursor knows of one part: where it is and how much of it counts."""

    date: str  # the UTC day
    channel: str  # all its frames are of
    name: str  # of the finished segment; the part is this with .part behind
    bytes: int = 0  # that are committed: what is behind them does not count
    raw_bytes: int = 0  # of its lines
    records: int = 0  # lines
    members: int = 0  # gzip members
    seq_first: int = 0  # of the NATS stream
    seq_last: int = 0  # of the NATS stream
    ts_recv_first: int = 0  # ns
    ts_recv_last: int = 0  # ns
    symbols: dict[str, int] = msgspec.field(default_factory=dict)  # frames of each
    hours: list[int] = msgspec.field(default_factory=list)  # of the UTC day, of which it has frames
    started_ns: int = 0  # by our clock, for rotation
    crc32: int | None = None  # of its bytes; null in a part begun before this was kept


class ConnState(msgspec.Struct):
    """One connection: what is archived of it, when it was last heard, how it ended."""

    archived: Ranges = msgspec.field(default_factory=list)  # ranges of `n`, first and last included
    last_ts_recv: int = 0  # when it was last heard (ns)
    touched_ns: int = 0  # by our clock
    frames: int | None = None  # its last n, once it is closed
    closed: str | None = None  # why it ended


class DayState(msgspec.Struct):
    """What the manifest of a day needs beyond its segments."""

    conns: dict[str, tuple[int, int, int]] = msgspec.field(default_factory=dict)  # first n, last n, frames
    sessions: list[msgspec.Raw] = msgspec.field(default_factory=list)  # with their time, but for `alive`
    gaps: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)  # the latest row of each, by id
    quarantined: dict[str, int] = msgspec.field(default_factory=dict)  # frames by reason
    sealed: bool = False  # as in the manifest
    touched_ns: int = 0  # by our clock


class Cursor(msgspec.Struct):
    """The archiver's committed state; of days not yet finished into segments it knows more than their manifests."""

    feed: str  # as in feeds/
    stream: str = ""  # of NATS
    seq: int = 0  # of the last frame that is archived: reading goes on after it
    last: tuple[str, int] | None = None  # the frame at `seq`
    format: int = FORMAT  # of this file
    conns: dict[str, ConnState] = msgspec.field(default_factory=dict)  # by name
    parts: list[PartState] = msgspec.field(default_factory=list)  # segments that are being written
    days: dict[str, DayState] = msgspec.field(default_factory=dict)  # that may still change


class TimedSession(Session, frozen=True, omit_defaults=True):
    """A `_session` row as manifest and cursor have it: with `ts`, when it was written (ns; 0 in old manifests)."""

    ts: int = 0


class NewerFormat(Permanent):
    """The data was written by a newer ssmd than this."""


def day_folder(archive: Path, feed: str, date: str) -> Path:
    return archive / feed / date


def manifest_path(archive: Path, feed: str, date: str) -> Path:
    return day_folder(archive, feed, date) / "manifest.json"


def segment_name(channel: str, number: int) -> str:
    return f"{channel}_{number:03d}.jsonl.gz"


def load_manifest(path: Path) -> Manifest:
    """Raises FileNotFoundError, or Permanent if the file is damaged or of a newer format."""
    data = path.read_bytes()
    try:
        manifest = checked_json.decode(data, Manifest)
    except msgspec.DecodeError as e:
        raise Permanent(f"{path} is damaged ({e}): run `ssmd verify` on that day") from e
    if manifest.format > FORMAT:
        raise NewerFormat(f"{path} has format {manifest.format}, this ssmd reads up to {FORMAT}: upgrade ssmd")
    return manifest


def cursor_path(archive: Path, feed: str) -> Path:
    return archive / feed / "cursor.json"


def load_cursor(path: Path) -> Cursor:
    """Raises FileNotFoundError, or Permanent if the file is damaged or of a newer format."""
    data = path.read_bytes()
    try:
        cursor = checked_json.decode(data, Cursor)
    except msgspec.DecodeError as e:
        raise Permanent(f"{path} is damaged ({e}): restore it, or move the folder away") from e
    if cursor.format > FORMAT:
        raise NewerFormat(f"{path} was written by a newer ssmd: upgrade this one")
    return cursor


def timed_session(ts_recv: int, session: bytes) -> msgspec.Raw:
    """A `_session` frame's JSON with its time put in front, to be read as TimedSession."""
    return msgspec.Raw(b'{"ts":%d,%s' % (ts_recv, session[1:]))


def save_manifest(path: Path, manifest: Manifest) -> None:
    durable.replace(path, checked_json.encode(manifest, indent=1))


def manifests(archive: Path, feed: str | None = None, since: str = "", until: str = "9999-12-31") -> Iterator[Manifest]:
    """Every day's manifest (of dates from `since` to `until`), by feed and date."""
    for path in sorted(archive.glob(f"{feed or '*'}/????-??-??/manifest.json")):
        if since <= path.parent.name <= until:
            yield load_manifest(path)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bring_back(path: Path) -> str:
    """What to do about a segment that is not there."""
    if (path.parent / MOVED).exists():
        feed, date = path.parts[-3:-1]
        return f"it has moved to object storage, `ssmd restore {feed} {date}` brings it back"
    return "restore it from a copy"


def check_segment(path: Path, segment: Segment) -> None:
    """Raise Permanent unless the file is what its manifest entry says, to the last bit."""
    try:
        size = path.stat().st_size
        whole = size == segment.bytes and sha256_of(path) == segment.sha256
    except OSError as e:
        raise Permanent(f"{path} cannot be read ({e.strerror}): {bring_back(path)}") from e
    if not whole:
        raise Permanent(f"{path} is damaged (it is not what its manifest says): run `ssmd verify` on that day")


def read_segment(path: Path, segment: Segment | None = None) -> Iterator[frames.Line]:
    """The lines of one segment, in the order they were archived. Raises Permanent if it is damaged.

    Only with its manifest entry is it known that nothing is missing: a file cut between two gzip members reads clean.
    """
    if segment is not None:
        check_segment(path, segment)
    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            for raw in file:
                yield frames.parse(raw)
    except DAMAGE as e:
        raise Permanent(f"{path} is damaged ({e}): run `ssmd verify` on that day") from e
