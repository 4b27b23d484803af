"""`Store.add_all` leaves what `Store.add` leaves, message by message: the same files, cursor, manifests, holes."""

import gzip

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd import archive, frames, subjects
from ssmd.archive import Cursor
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.events import Gap, Session
from tests.chaos.simulation.disk import SimPath
from tests.ssmd.test_durable_files_are_whole import disk_without_power

from .test_store_archives_exactly_once import DATE, NEXT, NOON, commit, started

MIDNIGHT = NOON + DAY_NS // 2
Message = tuple[str, str, bytes]  # channel, symbol, message
# How far the clock goes from one frame to the next: hours and days are passed, and it steps back now and then.
steps = st.sampled_from([0, 0, 1, 1, SECOND_NS, 1200 * SECOND_NS, -1, -2 * SECOND_NS])
# What the number of a frame is to the last one of its connection: nearly always the next.
jumps = st.sampled_from([1] * 10 + [0, -1, -3, 2, 4])
kinds = st.sampled_from(["trade"] * 8 + ["ticker"] * 4 + [frames.SESSION, frames.GAP, frames.BAD])


@st.composite
def messages(draw: st.DrawFn) -> list[Message]:
    made: list[Message] = []
    last = {"a": 0, "b": 0}
    ts = MIDNIGHT - 2 * SECOND_NS
    conn = "a"
    frame = st.tuples(kinds, steps, jumps, st.integers(0, 9))
    for channel, step, jump, other in draw(st.lists(frame, min_size=20, max_size=60)):
        before = last[conn]
        conn = "ab"[other % 2] if other > 6 else conn
        ts += step
        n = max(1, (before if other == 7 else last[conn]) + jump)  # 7: goes on with the other one's numbers
        last[conn] = max(last[conn], n)
        symbol = f"S/{other % 3}"
        body, bad = b'{"n":%d}' % n, None
        if channel == frames.SESSION:
            closed = other > 8
            session = Session("close" if closed else "connected", "kalshi", "b", frames=99 if closed else None)
            body = msgspec.json.encode(session)
        elif channel == frames.GAP:
            body = msgspec.json.encode(Gap(f"g{other}", "kalshi", conn, [], ts, None if other % 2 else ts, "stale"))
        elif channel == frames.BAD:
            bad = "no reason"
        made.append((channel, symbol, frames.message(ts, conn.encode(), n, body, bad=bad)))
    return made


def contents(folder: SimPath) -> dict[str, object]:
    """All files, unpacked; manifests and the cursor but for when and how tightly they were written."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("kalshi/*/*")):
        if path.name == "manifest.json":
            manifest = archive.load_manifest(path)  # type: ignore[arg-type]
            segments = [msgspec.structs.replace(s, bytes=0, sha256="") for s in manifest.segments]
            found[str(path.relative_to(folder))] = msgspec.structs.replace(manifest, segments=segments, sealed_at=0)
        else:
            found[str(path.relative_to(folder))] = gzip.decompress(path.read_bytes())
    return found


def timeless(cursor: Cursor) -> Cursor:
    cursor = msgspec.json.decode(msgspec.json.encode(cursor), type=Cursor)
    for state in (*cursor.conns.values(), *cursor.days.values()):
        state.touched_ns = 0
    for part in cursor.parts:
        part.started_ns = part.bytes = 0
        part.crc32 = None
    return cursor


@settings(max_examples=200)
@given(messages(), st.lists(st.integers(1, 12), min_size=1), st.sets(st.integers(0, 8)), st.integers(0, 40))
def test_batches_of_any_size(made: list[Message], sizes: list[int], commits: set[int], reset_at: int) -> None:
    with disk_without_power(seed=0):
        one, many = SimPath("/disk/one"), SimPath("/disk/many")
        single, batched = started(one), started(many)  # type: ignore[arg-type]
        seq, at, batch = 100, 0, 0
        while at < len(made):
            some = made[at : at + sizes[batch % len(sizes)]]
            if at >= reset_at > 0:
                seq, reset_at = 0, 0  # the stream has been made anew
            seqs = range(seq + 1, seq + 1 + len(some))
            seq, at, batch = seq + len(some), at + len(some), batch + 1
            for number, (channel, symbol, message) in zip(seqs, some, strict=True):
                single.add(number, channel, symbol, message)
            names = [subjects.frame("env", "kalshi", channel, symbol).encode() for channel, symbol, _ in some]
            batched.add_all(list(seqs), names, [message for _, _, message in some])
            assert batched.buffered_bytes == single.buffered_bytes
            if batch in commits:
                for store in (single, batched):
                    commit(store, finish=batch % 2 == 0)
                assert timeless(batched.cursor) == timeless(single.cursor)
        for store in (single, batched):
            commit(store, finish=True)
            for date in (DATE, NEXT):
                commit(store, seal=date)
            store.close()
        assert contents(many) == contents(one)
        assert timeless(batched.cursor) == timeless(single.cursor)
        assert [batched.holes(conn) for conn in "ab"] == [single.holes(conn) for conn in "ab"]
        assert (batched.records, batched.duplicates) == (single.records, single.duplicates)
