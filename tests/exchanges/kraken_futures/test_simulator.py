"""The simulated futures venue answers as Kraken documents it, and minds pings."""

import json
from decimal import Decimal
from typing import Any

import pytest

from exchanges.kraken_futures.markets import double
from exchanges.kraken_futures.simulator import (
    COMMANDS_PER_SECOND_MAX,
    CONNECTIONS_MAX,
    KrakenFuturesConnection,
    KrakenFuturesSimulator,
)
from exchanges.port import HearsPings, Simulation

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
XBT = "PF_XBTUSD"


@pytest.fixture
def simulator() -> KrakenFuturesSimulator:
    s = KrakenFuturesSimulator(Simulation(seed=1, markets=6, frames_per_second=500))
    s.generate(NOW)
    return s


def _say(connection: KrakenFuturesConnection, event: str, now_ns: int = NOW, **more: object) -> list[dict[str, Any]]:
    command = json.dumps({"event": event, **more}).encode()
    return [json.loads(wire) for wire in connection.received(command, now_ns)]


def _greeted(simulator: KrakenFuturesSimulator) -> KrakenFuturesConnection:
    connection = simulator.connect()
    assert list(connection.due(NOW)) == [b'{"event":"info","version":1}']
    return connection


def test_each_product_is_acknowledged_then_comes_its_snapshot(simulator: KrakenFuturesSimulator) -> None:
    c = _greeted(simulator)
    answers = _say(c, "subscribe", feed="book", product_ids=[XBT, "PF_AAPLxUSD"])
    assert answers[:2] == [
        {"event": "subscribed", "feed": "book", "product_ids": [XBT]},
        {"event": "subscribed", "feed": "book", "product_ids": ["PF_AAPLxUSD"]},
    ]
    assert [a["feed"] for a in answers[2:]] == ["book_snapshot"] * 2
    assert answers[2]["bids"][0]["price"] < answers[2]["asks"][0]["price"] and answers[2]["tickSize"] is None
    records = simulator.generate(NOW + SECOND)
    deltas = [json.loads(w) for r in records for w in c.market(r) if r.symbol == XBT]
    assert [d["seq"] for d in deltas] == list(range(answers[2]["seq"] + 1, answers[2]["seq"] + 1 + len(deltas)))
    assert len(deltas) > 20 and c.subscriptions == 2


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ({"feed": "fills", "product_ids": [XBT]}, "Invalid feed"),
        ({"feed": "book", "product_ids": [XBT, "NONE"]}, "Invalid product id"),
        ({"feed": "book", "product_ids": ["pf_xbtusd"]}, "Invalid product id"),
        ({"feed": "book"}, "Invalid product ids"),
        ({"feed": "book", "product_ids": XBT}, "Invalid product ids"),
    ],
)
def test_an_error_names_nothing(simulator: KrakenFuturesSimulator, command: dict[str, object], says: str) -> None:
    c = _greeted(simulator)
    assert _say(c, "subscribe", **command) == [{"event": "error", "message": says}]
    assert c.subscriptions == 0


