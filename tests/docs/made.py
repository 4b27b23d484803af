"""The data folder that the documentation's examples and the cookbook's answers come from: the same at any time.

    python -m tests.docs.made DIR      makes it, to try things in

Real frames of the repository's fixtures, numbered, journalled, archived and rolled up by the real parts:

    binance/2024-08-08         BTCUSDT, 1.7 s, as recorded
    kraken-futures/2021-07-22  three contracts, 28 s, as recorded
    deribit/2021-07-22         ten options, 30 s, as recorded; some of what was listed then, and fees of May 2022

and, since no recording that may be copied has a fault in it, half a minute of the Binance futures simulator beside the
recording of the spot market, with a connection that is lost and a frame that is cut short:

    binance-usdm/2024-08-08    BTCUSDT and ETHUSDT, simulated
"""

import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from activities.fees import _Found as FoundFees
from activities.processes import Processes
from activities.secmaster import _Found as FoundInstruments
from exchanges.port import Received, Request, Simulation, Subscription, Venue
from services.archiver.store import Store
from ssmd import config, frames, jobs, journal, subjects, versions
from ssmd.events import Gap, Session
from tests.exchanges import venues
from tests.exchanges.binance.talk import recorded
from tests.exchanges.venues import Talk
from tests.lake.captures import roll_up

MS, SECOND = 1_000_000, 1_000_000_000
FIXTURES = config.application_folder() / "exchanges"
SPOT_NS = 1_723_161_253_937_085_768  # the first frame of the recording of the spot market: 2024-08-08 23:54:13.937
FUTURES_NS = 1_626_994_927_000_000_000  # the connection to Kraken Futures: 2021-07-22 23:02:07
OPTIONS_NS = 1_626_993_723_000_000_000  # and to Deribit: 2021-07-22 22:42:03
FEES_NS = 1_652_000_000_000_000_000  # May 2022


class Capture:
    """A feed's frames as a connector numbers them, on one connection after the other."""

    def __init__(self, feed: str) -> None:
        self.feed = feed
        self.venue: Venue = importlib.import_module(f"exchanges.{config.load_feed(feed).venue}").venue
        self.frames: list[tuple[str, str, bytes]] = []  # channel, symbol, message
        self.conn, self.n, self.now_ns = "", 0, 0

    def connect(self, number: int, now_ns: int, channels: Sequence[str], symbols: Sequence[str]) -> None:
        """A connection is tried, and stands 200 ms later."""
        self.conn, self.n = frames.conn_id(self.feed, number, now_ns, 0x7F3A + len(self.frames)), 0
        plan = {"channels": list(channels), "symbols": list(symbols)}
        endpoint = config.load_feed(self.feed).versions[-1].endpoints["production"].ws
        self.session(now_ns, "open", endpoint=endpoint)
        self.session(now_ns + 200 * MS, "connected", subscription=plan)

    def take(self, now_ns: int, wire: bytes, told: Received) -> None:
        """A frame of the venue's, and where its grammar has it go."""
        self._frame(now_ns, told.channel, told.symbol, wire, bad=told.bad, json=told.json)

    def session(self, now_ns: int, kind: str, **more: object) -> None:
        row = msgspec.convert({"type": kind, "feed": self.feed, "conn": self.conn, **more}, Session)
        self._frame(now_ns, frames.SESSION, None, msgspec.json.encode(row))

    def gap(self, now_ns: int, gap: Gap) -> None:
        self._frame(now_ns, frames.GAP, None, msgspec.json.encode(gap))

    def close(self, now_ns: int, reason: str) -> None:
        self.session(now_ns, "close", frames=self.n + 1, reason=reason)

    def _frame(
        self, now_ns: int, channel: str, symbol: str | None, wire: bytes, bad: str | None = None, json: bool = True
    ) -> None:
        self.now_ns = max(self.now_ns, now_ns)
        self.n += 1
        message = frames.message(self.now_ns, self.conn.encode(), self.n, wire, bad=bad, json=json)
        self.frames.append((channel, frames.ALL if symbol is None else symbol, message))

    def write(self, data: Path, date: str, processes: Processes) -> None:
        """Journal, archive, seal and roll up."""
        kept = journal.Journal(data / "journal" / self.feed)
        store = Store(data / "archive", self.feed)
        store.recover()
        store.cursor.stream = subjects.stream("local", self.feed)
        for seq, (channel, symbol, message) in enumerate(self.frames, 1):
            head = frames.parse(message)
            subject = subjects.frame("local", self.feed, channel, None if symbol == frames.ALL else symbol)
            kept.append(head.conn, head.n, head.n, [journal.encode(subject.encode(), message)])
            store.add(seq, channel, symbol, message)
            if seq % 200 == 0:
                _commit(store)
        _commit(store)
        _commit(store, [date])
        kept.close()
        store.close()
        roll_up(data, processes, jobs.Day(self.feed, date))


