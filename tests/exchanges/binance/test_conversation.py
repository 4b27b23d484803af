"""Client and server grammar understand each other, without a network between them; events alone make the books."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges import binance_usdm, binance_usdm_market
from exchanges.binance import venue
from exchanges.binance.product import stream_name
from exchanges.port import Notice, Venue
from services.simulator.faults import FaultPlan, Faults, Tongue
from ssmd.events import Trade

from .talk import NOW, SECOND, SPOT_CHANNELS, Book, Talk, generated, subscription

BOTH = [
    pytest.param(venue, "depth@100ms", id="spot"),
    pytest.param(venue, "depth", id="spot-slow"),
    pytest.param(binance_usdm.venue, "depth@100ms", id="usdm"),
]


def books(talk: Talk, of: Venue) -> dict[str, Book]:
    """Every symbol's book by the events of the archived lines, in order."""
    grammar = of.events("2026-11-20")
    found: dict[str, Book] = {}
    for channel, wire in talk.lines:
        for event in grammar(channel, wire):
            found.setdefault(event.symbol, Book()).take([event])
    return found


def flush(talk: Talk) -> None:
    """No more orders, but all of those that there were are told."""
    generator = talk.simulator._generator
    assert generator is not None
    generator._per_frame_ns = 1e18
    talk.generate(2.0)


def same(talk: Talk, of: Venue) -> None:
    found = books(talk, of)
    for symbol, market in talk.simulator.markets.items():
        assert found[symbol].known
        assert found[symbol].sides == {"bid": market.bids_asks["b"], "ask": market.bids_asks["a"]}, symbol


@pytest.mark.parametrize(("of", "depth"), BOTH)
def test_a_generated_market_is_followed_without_a_notice(of: Venue, depth: str) -> None:
    talk = generated(of, (depth, "trade", "bookTicker"))
    talk.generate(20.0)
    flush(talk)
    assert talk.notices == []
    assert talk.channels["trade"] > 500 and talk.channels["depth"] >= 90 and talk.channels["bookTicker"] > 500
    assert talk.channels["depth_snapshot"] == 5
    assert talk.channels["control"] == 2  # the subscription, and the list by which it was checked
    same(talk, of)


@pytest.mark.parametrize(("of", "depth"), BOTH)
def test_answers_that_take_long_make_the_same_books(of: Venue, depth: str) -> None:
    """The books by REST come when the streams are far ahead of them."""
    talk = generated(of, (depth, "trade"))
    talk.immediate = False
    answers = []
    for _ in range(4):
        talk.generate(1.0)
        answers += [(r, talk.simulator.answer("GET", r.target, {}, talk.now)) for r in talk.asks]
        talk.asks.clear()
    talk.generate(1.5)
    for request, answer in answers:
        wire = request.answered(answer.status, answer.body)
        talk.heed(talk.adapter.received(wire, talk.now), wire)
    talk.immediate = True
    talk.generate(5.0)
    flush(talk)
    assert talk.notices == [] and talk.channels["depth_snapshot"] == 5
    assert any(b'"meanwhile":[' in wire for channel, wire in talk.lines if channel == "depth_snapshot")
    same(talk, of)


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.booleans())
def test_books_are_right_whatever_is_lost_and_however_late_answers_are(seed: int, linked: bool) -> None:
    chance, of = Random(seed), (binance_usdm.venue if linked else venue)
    talk = generated(of, ("depth@100ms",), seed=seed, markets=2, frames_per_second=80.0)
    talk.immediate = False
    deliver, held = talk.deliver, list[bytes]()

    def unreliable(wires: object) -> None:
        for wire in wires:  # type: ignore[attr-defined]
            draw = chance.random() if b"depthUpdate" in wire else 1.0
            if draw < 0.03:
                continue  # lost
            if draw < 0.05:
                held.append(wire)  # late
                continue
            deliver([wire, wire] if draw < 0.07 else [wire])
            deliver(held)
            held.clear()

    talk.deliver = unreliable  # type: ignore[method-assign]
    for _ in range(30):
        talk.generate(0.3)
        if chance.random() < 0.4:
            talk.perform()
    talk.deliver = deliver  # type: ignore[method-assign]
    talk.immediate = True
    talk.perform()
    talk.generate(3.0)
    flush(talk)
    opened = Counter(n.symbols for n in talk.notices if n.kind == "break")
    closed = Counter(n.symbols for n in talk.notices if n.kind == "mended")
    assert opened == closed
    same(talk, of)


