"""Futures client and server grammar understand each other, without a network between them."""

import json

import pytest

from exchanges.kraken_futures import venue
from exchanges.kraken_futures.simulator import KrakenFuturesSimulator
from exchanges.port import Subscription

from ..kraken.talk import Talk, simulated

CHANNELS = ("book", "trade", "ticker", "ticker_lite")


def _made(**more: float) -> KrakenFuturesSimulator:
    made = simulated(venue, **more)
    assert isinstance(made, KrakenFuturesSimulator)
    return made


def test_a_generated_market_is_followed_without_a_notice() -> None:
    s = _made(frames_per_second=600)
    talk = Talk(venue, s, Subscription(CHANNELS, tuple(s.markets), 3))
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
    talk = Talk(venue, s, Subscription(("book",), tuple(s.markets)))
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
    talk = Talk(venue, s, Subscription(("book", "trade"), tuple(s.markets)), losing="trade")
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
    talk = Talk(venue, s, Subscription(("book", "trade"), ("NONE", *s.markets)))
    for _ in range(240):
        talk.pass_time(0.25)
        for record in s.generate(talk.now):
            talk.market(record)
    refused = [n for n in talk.notices if n.kind == "refused"]
    assert [n.symbols for n in refused] == [("NONE",)] * 2
    assert talk.connection.subscriptions == 16 and talk.channels["book"] > 3000
    assert "break" not in {n.kind for n in talk.notices}