def _commit(store: Store, seal: Sequence[str] = ()) -> None:
    begun = store.begin([], seal)
    if begun is not None:
        store.write(begun)
        for date in begun.seals:
            store.sealed(date)


def spot() -> Capture:
    """Binance's spot market as recorded; the book that the recorder asked for answers our adapter's request."""
    made = Capture("binance")
    channels, symbols = ("depth@100ms", "trade", "bookTicker"), ("BTCUSDT",)
    adapter = made.venue.adapter(Subscription(channels, symbols))
    made.connect(0, SPOT_NS - 400 * MS, channels, symbols)
    adapter.opened()
    asks: list[Request] = []
    answer = (SPOT_NS - 100 * MS, b'{"result":null,"id":1}')
    for now_ns, frame in (answer, *recorded(FIXTURES / "binance/fixtures/spot-2024-08-08.gz")):
        wire = frame if frame.startswith((b'{"stream"', b'{"result"')) else asks.pop(0).answered(200, frame)
        told = adapter.received(wire, now_ns)
        asks += told.asks
        made.take(now_ns, wire, told)
    made.close(made.now_ns + 300 * MS, "stopped")
    return made


def recording(feed: str, fixture: str, started_ns: int) -> Capture:
    """A venue's recording, frame by frame."""
    [known] = [k for k in venues.known() if k.name == config.load_feed(feed).venue]
    [message] = [m for m in known.recorded if m.fixture == fixture]
    made = Capture(feed)
    channels = config.load_feed(feed).versions[-1].channels
    wires = list(venues.read(known, message))
    adapter = made.venue.adapter(Subscription(tuple(channels), ()))
    adapter.opened()
    routed = [(wire, adapter.received(wire.wire, wire.ts_recv)) for wire in wires]
    symbols = sorted({told.symbol for _, told in routed if told.symbol is not None})
    made.connect(0, started_ns, channels, symbols)
    for wire, told in routed:
        made.take(wire.ts_recv, wire.wire, told)
    made.close(made.now_ns + 300 * MS, "stopped")
    return made