@pytest.mark.parametrize(("of", "depth"), BOTH)
def test_every_fault_of_the_venue_is_noticed(of: Venue, depth: str) -> None:
    """Skips and swaps are holes in that stream; what is sent twice is told; the books are right in the end."""
    talk = generated(of, (depth, "trade"), markets=3)
    talk.generate(3.0)
    tongue = Tongue(Faults(FaultPlan(7, 40, ("skip", "duplicate", "swap"))))
    faults: list[tuple[str, str, int]] = []
    for _ in range(300):
        talk.now += SECOND // 10
        for record in talk.simulator.generate(talk.now):
            name = stream_name(record.symbol or "", record.channel)

            def note(kind: str, _began_ns: int, name: str = name) -> None:
                faults.append((kind, name, len(talk.notices)))

            tongue.speak(record, talk.connection.market(record), talk.now, talk.deliver, note)
        told = talk.adapter.tick(talk.now)
        if told is not None:
            talk.heed(told)
    talk.generate(3.0)
    kinds = Counter(kind for kind, _, _ in faults)
    assert min(kinds["skip"], kinds["duplicate"], kinds["swap"]) > 5
    for kind, name, since in faults:
        evidence = next(n.evidence for n in talk.notices[since:] if n.evidence.startswith(f"{name}:"))
        assert ("again or late" in evidence) == (kind == "duplicate"), (kind, name, evidence)
    holes = [n for n in talk.notices if "again or late" not in n.evidence and n.kind != "mended"]
    assert len(holes) == kinds["skip"] + kinds["swap"]
    assert talk.kinds().count("break") == talk.kinds().count("mended")
    flush(talk)
    same(talk, of)


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.booleans())
def test_whatever_is_lost_between_two_connections_is_told_with_the_next_frame_of_its_stream(
    seed: int, linked: bool
) -> None:
    """Before the first connection's end, while there is none, and after the second's beginning."""
    chance, of = Random(seed), (binance_usdm.venue if linked else venue)
    first = generated(of, ("depth@100ms", "trade"), markets=3)
    first.generate(2.0)
    talk, lost = first, set[str]()

    def pass_on(share: float) -> None:
        """A moment of the market, of which the client hears a share."""
        talk.now += SECOND // 10
        for record in talk.simulator.generate(talk.now):
            name, wires = stream_name(record.symbol or "", record.channel), talk.connection.market(record)
            if wires and chance.random() >= share:
                lost.add(name)
            elif wires:
                before = len(talk.notices)
                talk.deliver(wires)
                told = [n for n in talk.notices[before:] if n.kind != "mended" and n.evidence.startswith(f"{name}:")]
                assert len(told) == (name in lost), (name, told)
                lost.discard(name)

    for _ in range(3):
        pass_on(0.5)
    for _ in range(chance.choice((0, 1, 30))):
        pass_on(0.0)
    wanted = subscription(tuple(first.simulator.markets), ("depth@100ms", "trade"))
    talk = Talk(first.simulator, replace(wanted, numbers=first.adapter.numbers()), of)
    talk.now = first.now
    talk.immediate = False
    for step in range(12):
        pass_on(0.5)
        if step == 4:
            talk.perform()
    for _ in range(3):
        pass_on(1.0)
    talk.immediate = True
    talk.perform()
    talk.generate(3.0)
    flush(talk)
    opened = Counter(n.symbols for n in talk.notices if n.kind == "break")
    assert opened == Counter(n.symbols for n in talk.notices if n.kind == "mended")
    same(talk, of)


def test_no_more_than_was_lost_is_a_gap() -> None:
    """One trade is missed: one gap of that symbol, over with the next trade; its book is not touched."""
    talk = generated(markets=4)
    talk.generate(2.0)
    talk.now += SECOND
    records = list(talk.simulator.generate(talk.now))
    lost = next(r for r in records if r.kind == "trade")
    talk.market(r for r in records if r is not lost)
    talk.generate(2.0)
    assert [(n.kind, n.symbols) for n in talk.notices] == [("break", (lost.symbol,)), ("mended", (lost.symbol,))]
    assert "1 missing" in talk.notices[0].evidence
    assert talk.channels["depth_snapshot"] == 4


