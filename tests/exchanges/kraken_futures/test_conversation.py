"""Futures client and server grammar understand each other, without a network between them."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from exchanges.kraken_futures import venue
from exchanges.kraken_futures.adapter import KrakenFuturesAdapter
from exchanges.kraken_futures.simulator import KrakenFuturesSimulator
from exchanges.port import Notice, Record, Simulation, Subscription
from ssmd.events import Event

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
CHANNELS = ("book", "trade", "ticker", "ticker_lite")


class Talk:
    """Carries frames between an adapter and a simulated connection; `lose` says how many of a feed are lost on the way.

    What the adapter owes arrives at the venue a moment later: what it had sent by then is on its way already.
    """

    def __init__(self, simulator: KrakenFuturesSimulator, subscription: Subscription) -> None:
        self.connection = simulator.connect()
        self.adapter = KrakenFuturesAdapter(subscription)
        self.frames: list[tuple[str, str | None, bytes]] = []
        self.notices: list[Notice] = []
        self.lost: list[bytes] = []
        self.lose = 0
        self.losing = "book"
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
        grammar = venue.events("2026-08-11")
        return [event for channel, _, wire in self.frames for event in grammar(channel, wire)]


def _made(**more: float) -> KrakenFuturesSimulator:
    s = KrakenFuturesSimulator(
        Simulation(**{"seed": 3, "markets": 8, "frames_per_second": 400, **more})  # type: ignore[arg-type]
    )
    s.generate(NOW)
    return s


def test_a_generated_market_is_followed_without_a_notice() -> None:
    s = _made(frames_per_second=600)
    talk = Talk(s, Subscription(CHANNELS, tuple(s.markets), 3))
    known = set(s.markets)
    for _ in range(700):
        talk.pass_time(0.1)
        for record in s.generate(talk.now):
            talk.market(record)
        listed = {m.product for m in s.markets.values() if m.tradeable}
        talk.send(talk.adapter.subscribe(sorted(listed - known)))
        talk.send(talk.adapter.unsubscribe(sorted(known - listed)))
        known = listed
    assert talk.notices == []
    assert talk.channels["book"] > 10_000 and talk.channels["trade"] > 1000 and talk.channels["ticker"] > 300
    assert talk.connection.subscriptions == 8 * 4 and talk.connection.ended is None
    assert len(talk.events()) > 20_000


@pytest.mark.parametrize("lost", [1, 3, 30])
def test_books_that_lost_frames_are_mended_one_by_one(lost: int) -> None:
    s = _made()
    talk = Talk(s, Subscription(("book",), tuple(s.markets)))
    for step in range(160):
        talk.pass_time(0.25)
        if step == 40:
            talk.lose = lost
        for record in s.generate(talk.now):
            talk.market(record)
    breaks = [n for n in talk.notices if n.kind == "break"]
    assert {n.symbols[0] for n in breaks} == {json.loads(w)["product_id"] for w in talk.lost}
    assert sorted(n.symbols for n in breaks) == sorted(n.symbols for n in talk.notices if n.kind == "mended")
    assert talk.channels["book_snapshot"] == 8 + len(breaks)


def test_trades_that_were_lost_are_a_gap_each() -> None:
    s = _made(markets=1)
    talk = Talk(s, Subscription(("book", "trade"), tuple(s.markets)))
    talk.losing = "trade"
    for step in range(80):
        talk.pass_time(0.25)
        if step == 40:
            talk.lose = 3
        for record in s.generate(talk.now):
            talk.market(record)
    assert [n.kind for n in talk.notices] == ["break", "mended"]
    assert "3 missing" in talk.notices[0].evidence


def test_a_product_that_the_venue_does_not_know_is_found_and_the_rest_goes_on() -> None:
    s = _made()
    talk = Talk(s, Subscription(("book", "trade"), ("NONE", *s.markets)))
    for _ in range(240):
        talk.pass_time(0.25)
        for record in s.generate(talk.now):
            talk.market(record)
    refused = [n for n in talk.notices if n.kind == "refused"]
    assert [n.symbols for n in refused] == [("NONE",)] * 2
    assert talk.connection.subscriptions == 16 and talk.channels["book"] > 3000
    assert "break" not in {n.kind for n in talk.notices}
