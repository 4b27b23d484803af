"""A day that is archived, read once more as it came: every frame of its segments, in order.

    with past_day.opened(places, "kalshi", "2026-11-20") as day:
        for frame in day.frames(): ...

Nothing is given before every segment is known to be what the manifest says.
"""

import contextlib
import hashlib
import heapq
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from isal import igzip

from ssmd import archive, frames
from ssmd.archive import Connection, Manifest, TimedSession
from ssmd.config import Places
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.storage import Store

READ_BYTES = 256 << 10  # of raw lines at a time, of each channel
FETCH_BYTES = 8 << 20
HELD_MAX = 200_000  # frames of a connection that wait for an earlier one, which was archived later: 1 GB at most

Look = Callable[[str, int, int], None]  # what is done, how much of it, of how much; may raise to end it


class Frame(NamedTuple):
    """An archived frame: its channel, what the line says, and the message that the connector published."""

    channel: str
    line: frames.Line
    raw: bytes

    @property
    def message(self) -> bytes:
        return b"{" + self.raw[self.raw.index(b",") + 1 :]


class PastDay:
    """One day of one feed, all of it verified."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest = manifest
        self._folder = folder

    @property
    def subscribed(self) -> tuple[str, ...]:
        """The channels that were subscribed to, as the feed's YAML names them."""
        sessions = (msgspec.json.decode(raw, type=TimedSession) for raw in self.manifest.sessions)
        return tuple(sorted({channel for session in sessions for channel in session.subscription.get("channels", ())}))

    @property
    def span_ns(self) -> tuple[int, int]:
        """When its first and its last frame came."""
        segments = self.manifest.segments
        return min(s.ts_recv_first for s in segments), max(s.ts_recv_last for s in segments)

    @property
    def overlapping(self) -> bool:
        """Whether several connections stood at once, so that a frame may have come on each of them."""
        spans = sorted((frames.opened_ms(c.conn) * 1_000_000, c.heard) for c in self.manifest.connections)
        return any(later[0] < earlier[1] for earlier, later in pairwise(spans))

    def frames(self) -> Iterator[Frame]:
        """Every frame, our own and REST's included: of a connection by `n`, connections among one another by time."""
        channels = dict.fromkeys(s.channel for s in self.manifest.segments)
        streams = (self._channel(channel) for channel in channels)
        order = _Order(self.manifest.connections)
        for frame in heapq.merge(*streams, key=lambda f: (f.line.ts_recv, f.line.conn, f.line.n)):
            yield from order.take(frame)
        yield from order.rest()

    def _channel(self, channel: str) -> Iterator[Frame]:
        for segment in self.manifest.segments:
            if segment.channel != channel:
                continue
            path = self._folder / segment.name
            try:
                with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
                    while block := file.read(READ_BYTES) + file.readline():
                        for line, raw in zip(frames.parse_lines(block), block.split(b"\n"), strict=False):
                            yield Frame(channel, line, raw)
            except archive.DAMAGE as e:
                raise Permanent(f"{path} is damaged ({e}): run `ssmd verify` on that day") from e


