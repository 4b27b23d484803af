"""The venue's side: what it accepts, what it answers, when it falls silent or ends; recordings and made-up markets."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from exchanges import binance_usdm
from exchanges.binance import venue
from exchanges.binance.markets import Market
from exchanges.binance.product import SPOT
from exchanges.binance.simulator import BAN_AFTER, BinanceConnection, BinanceSimulator
from exchanges.port import Record, Simulation, Unparsable, Venue
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer
from services.simulator.tape import Tape
from ssmd.clock import SystemClock

from .talk import FIXTURES, NOW, SECOND, USDM_FIXTURE


def made(of: Venue = venue, **more: float) -> BinanceSimulator:
    options = {"seed": 2, "markets": 3, "frames_per_second": 200.0, **more}
    simulator = of.simulator(Simulation(**options))  # type: ignore[arg-type]
    assert isinstance(simulator, BinanceSimulator)
    simulator.generate(NOW)
    return simulator


def say(connection: BinanceConnection, command: object, now: int | None = None) -> object:
    """One command, a second after the last unless a time is given; its answer."""
    text = command if isinstance(command, bytes) else json.dumps(command).encode()
    moment = now if now is not None else (connection._heard_ns[-1] if connection._heard_ns else NOW) + SECOND
    (answer,) = connection.received(text, moment)
    return json.loads(answer)


# ------------------------------------------------------------------------------------------------------- commands


def test_commands_are_acknowledged_with_null() -> None:
    c = made().connect()
    assert say(c, {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "a@b"], "id": 1}) == {"result": None, "id": 1}
    assert say(c, {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": "x1"}) == {"result": None, "id": "x1"}
    assert say(c, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == {"result": ["btcusdt@trade", "a@b"], "id": 3}
    assert say(c, {"method": "UNSUBSCRIBE", "params": ["a@b", "c@d"], "id": None}) == {"result": None, "id": None}
    assert c.subscriptions == 1
    assert say(c, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": True, "id": 2}
    assert say(c, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 5}) == {"result": None, "id": 5}
    assert say(c, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": False, "id": 2}


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (b"{", 3, "Invalid JSON"),
        (b"\xff", 3, "Invalid JSON"),
        (b"[" * 100_000, 3, "Invalid JSON"),
        (b"[]", 2, "Invalid request"),
        ({"params": ["a@b"], "id": 1}, 2, "missing field `method`"),
        ({"method": "subscribe", "params": ["a@b"], "id": 1}, 2, "unknown variant `subscribe`"),
        ({"method": "SUBSCRIBE", "params": "a@b", "id": 1}, 2, "Invalid request"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "Invalid request"),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "Invalid request"),
        ({"method": "SUBSCRIBE", "params": ["a@b"], "id": 1.5}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "params": ["a@b"], "id": 1 << 63}, 2, "request ID"),
        ({"method": "SUBSCRIBE", "params": ["a@b"], "id": "x" * 37}, 2, "request ID"),
        ({"method": "SET_PROPERTY", "params": ["nope", True], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
        ({"method": "SET_PROPERTY", "params": ["combined", True, 1], "id": 1}, 2, "too many parameters"),
        ({"method": "GET_PROPERTY", "params": [1], "id": 1}, 2, "property name must be a string"),
    ],
)
def test_what_is_wrong_has_its_code(command: object, code: int, text: str) -> None:
    answer = say(made().connect(), command)
    assert isinstance(answer, dict) and answer["code"] == code and text in answer["msg"]


def test_too_many_streams_are_refused_whole() -> None:
    c = made().connect()
    names = [f"s{k}usdt@trade" for k in range(1025)]
    assert say(c, {"method": "SUBSCRIBE", "params": names, "id": 19}) == {
        "error": {"code": 4, "msg": "Too many subscriptions"},
        "id": 19,
    }
    assert c.subscriptions == 0
    assert say(c, {"method": "SUBSCRIBE", "params": names[:1024], "id": 20}) == {"result": None, "id": 20}


@pytest.mark.parametrize(("of", "limit"), [(venue, 5), (binance_usdm.venue, 10)])
def test_more_commands_than_allowed_end_the_connection(of: Venue, limit: int) -> None:
    c = made(of).connect()
    for k in range(limit):
        say(c, {"method": "LIST_SUBSCRIPTIONS", "id": k}, NOW + k)
    assert c.ended is None
    assert c.received(b"{}", NOW + SECOND - 1) == ()
    assert c.ended == (1008, "Too many requests")
    other = made(of).connect()
    for k in range(limit * 3):
        say(other, {"method": "LIST_SUBSCRIPTIONS", "id": k}, NOW + k * SECOND // (limit - 1))


@pytest.mark.parametrize("name", ["nosuchusdt@trade", "BTCUSDT@trade", "btcusdt@nonsense", "btcusdt@markPrice"])
def test_what_does_not_exist_is_acknowledged_and_silent(name: str) -> None:
    s = made()
    c = s.connect()
    say(c, {"method": "SUBSCRIBE", "params": [name], "id": 1})
    assert [r for k in range(50) for r in s.generate(NOW + k * SECOND // 10) if c.market(r)] == []


def test_the_other_route_of_usdm_is_silent() -> None:
    s = made(binance_usdm.venue)
    c = s.connect()
    say(c, {"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "btcusdt@markPrice"], "id": 1})
    assert [r for k in range(50) for r in s.generate(NOW + k * SECOND // 10) if c.market(r)] == []


def test_a_connection_that_is_gone_wants_nothing() -> None:
    s = made()
    c = s.connect()
    say(c, {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
    assert s.wanted("btcusdt@trade")
    del c
    gc.collect()
    assert not s.wanted("btcusdt@trade")


def test_pings_come_every_twenty_seconds_and_the_end_after_a_day() -> None:
    s = made()
    c = s.connect()
    pings = [k for k in range(0, 100) if c.heartbeat(NOW + k * SECOND) is not None]
    assert pings == [20, 40, 60, 80]
    assert c.ended is None
    c.heartbeat(NOW + 86_400 * SECOND)
    assert c.ended == (1001, "its 24 hours are over")


def test_raw_payloads_where_combined_is_off() -> None:
    s = made()
    c = s.connect()
    say(c, {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1})
    say(c, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 2})
    wires = [w for k in range(100) for r in s.generate(NOW + k * SECOND // 10) for w in c.market(r)]
    assert wires and all(set(json.loads(w)) == set("usbBaA") for w in wires)


# ------------------------------------------------------------------------------------------------------------ REST


def test_weights_are_counted_and_those_who_ask_on_are_banned() -> None:
    s = made()
    statuses = [
        s.answer("GET", "/api/v3/depth?symbol=BTCUSDT&limit=5000", {}, NOW).status for _ in range(24 + BAN_AFTER + 2)
    ]
    assert statuses == [200] * 24 + [429] * BAN_AFTER + [418] * 2
    refused = s.answer("GET", "/api/v3/ping", {}, NOW)
    assert refused.status == 418 and 0 < int(refused.headers["Retry-After"]) <= 60
    assert s.answer("GET", "/api/v3/ping", {}, NOW + 60 * SECOND).status == 200


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/v3/depth", 400, -1102),
        ("/api/v3/depth?symbol=btcusdt", 400, -1121),
        ("/api/v3/depth?symbol=BTCUSDT&limit=many", 400, -1100),
        ("/api/v3/exchangeInfo?symbol=NOSUCH", 400, -1121),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=2", 400, -1128),
        ("/api/v3/account", 401, -2014),
        ("/api/v1/depth?symbol=BTCUSDT", 404, -1000),
        ("/fapi/v1/depth?symbol=BTCUSDT", 404, -1000),
        ("/", 404, -1000),
    ],
)
def test_errors_have_their_status_and_code(target: str, status: int, code: int) -> None:
    answer = made().answer("GET", target, {}, NOW)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)


def test_a_restricted_location_gets_nothing() -> None:
    s = made()
    s.restricted = True
    refused = s.refuses("GET", "/stream", {}, NOW)
    assert refused is not None and refused.status == 451 == s.answer("GET", "/api/v3/ping", {}, NOW).status


# ------------------------------------------------------------------------------------------------------ recordings


def test_recorded_lines_of_each_kind() -> None:
    s = made()
    frame = b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":5,"p":"1.0","q":"2","T":7,"m":true}}'
    nanoseconds = s.record(b"1723161253937085768 " + frame + b"\n")
    seconds = s.record(b"1628952395.799805: " + frame + b"\n")
    assert nanoseconds is not None and seconds is not None
    assert nanoseconds[:5] == (1723161253937085768, "trade", "trade", "BTCUSDT", frame)
    assert seconds.ts_ns == 1628952395_799805000
    for none in (b"wss://x/stream?streams=a <-> 1628952394.891941\n", b'wss://x <- 1628952394.8: {"id":1}\n'):
        assert s.record(none) is None
    for bad in (b"", b"hello", b"[1]", b'{"recv_ms":1,"event":{}}', b"1723161253937085768 {", b"1.0: [1]"):
        with pytest.raises(Unparsable):
            s.record(bad)


@pytest.mark.parametrize(
    ("name", "of", "symbol", "frames"),
    [
        ("spot-2024-08-08.gz", venue, "BTCUSDT", 399),
        ("usdm-2024-07-18.gz", binance_usdm.venue, "BTCUSDT", 299),
        ("spot-2021-08-14.gz", venue, "BADGERBTC", 165),
    ],
)
def test_a_replayed_book_joins_its_snapshot(name: str, of: Venue, symbol: str, frames: int) -> None:
    """The recorded book is older than the last event before it: those events count, in the simulator as elsewhere."""
    s = made(of)
    tape = Tape([USDM_FIXTURE if of is binance_usdm.venue else FIXTURES / name], s.record)
    contents = tape.contents()
    assert contents.frames == frames
    for _ in range(2):  # a client that lost frames winds the tape back
        s.load(contents.instruments, contents.first_ns, contents.last_ns)
        assert s.answer("GET", f"{of.product.api}/depth?symbol={symbol}", {}, NOW).status == 503  # type: ignore[attr-defined]
        records: list[Record] = [record for _, record in tape.records()]
        for record in records:
            s.apply(record)
        depth = [json.loads(r.wire)["data"] for r in records if r.kind == "depthUpdate" and r.symbol == symbol]
        market = s.markets[symbol]
        assert market.known and market.update_id == depth[-1]["u"]
        for side, levels in (("b", depth[-1]["b"]), ("a", depth[-1]["a"])):
            for price, quantity in levels:
                standing = market.bids_asks[side].get(price)  # type: ignore[index]
                assert standing == (quantity if quantity.strip("0.") else None)
        assert float(market.best("b")[0]) < float(market.best("a")[0])


def test_levels_of_zero_are_gone_however_written() -> None:
    market = Market("X", NOW)
    for zero in ("0", "0.0", "0.00000000"):
        market.set("b", "1.0", "5")
        market.set("b", "1.0", zero)
        assert market.levels("b", 5) == []


# -------------------------------------------------------------------------------------------- over a real socket


@asynccontextmanager
async def served(simulator: BinanceSimulator) -> AsyncIterator[str]:
    clock = SystemClock().now_ns
    server = SimulatorServer(
        simulator, lambda lines: MarketPlayer(simulator, lines, clock), None, clock, False, structlog.get_logger()
    )
    port = await server.start(0)
    try:
        yield f"ws://127.0.0.1:{port}{SPOT.ws_path}"
    finally:
        await server.close()


def fresh() -> BinanceSimulator:
    simulator = venue.simulator(Simulation(markets=2))
    assert isinstance(simulator, BinanceSimulator)
    return simulator


async def closed(ws: ClientConnection) -> tuple[int, str]:
    try:
        async with asyncio.timeout(10):
            while True:
                await ws.recv()
    except (ConnectionClosedError, ConnectionClosedOK) as e:
        assert e.rcvd is not None
        return e.rcvd.code, e.rcvd.reason


async def test_a_hasty_client_is_closed_with_1008() -> None:
    async with served(fresh()) as url, connect(url) as ws:
        for k in range(8):
            await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": k}))
        assert await closed(ws) == (1008, "Too many requests")


async def test_a_life_that_is_over_is_closed_with_a_notice_before() -> None:
    simulator = fresh()
    simulator.life_ns, simulator.notice_ns = 3 * SECOND, 2 * SECOND
    async with served(simulator) as url, connect(url) as ws:
        await ws.send('{"method":"SUBSCRIBE","params":["btcusdt@bookTicker","ethusdt@bookTicker"],"id":1}')
        heard = []
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)):
            async with asyncio.timeout(10):
                while True:
                    heard.append(json.loads(await ws.recv()))
        assert ws.close_code == 1001
        assert sum(frame.get("stream") == "!serverShutdown" for frame in heard) == 1


async def test_a_restricted_client_is_refused_at_the_door() -> None:
    simulator = fresh()
    simulator.restricted = True
    async with served(simulator) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 451
