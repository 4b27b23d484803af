"""The simulated spot venue answers as Kraken documents it, and says what it says at the right moment."""

import json
from typing import Any

import pytest

from exchanges.kraken.messages import HEARTBEAT
from exchanges.kraken.simulator import COMMANDS_PER_SECOND_MAX, KrakenConnection, KrakenSimulator
from exchanges.port import Simulation

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000


@pytest.fixture
def simulator() -> KrakenSimulator:
    s = KrakenSimulator(Simulation(seed=1, markets=3, frames_per_second=500))
    s.generate(NOW)
    return s


def _say(connection: KrakenConnection, method: str, now_ns: int = NOW, **params: object) -> list[dict[str, Any]]:
    command = {"method": method, "req_id": 7} | ({"params": params} if params else {})
    return [json.loads(wire) for wire in connection.received(json.dumps(command).encode(), now_ns)]


def _greeted(simulator: KrakenSimulator) -> KrakenConnection:
    connection = simulator.connect()
    (greeting,) = connection.due(NOW)
    assert json.loads(greeting)["data"][0]["system"] == "online"
    return connection


def test_the_status_comes_first_even_if_the_client_speaks_first(simulator: KrakenSimulator) -> None:
    connection = simulator.connect()
    status, pong = _say(connection, "ping")
    assert status["channel"] == "status" and set(status["data"][0]) == {
        "version",
        "system",
        "api_version",
        "connection_id",
    }
    assert (pong["method"], pong["req_id"]) == ("pong", 7) and pong["time_in"] == "2026-08-11T01:15:15.579000Z"