def test_a_gap_begins_with_the_last_frame_of_its_own_stream() -> None:
    """Others may have been heard since: what is missing may have been sent before theirs."""
    talk = generated(channels=("trade",), markets=4)
    talk.generate(2.0)
    heard: dict[str, int] = {}
    lost = None
    for _ in range(200):
        talk.now += SECOND // 100
        for record in talk.simulator.generate(talk.now):
            assert record.symbol is not None
            if lost is None and heard.keys() >= set(talk.simulator.markets):
                lost = record.symbol
                continue
            talk.market([record])
            if talk.notices:
                assert talk.notices[0].symbols == (lost,) and talk.notices[0].since_ns == heard[record.symbol]
                assert max(heard.values()) > heard[record.symbol]
                return
            heard[record.symbol] = talk.now
    raise AssertionError("no gap was told")


def test_symbols_come_and_go_on_a_live_connection() -> None:
    talk = generated(markets=4)
    talk.generate(2.0)
    first, *others = talk.simulator.markets
    talk.send(talk.adapter.unsubscribe(others))
    talk.lines.clear()
    talk.channels.clear()
    talk.generate(2.0)
    assert {e.symbol for c, w in talk.lines for e in venue.events("2026")(c, w)} == {first}
    assert talk.connection.subscriptions == len(SPOT_CHANNELS)
    talk.send(talk.adapter.subscribe(others[:1]))
    talk.generate(3.0)
    assert talk.channels["depth_snapshot"] == 1 and talk.notices == []
    flush(talk)
    found = books(talk, venue)
    market = talk.simulator.markets[others[0]]
    assert found[others[0]].sides == {"bid": market.bids_asks["b"], "ask": market.bids_asks["a"]}


def test_a_symbol_that_does_not_exist_is_told() -> None:
    talk = generated(markets=1)
    talk.send(talk.adapter.subscribe(["NOSUCHUSDT"]))
    talk.generate(70.0)
    refused = [n for n in talk.notices if n.kind == "refused"]
    silent = [n for n in talk.notices if "nothing came in 60 s" in n.evidence]
    assert [n.symbols for n in refused] == [("NOSUCHUSDT",)] and "-1121" in refused[0].evidence
    assert [n.symbols for n in silent] == [("NOSUCHUSDT",)]
    assert {n.symbols for n in talk.notices} == {("NOSUCHUSDT",)}


def test_a_stream_of_another_route_is_refused_before_it_is_silent() -> None:
    talk = generated(binance_usdm.venue, ("depth@100ms", "aggTrade"))
    talk.generate(1.0)
    assert [(n.kind, "aggTrade" in n.evidence) for n in talk.notices] == [("refused", True)]


def test_streams_that_the_venue_drops_are_subscribed_again() -> None:
    talk = generated(markets=2)
    talk.generate(3.0)
    name = "btcusdt@trade"
    del talk.connection._streams[name]
    talk.generate(1.0)
    talk.send(talk.adapter.probe())
    assert Counter(talk.kinds()) == {"break": 1, "warning": 1, "explained": 1}
    (told,) = [n for n in talk.notices if n.kind == "explained"]
    assert "bookTicker" in told.channels and "trade" not in told.channels, "of what is not listed nothing is explained"
    talk.generate(3.0)
    assert name in talk.connection._streams
    assert talk.kinds().count("break") == talk.kinds().count("mended") >= 1
    assert {n.symbols for n in talk.notices} == {("BTCUSDT",), ()}


