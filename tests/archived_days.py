"""Archived days of every feed: a simulated venue's frames, routed by our client, kept by the real archive store."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from exchanges.port import Simulation, Subscription
from services.archiver.store import Store
from ssmd import archive, config, frames
from ssmd.coverage import midnight
from ssmd.events import Session

DATE = "2026-08-11"
FEEDS = ["kalshi", "polymarket", "deribit", "kraken", "kraken-futures", "binance", "binance-usdm"]
STEP_NS = 20_000_000
LATE = 40  # this many frames later than its neighbours one was archived
CONVERSATION = {"control", "status"}  # channels of what a venue answers, or says of itself


class CapturedDay:
    """One connection to a made-up market, `seconds` long, beginning at `hour`; what came, as an archiver gets it."""

    def __init__(self, name: str, seconds: float = 2.0, hour: int = 9) -> None:
        self.feed = config.load_feed(name)
        self.start_ns = midnight(DATE) + hour * 3600 * 1_000_000_000
        self.conn = frames.conn_id(name, 0, self.start_ns, 7)
        self.channels = tuple(self.feed.versions[-1].channels)
        self.venue = importlib.import_module(f"exchanges.{self.feed.venue}").venue
        self.symbols: tuple[str, ...] = ()
        self.messages: list[tuple[str, str, bytes]] = []  # channel, symbol, message
        self.wires: list[tuple[str, str | None, bytes]] = []  # of the venue, in the order of n
        self._n = 0
        self._talk(seconds)

    def _talk(self, seconds: float) -> None:
        simulator = self.venue.simulator(Simulation(seed=4, markets=4, frames_per_second=200))
        now_ns = self.start_ns
        records = list(simulator.generate(now_ns))
        listed = [self.venue.instruments_page(r, self._answer(simulator, r)) for r in self.venue.instruments([])]
        self.symbols = tuple(dict.fromkeys(s for page in listed for s in page.symbols))
        adapter = self.venue.adapter(Subscription(self.channels, self.symbols))
        line = simulator.connect()
        subscription = {"channels": list(self.channels), "symbols": list(self.symbols)}
        self._session(now_ns, type="open", endpoint="wss://example/ws")
        self._session(now_ns, type="connected", subscription=subscription)
        self._hear(adapter, now_ns, [a for sent in adapter.opened() for a in line.received(sent, now_ns)])
        for _ in range(int(seconds * 1e9 / STEP_NS)):
            now_ns += STEP_NS
            records = list(simulator.generate(now_ns))
            wires = [*line.due(now_ns), *(wire for record in records for wire in line.market(record))]
            self._hear(adapter, now_ns, wires)
        self._session(now_ns, type="close", frames=self._n + 1, reason="stopped")
        self.end_ns = now_ns

    def _answer(self, simulator: object, request: object) -> bytes:
        endpoint = next(iter(self.feed.versions[-1].endpoints.values())).rest
        path = "/" + endpoint.split("/", 3)[3] if endpoint.count("/") > 2 else ""
        answer = simulator.answer("GET", path.rstrip("/") + request.target, {}, self.start_ns)  # type: ignore[attr-defined]
        assert answer.status == 200, answer
        return bytes(answer.body)

    def _hear(self, adapter: object, now_ns: int, wires: list[bytes]) -> None:
        for wire in wires:
            route = adapter.received(wire, now_ns)  # type: ignore[attr-defined]
            assert route.bad is None, (route, wire)
            self._n += 1
            message = frames.message(now_ns, self.conn.encode(), self._n, wire, json=route.json)
            self.messages.append((route.channel, route.symbol or frames.ALL, message))
            self.wires.append((route.channel, route.symbol, wire))

    def _session(self, now_ns: int, **told: object) -> None:
        self._n += 1
        session = msgspec.convert({"feed": self.feed.name, "conn": self.conn, **told}, Session)
        wire = msgspec.json.encode(session)
        self.messages.append((frames.SESSION, frames.ALL, frames.message(now_ns, self.conn.encode(), self._n, wire)))

    @property
    def data(self) -> list[bytes]:
        """What a client that subscribes to all of it gets, beside answers."""
        return [wire for channel, _, wire in self.wires if channel not in CONVERSATION]

    def archive(self, data: Path) -> "CapturedDay":
        keep(data, self.feed.name, self.late())
        return self

    def late(self) -> Iterator[tuple[str, str, bytes]]:
        """The messages as a stream has them after a hole was filled: one comes long after its neighbours."""
        at = len(self.messages) // 2
        yield from self.messages[:at]
        yield from self.messages[at + 1 : at + LATE]
        yield self.messages[at]
        yield from self.messages[at + LATE :]


def keep(data: Path, feed: str, messages: Iterator[tuple[str, str, bytes]]) -> archive.Manifest:
    """Archive messages in this order, in several segments, and seal the day."""
    store = Store(data / "archive", feed)
    store.recover()
    for seq, (channel, symbol, message) in enumerate(messages, 1):
        store.add(seq, channel, symbol, message)
        if seq % 150 == 0:
            commit(store, finish=store.of_day(DATE) if seq % 300 == 0 else [])
    commit(store, seal=[DATE])
    store.close()
    return archive.load_manifest(archive.manifest_path(data / "archive", feed, DATE))


def commit(store: Store, finish: list[tuple[str, str]] | None = None, seal: list[str] | None = None) -> None:
    """Make durable what was added; `finish` parts as segments, seal days."""
    begun = store.begin(finish or [], seal or [])
    if begun is not None:
        store.write(begun)
        for date in begun.seals:
            store.sealed(date)
