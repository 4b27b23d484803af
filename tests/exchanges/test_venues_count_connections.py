"""What venues allow an address is what our feeds ask for: the simulators refuse more, and the YAML stays below."""

import importlib
from datetime import date

import pytest

from exchanges.port import SimulatedConnection, Simulation, Simulator
from services.connector.pace import Pace
from ssmd import config

SECOND_NS = 1_000_000_000
NOW_NS = 1_786_410_915_579_000_000


def simulator_of(feed: config.Feed) -> Simulator:
    found: Simulator = importlib.import_module(f"exchanges.{feed.venue}").venue.simulator(Simulation())
    return found


@pytest.mark.parametrize(("name", "most"), [("deribit", 32), ("kraken-futures", 100)])
def test_so_many_connections_at_once_and_no_more(name: str, most: int) -> None:
    feed = config.load_feed(name)
    simulator = simulator_of(feed)
    held: list[SimulatedConnection] = []
    while simulator.refuses("GET", simulator.ws_path, {}, NOW_NS) is None:
        held.append(simulator.connect())
    assert len(held) == most
    assert feed.at(date.today()).limits.connections < most, "second connections and other programs want some, too"
    held.pop()
    assert simulator.refuses("GET", simulator.ws_path, {}, NOW_NS) is None


@pytest.mark.parametrize(
    ("name", "most", "seconds"),
    [("binance", 300, 300), ("binance-usdm", 300, 300), ("binance-usdm-market", 300, 300), ("kraken", 150, 600)],
)
def test_attempts_are_counted_and_ours_are_fewer(name: str, most: int, seconds: int) -> None:
    feed = config.load_feed(name)
    hasty = simulator_of(feed)
    answers = [hasty.refuses("GET", hasty.ws_path, {}, NOW_NS + n) for n in range(most + 1)]
    assert answers[:-1] == [None] * most and answers[-1] is not None and answers[-1].status == 429
    assert hasty.refuses("GET", hasty.ws_path, {}, NOW_NS + (seconds + 1) * SECOND_NS) is None
    patient, pace, now = simulator_of(feed), Pace(feed.at(date.today()).limits.connects_per_minute), 0.0
    while now < 3 * seconds:
        now += pace.wait(now)
        assert patient.refuses("GET", patient.ws_path, {}, NOW_NS + int(now * SECOND_NS)) is None
