"""After a crash at any point, reading the stream again from the cursor gives every frame once."""

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from services.archiver import store as store_module
from services.archiver.store import Store
from ssmd import archive, durable, frames
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.events import Gap, Session

NOON = 1_786_449_600 * SECOND_NS  # 2026-08-11T12:00:00Z
DATE, NEXT = "2026-08-11", "2026-08-12"
Stream = list[tuple[int, str, str, bytes]]


def stream(count: int, conn: str = "c", start: int = NOON) -> Stream:
    """`count` messages of two channels as JetStream would deliver them."""
    made = []
    for n in range(1, count + 1):
        channel = "trade" if n % 3 else "ticker"
        message = frames.message(start + n * SECOND_NS, conn.encode(), n, b'{"n":%d}' % n)
        made.append((n, channel, f"S{n % 2}", message))
    return made


def feed(store: Store, messages: Stream) -> None:
    for seq, channel, symbol, message in messages:
        if seq > store.cursor.seq:
            store.add(seq, channel, symbol, message)


def commit(store: Store, finish: bool = False, seal: str | None = None) -> None:
    begun = store.begin(store.of_day(None) if finish else [], [seal] if seal else [])
    if begun is not None:
        store.write(begun)
        for date in begun.seals:
            store.sealed(date)


def started(folder: Path) -> Store:
    store = Store(folder, "kalshi")
    store.recover()
    return store


def archived(folder: Path, date: str = DATE) -> list[tuple[str, int]]:
    manifest = archive.load_manifest(archive.manifest_path(folder, "kalshi", date))
    found = []
    for segment in manifest.segments:
        path = archive.day_folder(folder, "kalshi", date) / segment.name
        assert archive.sha256_of(path) == segment.sha256
        assert path.stat().st_size == segment.bytes
        lines = list(archive.read_segment(path))
        assert len(lines) == segment.records
        found += [(line.conn, line.n) for line in lines]
    return sorted(found)


def everything(count: int, conn: str = "c") -> list[tuple[str, int]]:
    return [(conn, n) for n in range(1, count + 1)]


def test_a_day_is_sealed_with_all_that_came(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, stream(30))
    commit(store, seal=DATE)
    manifest = archive.load_manifest(archive.manifest_path(tmp_path, "kalshi", DATE))
    assert (manifest.sealed, manifest.revision, manifest.frames, manifest.whole) == (True, 1, 30, True)
    assert manifest.counts == {"ticker": 10, "trade": 20}
    assert manifest.symbols == {"S0": 15, "S1": 15}
    assert archived(tmp_path) == everything(30)


class _Crash(BaseException):
    pass


@pytest.mark.parametrize("crash_at", range(1, 40))
def test_a_crash_at_any_step_of_writing_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    """Each call that touches the disk is a place to die at; the run after it starts from what is there."""
    steps = 0

    def dying(call):  # type: ignore[no-untyped-def]
        def step(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            if steps == crash_at:
                raise _Crash
            return call(*args, **kwargs)

        return step

    messages = stream(60)
    store = started(tmp_path)
    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "make_folder"):
            patch.setattr(durable, name, dying(getattr(durable, name)))
        for name in ("append", "sync"):
            patch.setattr(durable.Appender, name, dying(getattr(durable.Appender, name)))
        try:
            feed(store, messages[:20])
            commit(store)
            feed(store, messages[:40])
            commit(store, finish=True)
            feed(store, messages)
            commit(store, seal=DATE)
        except _Crash:
            store.close()
    survivor = started(tmp_path)
    feed(survivor, messages)
    commit(survivor, seal=DATE)
    assert archived(tmp_path) == everything(60)
    manifest = archive.load_manifest(archive.manifest_path(tmp_path, "kalshi", DATE))
    assert manifest.sealed and manifest.whole and not list(tmp_path.glob("**/*.part"))