def futures_with_faults() -> Capture:
    """Binance's futures, simulated around the time of the spot recording: a lost connection, a frame cut short."""
    made = Capture("binance-usdm")
    [known] = [k for k in venues.known() if k.name == "binance_usdm"]
    channels, symbols = ("depth@100ms", "trade", "bookTicker"), ("BTCUSDT", "ETHUSDT")
    simulator = known.venue.simulator(Simulation(seed=8, markets=2, frames_per_second=60, turnover_seconds=3600))
    start_ns = SPOT_NS - 18 * SECOND
    simulator.generate(start_ns)

    def connected(number: int, now_ns: int) -> Talk:
        made.connect(number, now_ns, channels, symbols)
        talk = Talk(known, simulator, known.adapter(channels, symbols), now_ns + 250 * MS)
        _take_new(made, talk)
        return talk

    def listen(talk: Talk, until_ns: int) -> None:
        while talk.now_ns < until_ns:
            talk.tick(0.02)
            _take_new(made, talk)

    talk = connected(0, start_ns)
    listen(talk, start_ns + 10 * SECOND)
    first, lost_ns = made.conn, made.now_ns
    away = Gap(f"{first}-1", made.feed, first, [], lost_ns, None, "disconnect", "the connection was reset")
    made.gap(lost_ns + 5 * MS, away)
    made.close(lost_ns + 6 * MS, "connection reset")
    simulator.generate(lost_ns + 2 * SECOND)  # what nobody hears
    talk = connected(0, lost_ns + 2 * SECOND)
    made.gap(made.now_ns, msgspec.structs.replace(away, end=made.now_ns))
    listen(talk, start_ns + 20 * SECOND)
    cut = next(frames.parse(m).wire() for channel, _, m in reversed(made.frames) if channel == "bookTicker")[:70]
    told = talk.adapter.received(cut, talk.now_ns + MS)
    made.take(talk.now_ns + MS, cut, told)
    unknown = Gap(
        f"{made.conn}-2", made.feed, made.conn, [], talk.now_ns + MS, talk.now_ns + MS, "parse", told.bad or ""
    )
    made.gap(talk.now_ns + 2 * MS, unknown)
    listen(talk, start_ns + 30 * SECOND)
    made.session(made.now_ns, "alive", connected=True)
    made.close(made.now_ns + 300 * MS, "stopped")
    return made


def _take_new(made: Capture, talk: Talk) -> None:
    """What arrived since the last look."""
    for wire, channel, symbol in zip(talk.wires, talk.routes, talk.symbols, strict=True):
        made.take(talk.now_ns, wire, Received(channel, symbol))
    talk.wires, talk.routes, talk.symbols = [], [], []


def listing(data: Path) -> None:
    """Some of what Deribit listed on the evening of the recording."""
    venue = Capture("deribit").venue
    body = (FIXTURES / "deribit/fixtures/rest/get_instruments-BTC-2021-07-excerpt.json").read_bytes()
    page = venue.instruments_page(venue.instruments(["BTC"])[0], body)
    before = versions.load(data / "lake", versions.INSTRUMENTS, "deribit")
    found = FoundInstruments(venue, before, {})
    found.add(page.records, OPTIONS_NS)
    versions.publish(data / "lake", versions.INSTRUMENTS, before, found.rows, OPTIONS_NS, whole=True, full=True)


def fees(data: Path) -> None:
    """What trading on Deribit cost in May 2022."""
    venue = Capture("deribit").venue
    body = (FIXTURES / "deribit/fixtures/rest/get_instruments-USDC-2022-05.json").read_bytes()
    page = venue.fees_page(venue.fees([])[0], body)
    before = versions.load(data / "lake", versions.FEES, "deribit")
    found = FoundFees({})
    for fee in page.fees:
        found.add({**fee._asdict(), "detail": dict(fee.detail)}, FEES_NS)
    rows = [versions.made(versions.FEES, before, found.rows)]
    versions.publish(data / "lake", versions.FEES, before, rows, FEES_NS, whole=True, full=True)


def make(data: Path, processes: Processes) -> Path:
    """The whole folder."""
    spot().write(data, "2024-08-08", processes)
    futures_with_faults().write(data, "2024-08-08", processes)
    recording("kraken-futures", "ws/futures-2021-07.txt", FUTURES_NS).write(data, "2021-07-22", processes)
    recording("deribit", "ws/cryptofeed-2021-07.ws.gz", OPTIONS_NS).write(data, "2021-07-22", processes)
    listing(data)
    fees(data)
    return data


def main(arguments: Iterable[str]) -> None:
    [data] = arguments
    with Processes(2) as processes:
        make(Path(data), processes)


if __name__ == "__main__":
    main(sys.argv[1:])
