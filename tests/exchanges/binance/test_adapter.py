"""The client's grammar: every frame routed, ids watched, commands paced and their answers checked; nothing raises."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges import binance_usdm
from exchanges.binance import venue
from exchanges.binance.adapter import ATTEMPTS_MAX, BEHIND_MAX, MEANWHILE_BYTES_MAX, BinanceAdapter
from exchanges.binance.product import SPOT, channel_of, stream_name, symbol_of
from exchanges.port import Received, Request, Subscription
from ssmd import frames, subjects

from .talk import FIXTURES, NOW, SECOND, SPOT_CHANNELS, recorded, subscription


def frame(stream: str, **data: object) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":"), ensure_ascii=False).encode()


def depth(first: int, last: int, previous: int = 0, symbol: str = "BTCUSDT") -> bytes:
    ids = {"U": first, "u": last} | ({"pu": previous} if previous else {})
    levels = {"b": [["1.00", str(last)]], "a": []}
    return frame(stream_name(symbol, "depth@100ms"), e="depthUpdate", E=1, s=symbol, **ids, **levels)


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    body = {"e": "trade", "E": 1, "s": symbol, "t": number, "p": "1.0", "q": "2", "T": 1, "m": True, "M": True}
    return frame(stream_name(symbol, "trade"), **body)


def book(request: Request, last: int) -> bytes:
    return request.answered(200, b'{"lastUpdateId":%d,"bids":[],"asks":[]}' % last)


def ack(number: int = 1) -> bytes:
    return b'{"result":null,"id":%d}' % number


def opened(symbols: tuple[str, ...] = ("BTCUSDT",), channels: tuple[str, ...] = SPOT_CHANNELS) -> BinanceAdapter:
    adapter = venue.adapter(subscription(symbols, channels))
    assert isinstance(adapter, BinanceAdapter)
    adapter.opened()
    return adapter


def told(received: Received) -> list[str]:
    return [notice.kind for notice in received.notices]


# ------------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("stream", "channel", "symbol"),
    [
        ("btcusdt@depth@100ms", "depth", "BTCUSDT"),
        ("btcusdt@depth", "depth", "BTCUSDT"),
        ("btcusdt@depth20@100ms", "depth20", "BTCUSDT"),
        ("btcusdt@trade", "trade", "BTCUSDT"),
        ("btcusdt@aggTrade", "aggTrade", "BTCUSDT"),
        ("btcusdt@kline_1m", "kline_1m", "BTCUSDT"),
        ("btcusdt@kline_1d@+08:00", "kline_1d@+08:00", "BTCUSDT"),
        ("btcusdt@ticker_1h", "ticker_1h", "BTCUSDT"),
        ("btcusdt@markPrice@1s", "markPrice", "BTCUSDT"),
        ("btcusdt_260925@bookTicker", "bookTicker", "BTCUSDT_260925"),
        ("币安人生usdt@trade", "trade", "币安人生USDT"),
        ("btcusdt_perpetual@continuousKline_1m", "continuousKline_1m", "BTCUSDT_PERPETUAL"),
    ],
)
def test_a_stream_has_its_channel_and_symbol(stream: str, channel: str, symbol: str) -> None:
    number = {"u": 5, "t": 5, "a": 5, "U": 5} if channel != "kline_1m" else {}
    route = opened().received(frame(stream, **number), NOW)
    assert (route.channel, route.symbol, route.bad) == (channel, symbol, None)
    assert subjects.channel_of(subjects.frame("local", "binance", channel, symbol)) == channel


def test_streams_for_all_symbols_go_under_their_first() -> None:
    adapter = venue.adapter(Subscription((), ()))
    rows = [{"e": "24hrMiniTicker", "s": s, "o": "1.0"} for s in ("ETHBTC", "BTCUSDT")]
    wire = json.dumps({"stream": "!miniTicker@arr", "data": rows}).encode()
    assert adapter.received(wire, NOW)[:3] == ("miniTicker@arr", "ETHBTC", None)
    assert adapter.received(b'{"stream":"!miniTicker@arr","data":[]}', NOW)[:3] == ("miniTicker@arr", None, None)
    assert adapter.received(frame("!bookTicker", s="BTCUSDT", u=1), NOW)[:2] == ("bookTicker", "BTCUSDT")
    forced = frame("!forceOrder@arr", e="forceOrder", E=1, o={"s": "BTCUSDT", "o": "LIMIT"})
    assert adapter.received(forced, NOW)[:2] == ("forceOrder@arr", "BTCUSDT")


@given(st.sampled_from(["BTCUSDT", "币安人生USDT", "1000SHIBUSDT", "BTCUSDT_260925", "ÄUSDT"]))
def test_symbols_survive_their_streams(symbol: str) -> None:
    assert symbol_of(stream_name(symbol, "depth@100ms")) == symbol
    assert channel_of(stream_name(symbol, "depth@100ms")) == "depth"


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b'{"stream":"btcusdt@trade","data":{"t":1}', "not JSON"),
        (b'{"stream":"btcusdt@trade","data":{"t":1}}x', "not JSON"),
        (b'{"stream":"btcusdt@trade","data":{"t":NaN}}', "not JSON"),
        (b'{"stream":"btcusdt@trade","data":{"t":1,"p":"\xff"}}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1,2]", "not a Binance message"),
        (b"{}", "neither of a stream nor an answer"),
        (b'{"stream":"btcusdt@trade","data":{}}', "trade without an id"),
        (b'{"stream":"btcusdt@trade","data":{"t":"1"}}', "trade not as documented"),
        (b'{"stream":"btcusdt@trade","data":[]}', "trade not as documented"),
        (b'{"stream":"btcusdt@depth","data":{"U":5,"u":4}}', "depth with update ids 5 to 4"),
        (b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate"}}', "depth with update ids 0 to 0"),
        (b'{"stream":"btcusdt@aggTrade","data":{"a":"x"}}', "aggTrade not as documented"),
        (b'{"stream":"btcusdt@nonsense","data":{}}', "unknown stream"),
        (b'{"stream":"@trade","data":{"t":1}}', "of a symbol of 0 characters"),
        (b'{"stream":"%b@trade","data":{"t":1}}' % (b"x" * 300), "of a symbol of 300 characters"),
        (b'{"stream":"!miniTicker@arr","data":[{"s":""}]}', "of a symbol of 0 characters"),
        (b'{"stream":"!miniTicker@arr","data":7}', "miniTicker@arr not as documented"),
    ],
)
def test_what_is_no_message_is_quarantined_with_a_reason(wire: bytes, reason: str) -> None:
    for adapter in (opened(), venue.adapter(Subscription((), ()))):
        route = adapter.received(wire, NOW)
        assert route.channel == frames.BAD and reason in (route.bad or ""), route


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(trade, st.integers(-5, 1 << 70)),
            st.builds(depth, st.integers(-5, 50), st.integers(-5, 50), st.integers(0, 50)),
            st.sampled_from([ack(), ack(2), b'{"code":2,"msg":"x"}', b'{"error":{"code":4},"id":1}']),
            st.sampled_from([b'{"result":[],"id":2}', b'{"result":{"x":1},"id":2}', b'{"id":[],"rest":""}']),
            st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)).map(
                lambda v: json.dumps({"stream": "btcusdt@depth@100ms", "data": v, "rest": "GET /x", "id": v}).encode()
            ),
        ),
        max_size=30,
    )
)
def test_nothing_raises(wires: list[bytes]) -> None:
    adapter = opened()
    for k, wire in enumerate(wires):
        route = adapter.received(wire, NOW)
        assert isinstance(route, Received)
        for request in route.asks:
            adapter.received(request.answered(200, wire), NOW)
        adapter.tick(NOW + k * SECOND)
    adapter.probe()
    adapter.subscribe(["ETHUSDT"])
    adapter.unsubscribe(["BTCUSDT"])


def test_what_was_quarantined_says_what_it_is_to_an_adapter_that_knows_nothing() -> None:
    """The rollup's second chance: no subscription, one frame."""
    for _, wire in list(recorded(FIXTURES / "spot-2024-08-08.gz"))[:20]:
        if wire.startswith(b'{"stream"'):
            route = venue.adapter(Subscription((), ())).received(wire, NOW)
            assert route.bad is None and route.channel in {"depth", "trade", "bookTicker"}


