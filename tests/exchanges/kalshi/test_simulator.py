"""The simulated venue answers as Kalshi documents it, and its books are the sum of what it said."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from exchanges.kalshi import simulator as grammar
from exchanges.kalshi import venue
from exchanges.kalshi.simulator import KalshiConnection, KalshiSimulator
from exchanges.port import Record, Simulation, Unparsable

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PUBLIC = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _record(wire: bytes | str, ts_ns: int = NOW) -> Record:
    found = grammar.record(ts_ns, wire.encode() if isinstance(wire, str) else wire)
    assert found is not None
    return found


def _snapshot(market: str, yes: object = None, no: object = None) -> Record:
    body: dict[str, object] = {"market_ticker": market, "market_id": f"id-{market}"}
    if yes is not None:
        body["yes_dollars_fp"] = yes
    if no is not None:
        body["no_dollars_fp"] = no
    return _record(json.dumps({"type": "orderbook_snapshot", "sid": 1, "seq": 70, "msg": body}, separators=(",", ":")))


def _delta(market: str, price: str, change: str, side: str) -> Record:
    body = {"market_ticker": market, "price_dollars": price, "delta_fp": change, "side": side}
    return _record(json.dumps({"type": "orderbook_delta", "sid": 1, "seq": 71, "msg": body}, separators=(",", ":")))


def _trade(market: str, number: int, ts: int) -> Record:
    body = {
        "trade_id": str(number),
        "market_ticker": market,
        "yes_price_dollars": "0.3100",
        "no_price_dollars": "0.6900",
        "count_fp": "25.00",
        "taker_side": "no",
        "ts": ts,
        "ts_ms": ts * 1000 + 5,
    }
    return _record(json.dumps({"type": "trade", "sid": 2, "seq": 9, "msg": body}, separators=(",", ":")))


@pytest.fixture
def simulator() -> KalshiSimulator:
    """Markets A and B with books, C of a recording that has not told of it yet."""
    s = KalshiSimulator(Simulation())
    s.load({("orderbook_delta", "A"), ("orderbook_delta", "B"), ("trade", "C")}, NOW, NOW + SECOND)
    s.apply(_snapshot("A", [["0.0800", "300.00"], ["0.2200", "333.00"]], [["0.5400", "20.00"]]))
    s.apply(_snapshot("B", [["0.5000", "1.50"]]))
    return s


def _say(
    connection: KalshiConnection, cmd: object, params: object = None, number: object = 1, **more: object
) -> list[dict[str, Any]]:
    command: dict[str, object] = {"id": number, "cmd": cmd, **more}
    if params is not None:
        command["params"] = params
    return [json.loads(wire) for wire in connection.received(json.dumps(command).encode(), NOW)]


# --------------------------------------------------------------------------------------------- subscriptions


def test_subscribing_is_acknowledged_and_followed_by_a_snapshot_for_each_market(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    wires = c.received(
        b'{"id":1,"cmd":"subscribe","params":{"channels":["orderbook_delta","trade"],"market_tickers":["B","A"]}}', NOW
    )
    assert list(wires) == [
        b'{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}',
        b'{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":2}}',
        b'{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"B","market_id":"id-B",'
        b'"yes_dollars_fp":[["0.5000","1.50"]]}}',
        b'{"type":"orderbook_snapshot","sid":1,"seq":2,"msg":{"market_ticker":"A","market_id":"id-A",'
        b'"yes_dollars_fp":[["0.0800","300.00"],["0.2200","333.00"]],"no_dollars_fp":[["0.5400","20.00"]]}}',
    ]


def test_a_late_subscriber_gets_the_book_as_it_is_now(simulator: KalshiSimulator) -> None:
    for change in (("0.2200", "-333.00", "yes"), ("0.2300", "46.02", "yes"), ("0.5400", "-5.00", "no")):
        simulator.apply(_delta("A", *change))
    _, snapshot = _say(simulator.connect(), "subscribe", {"channels": ["orderbook_delta"], "market_ticker": "A"})
    assert snapshot["msg"] == {
        "market_ticker": "A",
        "market_id": "id-A",
        "yes_dollars_fp": [["0.0800", "300.00"], ["0.2300", "46.02"]],
        "no_dollars_fp": [["0.5400", "15.00"]],
    }


def test_a_market_that_is_unknown_has_an_empty_book_and_one_not_yet_told_of_has_none(
    simulator: KalshiSimulator,
) -> None:
    c = simulator.connect()
    answers = _say(c, "subscribe", {"channels": ["orderbook_delta"], "market_tickers": ["NONE", "C"]})
    assert [a["type"] for a in answers] == ["subscribed", "orderbook_snapshot"]
    assert answers[1]["msg"] == {"market_ticker": "NONE", "market_id": ""}


def test_one_counter_for_all_markets_of_a_sid_and_for_answers_on_it(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _say(c, "subscribe", {"channels": ["orderbook_delta"], "market_tickers": ["A", "B"]})  # seq 1, 2
    _say(c, "subscribe", {"channels": ["trade"]}, 2)
    assert [json.loads(w)["seq"] for w in c.market(_delta("A", "0.3000", "1.00", "yes"))] == [3]
    assert [json.loads(w)["seq"] for w in c.market(_trade("A", 1, 1))] == [1]
    ok, snapshot = _say(c, "update_subscription", {"action": "add_markets", "sids": [1], "market_ticker": "NONE"}, 3)
    assert ok == {"id": 3, "sid": 1, "seq": 4, "type": "ok", "msg": {"market_tickers": ["A", "B", "NONE"]}}
    assert snapshot["seq"] == 5
    (ok,) = _say(c, "update_subscription", {"action": "delete_markets", "sid": 1, "market_tickers": ["A"]}, 4)
    assert ok == {"id": 4, "sid": 1, "seq": 6, "type": "ok", "msg": {"market_tickers": ["B", "NONE"]}}
    assert c.market(_delta("A", "0.3000", "1.00", "yes")) == []
    (error,) = _say(c, "update_subscription", {"action": "get_snapshot", "sids": [1]}, 5)
    assert error == {"id": 5, "type": "error", "sid": 1, "seq": 7, "msg": {"code": 14, "msg": "Market Ticker required"}}
    (snapshot,) = _say(c, "update_subscription", {"action": "get_snapshot", "sids": [1], "market_ticker": "B"}, 6)
    assert (snapshot["id"], snapshot["type"], snapshot["seq"]) == (6, "orderbook_snapshot", 8)
    (gone,) = _say(c, "unsubscribe", {"sids": [1]}, 7)
    assert gone == {"id": 7, "sid": 1, "seq": 9, "type": "unsubscribed"}
    (listed,) = _say(c, "list_subscriptions", None, 8)
    assert listed == {"id": 8, "type": "ok", "msg": [{"channel": "trade", "sid": 2}]}
    assert c.market(_delta("B", "0.3000", "1.00", "yes")) == []


def test_tickers_have_no_seq_and_come_at_once_if_asked_for(simulator: KalshiSimulator) -> None:
    ticker = _record('{"type":"ticker","sid":5,"msg":{"market_ticker":"A","price_dollars":"0.2200"}}')
    simulator.apply(ticker)
    c = simulator.connect()
    wires = c.received(b'{"id":1,"cmd":"subscribe","params":{"channels":["ticker"],"send_initial_snapshot":true}}', NOW)
    assert wires[1] == b'{"type":"ticker","sid":1,"msg":{"market_ticker":"A","price_dollars":"0.2200"}}'
    assert c.market(ticker) == [wires[1]]
    plain = simulator.connect()
    assert len(_say(plain, "subscribe", {"channels": ["ticker"]})) == 1


def test_the_no_side_comes_on_the_yes_scale_if_asked_for(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _, snapshot = _say(c, "subscribe", {"channels": ["orderbook_delta"], "market_ticker": "A", "use_yes_price": True})
    assert snapshot["msg"]["no_dollars_fp"] == [["0.4600", "20.00"]]
    (wire,) = c.market(_delta("A", "0.5400", "-5.00", "no"))
    assert json.loads(wire)["msg"]["price_dollars"] == "0.4600"
    (wire,) = c.market(_delta("A", "0.2200", "-5.00", "yes"))
    assert json.loads(wire)["msg"]["price_dollars"] == "0.2200"


_SUBSCRIBE = {"channels": ["orderbook_delta"], "market_tickers": ["A"]}


@pytest.mark.parametrize(
    ("code", "cmd", "params"),
    [
        (5, "shout", {}),
        (5, None, {}),
        (2, "subscribe", None),
        (2, "subscribe", [1]),
        (3, "subscribe", {}),
        (3, "subscribe", {"channels": []}),
        (8, "subscribe", {"channels": ["no_such"]}),
        (11, "subscribe", {"channels": "trade"}),
        (11, "subscribe", {"channels": ["trade"], "market_ticker": "A", "market_tickers": ["A"]}),
        (11, "subscribe", {"channels": ["trade"], "market_tickers": "A"}),
        (11, "subscribe", {"channels": ["trade"], "market_ids": ["u"]}),
        (11, "subscribe", {**_SUBSCRIBE, "use_yes_price": "yes"}),
        (14, "subscribe", {"channels": ["orderbook_delta"]}),
        (14, "subscribe", {"channels": ["orderbook_delta"], "market_tickers": []}),
        (24, "subscribe", {"channels": ["cfbenchmarks_value"]}),
        (28, "subscribe", {"channels": ["pyth_value"]}),
        (26, "subscribe", {"channels": ["orderbook_delta"], "market_tickers": [str(k) for k in range(257)]}),
        (4, "unsubscribe", {}),
        (7, "unsubscribe", {"sids": [9]}),
        (12, "update_subscription", {"action": "add_markets", "market_ticker": "A"}),
        (12, "update_subscription", {"action": "add_markets", "sids": [1, 2], "market_ticker": "A"}),
        (12, "update_subscription", {"action": "add_markets", "sid": 1, "sids": [1], "market_ticker": "A"}),
        (7, "update_subscription", {"action": "add_markets", "sids": [9], "market_ticker": "A"}),
        (15, "update_subscription", {"sids": [1], "market_ticker": "A"}),
        (13, "update_subscription", {"action": "dance", "sids": [1], "market_ticker": "A"}),
        (14, "update_subscription", {"action": "add_markets", "sids": [1]}),
        (11, "update_subscription", {"action": "add_markets", "sids": [1], "market_ticker": "A", "market_tickers": []}),
        (
            26,
            "update_subscription",
            {"action": "add_markets", "sids": [1], "market_tickers": [str(k) for k in range(256)]},
        ),
    ],
)
def test_every_mistake_has_its_code(simulator: KalshiSimulator, code: int, cmd: object, params: object) -> None:
    c = simulator.connect()
    _say(c, "subscribe", _SUBSCRIBE, 1)
    (answer,) = _say(c, cmd, params, 2)
    assert (answer["id"], answer["type"], answer["msg"]["code"]) == (2, "error", code)
    assert answer["msg"]["msg"] == grammar.ERRORS[code]
    assert c.subscriptions == 1


def test_an_action_outside_params_is_none(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _say(c, "subscribe", _SUBSCRIBE, 1)
    (answer,) = _say(c, "update_subscription", {"sids": [1], "market_ticker": "B"}, 2, action="add_markets")
    assert answer["msg"] == {"code": 15, "msg": "Action required"}


@pytest.mark.parametrize("wire", [b"", b"hello", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_what_is_no_command_cannot_be_processed(simulator: KalshiSimulator, wire: bytes) -> None:
    (answer,) = simulator.connect().received(wire, NOW)
    assert answer == b'{"type":"error","msg":{"code":1,"msg":"Unable to process message"}}'


def test_a_client_that_is_too_slow_loses_its_subscriptions(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _say(c, "subscribe", _SUBSCRIBE)
    assert list(c.overflow()) == [
        b'{"type":"error","sid":1,"seq":2,"msg":{"code":25,"msg":"Subscription buffer overflow"}}'
    ]
    assert c.subscriptions == 0 and c.market(_delta("A", "0.3000", "1.00", "yes")) == []


def test_a_heartbeat_every_ten_seconds(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    beats = [s for s in range(35) if c.heartbeat(NOW + s * SECOND) == b"heartbeat"]
    assert beats == [10, 20, 30]


# --------------------------------------------------------------------------------------------------- the tape


def test_renumbering_leaves_every_other_byte_as_it_was(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _say(c, "subscribe", {"channels": ["trade"]})
    head, rest = b'{"type":"trade",', b'"msg":{"trade_id":"7","market_ticker":"A","sid":77,"x":1.50e0, "seq":172193}}'
    wire = head + b'"sid":77,"seq":172193,' + rest
    assert c.market(_record(wire)) == [head + b'"sid":1,"seq":1,' + rest]


@pytest.mark.parametrize(
    "wire",
    [
        b'{"type": "trade", "sid": 7, "seq": 8, "msg": {"trade_id":"7","market_ticker":"A","x":1.50e0, "y":"\\u00e9"}}',
        b'{"seq":8,"sid":7,"type":"trade","msg":{"trade_id":"7","market_ticker":"A","x":1.50e0, "y":"\\u00e9"}}',
        b'{"type":"trade","sid":7,"seq":8,"id":3,"msg":{"trade_id":"7","market_ticker":"A","x":1.50e0, "y":"\\u00e9"}}',
    ],
)
def test_a_head_of_another_shape_is_numbered_all_the_same(simulator: KalshiSimulator, wire: bytes) -> None:
    c = simulator.connect()
    _say(c, "subscribe", {"channels": ["ticker"]}, 1)
    _say(c, "subscribe", {"channels": ["trade"]}, 2)
    (sent,) = c.market(_record(wire))
    assert json.loads(sent) == {**json.loads(wire), "sid": 2, "seq": 1}
    assert b'{"trade_id":"7","market_ticker":"A","x":1.50e0, "y":"\\u00e9"}' in sent


def test_a_frame_that_was_recorded_without_seq_stays_without(simulator: KalshiSimulator) -> None:
    c = simulator.connect()
    _say(c, "subscribe", {"channels": ["market_lifecycle_v2"]})
    wire = b'{"type":"event_lifecycle","sid":4,"msg":{"event_ticker":"E"}}'
    assert c.market(_record(wire)) == [b'{"type":"event_lifecycle","sid":1,"msg":{"event_ticker":"E"}}']


def test_the_whole_recording_is_renumbered_bytes_otherwise_equal(shared_data: Path) -> None:
    """For both recorded markets: only sid and seq differ, and the numbering has no hole."""
    import gzip
    import re

    numbers = re.compile(rb'"sid":\d+,"seq":\d+')
    path = shared_data / "kalshi/gold15m/KXGOLD15M-26AUG070800-00/2026-08-07.ndjson.gz"
    s = KalshiSimulator(Simulation())
    c = s.connect()
    _say(c, "subscribe", {"channels": ["orderbook_delta"], "market_ticker": "KXGOLD15M-26AUG070800-00"})
    _say(c, "subscribe", {"channels": ["trade"]})
    s.load([("orderbook_delta", "KXGOLD15M-26AUG070800-00")], 0, 0)
    last = {1: 1, 2: 0}  # the empty snapshot of a market that was unknown then had seq 1
    with gzip.open(path) as lines:
        for line in lines:
            record = s.record(line)
            assert record is not None and record.ts_ns == json.loads(line)["recv_ms"] * 1_000_000
            (sent,) = c.market(record)
            head = json.loads(sent)
            assert head["seq"] == last[head["sid"]] + 1
            last[head["sid"]] += 1
            recorded = line[line.index(b'"event":') + 8 :].rstrip()[:-1]
            assert numbers.sub(b"", sent, count=1) == numbers.sub(b"", recorded, count=1)
    assert sum(last.values()) > 1000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "it is not like"),
        (b"hello", "it is not like"),
        (b'{"event":{}}', "recv_ms"),
        (b'{"recv_ms":"x","event":{}}', "recv_ms"),
        (b'{"recv_ms":1,"event":{}}', "no frame of Kalshi's"),
        (b'{"recv_ms":1,"event":[1]}', "no frame of Kalshi's"),
        (b'{"recv_ms":1,"event":{"type":"trade","sid":1}}', "no trade of Kalshi's"),
        (b'{"recv_ms":1,"event":{"type":"trade","sid":1,"msg":{}}}', "names no instrument"),
    ],
)
def test_a_bad_line_of_a_recording_is_said_why(simulator: KalshiSimulator, line: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        simulator.record(line)


def test_answers_to_the_recorders_own_commands_are_passed_over(simulator: KalshiSimulator) -> None:
    for event in (
        '{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":1}}',
        '{"type":"ok","id":1,"msg":[{"channel":"trade","sid":1}]}',
        '{"id":102,"sid":2,"seq":7,"type":"unsubscribed"}',
    ):
        assert simulator.record(b'{"recv_ms":1,"event":%b}' % event.encode()) is None


# ------------------------------------------------------------------------------------------------- signatures


def _signed(
    now_ns: int, *, key_id: str = "key-1", method: str = "GET", path: str = "/trade-api/ws/v2"
) -> dict[str, str]:
    headers = venue.key(key_id, PEM).headers(method, path, now_ns)
    return {name.lower(): value for name, value in headers.items()}


@pytest.fixture(scope="module")
def guarded() -> KalshiSimulator:
    return KalshiSimulator(Simulation(key_id="key-1", public_key=PUBLIC))


@pytest.mark.parametrize("skew", [0, -29, 29])
def test_a_good_signature_is_let_in(guarded: KalshiSimulator, skew: int) -> None:
    assert guarded.refuses("GET", "/trade-api/ws/v2", _signed(NOW + skew * SECOND), NOW) is None


@pytest.mark.parametrize("skew", [-31, 31, -3600])
def test_a_clock_that_is_off_is_refused(guarded: KalshiSimulator, skew: int) -> None:
    answer = guarded.refuses("GET", "/trade-api/ws/v2", _signed(NOW + skew * SECOND), NOW)
    assert answer is not None and answer.status == 401
    assert json.loads(answer.body)["error"]["code"] == "header_timestamp_expired"


@pytest.mark.parametrize(
    "headers",
    [
        _signed(NOW, path="/trade-api/ws/v2/"),
        _signed(NOW, method="POST"),
        {**_signed(NOW), "kalshi-access-timestamp": str(NOW // 1_000_000 + 1)},
        {**_signed(NOW), "kalshi-access-signature": "AAAA"},
        {**_signed(NOW), "kalshi-access-signature": "not base64!"},
    ],
    ids=["path", "method", "time", "short", "no base64"],
)
def test_a_wrong_signature_is_refused(guarded: KalshiSimulator, headers: dict[str, str]) -> None:
    answer = guarded.refuses("GET", "/trade-api/ws/v2", headers, NOW)
    assert answer is not None and answer.status == 401
    error = json.loads(answer.body)["error"]
    assert (error["code"], error["details"]) == ("authentication_error", "INCORRECT_API_KEY_SIGNATURE")


def test_an_unknown_key_and_missing_headers_are_refused(guarded: KalshiSimulator) -> None:
    answer = guarded.refuses("GET", "/trade-api/ws/v2", _signed(NOW, key_id="key-2"), NOW)
    assert answer is not None
    assert json.loads(answer.body) == {"error": {"code": "authentication_error", "details": "NOT_FOUND"}}
    for missing in _signed(NOW):
        headers = {k: v for k, v in _signed(NOW).items() if k != missing}
        answer = guarded.refuses("GET", "/trade-api/ws/v2", headers, NOW)
        assert answer is not None and json.loads(answer.body)["error"]["code"] == "authentication_error"


# ------------------------------------------------------------------------------------------------------- REST


def _get(
    simulator: KalshiSimulator, target: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, object]]:
    answer = simulator.answer("GET", f"/trade-api/v2{target}", headers or {}, NOW)
    return answer.status, json.loads(answer.body)


def test_listing_is_filtered_and_paged(simulator: KalshiSimulator) -> None:
    names: list[str] = []
    cursor = ""
    for _ in range(3):
        status, page = _get(simulator, f"/markets?status=open&limit=1&cursor={cursor}")
        assert status == 200
        names += [m["ticker"] for m in page["markets"]]
        cursor = str(page["cursor"])
    assert names == ["A", "B", "C"] and cursor == ""
    for query, expected in {
        "tickers=B,C": ["B", "C"],
        "event_ticker=A": ["A"],
        "series_ticker=none": [],
        "status=settled": [],
    }.items():
        _, page = _get(simulator, f"/markets?{query}")
        assert [m["ticker"] for m in page["markets"]] == expected
    for query in ("limit=1001", "limit=0", "limit=x", "status=finalized"):
        assert _get(simulator, f"/markets?{query}")[0] == 400


def test_one_market_its_event_and_its_book(simulator: KalshiSimulator) -> None:
    _, answer = _get(simulator, "/markets/A")
    market = answer["market"]
    assert isinstance(market, dict)
    assert (market["yes_bid_dollars"], market["yes_ask_dollars"], market["yes_ask_size_fp"]) == (
        "0.2200",
        "0.4600",
        "20.00",
    )
    _, answer = _get(simulator, "/events/A")
    assert [m["ticker"] for m in answer["markets"]] == ["A"]
    _, answer = _get(simulator, "/events?limit=2&with_nested_markets=true")
    assert len(answer["events"]) == 2 and answer["cursor"]
    _, answer = _get(simulator, "/markets/A/orderbook?depth=1")
    assert answer == {"orderbook_fp": {"yes_dollars": [["0.2200", "333.00"]], "no_dollars": [["0.5400", "20.00"]]}}
    for path in ("/markets/NONE", "/events/NONE", "/nothing", "/markets/NONE/orderbook"):
        assert _get(simulator, path)[0] == 404
    assert simulator.answer("POST", "/trade-api/v2/markets", {}, NOW).status == 405
    assert simulator.answer("GET", "/elsewhere", {}, NOW).status == 404


def test_trades_are_those_that_were_sent_newest_first(simulator: KalshiSimulator) -> None:
    simulator.live_ns = NOW
    for number in range(5):
        simulator.apply(_trade("A" if number % 2 else "B", number, 1000 + number))
    _, page = _get(simulator, "/markets/trades?limit=2&min_ts=1001")
    ids = [t["trade_id"] for t in page["trades"]]
    assert ids == ["4", "3"] and page["cursor"]
    _, page = _get(simulator, f"/markets/trades?limit=2&min_ts=1001&cursor={page['cursor']}")
    assert [t["trade_id"] for t in page["trades"]] == ["2", "1"] and page["cursor"] == ""
    _, page = _get(simulator, "/markets/trades?ticker=A&max_ts=1001")
    assert page["trades"] == [
        {
            "trade_id": "1",
            "ticker": "A",
            "count_fp": "25.00",
            "yes_price_dollars": "0.3100",
            "no_price_dollars": "0.6900",
            "taker_side": "no",
            "taker_outcome_side": "no",
            "taker_book_side": "ask",
            "is_block_trade": False,
            "created_time": "1970-01-01T00:16:41.005000Z",
        }
    ]


def test_what_is_older_than_the_cutoff_is_in_history_alone(simulator: KalshiSimulator) -> None:
    day = 86_400
    now = NOW // SECOND
    for number, days in enumerate((91, 89, 0)):
        simulator.apply(_trade("A", number, now - days * day))
    market = simulator.exchange.markets["B"]
    market.state, market.settled_ns = "finalized", NOW - 91 * day * SECOND
    _, cutoff = _get(simulator, "/historical/cutoff")
    assert set(cutoff) == {"market_settled_ts", "trades_created_ts", "orders_updated_ts"}
    assert set(cutoff.values()) == {"2026-05-13T01:15:15.579000Z"}

    def ids(path: str) -> list[str]:
        return [t["trade_id"] for t in _get(simulator, path)[1]["trades"]]  # type: ignore[attr-defined]

    assert (ids("/markets/trades"), ids("/historical/trades?ticker=A")) == (["2", "1"], ["0"])
    assert ids(f"/historical/trades?min_ts={now - 91 * day + 1}") == []
    assert _get(simulator, "/historical/trades?ticker=NONE")[0] == 404
    assert _get(simulator, "/historical/trades?limit=1001")[0] == 400

    def tickers(path: str) -> list[str]:
        return [m["ticker"] for m in _get(simulator, path)[1]["markets"]]  # type: ignore[attr-defined]

    assert (tickers("/markets?tickers=A,B"), tickers("/historical/markets?tickers=A,B")) == (["A"], ["B"])
    assert _get(simulator, "/historical/markets?tickers=A&event_ticker=B")[0] == 400
    assert _get(simulator, "/historical/nothing")[0] == 404


def test_the_account_is_shown_to_its_key_alone(guarded: KalshiSimulator) -> None:
    for path in ("/portfolio/balance", "/api_keys"):
        assert _get(guarded, path)[0] == 401
        status, answer = _get(guarded, path, _signed(NOW, path=f"/trade-api/v2{path}"))
        assert status == 200, answer
    assert answer == {"api_keys": [{"api_key_id": "key-1", "name": "simulated", "scopes": ["read"]}]}
    assert _get(guarded, "/exchange/status") == (
        200,
        {"exchange_active": True, "exchange_estimated_resume_time": None, "trading_active": True},
    )


def _lifecycle(market: str, kind: str) -> Record:
    body = {"market_ticker": market, "result": "yes", "event_type": kind}
    return _record(json.dumps({"type": "market_lifecycle_v2", "sid": 1, "seq": 1, "msg": body}))


def test_a_settled_market_is_no_longer_open() -> None:
    s = KalshiSimulator(Simulation())
    for kind in ("created", "activated", "determined", "settled"):
        s.apply(_lifecycle("A-1", kind))
    _, page = _get(s, "/markets?status=settled")
    assert [(m["ticker"], m["status"], m["result"]) for m in page["markets"]] == [("A-1", "finalized", "yes")]


def test_a_market_of_a_recording_stays_listed_for_as_long_as_it_may_have_frames(simulator: KalshiSimulator) -> None:
    """A client that comes back lists the open markets before the recording is wound back for it."""
    simulator.apply(_lifecycle("A", "settled"))
    _, page = _get(simulator, "/markets?status=open")
    assert [m["ticker"] for m in page["markets"]] == ["A", "B", "C"]


# -------------------------------------------------------------------------------------------- made-up markets


def _generated(seed: int, seconds: float, markets: int = 6) -> tuple[KalshiSimulator, list[Record]]:
    s = KalshiSimulator(Simulation(seed=seed, markets=markets, frames_per_second=500))
    records: list[Record] = []
    for step in range(int(seconds * 20)):
        records += s.generate(NOW + step * SECOND // 20)
    return s, records


def test_the_same_seed_makes_the_same_market() -> None:
    assert [r.wire for r in _generated(5, 3)[1]] == [r.wire for r in _generated(5, 3)[1]]
    assert [r.wire for r in _generated(5, 3)[1]] != [r.wire for r in _generated(6, 3)[1]]


@pytest.mark.parametrize("seed", range(5))
def test_made_up_books_never_cross_and_trades_come_with_their_deltas(seed: int) -> None:
    """Deltas alone, folded here, equal the books the simulator shows; no level goes below zero."""
    s, records = _generated(seed, 130)
    books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    kinds: dict[str, int] = {}
    for k, record in enumerate(records):
        kinds[record.kind] = kinds.get(record.kind, 0) + 1
        body = json.loads(record.wire)["msg"]
        book = books.setdefault(body.get("market_ticker", ""), {"yes": {}, "no": {}})
        if record.kind == "orderbook_delta":
            side = book[body["side"]]
            price = Decimal(body["price_dollars"])
            side[price] = side.get(price, Decimal(0)) + Decimal(body["delta_fp"])
            assert side[price] >= 0
            if not side[price]:
                del side[price]
            if book["yes"] and book["no"]:
                assert max(book["yes"]) + max(book["no"]) < 1
        elif record.kind == "trade":
            taken = "no" if body["taker_outcome_side"] == "yes" else "yes"
            assert Decimal(body[f"{taken}_price_dollars"]) == max(book[taken])
            delta = json.loads(records[k + 1].wire)["msg"]
            assert (delta["side"], delta["price_dollars"]) == (taken, body[f"{taken}_price_dollars"])
            assert Decimal(delta["delta_fp"]) == -Decimal(body["count_fp"])
        elif record.kind == "orderbook_snapshot":
            book["yes"].clear()
            book["no"].clear()
        elif record.kind == "ticker":
            assert Decimal(body["yes_bid_dollars"]) == max(book["yes"], default=Decimal(0))
            assert Decimal(body["yes_ask_dollars"]) == 1 - max(book["no"], default=Decimal(0))
    for ticker, market in s.exchange.markets.items():
        shown = {side: {Decimal(p): Decimal(n) for p, n in market.book.levels(side)} for side in ("yes", "no")}
        assert shown == books.get(ticker, {"yes": {}, "no": {}})
    # After 60 s and after 120 s a market closes and one is created; 15 s later the one is determined, the other opens.
    assert kinds["orderbook_snapshot"] == 2 and kinds["market_lifecycle_v2"] == 7
    states = [m.state for m in s.exchange.markets.values()]
    assert sorted(states) == sorted(["active"] * 5 + ["finalized", "closed", "initialized"])
    assert kinds["orderbook_delta"] > kinds["ticker"] > kinds["trade"] > 500


def test_every_made_up_frame_has_its_events() -> None:
    _, records = _generated(1, 65)
    events = venue.events("2026-11-20")
    for record in records:
        assert len(events(record.kind, record.wire)) == 1