def test_without_the_cut_to_the_cursor_a_crash_doubles_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: leave torn bytes in place, and frames are there twice."""
    messages = stream(20)
    store = started(tmp_path)
    feed(store, messages[:10])
    commit(store)
    feed(store, messages)
    with monkeypatch.context() as patch, pytest.raises(_Crash):

        def die(path: Path, data: bytes, mode: int = 0o644) -> None:
            raise _Crash

        patch.setattr(durable, "replace", die)  # the parts have grown, the cursor has not
        commit(store)
    store.close()

    class Uncut(durable.Appender):
        def __init__(self, path: Path, size: int | None = None) -> None:
            super().__init__(path)

    with monkeypatch.context() as patch:
        patch.setattr(store_module.durable, "Appender", Uncut)
        survivor = started(tmp_path)
    feed(survivor, messages)
    commit(survivor, finish=True)
    found = [
        (line.conn, line.n) for path in tmp_path.glob("kalshi/*/*.jsonl.gz") for line in archive.read_segment(path)
    ]
    assert len(found) > len(set(found))


def test_frames_sent_again_are_dropped(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, stream(10))
    commit(store)
    again = [(seq + 10, channel, symbol, message) for seq, channel, symbol, message in stream(12)]
    feed(store, again)
    commit(store, seal=DATE)
    assert store.duplicates == 10
    assert archived(tmp_path) == everything(12)


def test_a_missing_frame_is_a_hole_in_the_manifest(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, [m for m in stream(10) if m[0] not in {1, 5, 6}])
    assert store.holes("c") == [(1, 1), (5, 6)]
    commit(store, seal=DATE)
    manifest = archive.load_manifest(archive.manifest_path(tmp_path, "kalshi", DATE))
    assert not manifest.whole
    assert manifest.connections[0].holes == [(1, 1), (5, 6)]


def test_frames_lost_at_the_end_are_known_from_the_close_row(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, stream(4))
    close = Session("close", "kalshi", "c", frames=6, reason="the connector died")
    store.add(5, frames.SESSION, "all", frames.message(NOON, b"d", 1, msgspec.json.encode(close)))
    assert store.holes("c") == [(5, 6)]


def test_late_frames_make_a_new_revision(tmp_path: Path) -> None:
    store = started(tmp_path)
    messages = stream(12)
    feed(store, messages[:10])
    commit(store, seal=DATE)
    feed(store, messages)
    commit(store, finish=True)
    path = archive.manifest_path(tmp_path, "kalshi", DATE)
    assert (archive.load_manifest(path).sealed, archive.load_manifest(path).revision) == (False, 1)
    commit(store, seal=DATE)
    assert (archive.load_manifest(path).sealed, archive.load_manifest(path).revision) == (True, 2)
    assert archived(tmp_path) == everything(12)


def test_sealing_again_changes_nothing(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, stream(5))
    commit(store, seal=DATE)
    path = archive.manifest_path(tmp_path, "kalshi", DATE)
    before = path.read_bytes()
    commit(store, seal=DATE)
    assert path.read_bytes() == before


def test_a_day_is_over_when_every_connection_has_passed_midnight(tmp_path: Path) -> None:
    midnight = NOON + DAY_NS // 2
    store = started(tmp_path)
    feed(store, stream(5))
    later = frames.message(midnight - 1, b"d", 1, b"{}")
    store.add(6, "trade", "S1", later)
    commit(store)
    tomorrow = time.time_ns() + DAY_NS
    assert store.over(tomorrow, 0) == []
    store.add(7, "trade", "S1", frames.message(midnight, b"d", 2, b"{}"))
    assert store.over(tomorrow, 0) == []
    close = Session("close", "kalshi", "c", frames=5, reason="stopped")
    store.add(8, frames.SESSION, "all", frames.message(midnight + 1, b"d", 3, msgspec.json.encode(close)))
    assert store.over(tomorrow, 0) == [DATE]
    commit(store, seal=DATE)
    assert archived(tmp_path) == [*everything(5), ("d", 1)]
    assert store.over(tomorrow, 0) == []


def test_frames_of_two_days_go_to_their_own(tmp_path: Path) -> None:
    store = started(tmp_path)
    messages = stream(20, start=NOON + DAY_NS // 2 - 10 * SECOND_NS)
    feed(store, messages)
    commit(store, finish=True)
    assert archived(tmp_path) == everything(20)[:9]
    assert archived(tmp_path, NEXT) == everything(20)[9:]


def test_a_newer_cursor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kalshi").mkdir()
    (tmp_path / "kalshi" / "cursor.json").write_text('{"feed":"kalshi","format":99}')
    with pytest.raises(archive.NewerFormat, match="newer ssmd"):
        started(tmp_path)
    shutil.rmtree(tmp_path / "kalshi")


def forget_everything(store: Store) -> None:
    """As days later, when all connections are closed."""
    commit(store)
    known = [(conn, ranges[-1][1]) for conn, ranges in store.committed().items()]
    for n, (conn, last) in enumerate([*known, ("d", len(known) + 1)], 1):
        close = Session("close", "kalshi", conn, frames=last, reason="stopped")
        message = frames.message(NOON, b"d", n, msgspec.json.encode(close))
        store.add(store.cursor.seq + 1, frames.SESSION, "all", message)
    commit(store, seal=DATE)
    store.forget(time.time_ns() + 400 * DAY_NS)
    assert not store.cursor.conns and not store.cursor.days


def test_frames_of_a_forgotten_connection_are_dropped_all_the_same(tmp_path: Path) -> None:
    """A journal keeps its newest segment for ever, so a connector may send again what is long archived."""
    store = started(tmp_path)
    feed(store, stream(10))
    forget_everything(store)
    for seq, channel, symbol, message in stream(11):
        store.add(20 + seq, channel, symbol, message)
    assert store.duplicates == 10
    commit(store, seal=DATE)
    assert archived(tmp_path) == [*everything(11), ("d", 1), ("d", 2)]
    assert store.holes("c") == store.holes("d") == []


def test_late_frames_of_a_forgotten_day_take_nothing_from_its_manifest(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, stream(10))
    gap = Gap("g", "kalshi", "c", ["S1"], NOON, NOON + 5, "stale")
    store.add(11, frames.GAP, "all", frames.message(NOON, b"b", 1, msgspec.json.encode(gap)))
    store.add(12, frames.BAD, "all", frames.message(NOON, b"b", 2, b"?", bad="no JSON", json=False))
    forget_everything(store)
    path = archive.manifest_path(tmp_path, "kalshi", DATE)
    before = archive.load_manifest(path)
    assert before.sessions and before.gaps and before.quarantined

    store.add(30, "trade", "S0", frames.message(NOON + 20 * SECOND_NS, b"e", 1, b"{}"))
    commit(store, seal=DATE)
    after = archive.load_manifest(path)
    assert (after.revision, after.frames) == (2, before.frames + 1)
    assert (after.sessions, after.gaps, after.quarantined) == (before.sessions, before.gaps, before.quarantined)
    assert [c for c in after.connections if c.conn != "e"] == before.connections


def test_a_connection_whose_end_is_known_before_its_frames_keeps_that_end(tmp_path: Path) -> None:
    store = started(tmp_path)
    close = Session("close", "kalshi", "c", frames=6, reason="the connector died")
    store.add(1, frames.SESSION, "all", frames.message(NOON, b"d", 1, msgspec.json.encode(close)))
    assert store.holes("c") == [(1, 6)]
    feed(store, [(10 + n, *rest) for n, *rest in stream(4)])
    assert store.holes("c") == [(5, 6)]
    assert store.cursor.conns["c"].closed == "the connector died"


def test_a_stream_that_begins_again_is_told_by_its_lowest_and_highest_number(tmp_path: Path) -> None:
    store = started(tmp_path)
    feed(store, [(seq + 100, *rest) for seq, *rest in stream(10)])
    messages = stream(16)[10:]
    subjects = [f"e.kalshi.json.{channel}.{symbol}".encode() for _, channel, symbol, _ in messages]
    store.add_all(range(1, 7), subjects, [message for *_, message in messages])
    commit(store, seal=DATE)
    manifest = archive.load_manifest(archive.manifest_path(tmp_path, "kalshi", DATE))
    for segment in manifest.segments:
        seqs = [line.seq for line in archive.read_segment(archive.day_folder(tmp_path, "kalshi", DATE) / segment.name)]
        assert (segment.seq_first, segment.seq_last) == (min(seqs), max(seqs))
    assert store.cursor.seq == 6
