"""Client and server grammar understand each other, without a network between them."""

import json
from collections import Counter, deque
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.deribit import venue
from exchanges.deribit.adapter import DeribitAdapter
from exchanges.deribit.simulator import DeribitSimulator
from exchanges.port import Notice, Simulation, Subscription
from ssmd import frames
from ssmd.events import Event, Trade
from tests.exchanges.deribit.books import Books

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
CHANNELS = (
    "book.{instrument_name}.100ms",
    "trades.any.any.100ms",
    "ticker.{instrument_name}.100ms",
    "instrument.state.any.any",
    "platform_state",
)
EVENTS = venue.events("2026-11-20")


class Talk:
    """Carries frames between an adapter and a simulated connection, and reads them as a subscriber would."""

    def __init__(self, simulator: DeribitSimulator, channels: tuple[str, ...] = CHANNELS, room: int = 500) -> None:
        self.now = NOW
        self.simulator = simulator
        self.connection = simulator.connect()
        self.adapter = DeribitAdapter(Subscription(channels, tuple(simulator.exchange.instruments), room))
        self.channels: Counter[str] = Counter()
        self.notices: list[Notice] = []
        self.events: list[Event] = []
        self.books = Books()
        self.doubtful: set[str] = set()
        self.owed: deque[bytes] = deque()
        self.send(self.adapter.opened())

    def send(self, texts: Iterable[bytes]) -> None:
        """What the client says arrives after what is on its way to it."""
        self.owed.extend(texts)
        while self.owed:
            self.deliver(self.connection.received(self.owed.popleft(), self.now))

    def deliver(self, wires: Iterable[bytes]) -> None:
        for wire in wires:
            told = self.adapter.received(wire, self.now)
            assert told.bad is None, (wire, told)
            self.channels[told.channel] += 1
            self.note(told.notices)
            line = frames.parse(frames.message(self.now, b"c", 1, wire))  # as it is archived
            events = EVENTS(told.channel, line.wire())
            assert list(events) == list(EVENTS(told.channel, wire))
            self.events += events
            self.books.take(events)
            self.owed.extend(told.owed)

    def note(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.notices.append(notice)
            if notice.kind == "break":
                self.doubtful |= set(notice.symbols)
            elif notice.kind == "mended":
                self.doubtful -= set(notice.symbols)

    def pass_time(self, seconds: float) -> None:
        """Markets, heartbeats and ticks in half seconds, as services have them."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            self.now += SECOND // 2
            for record in self.simulator.generate(self.now):
                self.deliver(self.connection.market(record))
            self.beat()

    def beat(self) -> None:
        self.deliver(self.connection.due(self.now))
        ticked = self.adapter.tick(self.now)
        if ticked is not None:
            self.note(ticked.notices)
        self.send(() if ticked is None else ticked.owed)

    def kinds(self) -> list[str]:
        return [n.kind for n in self.notices]


def _simulator(markets: int = 10, rate: float = 200, seed: int = 3) -> DeribitSimulator:
    simulator = DeribitSimulator(Simulation(seed=seed, markets=markets, frames_per_second=rate))
    simulator.generate(NOW)
    return simulator


def _same(talk: Talk, *names: str) -> None:
    """The client's books are the simulator's."""
    for name in names:
        shown = {
            side: {key: msgspec.json.decode(amount, type=float) for key, (_, amount) in levels.items()}
            for side, levels in talk.simulator.exchange.instruments[name].book.sides.items()
        }
        built = talk.books.sides[name]
        assert {k: float(v) for k, v in built["bid"].items()} == shown["bids"], name
        assert {k: float(v) for k, v in built["ask"].items()} == shown["asks"], name


def test_a_generated_market_is_followed_without_a_notice() -> None:
    talk = Talk(_simulator(rate=400))
    known = set(talk.simulator.exchange.instruments)
    for _ in range(70):
        talk.pass_time(1)
        new = set(talk.simulator.exchange.instruments) - known
        known |= new
        talk.send(talk.adapter.subscribe(sorted(new)))
        assert talk.books.crossed() == []
    assert talk.notices == [] and talk.connection.ended is None
    assert min(talk.channels[c] for c in ("book", "trades", "ticker")) > 1000
    assert len(known) == 11 and talk.channels["instrument_state"] == 3
    assert talk.channels["control"] == 6 + 2 + 6 + 6  # acks, those of the new option; test requests and their answers
    _same(talk, *talk.books.sides)
    tape = [e.trade_id for e in talk.events if isinstance(e, Trade)]
    assert len(tape) == len(set(tape)) > 1000


@pytest.mark.parametrize("lost", [1, 3, 20])
def test_lost_changes_are_one_gap_of_that_book_which_is_mended(lost: int) -> None:
    talk = Talk(_simulator(markets=4))
    name = "ETH-PERPETUAL"
    talk.pass_time(2)
    left = lost
    for step in range(1, 400):
        talk.now = NOW + 2 * SECOND + step * SECOND // 20
        for record in talk.simulator.generate(talk.now):
            wires = talk.connection.market(record)
            if left and record.channel == "book" and record.symbol == name:
                left -= 1
                continue
            talk.deliver(wires)
        talk.beat()
    assert [(n.kind, n.symbols) for n in talk.notices] == [("break", (name,)), ("mended", (name,))]
    _same(talk, *talk.books.sides)


_FAULTS = st.lists(st.tuples(st.integers(0, 600), st.sampled_from(["skip", "duplicate", "swap"])), max_size=12)


@given(faults=_FAULTS, seed=st.integers(0, 50))
@settings(max_examples=60)
def test_every_lost_frame_is_noticed_and_every_book_is_right_outside_its_gaps(
    faults: list[tuple[int, str]], seed: int
) -> None:
    """Frames are lost, doubled, or exchanged with the next of their channel and instrument. A loss is noticed with
    the instrument's next frame of that channel, unless the instrument's gap is open by then and covers it; only
    before its first trade on a connection nothing can be missed."""
    talk = Talk(_simulator(markets=3, seed=seed), ("book.{instrument_name}.100ms", "trades.any.any.100ms"))
    plan = dict(faults)
    held: dict[tuple[str, str | None], list[bytes]] = {}
    unseen: set[tuple[str, str | None]] = set()  # frames of these were lost, and nothing came after
    traded: set[str | None] = set()
    k = 0
    for step in range(1, 120):
        talk.now = NOW + step * SECOND // 20
        for record in talk.simulator.generate(talk.now):
            wires = list(talk.connection.market(record))
            if not wires:
                continue
            key = (record.channel, record.symbol)
            fault = None if key in held else plan.get(k)
            k += 1
            if fault == "swap":
                held[key] = wires
            elif fault == "skip":
                if (record.channel == "book" or record.symbol in traded) and record.symbol not in talk.doubtful:
                    unseen.add(key)
            else:
                before = len(talk.notices)
                open_already = record.symbol in talk.doubtful
                talk.deliver([*wires, *held.pop(key, [])] if key in held else wires * (1 + (fault == "duplicate")))
                traded |= {record.symbol} if record.channel == "trades" else set()
                told = [n.kind for n in talk.notices[before:] if record.symbol in n.symbols]
                assert key not in unseen or open_already or told[:1] in (["break"], ["warning"]), key
                unseen.discard(key)
        talk.beat()
        behind = {symbol for channel, symbol in (*held, *unseen) if channel == "book"}
        _same(talk, *sorted(talk.books.sides.keys() - talk.doubtful - behind))
    assert all(n.cause == "sequence" for n in talk.notices)


def test_a_probe_finds_a_book_whose_channel_has_stopped() -> None:
    talk = Talk(_simulator(markets=1))
    talk.pass_time(3)
    for record in talk.simulator.generate(talk.now + SECOND):  # the venue goes on, nothing of it arrives
        talk.connection.market(record)
    talk.now += SECOND
    talk.send(talk.adapter.probe())
    for _ in range(8):
        talk.now += SECOND // 2
        talk.beat()
    assert [kind for kind in talk.kinds() if kind != "explained"] == ["break", "mended"]
    _same(talk, *talk.books.sides)


def test_instruments_come_and_go_on_a_live_connection() -> None:
    talk = Talk(_simulator(markets=6))
    names = list(talk.simulator.exchange.instruments)
    talk.pass_time(4)
    talk.send(talk.adapter.unsubscribe(names[:3]))
    talk.channels.clear()
    for record in talk.simulator.generate(talk.now + SECOND):
        wires = talk.connection.market(record)
        assert not (record.channel in {"book", "ticker"} and record.symbol in names[:3] and wires)
        talk.deliver(wires)
    talk.now += SECOND
    talk.pass_time(2)
    talk.send(talk.adapter.subscribe(names[:2]))
    talk.pass_time(2)
    _same(talk, *names[:2], *names[3:])
    assert talk.notices == []


def test_a_venue_with_lower_limits_is_filled_in_smaller_lists() -> None:
    talk = Talk(_simulator(markets=12), room=2)
    talk.pass_time(6)
    assert talk.connection.subscriptions == 12 + 12 + 3 and talk.notices == [] and talk.connection.ended is None
    _same(talk, *talk.books.sides)


def test_a_channel_that_the_venue_drops_silently_is_told() -> None:
    simulator = _simulator(markets=2)
    talk = Talk(simulator, ("book.{instrument_name}.5ms", "platform_state"))
    (notice,) = talk.notices
    assert notice.kind == "refused" and set(notice.symbols) == set(simulator.exchange.instruments)


def test_raw_intervals_need_authentication() -> None:
    talk = Talk(_simulator(markets=2), ("book.{instrument_name}.raw", "trades.any.any.100ms"))
    assert talk.kinds() == ["refused"] and "13778" in talk.notices[0].evidence
    assert talk.connection.subscriptions == 1  # trades were asked for by themselves


def test_a_client_that_does_not_answer_is_hung_up_on_and_one_that_does_is_not() -> None:
    talk = Talk(_simulator(markets=1))
    talk.pass_time(60)
    assert talk.connection.ended is None
    silent_since = talk.now
    while talk.connection.ended is None and talk.now < silent_since + 60 * SECOND:
        talk.now += SECOND // 2
        talk.connection.due(talk.now)
    assert talk.connection.ended == (4000, "heartbeat close")
    assert 10 <= (talk.now - silent_since) / SECOND <= 22


def test_a_refreshed_answer_that_is_no_list_does_not_hurt() -> None:
    adapter = DeribitAdapter(Subscription(CHANNELS, ("A",)))
    for text in adapter.opened():
        number = json.loads(text)["id"]
        told = adapter.received(json.dumps({"id": number, "result": {"odd": True}}).encode(), 0)
        assert told.channel in {frames.CONTROL, frames.BAD}
