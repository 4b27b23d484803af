"""A day's manifest alone tells its coverage: subscriptions and gaps that began on an earlier day are in it."""

from pathlib import Path

import msgspec
import pytest

from services.archiver.store import Store
from ssmd import archive, frames
from ssmd.archive import Manifest, TimedSession
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.coverage import coverage, of_manifest
from ssmd.events import Gap, Session
from tests.services.archiver.test_store_archives_exactly_once import DATE, NEXT, NOON, commit, started

MIDNIGHT = NOON + DAY_NS // 2
HOUR = 3600 * SECOND_NS


class Stream:
    """One connection's rows, straight into the store."""

    def __init__(self, store: Store, conn: str = "c") -> None:
        self.store, self.conn, self.n = store, conn, 0

    def row(self, channel: str, ts: int, body: bytes) -> None:
        self.n += 1
        message = frames.message(ts, self.conn.encode(), self.n, body)
        self.store.add(self.store.cursor.seq + 1, channel, "all", message)

    def session(self, ts: int, kind: str, conn: str = "", **more: object) -> None:
        row = msgspec.convert({"type": kind, "feed": "kalshi", "conn": conn or self.conn, **more}, Session)
        self.row(frames.SESSION, ts, msgspec.json.encode(row))

    def gap(self, ts: int, name: str, start: int, end: int | None, conn: str = "") -> None:
        row = Gap(name, "kalshi", conn or self.conn, ["A"], start, end, "sequence")
        self.row(frames.GAP, ts, msgspec.json.encode(row))


def over_midnight(store: Store) -> None:
    """Connected at 23:00 the day before, a gap of A from 23:30 to 00:30, closed at 01:00."""
    stream = Stream(store)
    stream.session(MIDNIGHT - HOUR, "open")
    stream.session(MIDNIGHT - HOUR, "connected", subscription={"symbols": ["A", "B"]})
    stream.gap(MIDNIGHT - HOUR // 2, "g", MIDNIGHT - HOUR // 2, None)
    stream.session(MIDNIGHT + 1, "alive", connected=True)
    commit(store)
    stream.gap(MIDNIGHT + HOUR // 2, "g", MIDNIGHT - HOUR // 2, MIDNIGHT + HOUR // 2)
    stream.session(MIDNIGHT + HOUR, "close", frames=stream.n + 1)


def sealed(store: Store, folder: Path, *dates: str) -> list[Manifest]:
    for date in dates:
        commit(store, seal=date)
    return [archive.load_manifest(archive.manifest_path(folder, "kalshi", date)) for date in dates]


def seconds(manifest: Manifest) -> dict[str, tuple[float, float]]:
    full = msgspec.structs.replace(manifest, sealed_at=None)
    return {s: (c.covered_ns / HOUR, c.gap_ns / HOUR) for c in coverage(of_manifest(full)) for s in c.symbols}


def test_a_hole_exactly_at_midnight_belongs_to_the_later_day(tmp_path: Path) -> None:
    store = started(tmp_path)

    def take(n: int) -> None:
        ts = MIDNIGHT + (n - 5) * SECOND_NS  # 5 is the first of the new day
        store.add(store.cursor.seq + 1, "trade", "A", frames.message(ts, b"c", n, b"{}"))

    def holes(*dates: str) -> list[archive.Ranges]:
        return [m.connections[0].holes for m in sealed(store, tmp_path, *dates)]

    for n in (1, 3):
        take(n)
    assert holes(DATE) == [[(2, 2)]]  # nobody knows of more yet
    for n in (6, 7):
        take(n)
    assert store.holes("c") == [(2, 2), (4, 5)]
    assert holes(NEXT) == [[(4, 5)]]
    take(4)  # the last of the old day, late
    assert holes(DATE, NEXT) == [[(2, 2)], [(4, 5)]]  # a manifest without news of its own stays as it is
    take(5)
    assert holes(DATE, NEXT) == [[(2, 2)], []]


def test_sessions_have_their_time(tmp_path: Path) -> None:
    store = started(tmp_path)
    over_midnight(store)
    [manifest] = sealed(store, tmp_path, DATE)
    rows = [msgspec.json.decode(raw, type=TimedSession) for raw in manifest.sessions]
    assert [(row.type, row.ts) for row in rows] == [("open", MIDNIGHT - HOUR), ("connected", MIDNIGHT - HOUR)]
    assert manifest.connections[0].heard == MIDNIGHT + HOUR


def test_both_days_are_told_by_their_own_manifests(tmp_path: Path) -> None:
    store = started(tmp_path)
    over_midnight(store)
    first, second = sealed(store, tmp_path, DATE, NEXT)
    assert seconds(first) == {"A": (0.5, 0.5), "B": (1, 0)}
    assert seconds(second) == {"A": (0.5, 0.5), "B": (1, 0)}


def test_so_they_are_after_a_restart_at_midnight(tmp_path: Path) -> None:
    store = started(tmp_path)
    over_midnight(store)
    commit(store)
    store.close()
    again = started(tmp_path)
    assert again.cursor == store.cursor
    assert seconds(sealed(again, tmp_path, NEXT)[0]) == {"A": (0.5, 0.5), "B": (1, 0)}


def test_if_nothing_were_carried_over_the_day_would_know_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(Store, "_carry_on", lambda *_: None)
    store = started(tmp_path)
    over_midnight(store)
    _, second = sealed(store, tmp_path, DATE, NEXT)
    assert seconds(second) == {"A": (0, 0.5)}


def test_a_row_about_yesterday_is_entered_there_while_that_is_not_sealed(tmp_path: Path) -> None:
    store = started(tmp_path)
    over_midnight(store)
    note = Stream(store, "kalshi-archiver-0-1-1")
    note.gap(MIDNIGHT + 2 * HOUR, "c-lost-7-8", MIDNIGHT - HOUR, MIDNIGHT - HOUR + SECOND_NS, conn="c")
    first, second = sealed(store, tmp_path, DATE, NEXT)
    names = [[msgspec.json.decode(raw, type=Gap).gap for raw in m.gaps] for m in (first, second)]
    assert names == [["g", "c-lost-7-8"], ["g", "c-lost-7-8"]]

    note.gap(MIDNIGHT + 3 * HOUR, "c-lost-9-9", MIDNIGHT - HOUR, MIDNIGHT - HOUR + SECOND_NS, conn="c")
    assert archive.load_manifest(archive.manifest_path(tmp_path, "kalshi", DATE)) == first
