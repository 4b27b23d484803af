"""Client and server grammar understand each other, without a network between them."""

import random
from collections import Counter

import pytest

from exchanges.polymarket import venue
from exchanges.polymarket.simulator import PolymarketSimulator
from exchanges.port import Notice, Record, Simulation, Subscription
from ssmd.events import BookDelta, BookSnapshot

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
CHANNELS = ("book", "price_change", "last_trade_price", "best_bid_ask", "new_market", "market_resolved")


class Talk:
    """Carries frames between an adapter and a simulated connection; `lose` says which are lost on the way."""

    def __init__(self, **simulation: float) -> None:
        self.simulator = PolymarketSimulator(Simulation(seed=3, **simulation))  # type: ignore[arg-type]
        self.now = NOW
        self.simulator.generate(NOW)
        self.connection = self.simulator.connect()
        self.channels: Counter[str] = Counter()
        self.notices: list[Notice] = []
        self.wires: list[tuple[str, bytes]] = []
        self.adapter = venue.adapter(Subscription(CHANNELS, tuple(self.simulator.exchange.tokens)))
        self.send(self.adapter.opened())

    def send(self, texts: object) -> None:
        for text in texts:  # type: ignore[attr-defined]
            self.hear(self.connection.received(text, self.now))

    def hear(self, wires: object) -> None:
        for wire in wires:  # type: ignore[attr-defined]
            told = self.adapter.received(wire, self.now)
            assert told.bad is None, (wire, told)
            self.channels[told.channel] += 1
            self.wires.append((told.channel, wire))
            self.notices += told.notices
            self.send(told.owed)

    def go(self, seconds: int, lose: object = lambda record: False) -> list[Record]:
        """Time goes by; returns what was lost."""
        lost = []
        for _ in range(seconds * 2):
            self.now += SECOND // 2
            for record in self.simulator.generate(self.now):
                if lose(record):  # type: ignore[operator]
                    lost.append(record)
                else:
                    self.hear(self.connection.market(record))
            told = self.adapter.tick(self.now)
            if told is not None:
                self.notices += told.notices
                self.send(told.owed)
        return lost

    def kinds(self) -> list[str]:
        return [n.kind for n in self.notices]


def test_a_generated_market_is_followed_without_a_notice() -> None:
    talk = Talk(markets=8, frames_per_second=150)
    for _ in range(7):
        known = set(talk.simulator.exchange.tokens)
        talk.go(10)
        talk.send(talk.adapter.subscribe(sorted(set(talk.simulator.exchange.tokens) - known)))
    assert talk.notices == []
    assert all(talk.channels[channel] for channel in (*CHANNELS, "control"))
    assert talk.connection.subscriptions == 18


@pytest.mark.parametrize("share", [0.002, 0.02])
def test_tokens_that_miss_a_change_are_noticed_and_mended_and_no_others(share: float) -> None:
    """All but those of which nothing is missing any more by the next look: the level was written again, or a whole
    book came right after."""
    talk = Talk(markets=6, frames_per_second=60)
    chance = random.Random(5)
    subscribed = set(talk.simulator.exchange.tokens)
    lost = talk.go(55, lambda r: r.kind == "price_change" and chance.random() < share)
    talk.go(4)
    tokens = {token for record in lost for token in record.detail} & subscribed  # type: ignore[attr-defined]
    broken = Counter(s for n in talk.notices if n.kind == "break" for s in n.symbols)
    mended = Counter(s for n in talk.notices if n.kind == "mended" for s in n.symbols)
    assert broken == mended and set(broken) <= tokens and len(broken) >= len(tokens) / 2 > 0
    assert talk.connection.subscriptions == 12


def test_after_all_losses_our_books_are_the_venues() -> None:
    talk = Talk(markets=5, frames_per_second=100)
    chance = random.Random(6)
    talk.go(30, lambda r: chance.random() < 0.03)
    talk.go(8)
    grammar = venue.events("2026-08-11")
    books: dict[str, dict[str, dict[float, str]]] = {}
    for channel, wire in talk.wires:
        for event in grammar(channel, wire):
            if isinstance(event, BookSnapshot):
                sides = {"bid": event.bids, "ask": event.asks}
                books[event.symbol] = {name: {float(p): s for p, s in levels} for name, levels in sides.items()}
            elif isinstance(event, BookDelta):
                side = books[event.symbol][event.side]
                assert event.size is not None
                if event.size == "0":
                    side.pop(float(event.price), None)
                else:
                    side[float(event.price)] = event.size
    for name, token in talk.simulator.exchange.tokens.items():
        assert books[name]["bid"] == {float(p): s for p, s in token.bids.items()}
        assert books[name]["ask"] == {float(p): s for p, s in token.asks.items()}


def test_a_venue_that_forgets_its_subscriptions_is_found_out() -> None:
    talk = Talk(markets=3, frames_per_second=60)
    talk.go(5)
    talk.connection.overflow()
    talk.go(75)
    assert talk.connection.subscriptions > 0  # asked for anew
    assert talk.channels["control"] >= 8  # PONG all the time
