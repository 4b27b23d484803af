"""A captured data folder made by the real parts: journal, archive with cursor, open parts, and tables of the first day.

Two connections take turns on the first day, a third goes on over midnight: its last frames are in open parts, and the
very last in the journal alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from temporalio.testing import ActivityEnvironment

from activities.archive import Archive
from activities.processes import Processes
from activities.rollup import Rollup
from activities.verify import Verify
from services.archiver.store import Store
from ssmd import archive, config, frames, jobs, journal, subjects
from tests.lake.archives import DATE, FEED, GOLD, MEMBER_LINES, SILVER, ArchivedDay

NEXT = "2026-08-12"
CONNECTIONS = ("kalshi-0-019fee1e700-0001", "kalshi-1-019fee1e701-0002", "kalshi-0-019fee1f000-0003")
FIRST_KEPT = 3  # older journal segments are archived, and freed
SEGMENT_BYTES = 6000
R = TypeVar("R")


def lines(scale: int) -> list[tuple[str, str, bytes]]:
    """Channel, symbol and message of every frame, in the order in which they came."""
    first, second = ArchivedDay(conn=CONNECTIONS[0]), ArchivedDay(conn=CONNECTIONS[1])
    for day in (first, second):
        day.at(1).session("open", endpoint="wss://example/ws").session("connected").subscribed()
    for i in range(scale):
        for day in (first, second):
            if i and i * 180 // scale > (i - 1) * 180 // scale:  # three hours
                day.at(1, i * 180 // scale)
            if i % 10 == 0:
                day.snapshot(GOLD, [["0.2800", f"{i}.00"]], [["0.4800", "41.26"]])
            day.delta(GOLD, "yes", "0.2800", f"{i}.50").delta(SILVER, "no", "0.4100", "2.00")
            day.trade((GOLD, SILVER)[i % 2], "0.5100", f"{i}.25").ticker(SILVER, "0.5100", "0.2800", "0.5300")
    second.frame("trade", '{"type":"trade","sid":', bad="not JSON", json=False)
    first.session("close", frames=first.n + 1, reason="stopped")
    second.session("close", frames=second.n + 1, reason="stopped")
    third = ArchivedDay(conn=CONNECTIONS[2]).at(23, 59).session("open", endpoint="wss://example/ws")
    third.trade(GOLD, "0.5100", "7.00").at(24)
    for i in range(max(4, scale // 4)):
        third.trade(GOLD, "0.5100", f"{i}.00").delta(GOLD, "yes", "0.2800", f"{i}.50")
    came = sorted(
        (at, day.conn, channel, line)
        for day in (first, second, third)
        for channel, some in day.lines.items()
        for at, line in some
    )
    return [(channel, _symbol(line), b"{" + line.partition(b",")[2]) for _, _, channel, line in came]


def _symbol(line: bytes) -> str:
    return next((symbol for symbol in (GOLD, SILVER) if symbol.encode() in line), frames.ALL)


def captured(data: Path, processes: Processes, scale: int = 40) -> Path:
    """The folder; its first day is sealed and rolled up."""
    came = lines(scale)
    unarchived = 3
    _journal(data / "journal" / FEED, came)
    store = Store(data / "archive", FEED)
    store.recover()
    per_commit = 4 * MEMBER_LINES
    for seq, (channel, symbol, message) in enumerate(came[:-unarchived], 1):
        store.add(seq, channel, symbol, message)
        if seq % per_commit == 0:
            _commit(store, finish=store.of_day(DATE) if seq % (8 * per_commit) == 0 else [])
    _commit(store)
    _commit(store, seal=[DATE])
    store.close()
    roll_up(data, processes, jobs.Day(FEED, DATE))
    return data


def _commit(store: Store, finish: list[tuple[str, str]] | None = None, seal: list[str] | None = None) -> None:
    begun = store.begin(finish or [], seal or [])
    if begun is not None:
        store.write(begun)
        for date in begun.seals:
            store.sealed(date)


def _journal(folder: Path, came: list[tuple[str, str, bytes]]) -> None:
    kept = journal.Journal(folder, SEGMENT_BYTES)
    for channel, symbol, message in came:
        subject = subjects.frame("local", FEED, channel, None if symbol == frames.ALL else symbol)
        head = frames.parse(message)
        kept.append(head.conn, head.n, head.n, [journal.encode(subject.encode(), message)])
    kept.close()
    for path in sorted(folder.glob("*.journal"))[:FIRST_KEPT]:
        path.unlink()


def roll_up(data: Path, processes: Processes, day: jobs.Day) -> jobs.RolledUp:
    """The steps of RollupDay, one after another."""
    places = config.Places(data)
    step = ActivityEnvironment().run
    sealed = step(Archive(places, "local", "").verify, day)
    rollup = Rollup(places, processes)
    hours = [step(rollup.rollup_hour, jobs.Hour(day.feed, day.date, h, sealed.revision)) for h in sealed.hours]
    return step(rollup.publish_day, sealed, hours)


def verify(data: Path, processes: Processes, date: str = DATE) -> list[jobs.Finding]:
    """The steps of VerifyArchive, one after another; all findings."""
    step: Callable[..., jobs.Scrubbed] = ActivityEnvironment().run
    steps = Verify(config.Places(data), processes)
    day = jobs.Scrub(FEED, date)
    found = [step(steps.scrub_archive, day), step(steps.scrub_journal, day)]
    lake = step(steps.scrub_lake, day, found[0])
    found += [lake, *(step(steps.make_again, jobs.Hour(FEED, date, hour, lake.revision)) for hour in lake.hours)]
    assert not any(f.more for f in found)
    return [finding for f in found for finding in f.findings]


def manifest(data: Path, date: str = DATE) -> archive.Manifest:
    return archive.load_manifest(archive.manifest_path(data / "archive", FEED, date))


def same(value: object) -> bytes:
    """Anything, to be compared."""
    return msgspec.json.encode(value, enc_hook=str)