# ------------------------------------------------------------------------------------------------------------ ids


def test_a_hole_in_the_trades_is_a_gap_of_that_symbol() -> None:
    adapter = opened(("BTCUSDT", "ETHUSDT"))
    for wire in (trade(7), trade(90, "ETHUSDT"), trade(8)):
        assert told(adapter.received(wire, NOW)) == []
    route = adapter.received(trade(12), NOW)
    assert told(route) == ["break", "mended"] and {n.symbols for n in route.notices} == {("BTCUSDT",)}
    assert route.notices[0].evidence == "btcusdt@trade: id 12 after 8, 3 missing"
    assert told(adapter.received(trade(13), NOW)) == [] == told(adapter.received(trade(91, "ETHUSDT"), NOW))


def test_what_comes_again_or_late_is_kept_and_told_once_a_tick() -> None:
    adapter = opened()
    adapter.received(trade(7), NOW)
    again = adapter.received(trade(7), NOW)
    assert (again.channel, told(again)) == ("trade", ["warning"]) and "again or late" in again.notices[0].evidence
    assert told(adapter.received(trade(6), NOW)) == []
    adapter.tick(NOW)
    assert told(adapter.received(trade(5), NOW)) == ["warning"]
    assert told(adapter.received(trade(8), NOW)) == []


