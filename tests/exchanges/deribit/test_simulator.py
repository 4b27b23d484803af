"""The simulated venue answers as Deribit documents it, and its books are the sum of what it said."""

import base64
import json
from collections import Counter
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from exchanges.deribit import rest, venue
from exchanges.deribit import simulator as grammar
from exchanges.deribit.markets import kind_of, number
from exchanges.deribit.messages import CHANNELS, place
from exchanges.deribit.simulator import DeribitConnection, DeribitSimulator
from exchanges.port import Answer, Record, Request, Simulation, TradesRequest, Unparsable, Verdict
from tests.exchanges.deribit.books import Books

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
SECRET = b"SIMULATEDSECRET"


def _record(channel: str, data: object) -> Record:
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    found = grammar.record(NOW, json.dumps(frame, separators=(",", ":")).encode())
    assert found is not None
    return found


def _book(previous: int, change_id: int, bids: object = (), asks: object = (), name: str = "BTC-PERPETUAL") -> Record:
    data: dict[str, object] = {"type": "change" if previous else "snapshot", "timestamp": 5, "instrument_name": name}
    if previous:
        data["prev_change_id"] = previous
    return _record(f"book.{name}.raw", data | {"change_id": change_id, "bids": bids, "asks": asks})


def _trade(seq: int, ms: int = 1000, name: str = "BTC-PERPETUAL") -> Record:
    trade = {"trade_seq": seq, "trade_id": f"t{seq}", "timestamp": ms, "price": 5.0, "amount": 10.0}
    return _record(f"trades.{name}.raw", [trade | {"direction": "buy", "instrument_name": name}])


@pytest.fixture
def simulator() -> DeribitSimulator:
    """A recording's perpetual with a book, an option that it has not told of yet, and an index."""
    s = DeribitSimulator(Simulation())
    s.load({("book", "BTC-PERPETUAL"), ("book", "BTC-25DEC26-80000-C"), ("deribit_price_index", "btc_usd")}, NOW, NOW)
    s.apply(_book(0, 10, [["new", 100.5, 20.0], ["new", 100.0, 10.0]], [["new", 101.0, 30.0]]))
    return s


def _say(connection: DeribitConnection, method: str, number: object = 1, now: int = NOW, **params: object) -> list[Any]:
    call = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return [json.loads(wire) for wire in connection.received(json.dumps(call).encode(), now)]


def _subscribe(connection: DeribitConnection, *channels: str) -> list[Any]:
    answer, *data = _say(connection, "public/subscribe", channels=list(channels))
    assert answer["id"] == 1
    return [answer.get("result", answer.get("error")), *(frame["params"] for frame in data)]


# --------------------------------------------------------------------------------------------- subscriptions


def test_subscribing_is_acknowledged_and_brings_a_snapshot_best_first(simulator: DeribitSimulator) -> None:
    answer, frame = simulator.connect().received(
        b'{"jsonrpc":"2.0","id":3,"method":"public/subscribe","params":{"channels":["book.BTC-PERPETUAL.100ms"]}}', NOW
    )
    assert json.loads(answer) == {
        "jsonrpc": "2.0",
        "id": 3,
        "result": ["book.BTC-PERPETUAL.100ms"],
        "usIn": NOW // 1000,
        "usOut": NOW // 1000 + 400,
        "usDiff": 400,
        "testnet": False,
    }
    assert frame == (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":'
        b'{"type":"snapshot","timestamp":5,"instrument_name":"BTC-PERPETUAL","change_id":10,'
        b'"bids":[["new",100.5,20.0],["new",100.0,10.0]],"asks":[["new",101.0,30.0]]}}}'
    )


def test_what_is_unknown_is_left_out_without_a_word(simulator: DeribitSimulator) -> None:
    answer, *data = _subscribe(
        simulator.connect(),
        "book.NOBODY.100ms",
        "book.BTC-PERPETUAL.5ms",
        "book.BTC-PERPETUAL.none.7.100ms",
        "trades.swap.BTC.100ms",
        "trades.any.DOGE.100ms",
        "deribit_price_index.nothing_usd",
        "user.trades.any.any.100ms",
        "rubbish",
        "trades.any.any.100ms",
        "deribit_price_index.btc_usd",
        "block_rfq.trades.any",
    )
    assert sorted(answer) == ["block_rfq.trades.any", "deribit_price_index.btc_usd", "trades.any.any.100ms"]
    assert data == []


