"""What must be true of every world: sent, taken, journalled, confirmed, archived and the ledger add up."""

import gzip
import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from services.connector.connector import SYNC_SECONDS
from ssmd import archive, frames
from ssmd import journal as journal_module
from ssmd.archive import Manifest
from ssmd.clock import SECOND_NS
from ssmd.events import Gap
from tests.chaos.simulation.disk import File, SimPath
from tests.chaos.simulation.venue import Sent

if TYPE_CHECKING:
    from tests.chaos.simulation.world import World

ARCHIVE = SimPath("/archive/archive")
JOURNAL = SimPath("/capture/data/journal/fake")
LOOK_SECONDS = 0.5
SLACK_NS = int(0.1 * SECOND_NS)  # a frame is on its way for so long at most
Identity = tuple[str, int]


class Proof:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._promised: set[int] = set()  # venue frames that no crash so far may have cost
        self._judged = 0  # frames sent before the connector last died
        self._unsynced: set[int] = set()  # promised, but only the page cache has them until the next start
        self._confirmed: dict[str, set[int]] = {}
        self._looked = -1.0
        self._missing = "nothing was looked at"

    # --------------------------------------------------------------------------------------------- while it happens

    def connector_died(self, power: bool) -> None:
        """A kill may cost nothing that was taken; a power cut only what the next sync would have made safe."""
        world, connector = self._world, self._world.connector
        loop = connector.loop
        assert loop is not None
        if getattr(connector.service, "_capture", None) is not None:
            self._unsynced.clear()  # it had recovered what its predecessor left
        if power:
            self.power_lost()
        now = world.scheduler.now
        late = SYNC_SECONDS + 3 * loop.thread_seconds[1] + 0.02  # one sync that began before it, and its own
        synced = min(now, loop.stopped_from if loop.stopped_until > now - late else now) - late
        for sent in world.exchange.sent[self._judged :]:
            if sent.taken_at is None:
                continue
            if sent.taken_at < synced:
                self._promised.add(sent.id)
            elif not power:
                self._promised.add(sent.id)
                self._unsynced.add(sent.id)
        self._judged = len(world.exchange.sent)

    def power_lost(self) -> None:
        """The connector's host lost power: what a killed connector had not synced may be gone."""
        self._promised -= self._unsynced
        self._unsynced.clear()

    def confirmed(self, data: bytes) -> None:
        """The archiver has told the connector that these are safe."""
        for conn, ranges in msgspec.json.decode(data, type=dict[str, archive.Ranges]).items():
            known = self._confirmed.setdefault(conn, set())
            for first, last in ranges:
                known.update(range(first, last + 1))

    def all_archived(self) -> bool:
        """Whether the archiver has committed everything that the journal holds, and the journal knows."""
        world = self._world
        if world.scheduler.now < self._looked + LOOK_SECONDS:
            return False
        self._looked = world.scheduler.now
        connector, archiver = world.connector, world.archiver
        if not (connector.alive and archiver.alive and connector.service and archiver.service):
            self._missing = "not everybody runs"
            return False
        committed = {
            conn: {n for a, b in ranges for n in range(a, b + 1)}
            for conn, ranges in archiver.service._store.committed().items()
        }
        held = self._journalled()
        missing = [(conn, n) for conn, n in held if n not in committed.get(conn, ())]
        if missing:
            self._missing = f"the journal has {len(missing)} frames that the archive has not, the first {missing[0]}"
            return False
        segments = connector.service._journal.segments
        if segments > 2:
            self._missing = f"{segments} journal segments are kept although all of it is archived"
            return False
        line = world.exchange.line
        if line is None:
            self._missing = "the connector is not connected"
            return False
        return True

    def unarchived(self) -> str:
        return self._missing

    def _journalled(self) -> list[Identity]:
        found = []
        for path in sorted(JOURNAL.glob("*.journal")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                record = journal_module.decode(line)
                if record is not None:
                    message = frames.parse(record.message)
                    found.append((message.conn, message.n))
        return found

    # ----------------------------------------------------------------------------------------------------- at the end

    def check(self) -> None:
        """Raises AssertionError with the first promise that was not kept."""
        world = self._world
        self.connector_died(power=False)  # its end in good order promises the same as a kill
        if world.rng.random() < 0.5:
            world.trace("the archive's host loses power after the end")
            world.archive_disk.lose_power(world.rng)
        manifests = [
            archive.load_manifest(path)
            for path in sorted(ARCHIVE.glob(f"{'fake'}/????-??-??/manifest.json"))  # type: ignore[type-var]
        ]
        found: dict[Identity, frames.Line] = {}
        gaps: dict[str, Gap] = {}
        order: list[frames.Line] = []
        for manifest in manifests:
            self._read(manifest, order, gaps)
        doubled = [i for i, count in Counter((line.conn, line.n) for line in order).items() if count > 1]
        assert not doubled, f"archived more than once: {doubled[:5]}"
        found = {(line.conn, line.n): line for line in order}
        self._check_holes(manifests, found)
        self._check_confirmed(found)
        self._check_frames(found, list(gaps.values()), manifests)
        self._check_strays(manifests)

    def _read(self, manifest: Manifest, order: list[frames.Line], gaps: dict[str, Gap]) -> None:
        """One day against its manifest."""
        folder = ARCHIVE / "fake" / manifest.date
        counts: Counter[str] = Counter()
        conns: Counter[str] = Counter()
        listed: set[str] = set()
        for segment in manifest.segments:
            path = folder / segment.name
            assert path.exists(), f"{manifest.date}: the manifest names {segment.name}, which is not there"
            assert segment.name not in listed, f"{manifest.date}: {segment.name} is listed twice"
            listed.add(segment.name)
            data = path.read_bytes()
            assert len(data) == segment.bytes, f"{path}: {len(data)} bytes, the manifest says {segment.bytes}"
            assert hashlib.sha256(data).hexdigest() == segment.sha256, f"{path}: sha256 differs from the manifest"
            raw = gzip.decompress(data)
            assert len(raw) == segment.raw_bytes, f"{path}: {len(raw)} raw bytes, not {segment.raw_bytes}"
            lines = frames.parse_lines(raw)
            assert len(lines) == segment.records, f"{path}: {len(lines)} records, not {segment.records}"
            counts[segment.channel] += len(lines)
            for line in lines:
                conns[line.conn] += 1
                if segment.channel == frames.GAP:
                    gap = msgspec.json.decode(line.frame, type=Gap)
                    known = gaps.get(gap.gap)
                    if known is None or gap.end is not None:
                        gaps[gap.gap] = gap
            order += lines
        assert dict(counts) == manifest.counts, f"{manifest.date}: {dict(counts)}, the manifest says {manifest.counts}"
        told = {c.conn: c.frames for c in manifest.connections}
        assert dict(conns) == told, f"{manifest.date}: per connection {dict(conns)}, the manifest says {told}"

    @staticmethod
    def _check_holes(manifests: list[Manifest], found: dict[Identity, frames.Line]) -> None:
        last: dict[str, int] = {}
        for conn, n in found:
            last[conn] = max(last.get(conn, 0), n)
        named = {(c.conn, n) for m in manifests for c in m.connections for a, b in c.holes for n in range(a, b + 1)}
        for conn, end in last.items():
            for n in range(1, end):
                if (conn, n) not in found:
                    assert (conn, n) in named, f"{conn} has no frame {n}, and no manifest says so"
        wrong = [identity for identity in named if identity in found]
        assert not wrong, f"a manifest names a hole where a frame is: {wrong[0]}"

    def _check_confirmed(self, found: dict[Identity, frames.Line]) -> None:
        for conn, numbers in self._confirmed.items():
            missing = [n for n in sorted(numbers) if (conn, n) not in found]
            assert not missing, f"{conn}: the archiver confirmed {missing[:5]}, but they are not in the archive"

    def _check_frames(self, found: dict[Identity, frames.Line], gaps: list[Gap], manifests: list[Manifest]) -> None:
        world = self._world
        sent_by_wire = {sent.wire: sent for sent in world.exchange.sent}
        archived: dict[int, frames.Line] = {}
        lines: dict[int, str] = {}  # the venue's connection -> ours
        for line in found.values():
            if bytes(line.frame).startswith(b"{") and b'"feed":"fake"' in bytes(line.frame):
                continue  # our own row
            wire = line.wire()
            sent = sent_by_wire.get(wire)
            assert sent is not None, f"{line.conn} {line.n}: these bytes were never sent: {wire!r}"
            assert sent.id not in archived, f"venue frame {sent.id} is archived twice"
            archived[sent.id] = line
            known = lines.setdefault(sent.line, line.conn)
            assert known == line.conn, f"frames of one connection are archived under {known} and {line.conn}"
        numbers: dict[str, int] = {}
        for number in sorted(archived):
            line = archived[number]
            assert line.n > numbers.get(line.conn, 0), f"{line.conn}: frame {line.n} is not in the order it was sent"
            numbers[line.conn] = line.n
        lost = [sent for sent in world.exchange.sent if sent.id not in archived]
        broken = [sent for sent in lost if sent.id in self._promised]
        assert not broken, f"{len(broken)} frames that we had are not in the archive, the first: {broken[0]}"
        holes = {c.conn: c.holes for m in manifests for c in m.connections if c.holes}
        for sent in lost:
            heard = max(
                (x.ts_recv for i, x in archived.items() if i < sent.id and x.conn == lines.get(sent.line)), default=0
            )
            covered = self._in_gap(sent.at, gaps, heard) or self._in_hole(sent, archived, lines, holes)
            assert covered, f"a frame is lost and the ledger does not know: {sent}"
        for skip in world.exchange.skips:
            if skip.told_by in archived:
                line = archived[skip.told_by]
                row_lost = any(a <= line.n + 1 <= b for a, b in holes.get(line.conn, ()))
                assert row_lost or self._in_gap(skip.at, gaps, line.ts_recv), (
                    f"the ledger does not know of the venue's {skip}"
                )

    def _in_gap(self, at: float, gaps: list[Gap], heard_ns: int = 0) -> bool:
        """Gaps are told in our own time: a frame that waited in a socket would have come after those before it."""
        ns = max(self._world.base_ns + int(at * SECOND_NS), heard_ns)
        return any(g.start - SLACK_NS <= ns and (g.end is None or ns <= g.end + SLACK_NS) for g in gaps)

    @staticmethod
    def _in_hole(
        sent: Sent, archived: dict[int, frames.Line], lines: dict[int, str], holes: dict[str, archive.Ranges]
    ) -> bool:
        conn = lines.get(sent.line)
        if conn is None:
            return False
        before = max((x.n for i, x in archived.items() if i < sent.id and x.conn == conn), default=0)
        after = min((x.n for i, x in archived.items() if i > sent.id and x.conn == conn), default=1 << 60)
        return any(a < after and b > before for a, b in holes.get(conn, ()))

    @staticmethod
    def _check_strays(manifests: list[Manifest]) -> None:
        listed = {(m.date, s.name) for m in manifests for s in m.segments}
        for path in ARCHIVE.glob("fake/*/*"):
            assert isinstance(path._node(), File)
            if path.name != "manifest.json" and not path.name.endswith(".stray"):  # set aside by a recovery
                assert (path.parent.name, path.name) in listed, f"{path} is in no manifest"