@pytest.mark.parametrize("wire", [b"", b"hello", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_a_json_error(simulator: KrakenFuturesSimulator, wire: bytes) -> None:
    assert list(_greeted(simulator).received(wire, NOW)) == [b'{"event":"error","message":"Json Error"}']


def test_subscriptions_end(simulator: KrakenFuturesSimulator) -> None:
    c = _greeted(simulator)
    _say(c, "subscribe", feed="trade", product_ids=[XBT])
    assert _say(c, "unsubscribe", feed="trade", product_ids=[XBT, "PI_XBTUSD"]) == [
        {"event": "unsubscribed", "feed": "trade", "product_ids": [XBT]},
        {"event": "unsubscribed_failed", "feed": "trade", "product_ids": ["PI_XBTUSD"]},
    ]
    assert c.subscriptions == 0 and _say(c, "dance") == [{"event": "error", "message": "Invalid event"}]


def test_trade_snapshots_are_the_last_hundred_newest_first(simulator: KrakenFuturesSimulator) -> None:
    for k in range(160):
        simulator.generate(NOW + k * SECOND // 4)
    c = _greeted(simulator)
    _, snapshot = _say(c, "subscribe", feed="trade", product_ids=[XBT])
    numbers = [t["seq"] for t in snapshot["trades"]]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 100
    assert numbers[0] == simulator.markets[XBT].trade_seq


def test_heartbeats_come_every_second_if_subscribed_to(simulator: KrakenFuturesSimulator) -> None:
    c = _greeted(simulator)
    assert all(not c.due(NOW + k * SECOND) for k in range(1, 5))
    assert _say(c, "subscribe", feed="heartbeat") == [{"event": "subscribed", "feed": "heartbeat"}]
    beats = [json.loads(w) for k in range(10) for w in c.due(NOW + 5 * SECOND + k * SECOND // 2)]
    assert beats == [{"feed": "heartbeat", "time": (NOW + 5 * SECOND + k * SECOND) // 1_000_000} for k in range(5)]


def test_a_client_that_does_not_ping_for_a_minute_is_left(simulator: KrakenFuturesSimulator) -> None:
    c = _greeted(simulator)
    assert isinstance(c, HearsPings)
    _say(c, "subscribe", NOW + 50 * SECOND, feed="heartbeat")  # commands do not count
    c.due(NOW + 60 * SECOND)
    assert c.ended is None
    c.pinged(NOW + 60 * SECOND)
    c.due(NOW + 120 * SECOND)
    assert c.ended is None
    c.due(NOW + 121 * SECOND)
    assert c.ended == (1006, "no ping for a minute")


def test_asking_too_fast_is_an_alert_and_no_more(simulator: KrakenFuturesSimulator) -> None:
    c = _greeted(simulator)
    answers = [_say(c, "subscribe", feed="heartbeat")[0] for _ in range(COMMANDS_PER_SECOND_MAX + 1)]
    assert answers[-1]["event"] == "alert" and answers[-2]["event"] == "subscribed"


def test_there_are_so_many_connections_and_no_more(simulator: KrakenFuturesSimulator) -> None:
    held = [simulator.connect() for _ in range(CONNECTIONS_MAX)]
    refused = simulator.refuses("GET", "/ws/v1", {}, NOW)
    assert refused is not None and refused.status == 429
    held.pop()
    assert simulator.refuses("GET", "/ws/v1", {}, NOW) is None


def test_a_challenge_is_answered(simulator: KrakenFuturesSimulator) -> None:
    (answer,) = _say(_greeted(simulator), "challenge", api_key="K")
    assert answer["event"] == "challenge" and len(answer["message"]) == 36


def _rest(simulator: KrakenFuturesSimulator, target: str) -> dict[str, Any]:
    return dict(json.loads(simulator.answer("GET", target, {}, NOW).body))


def test_rest_beside_it(simulator: KrakenFuturesSimulator) -> None:
    for k in range(280):
        simulator.generate(NOW + k * SECOND // 4)
    root = "/derivatives/api/v3"
    instruments = {i["symbol"]: i for i in _rest(simulator, f"{root}/instruments")["instruments"]}
    assert instruments["PF_PEPEUSD"]["contractValueTradePrecision"] == -3
    assert instruments[XBT]["tradeable"] is False  # it ended after a minute, and a dated one came
    assert [name for name in instruments if name.startswith("FF_")] == ["FF_XBTUSD_261109"]
    assert "lastTradingTime" in instruments["FF_XBTUSD_261109"]
    assert XBT not in {t["symbol"] for t in _rest(simulator, f"{root}/tickers")["tickers"]}
    history = _rest(simulator, f"{root}/history?symbol=PI_XBTUSD")["history"]
    assert len(history) == 100 and history[0]["trade_id"] == history[99]["trade_id"] + 99
    older = _rest(simulator, f"{root}/history?symbol=PI_XBTUSD&lastTime={history[99]['time']}")["history"]
    assert older[0]["time"] < history[99]["time"]
    book = _rest(simulator, f"{root}/orderbook?symbol=PI_XBTUSD")["orderBook"]
    assert book["bids"][0][0] < book["asks"][0][0]
    candles = _rest(simulator, "/api/charts/v1/trade/PI_XBTUSD/1m?from=0")["candles"]
    assert len(candles) == 2 and candles[0]["time"] % 60_000 == 0
    assert _rest(simulator, f"{root}/history?symbol=NONE")["error"] == "contractNotFound"
    assert _rest(simulator, f"{root}/history?symbol=PI_XBTUSD&lastTime=x")["error"] == "invalidArgument"
    assert simulator.answer("GET", f"{root}/nothing", {}, NOW).status == 404


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("439.30", "439.3"),
        ("20108", "20108.0"),
        ("0", "0.0"),
        ("0.0000078931", "7.8931e-6"),
        ("0.0009", "9.0e-4"),
        ("-0.00000000006260", "-6.26e-11"),
        ("40000000", "40000000.0"),
    ],
)
def test_numbers_are_written_as_the_venue_does(value: str, text: str) -> None:
    assert double(Decimal(value)) == text and Decimal(text) == Decimal(value)


def test_the_same_seed_makes_the_same_market() -> None:
    def told(seed: int) -> list[bytes]:
        s = KrakenFuturesSimulator(Simulation(seed=seed, markets=4, frames_per_second=500))
        s.generate(NOW)
        return [r.wire for r in s.generate(NOW + SECOND)]

    assert told(3) == told(3) != told(4)