def test_subscribing_again_is_acknowledged_but_sends_no_new_snapshot(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    assert len(_subscribe(c, "book.BTC-PERPETUAL.100ms")) == 2
    assert _subscribe(c, "book.BTC-PERPETUAL.100ms") == [["book.BTC-PERPETUAL.100ms"]]
    assert c.subscriptions == 1
    (gone,) = _say(c, "public/unsubscribe", channels=["book.BTC-PERPETUAL.100ms", "quote.BTC-PERPETUAL"])
    assert gone["result"] == ["book.BTC-PERPETUAL.100ms"]
    assert c.market(_book(10, 11, [["new", 99.0, 1.0]])) == []
    assert len(_subscribe(c, "book.BTC-PERPETUAL.100ms")) == 2
    assert _say(c, "public/unsubscribe_all")[0]["result"] == "ok" and c.subscriptions == 0


def test_a_raw_interval_without_authentication_fails_the_whole_call(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    (error,) = _subscribe(c, "quote.BTC-PERPETUAL", "book.BTC-PERPETUAL.raw")
    assert error == {"code": 13778, "message": "raw_subscriptions_not_available_for_unauthorized"}
    assert c.subscriptions == 0
    _say(c, "public/auth", grant_type="client_credentials", client_id="x", client_secret="y")
    answer, snapshot = _subscribe(c, "quote.BTC-PERPETUAL", "book.BTC-PERPETUAL.raw")
    assert len(answer) == 2 and snapshot["channel"] == "book.BTC-PERPETUAL.raw"


def test_a_late_subscriber_gets_the_book_as_it_is_now(simulator: DeribitSimulator) -> None:
    simulator.apply(_book(10, 11, [["change", 100.5, 25.5], ["delete", 100.0, 0.0]], [["new", 100.75, 1.0]]))
    _, frame = _subscribe(simulator.connect(), "book.BTC-PERPETUAL.agg2")
    assert frame["data"]["change_id"] == 11
    assert frame["data"]["bids"] == [["new", 100.5, 25.5]]
    assert frame["data"]["asks"] == [["new", 100.75, 1.0], ["new", 101.0, 30.0]]


def test_of_a_book_that_a_recording_has_not_told_of_there_is_no_snapshot(simulator: DeribitSimulator) -> None:
    assert _subscribe(simulator.connect(), "book.BTC-25DEC26-80000-C.100ms") == [["book.BTC-25DEC26-80000-C.100ms"]]


def test_trades_come_by_instrument_or_by_kind_and_currency(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    _subscribe(
        c, "trades.BTC-PERPETUAL.100ms", "trades.future.BTC.100ms", "trades.any.any.agg2", "trades.option.any.100ms"
    )
    channels = [json.loads(wire)["params"]["channel"] for wire in c.market(_trade(1))]
    assert sorted(channels) == ["trades.BTC-PERPETUAL.100ms", "trades.any.any.agg2", "trades.future.BTC.100ms"]


def test_windows_of_a_book_and_changes_of_a_ticker_are_told_in_their_form(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    ticker = {"instrument_name": "BTC-PERPETUAL", "timestamp": 7, "last_price": 5.0, "open_interest": 10}
    simulator.apply(_record("ticker.BTC-PERPETUAL.raw", ticker))
    _, *first = _subscribe(c, "book.BTC-PERPETUAL.none.1.100ms", "incremental_ticker.BTC-PERPETUAL")
    window, whole = (frame["data"] for frame in first)
    assert window == {
        "timestamp": 5,
        "instrument_name": "BTC-PERPETUAL",
        "change_id": 10,
        "bids": [[100.5, 20.0]],
        "asks": [[101.0, 30.0]],
    }
    assert whole == {"type": "snapshot", **ticker}
    simulator.apply(newer := _record("ticker.BTC-PERPETUAL.raw", ticker | {"timestamp": 8, "last_price": 6.0}))
    (wire,) = c.market(newer)
    assert json.loads(wire)["params"]["data"] == {
        "type": "change",
        "instrument_name": "BTC-PERPETUAL",
        "timestamp": 8,
        "last_price": 6.0,
    }


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_every_public_channel_can_be_subscribed(simulator: DeribitSimulator, channel: str) -> None:
    filled = channel.replace("{instrument_name}", "BTC-PERPETUAL").replace("{index_name}", "btc_usd")
    filled = filled.replace("{interval}", "100ms").replace("{group}", "none").replace("{depth}", "10")
    filled = filled.replace("{kind}", "future").replace("{currency}", "BTC").replace("{resolution}", "60")
    assert _subscribe(simulator.connect(), filled)[0] == [filled]


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "wire", [b"", b"hello", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"id":1}', b'{"method":"public/test"}']
)
def test_what_is_no_call_is_a_bad_request_and_the_socket_stays_open(simulator: DeribitSimulator, wire: bytes) -> None:
    c = simulator.connect()
    (answer,) = c.received(wire, NOW)
    assert json.loads(answer)["error"] == {"code": 11050, "message": "bad_request"}
    assert "id" not in json.loads(answer) and c.ended is None


@pytest.mark.parametrize(
    ("code", "method", "params"),
    [
        (-32601, "public/shout", {}),
        (-32602, "public/subscribe", {}),
        (-32602, "public/subscribe", {"channels": "book"}),
        (-32602, "public/subscribe", {"channels": [5]}),
        (-32602, "public/subscribe", {"channels": [f"quote.{k}" for k in range(501)]}),
        (-32602, "public/set_heartbeat", {"interval": 9}),
        (-32602, "public/set_heartbeat", {}),
        (-32602, "public/get_instruments", {"currency": "DOGE"}),
        (-32602, "public/get_instruments", {"kind": "swap"}),
        (-32602, "public/get_order_book", {}),
        (-32602, "public/get_order_book", {"instrument_name": "BTC-PERPETUAL", "depth": 7}),
        (13020, "public/get_order_book", {"instrument_name": "NOBODY"}),
        (-32602, "public/get_last_trades_by_instrument", {"instrument_name": "BTC-PERPETUAL", "count": 1001}),
        (-32602, "public/get_last_trades_by_instrument_and_time", {"instrument_name": "BTC-PERPETUAL"}),
        (-32602, "public/auth", {"grant_type": "password"}),
        (13009, "private/get_account_summary", {"currency": "BTC"}),
        (13009, "private/get_account_summary", {"access_token": "wrong"}),
        (13009, "private/subscribe", {"channels": ["user.portfolio.btc"]}),
    ],
)
def test_every_mistake_has_its_code(simulator: DeribitSimulator, code: int, method: str, params: Any) -> None:
    c = simulator.connect()
    (answer,) = _say(c, method, 7, **params)
    assert (answer["id"], answer["error"]["code"]) == (7, code)
    assert answer["error"]["message"] == grammar.MESSAGES[code] and c.ended is None


@pytest.mark.parametrize(
    ("method", "burst"), [("public/subscribe", 10), ("public/test", 100), ("public/get_instruments", 50)]
)
def test_who_spends_more_than_the_credits_is_told_and_thrown_out(
    simulator: DeribitSimulator, method: str, burst: int
) -> None:
    c = simulator.connect()
    params = {"channels": []} if method == "public/subscribe" else {}
    for _ in range(burst):
        assert "result" in _say(c, method, **params)[0]
    (error,) = _say(c, method, **params)
    assert error["error"] == {"code": 10028, "message": "too_many_requests"} and c.ended is not None
    assert _say(c, method, **params) == [] and not c.market(_trade(1))
    patient = simulator.connect()
    for k in range(2 * burst):
        assert "result" in _say(patient, method, now=NOW + k * SECOND, **params)[0]


# -------------------------------------------------------------------------------------------------- heartbeats


def _due(c: DeribitConnection, seconds: float) -> list[str]:
    return [json.loads(wire)["params"]["type"] for wire in c.due(NOW + int(seconds * SECOND))]


def test_test_requests_come_every_interval_and_must_be_answered(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    assert _say(c, "public/set_heartbeat", interval=10)[0]["result"] == "ok"
    assert _due(c, 11.5) == [] and _due(c, 12) == ["heartbeat", "test_request"]
    assert _say(c, "public/test", now=NOW + 13 * SECOND)[0]["result"] == {"version": "1.2.26"}
    assert _due(c, 22) == [] and c.ended is None
    _subscribe(c, "trades.any.any.100ms")
    c.market(_trade(1))
    assert _due(c, 22.6) == ["test_request"]  # a busy socket gets no plain heartbeat
    assert _due(c, 32.5) == [] and c.ended is None
    _due(c, 32.6)
    assert c.ended == (4000, "heartbeat close")
    assert not c.market(_trade(2)) and _due(c, 99) == []


def test_heartbeats_can_be_switched_off(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    _subscribe(c, "trades.any.any.100ms")
    _say(c, "public/set_heartbeat", interval=10)
    _say(c, "public/disable_heartbeat")
    assert [_due(c, s) for s in range(0, 300, 10)] == [[]] * 30 and c.ended is None


def test_a_socket_without_traffic_dies_after_a_minute(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    assert _due(c, 0) == [] and _due(c, 59.5) == [] and c.ended is None
    _due(c, 60)
    assert c.ended == (1006, "")


def test_a_slow_reader_is_hung_up_on(simulator: DeribitSimulator) -> None:
    c = simulator.connect()
    _subscribe(c, "trades.any.any.100ms")
    assert not c.overflow() and c.ended == (1008, "connection_too_slow")


# ------------------------------------------------------------------------------------------------------- HTTP


def _get(
    simulator: DeribitSimulator, request: Request | str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    target = request if isinstance(request, str) else f"{request.path}?{urlencode(request.query, quote_via=quote)}"
    answer = simulator.answer("GET", f"/api/v2{target}", headers or {}, NOW)
    return answer.status, json.loads(answer.body)


def _body(answer: tuple[int, dict[str, Any]]) -> bytes:
    assert answer[0] == 200, answer
    return json.dumps(answer[1]).encode()


def test_our_own_rest_grammar_is_served() -> None:
    s = DeribitSimulator(Simulation(seed=1, markets=12))
    s.generate(NOW)
    for series, count in ((["any"], 12), (["option.any"], 5), (["USDC"], 3), (["spot.USDC"], 1), (["EURR"], 0)):
        (request,) = venue.instruments(series)
        page = venue.instruments_page(request, _body(_get(s, request)))
        assert len(page.symbols) == count
    assert {record["kind"] for record in venue.instruments_page(*_listing(s)).records} == {
        "future",
        "option",
        "spot",
        "future_combo",
        "option_combo",
    }
    fees = rest.fees_page(rest.fees(), _body(_get(s, rest.fees())))
    assert {(f.maker, f.taker) for f in fees.fees} == {("0.0", "0.0003"), ("0.0", "0.0005")}


def _listing(s: DeribitSimulator) -> tuple[Request, bytes]:
    (request,) = venue.instruments([])
    return request, _body(_get(s, request))


def test_trades_are_those_that_were_sent_and_pages_leave_none_out(simulator: DeribitSimulator) -> None:
    for n in range(1, 2501):
        simulator.apply(_trade(n, 1000 + n // 4))
    for first, expected in (
        (rest.trades("BTC-PERPETUAL", 1010 * 1_000_000, 1500 * 1_000_000), range(40, 2004)),
        (rest.trades_by_seq("BTC-PERPETUAL", 7, 2400), range(7, 2401)),
    ):
        request: TradesRequest | None = first
        got: list[str | None] = []
        while request is not None:
            page = rest.trades_page(request, _body(_get(simulator, request)))
            got += [t.trade_id for t in page.trades]
            request = page.next
        assert got == [f"t{n}" for n in expected]
    _, newest = _get(simulator, "/public/get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL")
    assert [t["trade_seq"] for t in newest["result"]["trades"]] == list(range(2500, 2490, -1))
    assert newest["result"]["has_more"] is True


def test_a_book_by_rest_is_the_channels_book(simulator: DeribitSimulator) -> None:
    _, answer = _get(simulator, "/public/get_order_book?instrument_name=BTC-PERPETUAL&depth=1")
    book = answer["result"]
    assert (book["bids"], book["asks"], book["change_id"]) == ([[100.5, 20.0]], [[101.0, 30.0]], 10)
    assert (book["best_bid_price"], book["best_ask_amount"], book["state"]) == (100.5, 30.0, "open")


def test_http_has_no_subscriptions_and_other_paths_are_not_there(simulator: DeribitSimulator) -> None:
    status, answer = _get(simulator, "/public/subscribe?channels=x")
    assert (status, answer["error"]["code"]) == (400, 10030)
    assert _get(simulator, "/public/shout")[1]["error"]["code"] == -32601
    assert simulator.answer("GET", "/elsewhere", {}, NOW).status == 404
    assert _get(simulator, "/public/get_time")[1]["result"] == NOW // 1_000_000
    assert _get(simulator, "/public/status")[1]["result"] == {"locked": "false", "locked_indices": []}


# -------------------------------------------------------------------------------------------------------- keys


@pytest.fixture
def guarded() -> DeribitSimulator:
    return DeribitSimulator(Simulation(key_id="an-id", public_key=SECRET))


def _verdict(guarded: DeribitSimulator, key_id: str, secret: bytes, sent_ns: int = NOW) -> Verdict:
    status, answer = _get(guarded, venue.key(key_id, secret).signed(venue.key_check(), sent_ns))
    return venue.key_verdict(Answer(status, json.dumps(answer).encode()), sent_ns)


def test_our_key_check_tells_a_good_key_from_every_bad_one(guarded: DeribitSimulator) -> None:
    assert _verdict(guarded, "an-id", SECRET).state == "accepted"
    for verdict in (_verdict(guarded, "other", SECRET), _verdict(guarded, "an-id", b"OTHER")):
        assert verdict.state == "wrong" and "check client id and secret" in verdict.said
    late = _verdict(guarded, "an-id", SECRET, NOW - 90 * SECOND)
    assert late.state == "clock" and "this machine's clock is off by -90.0 s" in late.said
    guarded.scope = "trade:read connection"
    poor = _verdict(guarded, "an-id", SECRET)
    assert poor.state == "under-privileged" and "give it the scope account:read" in poor.said


def test_a_signed_header_a_token_and_basic_open_private_methods(guarded: DeribitSimulator) -> None:
    path = "/api/v2/private/get_account_summary?currency=BTC"
    key = venue.key("an-id", SECRET)
    basic = base64.b64encode(b"an-id:" + SECRET).decode()
    request = key.signed(venue.key_check(), NOW)
    token = _get(guarded, request)[1]["result"]["access_token"]
    for header in (key.headers("GET", path, NOW)["Authorization"], f"Basic {basic}", f"Bearer {token}"):
        answer = guarded.answer("GET", path, {"authorization": header}, NOW)
        assert answer.status == 200, answer
    wrong = {
        key.headers("GET", path.replace("BTC", "ETH"), NOW)["Authorization"]: (400, 13004),
        key.headers("GET", path, NOW - 60 * SECOND)["Authorization"]: (400, 13004),
        venue.key("x", SECRET).headers("GET", path, NOW)["Authorization"]: (400, 13004),
        "Bearer nonsense": (401, 13009),
        "Basic !": (400, 13004),
    }
    for header, (status, code) in wrong.items():
        answer = guarded.answer("GET", path, {"authorization": header}, NOW)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
    assert guarded.answer("GET", path, {}, NOW).status == 401
    late = guarded.answer("GET", path, {"authorization": f"Bearer {token}"}, NOW + 901 * SECOND)
    assert late.status == 401
    guarded.scope = "trade:read"
    (answer,) = _say(
        c := guarded.connect(),
        "public/auth",
        grant_type="client_credentials",
        client_id="an-id",
        client_secret=SECRET.decode(),
    )
    assert answer["result"]["scope"] == "trade:read" and answer["result"]["expires_in"] == 900
    (answer,) = _say(c, "private/get_account_summary", currency="BTC")
    assert answer["error"] == {"code": 13021, "message": "forbidden"}
    refresh = answer = _say(c, "public/auth", grant_type="refresh_token", refresh_token=token)[0]
    assert "result" in refresh


def test_the_websocket_is_open_to_everyone(guarded: DeribitSimulator) -> None:
    assert guarded.refuses("GET", "/ws/api/v2", {}, NOW) is None


# ------------------------------------------------------------------------------------------------- recordings


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "neither a frame"),
        (b"soon: {}", "neither a frame"),
        (b"1.5: hello", "no message of Deribit's"),
        (b'{"params":{"channel":"book.A.raw","data":5}}', "no book of Deribit's"),
        (b'1.5: {"params":{"channel":"trades.A.raw","data":{}}}', "no trades of Deribit's"),
    ],
)
def test_a_bad_line_of_a_recording_is_said_why(simulator: DeribitSimulator, line: bytes, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        simulator.record(line)


def test_lines_of_both_kinds_are_read_and_what_is_no_data_is_passed_over(simulator: DeribitSimulator) -> None:
    frame = _trade(1).wire
    timed = simulator.record(b"1626993723.8049479: " + frame + b"\n")
    plain = simulator.record(frame + b"\n")
    assert timed is not None and timed.ts_ns == 1_626_993_723_804_947_900
    assert plain is not None and plain.ts_ns == 1000 * 1_000_000  # its own time: there is no other
    for line in (
        b"wss://www.deribit.com/ws/api/v2 <-> 1626993723.424371",
        b'wss://www.deribit.com/ws/api/v2 <- 1626993723.7: {"jsonrpc":"2.0","id":0,"method":"public/subscribe"}',
        b'1626993723.8: {"jsonrpc":"2.0","id":0,"result":[]}',
        b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}',
        b'configuration: {"trades":[]}',
    ):
        assert simulator.record(line) is None


def test_an_instrument_of_a_recording_stays_listed(simulator: DeribitSimulator) -> None:
    """A client that comes back lists the open instruments before the recording is wound back for it."""
    state = {"instrument_name": "BTC-PERPETUAL", "state": "delivered", "timestamp": 1}
    simulator.apply(_record("instrument.state.any.any", state))
    _, answer = _get(simulator, "/public/get_instruments?currency=any&expired=false")
    assert [i["instrument_name"] for i in answer["result"]] == ["BTC-25DEC26-80000-C", "BTC-PERPETUAL"]


# -------------------------------------------------------------------------------------------- made-up markets


def _generated(seed: int, seconds: float, markets: int = 12) -> tuple[DeribitSimulator, list[Record]]:
    s = DeribitSimulator(Simulation(seed=seed, markets=markets, frames_per_second=500))
    records: list[Record] = []
    for step in range(int(seconds * 20)):
        records += s.generate(NOW + step * SECOND // 20)
    return s, records


def test_the_same_seed_makes_the_same_market() -> None:
    assert [r.wire for r in _generated(5, 3)[1]] == [r.wire for r in _generated(5, 3)[1]]
    assert [r.wire for r in _generated(5, 3)[1]] != [r.wire for r in _generated(6, 3)[1]]


@pytest.mark.parametrize("seed", range(3))
def test_made_up_books_never_cross_their_chains_hold_and_trades_are_in_them(seed: int) -> None:
    s, records = _generated(seed, 70)
    events = venue.events("2026-11-20")
    books = Books()
    chains: dict[str | None, int] = {}
    tapes: dict[str, int] = {}
    kinds: Counter[str] = Counter()
    for record in records:
        kinds[record.kind] += 1
        data = json.loads(record.wire)["params"]["data"]
        if record.kind == "book":
            assert data.get("prev_change_id") == chains.get(record.symbol)
            assert data["change_id"] > max(chains.values(), default=0)  # one counter for all
            chains[record.symbol] = data["change_id"]
            books.take(events("book", record.wire))
            assert books.crossed() == []
        elif record.kind == "trades":
            for trade in data:
                name, price = trade["instrument_name"], Decimal(str(trade["price"]))
                assert trade["trade_seq"] == tapes.get(name, 0) + 1
                tapes[name] = trade["trade_seq"]
                side = books.sides[name]["bid" if trade["direction"] == "sell" else "ask"]
                if "combo_id" not in trade:  # legs are priced among themselves
                    assert side[price] >= Decimal(str(trade["amount"]))
        elif record.kind == "ticker":
            best = [Decimal(str(data[f"best_{side}_price"])) for side in ("bid", "ask")]
            assert best == [p or 0 for p in books.best(str(record.symbol))]
    for name, instrument in s.exchange.instruments.items():
        for side, shown in (("bid", "bids"), ("ask", "asks")):
            levels = instrument.book.levels(shown)
            assert books.sides[name][side] == {Decimal(p.decode()): Decimal(a.decode()) for p, a in levels}
    delivered = [i.name for i in s.exchange.instruments.values() if i.state == "delivered"]
    assert len(delivered) == 1 and books.sides[delivered[0]] == {"bid": {}, "ask": {}}
    assert set(kinds) == {
        "book",
        "trades",
        "ticker",
        "quote",
        "chart_trades",
        "perpetual",
        "deribit_price_index",
        "deribit_volatility_index",
        "markprice_options",
        "estimated_expiration_price",
        "instrument_state",
        "instrument_creation",
        "platform_state",
    }
    assert kinds["book"] > kinds["ticker"] > kinds["trades"] > 500


def test_a_combos_trade_is_on_its_legs_tapes_too() -> None:
    _, records = _generated(2, 30)
    trades = [t for r in records if r.kind == "trades" for t in json.loads(r.wire)["params"]["data"]]
    combos = [t for t in trades if "legs" in t]
    legs = {t["trade_id"]: t for t in trades if "combo_id" in t}
    assert combos
    for combo in combos:
        for leg in combo["legs"]:
            assert legs[leg["trade_id"]] == leg
            assert (leg["combo_id"], leg["combo_trade_id"]) == (combo["instrument_name"], combo["trade_id"])
    assert any(combo["legs"] for combo in combos)


def test_every_made_up_frame_has_its_meaning() -> None:
    _, records = _generated(1, 5)
    events = venue.events("2026-11-20")
    for record in records:
        where = place(json.loads(record.wire)["params"]["channel"])
        assert where is not None and where.channel == record.channel
        found = events(record.channel, record.wire)
        assert all(event.symbol == record.symbol for event in found)


@pytest.mark.parametrize(
    ("name", "kind", "currency", "quote_currency"),
    [
        ("BTC-PERPETUAL", "future", "BTC", "USD"),
        ("SOL_USDC-PERPETUAL", "future", "USDC", "USDC"),
        ("BTC-5JAN25", "future", "BTC", "USD"),
        ("BTC-27DEC24-100000-C", "option", "BTC", "BTC"),
        ("XRP_USDC-30JUN26-0d625-P", "option", "USDC", "USDC"),
        ("BTC_USDC", "spot", "USDC", "USDC"),
        ("BTC-FS-19MAY26_PERP", "future_combo", "BTC", "USD"),
        ("BTC-CS-19MAY26-70000_75000", "option_combo", "BTC", "BTC"),
    ],
)
def test_a_name_says_what_an_instrument_is(name: str, kind: str, currency: str, quote_currency: str) -> None:
    found = kind_of(name)
    assert found is not None and (found.kind, found.currency, found.quote) == (kind, currency, quote_currency)


@pytest.mark.parametrize("name", ["btc_usd", "", "BTC", "BTC-", "BTC-27DEC24-C"])
def test_other_names_are_no_instruments(name: str) -> None:
    assert kind_of(name) is None


@pytest.mark.parametrize(
    ("units", "places", "text"),
    [
        (814330, 1, b"81433.0"),
        (5, 4, b"0.0005"),
        (0, 1, b"0.0"),
        (-15, 1, b"-1.5"),
        (7, 0, b"7.0"),
        (277265, 2, b"2772.65"),
    ],
)
def test_numbers_are_printed_as_the_venue_prints_them(units: int, places: int, text: bytes) -> None:
    assert number(units, places) == text
