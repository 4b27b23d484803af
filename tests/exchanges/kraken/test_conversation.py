"""Spot client and server grammar understand each other, without a network between them."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from exchanges.kraken import venue
from exchanges.kraken.adapter import KrakenAdapter
from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Notice, Record, Simulation, Subscription
from ssmd.events import Event

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
CHANNELS = ("book.10", "trade", "ticker.bbo", "ohlc.1", "instrument")


class Talk:
    """Carries frames between an adapter and a simulated connection; `lose` says how many are lost on the way.

    What the adapter owes arrives at the venue a moment later: what it had sent by then is on its way already.
    """

    def __init__(self, simulator: KrakenSimulator, subscription: Subscription) -> None:
        self.connection = simulator.connect()
        self.adapter = KrakenAdapter(subscription)
        self.frames: list[tuple[str, str | None, bytes]] = []
        self.notices: list[Notice] = []
        self.lost: list[bytes] = []
        self.lose = 0
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
        if wires and self.lose:
            self.lose -= 1
            self.lost += wires
            return
        self.deliver(wires)

    def pass_time(self, seconds: float) -> None:
        owed, self.owed = self.owed, []
        self.send(owed)
        self.now += int(seconds * SECOND)
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


def _made(**more: float) -> KrakenSimulator:
    s = KrakenSimulator(Simulation(**{"seed": 3, "markets": 8, "frames_per_second": 400, **more}))  # type: ignore[arg-type]
    s.generate(NOW)
    return s


@pytest.mark.parametrize("depth", [10, 25, 100])
def test_a_generated_market_is_followed_without_a_notice(depth: int) -> None:
    s = _made(frames_per_second=600)
    talk = Talk(s, Subscription((f"book.{depth}", *CHANNELS[1:]), tuple(s.markets), 3))
    known = set(s.markets)
    for _ in range(700):
        talk.pass_time(0.1)
        for record in s.generate(talk.now):
            talk.market(record)
        listed = {m.symbol for m in s.listed()}
        talk.send(talk.adapter.subscribe(sorted(listed - known)))
        talk.send(talk.adapter.unsubscribe(sorted(known - listed)))
        known = listed
    assert talk.notices == []
    assert talk.channels["book"] > 8_000 and talk.channels["trade"] > 1000 and talk.channels["ohlc"] > 1000
    assert talk.channels["ticker"] > 1000 and talk.channels["instrument"] == 3 and len(known) == 9
    assert talk.connection.subscriptions == 9 * 4 + 1 and talk.connection.ended is None
    assert len(talk.events()) > 20_000


@pytest.mark.parametrize("lost", [1, 3, 30])
def test_books_that_lost_frames_are_mended_one_by_one(lost: int) -> None:
    s = _made()
    talk = Talk(s, Subscription(("book.10",), tuple(s.markets)))
    for step in range(240):
        talk.pass_time(0.25)
        if step == 40:
            talk.lose = lost
        for record in s.generate(talk.now):
            talk.market(record)
    breaks = [n for n in talk.notices if n.kind == "break"]
    assert 1 <= len(breaks) <= lost and all(n.cause == "checksum" and len(n.symbols) == 1 for n in breaks)
    assert sorted(n.symbols for n in breaks) == sorted(n.symbols for n in talk.notices if n.kind == "mended")
    assert {n.symbols[0] for n in breaks} <= {json.loads(w)["data"][0]["symbol"] for w in talk.lost}
    assert talk.channels["book"] > 5000


@pytest.mark.parametrize("lost", [1, 5])
def test_trades_that_were_lost_are_a_gap_each(lost: int) -> None:
    s = _made(markets=1)
    talk = Talk(s, Subscription(("trade",), tuple(s.markets)))
    for step in range(80):
        talk.pass_time(0.25)
        if step == 40:
            talk.lose = lost
        for record in s.generate(talk.now):
            talk.market(record)
    trades = sum(len(json.loads(w)["data"]) for w in talk.lost)
    assert [n.kind for n in talk.notices] == ["break", "mended"]
    assert f"{trades} missing" in talk.notices[0].evidence


def test_a_pair_that_the_venue_does_not_know_is_refused_and_the_rest_goes_on() -> None:
    s = _made()
    talk = Talk(s, Subscription(("book.10", "trade"), ("XBT/USD", *s.markets)))
    assert [(n.kind, n.symbols) for n in talk.notices] == [("refused", ("XBT/USD",))] * 2
    for _ in range(200):
        talk.pass_time(0.25)
        for record in s.generate(talk.now):
            talk.market(record)
    assert len(talk.notices) == 2 and talk.channels["book"] > 3000


def test_a_quiet_connection_lives_on_heartbeats_and_pings() -> None:
    s = _made()
    talk = Talk(s, Subscription(("trade",), tuple(s.markets)))
    for _ in range(400):
        talk.pass_time(0.5)
    assert talk.connection.ended is None and talk.notices == []
    beats = sum(wire == b'{"channel":"heartbeat"}' for _, _, wire in talk.frames)
    pongs = sum(b'"pong"' in wire for _, _, wire in talk.frames)
    assert beats > 150 and pongs == 6


def test_more_requests_than_the_venue_takes_at_once_are_spread_over_time() -> None:
    s = _made(markets=120)
    talk = Talk(s, Subscription(("trade", "book.10"), tuple(s.markets), 1))
    for _ in range(40):
        talk.pass_time(0.5)
    assert talk.connection.subscriptions == 240 and talk.notices == []
