"""Kraken's two grammars, ours and the simulator's, with nothing between them but frames that may be lost."""

from collections import Counter
from collections.abc import Iterable

from exchanges.port import HearsPings, Notice, Record, Simulation, Simulator, Subscription, Venue
from ssmd.events import Event

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000


class Talk:
    """Carries frames between an adapter and a simulated connection; `lose` says how many of a channel get lost.

    What the adapter owes arrives at the venue a moment later: what it had sent by then is on its way already.
    """

    def __init__(self, venue: Venue, simulator: Simulator, subscription: Subscription, losing: str = "book") -> None:
        self.venue = venue
        self.connection = simulator.connect()
        self.adapter = venue.adapter(subscription)
        self.frames: list[tuple[str, str | None, bytes]] = []
        self.notices: list[Notice] = []
        self.lost: list[bytes] = []
        self.lose = 0
        self.losing = losing
        self.now = NOW
        self.owed: list[bytes] = []
        self.send(self.adapter.opened())

    def send(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self.deliver(self.connection.received(text, self.now))

    def deliver(self, wires: Iterable[bytes]) -> None:
        for wire in wires:
            told = self.adapter.received(wire, self.now)
            assert told.bad is None, (wire, told)
            self.frames.append((told.channel, told.symbol, wire))
            self.notices += told.notices
            self.owed += told.owed

    def market(self, record: Record) -> None:
        wires = self.connection.market(record)
        if wires and self.lose and record.channel == self.losing:
            self.lose -= 1
            self.lost += wires
            return
        self.deliver(wires)

    def pass_time(self, seconds: float) -> None:
        owed, self.owed = self.owed, []
        self.send(owed)
        self.now += int(seconds * SECOND)
        if isinstance(self.connection, HearsPings):
            self.connection.pinged(self.now)
        self.deliver(self.connection.due(self.now))
        ticked = self.adapter.tick(self.now)
        if ticked is not None:
            self.notices += ticked.notices
            self.send(ticked.owed)

    @property
    def channels(self) -> Counter[str]:
        return Counter(channel for channel, _, _ in self.frames)

    def events(self) -> list[Event]:
        grammar = self.venue.events("2026-08-11")
        return [event for channel, _, wire in self.frames for event in grammar(channel, wire)]


def simulated(venue: Venue, **more: float) -> Simulator:
    """A generated market that has begun."""
    simulator = venue.simulator(
        Simulation(**{"seed": 3, "markets": 8, "frames_per_second": 400, **more})  # type: ignore[arg-type]
    )
    simulator.generate(NOW)
    return simulator