def test_each_symbol_is_answered_by_itself_and_followed_by_its_snapshot(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    answers = _say(c, "subscribe", channel="book", symbol=["BTC/USD", "XBT/USD", "ETH/USD"], depth=25)
    assert [a.get("method", a.get("channel")) for a in answers] == [
        "subscribe",
        "book",
        "subscribe",
        "subscribe",
        "book",
    ]
    assert answers[0]["result"] == {"channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD"}
    assert answers[0]["success"] is True and answers[0]["req_id"] == 7
    assert answers[2] == {
        "error": "Currency pair not supported XBT/USD",
        "method": "subscribe",
        "success": False,
        "symbol": "XBT/USD",
        "time_in": "2026-08-11T01:15:15.579000Z",
        "time_out": "2026-08-11T01:15:15.579000Z",
        "req_id": 7,
    }
    assert len(answers[1]["data"][0]["bids"]) <= 25
    assert c.subscriptions == 2


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"channel": "level3", "symbol": ["BTC/USD"]}, "Channel not supported"),
        ({"channel": "book", "symbol": ["BTC/USD"], "depth": 7}, "Subscription depth not supported"),
        ({"channel": "book", "symbol": ["BTC/USD"], "depth": True}, "Subscription depth not supported"),
        ({"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 2}, "Subscription ohlc interval not supported"),
        ({"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "x"}, "Event trigger not supported"),
        ({"channel": "trade"}, "Symbol(s) required"),
        ({"channel": "trade", "symbol": "BTC/USD"}, "Symbol(s) required"),
        ({"channel": "trade", "symbol": []}, "Symbol(s) required"),
        ({"channel": "trade", "symbol": ["BTC/USD"], "snapshot": "yes"}, "Snapshot must be a boolean"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(simulator: KrakenSimulator, params: dict[str, Any], says: str) -> None:
    c = _greeted(simulator)
    (answer,) = _say(c, "subscribe", **params)
    assert answer["success"] is False and answer["error"] == says and "symbol" not in answer
    assert c.subscriptions == 0


def test_a_subscription_is_ended_with_the_parameter_that_it_was_made_with(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    _say(c, "subscribe", channel="book", symbol=["BTC/USD"], depth=100)
    (again, *_) = _say(c, "subscribe", channel="book", symbol=["BTC/USD"], depth=100)
    assert again["error"] == "Already subscribed" and again["symbol"] == "BTC/USD"
    (wrong,) = _say(c, "unsubscribe", channel="book", symbol=["BTC/USD"])
    assert wrong["error"] == "Subscription Not Found"
    (right,) = _say(c, "unsubscribe", channel="book", symbol=["BTC/USD"], depth=100)
    assert right["success"] is True and c.subscriptions == 0


@pytest.mark.parametrize("wire", [b"", b"hello", b"[]", b"5", b"\xff", b"{}", b'{"method":5}', b"[" * 100_000])
def test_what_is_no_request_is_malformed(simulator: KrakenSimulator, wire: bytes) -> None:
    (answer,) = _greeted(simulator).received(wire, NOW)
    assert json.loads(answer)["method"] == "error" and json.loads(answer)["error"] == "Malformed request"


def test_asking_too_fast_is_refused(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    answers = [_say(c, "ping")[0] for _ in range(COMMANDS_PER_SECOND_MAX + 1)]
    assert answers[-1]["error"] == "Exceeded msg rate"
    assert _say(c, "ping", NOW + 2 * SECOND)[0]["method"] == "pong"


def test_a_heartbeat_for_every_second_of_silence_once_there_is_a_subscription(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    assert [list(c.due(NOW + k * SECOND // 2)) for k in range(1, 9)] == [[]] * 8
    _say(c, "subscribe", NOW + 5 * SECOND, channel="trade", symbol=["BTC/USD"])
    beats = [list(c.due(NOW + 5 * SECOND + k * SECOND // 2)) for k in range(9)]
    assert beats == [[], [], [HEARTBEAT], [], [HEARTBEAT], [], [HEARTBEAT], [], [HEARTBEAT]]
    record = next(r for r in simulator.generate(NOW + 20 * SECOND) if (r.channel, r.symbol) == ("trade", "BTC/USD"))
    assert len(c.market(record)) == 1
    assert list(c.due(NOW + 20 * SECOND)) == [] and list(c.due(NOW + 21 * SECOND)) == [HEARTBEAT]


def test_a_client_that_says_nothing_for_a_minute_is_left(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    c.due(NOW + 60 * SECOND)
    assert c.ended is None
    _say(c, "ping", NOW + 60 * SECOND)
    c.due(NOW + 120 * SECOND)
    assert c.ended is None
    c.due(NOW + 121 * SECOND)
    assert c.ended is not None and c.ended[0] == 1000


def test_a_client_that_reads_too_slowly_is_left(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    assert list(c.overflow()) == [] and c.ended is not None and c.ended[0] == 1006


def test_a_subscriber_gets_the_triggers_and_intervals_that_he_asked_for(simulator: KrakenSimulator) -> None:
    quotes, trades, bars = (_greeted(simulator) for _ in range(3))
    _say(quotes, "subscribe", channel="ticker", symbol=["BTC/USD"], event_trigger="bbo")
    _say(trades, "subscribe", channel="ticker", symbol=["BTC/USD"])
    _say(bars, "subscribe", channel="ohlc", symbol=["BTC/USD"], interval=5)
    records = [r for k in range(80) for r in simulator.generate(NOW + k * SECOND // 4)]
    sent = [sum(len(c.market(r)) for r in records) for c in (quotes, trades, bars)]
    assert all(sent) and sent[0] > 2 * sent[1]
    traded = sum(r.channel == "trade" and r.symbol == "BTC/USD" for r in records)
    assert sent[1] == sent[2] == traded


def test_trade_snapshots_are_the_last_fifty(simulator: KrakenSimulator) -> None:
    for k in range(400):
        simulator.generate(NOW + k * SECOND // 4)
    c = _greeted(simulator)
    _, snapshot = _say(c, "subscribe", channel="trade", symbol=["BTC/USD"], snapshot=True)
    ids = [t["trade_id"] for t in snapshot["data"]]
    assert ids == list(range(ids[0], ids[0] + 50)) and ids[-1] == simulator.markets["BTC/USD"].traded


def test_a_pair_is_listed_and_one_closes(simulator: KrakenSimulator) -> None:
    c = _greeted(simulator)
    _, snapshot = _say(c, "subscribe", channel="instrument")
    assert {p["symbol"]: p["status"] for p in snapshot["data"]["pairs"]} == dict.fromkeys(simulator.markets, "online")
    told = []
    for k in range(520):
        told += [json.loads(w) for r in simulator.generate(NOW + k * SECOND // 4) for w in c.market(r)]
    states = [(p["symbol"], p["status"]) for t in told for p in t["data"]["pairs"]]
    assert states == [
        ("BTC/USD", "cancel_only"),
        ("ALGO/EUR", "online"),
        ("BTC/USD", "delisted"),
        ("ETH/USD", "cancel_only"),
        ("PEPE/USD", "online"),
    ]
    assert "XXBTZUSD" not in _rest(simulator, "AssetPairs", NOW + 200 * SECOND)["result"]


def _rest(simulator: KrakenSimulator, target: str, now_ns: int) -> dict[str, Any]:
    answer = simulator.answer("GET", f"/0/public/{target}", {}, now_ns)
    return dict(json.loads(answer.body))


def test_rest_beside_it(simulator: KrakenSimulator) -> None:
    for k in range(600):
        simulator.generate(NOW + k * SECOND // 4)
    assert set(_rest(simulator, "AssetPairs?pair=XBTUSD", NOW)["result"]) == {"XXBTZUSD"}
    depth = _rest(simulator, "Depth?pair=XBTUSD&count=3", NOW)["result"]["XXBTZUSD"]
    assert [level[0] for level in depth["bids"]] == [
        p for p, _ in simulator.markets["BTC/USD"].book.sides["bids"].best(3)
    ]
    bars = _rest(simulator, "OHLC?pair=XBTUSD&interval=1&since=0", NOW)["result"]["XXBTZUSD"]
    assert len(bars) == 2 and bars[0][0] % 60 == 0
    assert _rest(simulator, "SystemStatus", NOW)["result"]["status"] == "online"
    assert _rest(simulator, "Time", NOW)["result"]["unixtime"] == NOW // SECOND
    assert set(_rest(simulator, "Assets", NOW)["result"]) >= {"XETH", "XXDG"}
    assert _rest(simulator, "Trades?pair=NONE", NOW)["error"] == ["EQuery:Unknown asset pair"]
    assert _rest(simulator, "Depth", NOW)["error"][0].startswith("EGeneral:Invalid arguments")
    assert _rest(simulator, "Nothing", NOW)["error"] == ["EGeneral:Unknown method"]


def test_rest_is_not_to_be_hurried(simulator: KrakenSimulator) -> None:
    answers = [_rest(simulator, "Time", NOW + k)["error"] for k in range(17)]
    assert answers[:15] == [[]] * 15 and answers[-1] == ["EGeneral:Too many requests"]
    assert _rest(simulator, "Time", NOW + 3 * SECOND)["error"] == []


def test_the_same_seed_makes_the_same_market() -> None:
    def told(seed: int) -> list[tuple[str, bytes]]:
        s = KrakenSimulator(Simulation(seed=seed, markets=4, frames_per_second=500))
        s.depths.add(10)
        s.generate(NOW)
        return [(r.channel, r.wire) for r in s.generate(NOW + SECOND)]

    assert told(3) == told(3) != told(4)
