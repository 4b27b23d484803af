"""Spot client and server grammar understand each other, without a network between them."""

import json

import pytest

from exchanges.kraken import venue
from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Subscription

from .talk import Talk, simulated

CHANNELS = ("book.10", "trade", "ticker.bbo", "ohlc.1", "instrument")


def _made(**more: float) -> KrakenSimulator:
    made = simulated(venue, **more)
    assert isinstance(made, KrakenSimulator)
    return made


@pytest.mark.parametrize("depth", [10, 25, 100])
def test_a_generated_market_is_followed_without_a_notice(depth: int) -> None:
    s = _made(frames_per_second=600)
    talk = Talk(venue, s, Subscription((f"book.{depth}", *CHANNELS[1:]), tuple(s.markets), 3))
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
    talk = Talk(venue, s, Subscription(("book.10",), tuple(s.markets)))
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
    talk = Talk(venue, s, Subscription(("trade",), tuple(s.markets)), losing="trade")
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
    talk = Talk(venue, s, Subscription(("book.10", "trade"), ("XBT/USD", *s.markets)))
    assert [(n.kind, n.symbols) for n in talk.notices] == [("refused", ("XBT/USD",))] * 2
    for _ in range(200):
        talk.pass_time(0.25)
        for record in s.generate(talk.now):
            talk.market(record)
    assert len(talk.notices) == 2 and talk.channels["book"] > 3000


def test_a_quiet_connection_lives_on_heartbeats_and_pings() -> None:
    s = _made()
    talk = Talk(venue, s, Subscription(("trade",), tuple(s.markets)))
    for _ in range(400):
        talk.pass_time(0.5)
    assert talk.connection.ended is None and talk.notices == []
    beats = sum(wire == b'{"channel":"heartbeat"}' for _, _, wire in talk.frames)
    pongs = sum(b'"pong"' in wire for _, _, wire in talk.frames)
    assert beats > 150 and pongs == 6


def test_more_requests_than_the_venue_takes_at_once_are_spread_over_time() -> None:
    s = _made(markets=120)
    talk = Talk(venue, s, Subscription(("trade", "book.10"), tuple(s.markets), 1))
    for _ in range(40):
        talk.pass_time(0.5)
    assert talk.connection.subscriptions == 240 and talk.notices == []