def test_ids_that_begin_anew_are_a_gap_and_then_followed() -> None:
    adapter = opened()
    adapter.received(trade(10_000), NOW)
    kinds = [told(adapter.received(trade(number), NOW)) for number in range(1, BEHIND_MAX + 10)]
    assert kinds[0] == ["warning"] and kinds[BEHIND_MAX] == ["break", "mended"]
    assert all(not k for i, k in enumerate(kinds) if i not in {0, BEHIND_MAX})


def test_aggregate_trades_have_ids_of_their_own() -> None:
    adapter = opened(channels=("trade", "aggTrade"))

    def aggregate(number: int) -> bytes:
        return frame("btcusdt@aggTrade", e="aggTrade", s="BTCUSDT", a=number, p="1", q="1", f=1, l=5, T=1, m=False)

    assert [told(adapter.received(w, NOW)) for w in (trade(50), aggregate(4), aggregate(5), trade(51))] == [[]] * 4
    assert told(adapter.received(aggregate(7), NOW)) == ["break", "mended"]


def test_best_prices_that_go_back_are_told() -> None:
    adapter = opened()
    best = {"s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}
    assert told(adapter.received(frame("btcusdt@bookTicker", u=5, **best), NOW)) == []
    assert told(adapter.received(frame("btcusdt@bookTicker", u=9, **best), NOW)) == []
    assert told(adapter.received(frame("btcusdt@bookTicker", u=9, **best), NOW)) == ["warning"]


def followed(adapter: BinanceAdapter, symbols: tuple[str, ...] = ("BTCUSDT",)) -> BinanceAdapter:
    """The next connection's."""
    after = BinanceAdapter(SPOT, replace(subscription(symbols), numbers=adapter.numbers()))
    after.opened()
    return after


def test_the_next_connection_misses_what_was_lost_before_the_first_trade() -> None:
    adapter = opened()
    adapter.received(trade(7), NOW)
    second = followed(adapter)
    assert told(second.received(trade(8), NOW + 9)) == []  # nothing was missed
    third = followed(followed(second))  # one between them heard nothing
    third.received(ack(), NOW + 20)
    missing = third.received(trade(12), NOW + 30)
    assert told(missing) == ["break", "mended"]
    assert missing.notices[0].evidence == "btcusdt@trade: id 12 after 8 on the connection before, 3 missing"
    assert missing.notices[0].since_ns == NOW + 9
    assert told(third.received(trade(15), NOW)) == ["break", "mended"]


def test_a_book_of_the_next_connection_is_a_gap_until_it_has_its_snapshot() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    adapter.received(depth(10, 12), NOW)
    adapter.received(book(request, 12), NOW)
    after = followed(adapter)
    (request,) = after.received(ack(), NOW + 5).asks
    broken = after.received(depth(20, 22), NOW + 6)
    assert told(broken) == ["break"] and broken.notices[0].since_ns == NOW
    assert "updates 20 to 22 after 12 on the connection before, 7 updates missing" in broken.notices[0].evidence
    assert told(after.received(book(request, 19), NOW + 7)) == ["mended"]


def test_a_snapshot_that_comes_before_the_next_connections_first_update_makes_its_gap_good() -> None:
    adapter = opened()
    adapter.received(depth(10, 12), NOW)
    after = followed(adapter)
    (request,) = after.received(ack(), NOW + 5).asks
    assert after.received(book(request, 30), NOW + 6).channel == "depth_snapshot"
    past = after.received(depth(28, 29), NOW + 7)
    assert (past.channel, told(past), past.asks) == ("depth_past", ["break", "mended"], ())
    assert past.notices[0].since_ns == NOW
    assert [after.received(depth(a, b), NOW).channel for a, b in ((30, 30), (31, 33))] == ["depth_past", "depth"]


def test_a_chain_of_updates_that_goes_on_over_a_connection_has_no_gap() -> None:
    adapter = opened()
    adapter.received(depth(10, 12), NOW)
    after = followed(adapter)
    (request,) = after.received(ack(), NOW).asks
    assert told(after.received(depth(13, 14), NOW)) == []
    assert told(after.received(book(request, 13), NOW)) == []


def test_what_was_unsubscribed_meanwhile_is_not_missed() -> None:
    adapter = opened(("BTCUSDT", "ETHUSDT"))
    adapter.received(trade(7, "ETHUSDT"), NOW)
    second = followed(adapter)
    second.subscribe(["ETHUSDT"])
    assert told(second.received(trade(70, "ETHUSDT"), NOW)) == []
    second.unsubscribe(["ETHUSDT"])
    assert followed(second, ("ETHUSDT",)).received(trade(90, "ETHUSDT"), NOW).notices == ()


# ---------------------------------------------------------------------------------------------------------- books


def test_a_snapshot_is_asked_for_once_the_subscription_is_acknowledged() -> None:
    adapter = opened()
    assert adapter.received(depth(10, 12), NOW).asks == ()
    (request,) = adapter.received(ack(), NOW).asks
    assert request.target == "/api/v3/depth?symbol=BTCUSDT&limit=5000"


def test_events_that_a_snapshot_holds_say_nothing_more() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    adapter.received(depth(10, 12), NOW)
    assert adapter.received(book(request, 15), NOW)[:2] == ("depth_snapshot", "BTCUSDT")
    channels = [adapter.received(depth(a, b), NOW).channel for a, b in ((13, 14), (15, 15), (16, 20), (21, 21))]
    assert channels == ["depth_past", "depth_past", "depth", "depth"]


def test_an_event_that_only_overlaps_the_snapshot_counts() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    adapter.received(depth(10, 12), NOW)
    adapter.received(book(request, 15), NOW)
    assert adapter.received(depth(13, 17), NOW).channel == "depth"


def test_what_came_while_a_snapshot_was_on_its_way_is_repeated_behind_it() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    events = [depth(10, 12), depth(13, 15), depth(16, 18)]
    for wire in events:
        adapter.received(wire, NOW)
    wire = book(request, 14)
    assert adapter.received(wire, NOW).channel == "depth_snapshot"
    assert json.loads(wire)["meanwhile"] == [json.loads(e) for e in events]
    deltas = venue.events("2026-11-20")("depth_snapshot", wire)[1:]
    assert [d.size for d in deltas] == ["15", "18"]  # type: ignore[union-attr]


def test_what_is_repeated_is_bounded_and_older_snapshots_are_no_use_then() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    wire = depth(1, 1)
    count = MEANWHILE_BYTES_MAX // len(wire) + 200
    for k in range(1, count):
        adapter.received(depth(k, k), NOW)
    assert sum(map(len, request.meanwhile)) <= MEANWHILE_BYTES_MAX
    first = json.loads(request.meanwhile[0])["data"]["u"]
    assert adapter.received(book(request, first - 2), NOW).channel == frames.CONTROL
    assert [len(done.asks) for k in range(3) if (done := adapter.tick(NOW + k * SECOND))] == [0, 1]


def test_a_hole_in_the_depth_is_a_gap_until_a_newer_snapshot_has_come() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    adapter.received(depth(10, 12), NOW)
    adapter.received(book(request, 12), NOW)
    broken = adapter.received(depth(15, 16), NOW)
    assert told(broken) == ["break"] and "2 updates missing" in broken.notices[0].evidence
    (second,) = broken.asks
    worse = adapter.received(depth(19, 19), NOW)
    assert told(worse) == ["warning"] and worse.asks == ()
    old = adapter.received(book(second, 17), NOW)  # between the two holes
    assert (old.channel, told(old)) == (frames.CONTROL, ["warning"])
    adapter.tick(NOW)
    third = adapter.tick(NOW + 2 * SECOND)
    assert third is not None
    mended = adapter.received(book(third.asks[0], 19), NOW)
    assert (mended.channel, told(mended)) == ("depth_snapshot", ["mended"])


def test_a_snapshot_before_the_first_event_must_reach_it() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    assert adapter.received(book(request, 12), NOW).channel == "depth_snapshot"
    route = adapter.received(depth(14, 15), NOW)
    assert told(route) == ["break"] and len(route.asks) == 1


def test_usdm_events_name_their_predecessor() -> None:
    adapter = binance_usdm.venue.adapter(subscription(channels=("depth@100ms",)))
    adapter.opened()
    (request,) = adapter.received(ack(), NOW).asks
    assert request.target == "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    for wire in (depth(100, 110, 90), depth(131, 140, 110), depth(155, 160, 140)):
        assert told(adapter.received(wire, NOW)) == []
    assert adapter.received(book(request, 140), NOW).channel == "depth_snapshot"
    assert told(adapter.received(depth(170, 171, 160), NOW)) == []
    assert told(adapter.received(depth(190, 191, 180), NOW)) == ["break"]


def test_usdm_a_snapshot_may_lie_between_two_events() -> None:
    adapter = binance_usdm.venue.adapter(subscription(channels=("depth@100ms",)))
    adapter.opened()
    (request,) = adapter.received(ack(), NOW).asks
    adapter.received(book(request, 150), NOW)
    assert [adapter.received(w, NOW).channel for w in (depth(141, 150, 130), depth(161, 170, 150))] == [
        "depth_past",
        "depth",
    ]


@pytest.mark.parametrize("status", [0, 500, 503, 429])
def test_a_snapshot_that_cannot_be_had_is_asked_for_again_and_then_a_gap(status: int) -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    for k in range(1, 12):
        adapter.received(depth(k, k), NOW)
    now, asked, kinds = NOW, 0, []
    asks = [request]
    while now < NOW + 200 * SECOND:
        for each in asks:
            kinds += told(adapter.received(each.answered(status, b'{"code":-1003,"msg":"wait"}'), NOW))
        now += SECOND // 2
        done = adapter.tick(now)
        asks = list(done.asks) if done else []
        kinds += told(done) if done else []
        asked += len(asks)
        if done:
            for text in done.owed:
                adapter.received(ack(json.loads(text)["id"]), NOW)
    assert 1 < asked < 10
    assert kinds.count("break") == 1 and kinds.index("break") > 1


def test_a_symbol_unknown_to_rest_is_refused_and_not_asked_again() -> None:
    adapter = opened()
    (request,) = adapter.received(ack(), NOW).asks
    route = adapter.received(request.answered(400, b'{"code":-1121,"msg":"Invalid symbol."}'), NOW)
    assert told(route) == ["refused"] and route.notices[0].symbols == ("BTCUSDT",)
    for k in range(100):
        done = adapter.tick(NOW + k * SECOND)
        assert not done or not done.asks


def test_many_books_are_asked_for_within_the_limits() -> None:
    symbols = tuple(f"S{k}USDT" for k in range(150))
    adapter = venue.adapter(Subscription(("depth@100ms",), symbols))
    sent = [json.loads(text) for text in adapter.opened()]
    asks: list[tuple[int, Request]] = []
    now = NOW
    for step in range(600):
        now += SECOND // 2
        for command in sent:
            answer = ack(command["id"])
            if command["method"] == "LIST_SUBSCRIPTIONS":
                names = [stream_name(s, "depth@100ms") for s in symbols]
                answer = json.dumps({"result": names, "id": command["id"]}).encode()
            asks += [(step, r) for r in adapter.received(answer, NOW).asks]
        done = adapter.tick(now)
        sent = [json.loads(text) for text in done.owed] if done else []
        asks += [(step, r) for r in done.asks] if done else []
        for _, request in asks:
            if request.query:
                adapter.received(book(request, 5), NOW)
        assert done is None or not [n for n in done.notices if n.kind != "warning"]
    assert len({r.query["symbol"] for _, r in asks}) == 150 == len(asks)
    assert {r.query["limit"] for _, r in asks} == {"1000"}
    for start in range(0, 600, 10):
        weight = 50 * sum(start <= step < start + 120 for step, _ in asks)  # within any minute
        assert weight <= SPOT.weight_per_minute


# ------------------------------------------------------------------------------------------------------- commands


def test_subscriptions_are_lists_sent_slowly() -> None:
    symbols = tuple(f"S{k}USDT" for k in range(300))
    adapter = venue.adapter(Subscription(SPOT_CHANNELS, symbols, 200))
    sent = [json.loads(text) for text in adapter.opened()]
    assert len(sent) == 2
    for k in range(10):
        done = adapter.tick(NOW + k * SECOND // 2)
        if done:
            assert len(done.owed) <= 1
            sent += [json.loads(text) for text in done.owed]
    names = [name for command in sent for name in command["params"]]
    assert len(names) == len(set(names)) == 900 and max(len(c["params"]) for c in sent) == 200
    assert [c["id"] for c in sent] == [1, 2, 3, 4, 5] and {c["method"] for c in sent} == {"SUBSCRIBE"}


def test_more_streams_than_a_connection_takes_are_told_by_name() -> None:
    symbols = tuple(f"S{k}USDT" for k in range(600))
    adapter = venue.adapter(Subscription(("trade", "bookTicker"), symbols))
    adapter.opened()
    done = adapter.tick(NOW)
    assert done is not None
    (notice,) = [n for n in done.notices if n.kind == "refused"]
    assert notice.evidence.startswith("176 streams are more than the 1024 of a connection: s424usdt@bookTicker")


def test_a_command_without_an_answer_is_sent_again_then_given_up() -> None:
    adapter = opened()
    sent, kinds = 1, []
    for k in range(200):
        done = adapter.tick(NOW + k * SECOND // 2)
        if done:
            sent += len(done.owed)
            kinds += told(done)
    assert sent == ATTEMPTS_MAX and kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]


@pytest.mark.parametrize(
    "answer",
    [b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":1}', b'{"code":2,"msg":"Invalid request: no","id":1}'],
)
def test_a_refused_command_names_what_it_was_about(answer: bytes) -> None:
    route = opened().received(answer, NOW)
    (notice,) = route.notices
    assert (route.channel, notice.kind, notice.symbols) == (frames.CONTROL, "refused", ("BTCUSDT",))
    assert "SUBSCRIBE of btcusdt@depth@100ms, btcusdt@trade, btcusdt@bookTicker: error" in notice.evidence


def test_an_error_without_an_id_is_a_warning() -> None:
    assert told(opened().received(b'{"code":3,"msg":"Invalid JSON"}', NOW)) == ["warning"]


def test_streams_that_are_acknowledged_but_never_listed_are_given_up() -> None:
    adapter = opened(channels=("trade", "bookTicker"))
    adapter.received(ack(), NOW)
    kinds: list[str] = []
    for k in range(40):
        done = adapter.tick(NOW + k * SECOND)
        for text in done.owed if done else ():
            command = json.loads(text)
            listed = b'{"result":["btcusdt@trade"],"id":%d}' % command["id"]
            kinds += told(adapter.received(listed if command["method"].startswith("LIST") else ack(command["id"]), NOW))
    assert kinds == ["warning"] * ATTEMPTS_MAX + ["refused"]


@pytest.mark.parametrize(
    "wire", [b'{"e":"serverShutdown","E":1}', b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}']
)
def test_a_shutdown_asks_for_another_connection(wire: bytes) -> None:
    route = opened().received(wire, NOW)
    assert (route.channel, told(route)) == (frames.CONTROL, ["ending"])