def test_a_depth_that_stands_still_while_prices_move_is_stale() -> None:
    talk = generated(markets=1)
    talk.generate(3.0)
    deliver = talk.deliver
    talk.deliver = lambda wires: deliver([w for w in wires if b"depthUpdate" not in w])  # type: ignore[method-assign]
    talk.generate(12.0)
    assert [(n.kind, n.cause) for n in talk.notices] == [("break", "stale")]
    talk.deliver = deliver  # type: ignore[method-assign]
    talk.generate(2.0)
    gaps = [(n.kind, n.cause) for n in talk.notices if n.kind != "warning"]
    assert Counter(gaps) == Counter(
        [("break", "stale"), ("mended", "stale"), ("break", "sequence"), ("mended", "sequence")]
    )
    flush(talk)
    same(talk, venue)


def test_a_book_by_rest_that_lags_is_asked_for_until_it_joins() -> None:
    talk = generated(markets=1)
    talk.generate(2.0)
    talk.simulator.caches_books = True
    talk.simulator.answer("GET", "/api/v3/depth?symbol=BTCUSDT&limit=5000", {}, talk.now)
    talk.generate(1.0)
    lost = [r for r in talk.simulator.generate(talk.now + SECOND) if "depth" not in r.channel]
    talk.now += SECOND
    talk.market(lost)
    talk.generate(70.0)
    assert talk.kinds().count("break") == 1 and "mended" not in talk.kinds()
    assert all(n.symbols == ("BTCUSDT",) for n in talk.notices)
    assert 6 <= sum("older than" in n.evidence for n in talk.notices) <= 10  # ever more slowly
    talk.simulator.caches_books = False
    talk.generate(65.0)
    assert talk.kinds().count("mended") == 1
    flush(talk)
    same(talk, venue)


def test_live_and_archived_events_are_the_same() -> None:
    """The grammar keeps nothing between frames: any order gives each frame's events."""
    talk = generated(channels=(*SPOT_CHANNELS, "aggTrade", "ticker", "miniTicker", "!miniTicker@arr", "kline_1m"))
    talk.generate(3.0)
    grammar = venue.events("2026-11-20")
    live = [grammar(channel, wire) for channel, wire in talk.lines]
    order = list(range(len(live)))
    Random(1).shuffle(order)
    assert {i: venue.events("2026-11-20")(*talk.lines[i]) for i in order} == dict(enumerate(live))
    assert talk.notices == []


def test_the_market_route_of_usdm() -> None:
    channels = ("aggTrade", "markPrice@1s", "forceOrder", "!forceOrder@arr", "ticker", "kline_1m", "!miniTicker@arr")
    talk = generated(binance_usdm_market.venue, channels)
    talk.generate(20.0)
    assert talk.notices == [] and talk.asks == []
    assert set(talk.channels) == {
        "aggTrade", "markPrice", "forceOrder", "forceOrder@arr", "ticker", "kline_1m", "miniTicker@arr", "control",
    }  # fmt: skip
    grammar = binance_usdm_market.venue.events("2026-11-20")
    kinds = {(c, type(e).__name__) for c, w in talk.lines for e in grammar(c, w)}
    assert kinds == {("aggTrade", "Trade"), ("ticker", "Ticker"), ("miniTicker@arr", "Ticker")}


def test_trades_are_counted_once_each() -> None:
    talk = generated(binance_usdm.venue, ("trade",), markets=2)
    talk.generate(30.0)
    grammar = binance_usdm.venue.events("2026-11-20")
    sent = {symbol: [str(row["id"]) for row in m.trades] for symbol, m in talk.simulator.markets.items()}
    found: dict[str, list[str | None]] = {symbol: [] for symbol in sent}
    silent = 0
    for channel, wire in talk.lines:
        events = grammar(channel, wire)
        silent += channel == "trade" and not events
        for event in events:
            assert isinstance(event, Trade)
            found[event.symbol].append(event.trade_id)
    assert found == sent and silent > 0  # those off the market are in the numbering, but no trades
    assert talk.notices == []


def test_a_shutdown_is_announced_and_told() -> None:
    talk = generated(markets=1)
    talk.connection.heartbeat(NOW)
    talk.simulator.life_ns, talk.simulator.notice_ns = 60 * SECOND, 30 * SECOND
    assert talk.connection.due(NOW + 29 * SECOND) == ()
    talk.deliver(talk.connection.due(NOW + 30 * SECOND))
    assert talk.notices == [Notice("ending", evidence="the venue announces that it will shut down")]
    assert talk.connection.due(NOW + 31 * SECOND) == ()
