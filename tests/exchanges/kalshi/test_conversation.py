"""Client and server grammar understand each other, without a network between them."""

import json
from collections import Counter

import pytest

from exchanges.kalshi import simulator as grammar
from exchanges.kalshi.adapter import KalshiAdapter
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Notice, Record, Simulation, Subscription

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
CHANNELS = ("orderbook_delta", "trade", "ticker", "market_lifecycle_v2")
MARKETS = tuple(f"KXM-26-T{k}" for k in range(10))


class Talk:
    """Carries frames between an adapter and a simulated connection; may lose those that `lose` says."""

    def __init__(self, simulator: KalshiSimulator, subscription: Subscription) -> None:
        self.connection = simulator.connect()
        self.adapter = KalshiAdapter(subscription)
        self.channels: Counter[str] = Counter()
        self.notices: list[Notice] = []
        self.lose = 0
        self.send(self.adapter.opened())

    def send(self, texts: object) -> None:
        for text in texts:  # type: ignore[attr-defined]
            self.deliver(self.connection.received(text, NOW))

    def deliver(self, wires: object) -> None:
        for wire in wires:  # type: ignore[attr-defined]
            if self.lose:
                self.lose -= 1
                continue
            told = self.adapter.received(wire, NOW)
            assert told.bad is None, (wire, told)
            self.channels[told.channel] += 1
            self.notices += told.notices
            self.send(told.owed)

    def market(self, record: Record) -> None:
        self.deliver(self.connection.market(record))

    def kinds(self) -> list[str]:
        return [n.kind for n in self.notices]


def _delta(market: str) -> Record:
    body = {"market_ticker": market, "price_dollars": "0.5000", "delta_fp": "1.00", "side": "yes"}
    found = grammar.record(NOW, json.dumps({"type": "orderbook_delta", "sid": 1, "seq": 1, "msg": body}).encode())
    assert found is not None
    return found


@pytest.fixture
def simulator() -> KalshiSimulator:
    s = KalshiSimulator(Simulation())
    s.load({("orderbook_delta", m) for m in MARKETS}, NOW, NOW)
    for market in MARKETS:
        s.apply(_delta(market))
    return s


def _subscription(**more: int) -> Subscription:
    return Subscription(CHANNELS, MARKETS, **more)


def test_a_generated_market_is_followed_without_a_notice() -> None:
    s = KalshiSimulator(Simulation(seed=3, markets=8, frames_per_second=2000))
    s.generate(NOW)
    talk = Talk(
        s, Subscription(("orderbook_delta", "trade", "ticker", "market_lifecycle_v2"), tuple(s.exchange.markets))
    )
    known = set(s.exchange.markets)
    for step in range(1, 700):
        for record in s.generate(NOW + step * SECOND // 10):
            talk.market(record)
        new = set(s.exchange.markets) - known
        known |= new
        talk.send(talk.adapter.subscribe(sorted(new)))
    assert talk.notices == []
    assert talk.channels["orderbook_delta"] > 10_000 and talk.channels["trade"] > 1000
    assert len(known) == 9 and talk.channels["control"] == 5  # four subscriptions, one list made longer
    assert talk.connection.subscriptions == 4


@pytest.mark.parametrize("lost", [1, 3, 50])
def test_frames_that_get_lost_are_one_gap_and_the_books_are_mended(simulator: KalshiSimulator, lost: int) -> None:
    talk = Talk(simulator, _subscription(symbols_per_subscription_max=6))
    talk.lose = lost
    for k in range(200):
        talk.market(_delta(MARKETS[k % 6]))  # all on the first of the two sids
    assert talk.kinds() == ["break", "mended"]
    assert talk.notices[0].symbols == talk.notices[1].symbols == tuple(sorted(MARKETS[:6]))
    assert f"{lost} missing" in talk.notices[0].evidence


def test_a_lower_limit_of_the_venue_is_found_by_halving(simulator: KalshiSimulator) -> None:
    simulator.markets_per_subscription_max = 3
    talk = Talk(simulator, _subscription())
    assert talk.notices == []
    assert talk.channels["orderbook_snapshot"] == len(MARKETS)
    for market in MARKETS:
        talk.market(_delta(market))
    assert talk.channels["orderbook_delta"] == len(MARKETS) and talk.notices == []


@pytest.mark.parametrize("code", [10, 25])
def test_a_subscription_the_venue_ends_is_made_anew_and_mended(simulator: KalshiSimulator, code: int) -> None:
    talk = Talk(simulator, _subscription())
    talk.deliver([talk.connection.end(1, code)])
    assert talk.kinds() == ["break", "mended"]
    before = talk.channels["orderbook_delta"]
    for market in MARKETS:
        talk.market(_delta(market))
    assert talk.channels["orderbook_delta"] == before + len(MARKETS) and talk.kinds() == ["break", "mended"]


def test_a_slow_client_is_told_so_and_comes_back(simulator: KalshiSimulator) -> None:
    talk = Talk(simulator, _subscription())
    talk.deliver(talk.connection.overflow())
    assert Counter(talk.kinds()) == {"break": 4, "mended": 4}
    assert {n.cause for n in talk.notices if n.kind == "break"} == {"overflow"}
    assert talk.connection.subscriptions == 4


def test_markets_come_and_go_on_a_live_connection(simulator: KalshiSimulator) -> None:
    talk = Talk(simulator, Subscription(("orderbook_delta",), MARKETS[:2], 4))
    talk.send(talk.adapter.subscribe(MARKETS[2:7]))
    assert talk.connection.subscriptions == 2
    talk.send(talk.adapter.unsubscribe(MARKETS[:3]))
    for market in MARKETS:
        talk.market(_delta(market))
    assert talk.channels["orderbook_delta"] == 4 and talk.notices == []
    talk.send(talk.adapter.unsubscribe(MARKETS))
    assert talk.connection.subscriptions == 0 and talk.notices == []
    assert talk.adapter.tick(NOW + 1000 * SECOND) is None  # nothing is left unanswered