class _Order:
    """Lets each connection's frames through by `n`: a clock may have stepped back, a frame may be archived late."""

    def __init__(self, connections: list[Connection]) -> None:
        self._next = {c.conn: c.first for c in connections}
        self._holes = {c.conn: list(c.holes) for c in connections}
        self._held: dict[str, dict[int, Frame]] = {}

    def take(self, frame: Frame) -> Iterator[Frame]:
        conn, n = frame.line.conn, frame.line.n
        if n > self._next.setdefault(conn, n):
            held = self._held.setdefault(conn, {})
            held[n] = frame
            if len(held) > HELD_MAX:  # what they wait for comes late, or is in no segment yet
                for kept in sorted(held)[: HELD_MAX // 2]:
                    yield held.pop(kept)
                    self._next[conn] = kept + 1
        else:
            yield frame
            if n == self._next[conn]:
                self._step(conn)
        held = self._held.get(conn, {})
        while (after := held.pop(self._next[conn], None)) is not None:
            yield after
            self._step(conn)

    def _step(self, conn: str) -> None:
        """The next number, after what was never archived."""
        self._next[conn] += 1
        holes = self._holes.get(conn)
        while holes and holes[0][0] <= self._next[conn]:
            self._next[conn] = max(self._next[conn], holes.pop(0)[1] + 1)

    def rest(self) -> Iterator[Frame]:
        for held in self._held.values():
            for n in sorted(held):
                yield held[n]


def where(data: Path | str) -> "tuple[Places, Store | None]":
    """A data folder's manifests, or those of a store, `s3://…`, and the store. Raises Permanent."""
    if isinstance(data, str):
        from ssmd import mirror  # noqa: PLC0415 - 0.4 s that a folder does not need

        mirrored = mirror.at(data)
        return mirrored, mirrored.store
    places = Places(data)
    places.check()
    return places, None


@contextlib.contextmanager
def opened(places: Places, feed: str, date: str, look: Look, store: "Store | None" = None) -> Iterator[PastDay]:
    """The day, whole and verified. Raises Permanent.

    Where only the manifests are in `places`, `store` has the segments: they are fetched into a temporary folder.
    """
    manifest = _manifest(places, feed, date, str(places.archive) if store is None else store.url)
    total = sum(s.bytes for s in manifest.segments)
    with contextlib.ExitStack() as stack:
        folder = archive.day_folder(places.archive, feed, date)
        if store is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssmd-")))
        done = 0
        for segment in manifest.segments:
            if store is None:
                look("verifying", done, total)
                archive.check_segment(folder / segment.name, segment)
            else:
                path = f"archive/{feed}/{date}/{segment.name}"
                digest = hashlib.sha256()
                with (folder / segment.name).open("wb") as file:
                    for start in range(0, segment.bytes, FETCH_BYTES):
                        look("fetching", done + start, total)
                        piece = store.read(path, start, min(start + FETCH_BYTES, segment.bytes))
                        digest.update(piece)
                        file.write(piece)
                if digest.hexdigest() != segment.sha256:
                    raise Permanent(f"{store.url}/{path} is damaged (it is not what was published): publish it anew")
            done += segment.bytes
        yield PastDay(manifest, folder)


def _manifest(places: Places, feed: str, date: str, told: str) -> Manifest:
    manifest = None
    with contextlib.suppress(FileNotFoundError):
        manifest = archive.load_manifest(archive.manifest_path(places.archive, feed, date))
    if manifest is None or not manifest.segments:
        known = [path.parent.name for path in sorted(places.archive.glob(f"{feed}/????-??-??/manifest.json"))]
        there = f"it has {', '.join(known[-7:])}" if known else "it has no day of that feed"
        raise Permanent(f"{date} of {feed} is not archived in {told}: {there}")
    return manifest


class Once:
    """Knows again what came on several connections, by its bytes: one that is about to end and its successor, say."""

    WINDOW_NS = 10_000_000_000  # between the two: one connection is never that far behind another

    def __init__(self) -> None:
        self._seen: dict[bytes, dict[str, int]] = {}  # wire -> how often each connection brought it
        self._order: deque[tuple[int, bytes]] = deque()

    def first(self, line: frames.Line, wire: bytes) -> bool:
        """Whether this is not what another connection has brought already."""
        while self._order and self._order[0][0] < line.ts_recv - self.WINDOW_NS:
            del self._seen[self._order.popleft()[1]]
        counts = self._seen.get(wire)
        if counts is None:
            counts = self._seen[wire] = {}
            self._order.append((line.ts_recv, wire))
        before = max(counts.values(), default=0)
        counts[line.conn] = counts.get(line.conn, 0) + 1
        return counts[line.conn] > before
