"""What a frame of each venue takes, raw, archived and in the lake: made-up markets through archiver and rollup."""

import importlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec
from temporalio.testing import ActivityEnvironment

from activities.processes import Processes
from activities.rollup import Rollup
from exchanges.port import Adapter, Simulation, Simulator, Subscription, Venue
from services.archiver.store import Store
from ssmd import config, frames, jobs, subjects

FEEDS = ("kalshi", "polymarket", "deribit", "kraken", "kraken-futures", "binance", "binance-usdm")
START_NS = 1_786_410_000_000_000_000  # 2026-08-11T01:00:00Z
DATE, HOUR = "2026-08-11", 1
STEP_NS = 100_000_000
COMMIT_STEPS = 10  # as the archiver's `commit_seconds` of 1
ENV = "local"


class Bytes(msgspec.Struct, frozen=True):
    """Of one venue's frames: how many they are and how many rows they become; bytes in all."""

    frames: int
    rows: int
    wire: int  # as the venue sent them
    lines: int  # as they are journalled, published and archived, before compression
    archive: int
    lake: int


def measure(feed_name: str, count: int, frames_per_second: float) -> Bytes:
    """At least `count` frames of its simulator, at that rate, archived each second and rolled up."""
    feed = config.load_feed(feed_name)
    venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
    with tempfile.TemporaryDirectory() as folder, Processes(1) as processes:
        places = config.Places(Path(folder))
        places.create()
        store = Store(places.archive, feed_name)
        store.recover()
        conn = f"{feed_name}-0-19fb3c2b7d1-7f3a".encode()
        subject: dict[tuple[str, str | None], bytes] = {}
        n = wire_bytes = 0
        adapter, wires = _talk(venue, feed, frames_per_second)
        for step, some in enumerate(wires):
            taken, messages = [], []
            ts_recv = START_NS + step * STEP_NS
            for wire in some:
                n += 1
                wire_bytes += len(wire)
                route = adapter.received(wire, ts_recv)
                key = route.channel, route.symbol
                if key not in subject:
                    subject[key] = subjects.frame(ENV, feed_name, *key).encode()
                taken.append(subject[key])
                messages.append(frames.message(ts_recv, conn, n, wire, bad=route.bad, json=route.json))
            if messages:
                store.add_all(range(n - len(messages) + 1, n + 1), taken, messages)
            if step % COMMIT_STEPS == COMMIT_STEPS - 1 and (commit := store.begin()) is not None:
                store.write(commit)
            if n >= count:
                break
        commit = store.begin(store.of_day(None), [DATE])
        assert commit is not None
        (manifest,) = store.write(commit).values()
        store.close()
        rollup = Rollup(places, processes)
        given = jobs.Hour(feed_name, DATE, HOUR, manifest.revision)
        rolled: jobs.RolledHour = ActivityEnvironment().run(rollup.rollup_hour, given)
        assert rolled.frames == manifest.frames == n and not rolled.quarantined, rolled
        return Bytes(
            frames=n,
            rows=sum(part.rows for part in rolled.parts),
            wire=wire_bytes,
            lines=sum(s.raw_bytes for s in manifest.segments),
            archive=sum(s.bytes for s in manifest.segments),
            lake=sum(part.bytes for part in rolled.parts),
        )


def _talk(venue: Venue, feed: config.Feed, frames_per_second: float) -> tuple[Adapter, Iterator[list[bytes]]]:
    """An adapter, and what its simulated venue sends it in each step: the answers to its subscriptions first."""
    simulator = venue.simulator(Simulation(seed=1, markets=24, frames_per_second=frames_per_second))
    simulator.generate(START_NS)
    version = feed.at(datetime.fromtimestamp(START_NS / 1e9, UTC).date())
    symbols = tuple(_symbols(venue, simulator, version))
    adapter = venue.adapter(Subscription(tuple(version.channels), symbols, version.limits.symbols_per_subscription))

    def wires() -> Iterator[list[bytes]]:
        connection = simulator.connect()
        yield [wire for command in adapter.opened() for wire in connection.received(command, START_NS)]
        now = START_NS
        while True:
            now += STEP_NS
            yield [wire for record in simulator.generate(now) for wire in connection.market(record)]

    return adapter, wires()


def _symbols(venue: Venue, simulator: Simulator, version: config.FeedVersion) -> list[str]:
    base = urlsplit(version.endpoints["production"].rest).path.rstrip("/")
    found: set[str] = set()
    todo = list(venue.instruments([]))
    while todo:
        request = todo.pop()
        target = base + request.path + ("?" + urlencode(request.query) if request.query else "")
        page = venue.instruments_page(request, simulator.answer(request.method, target, {}, START_NS).body)
        found |= set(page.symbols)
        todo += [page.next] if page.next is not None else []
    return sorted(found)
