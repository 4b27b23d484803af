"""Made-up Kalshi frames from a fixed seed: the same for everybody who is measured."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from exchanges.kalshi import venue
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Simulation, Subscription

CHANNELS = ("orderbook_delta", "ticker", "trade")
START_NS = 1_786_406_400_000_000_000  # 2026-08-11T00:00:00Z
STEP_NS = 100_000_000
FRAMES_PER_SECOND = 10_000  # of the made-up market: many in a second, so that none of its markets closes

_NUMBERED = re.compile(rb'(\{"type":"\w+","sid":(\d+),"seq":)(\d+)')


class Corpus(msgspec.Struct, frozen=True):
    """`opening`: answers to our subscriptions, books; `body`: deltas, tickers and trades as they happened."""

    symbols: list[str]
    opening: list[bytes]
    body: list[bytes]

    def wires(self) -> Iterator[bytes]:
        """The body over and over, each frame with the next number of its subscription. Without end."""
        last = {found[2]: int(found[3]) for found in map(_NUMBERED.match, self.opening) if found}
        pieces = []
        for wire in self.body:
            found = _NUMBERED.match(wire)
            pieces.append((found[1], found[2], wire[found.end() :]) if found else (wire, None, b""))
        while True:
            for start, sid, rest in pieces:
                if sid is None:  # tickers are not numbered
                    yield start
                else:
                    last[sid] = seq = last.get(sid, 0) + 1
                    yield b"%b%d%b" % (start, seq, rest)


def make(frames: int, markets: int) -> Corpus:
    """`frames` of body about so many markets."""
    simulator = KalshiSimulator(Simulation(seed=1, markets=markets, frames_per_second=FRAMES_PER_SECOND))
    now = START_NS
    simulator.generate(now)
    symbols = sorted(simulator.exchange.markets)
    connection = simulator.connect()
    opening: list[bytes] = []
    for command in venue.adapter(Subscription(CHANNELS, tuple(symbols))).opened():
        opening += connection.received(command, now)
    body: list[bytes] = []
    while len(body) < frames:
        now += STEP_NS
        for record in simulator.generate(now):
            body += connection.market(record)
    return Corpus(symbols, opening, body[:frames])


def save(corpus: Corpus, path: Path) -> Path:
    path.write_bytes(msgspec.msgpack.encode(corpus))
    return path


def load(path: Path) -> Corpus:
    return msgspec.msgpack.decode(path.read_bytes(), type=Corpus)
