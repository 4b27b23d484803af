"""The spot client's grammar: every frame gets its place, no wrong book or lost trade goes unseen, nothing raises."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchanges.kraken import venue
from exchanges.kraken.adapter import PING_NS, REQUESTS_PER_SECOND, KrakenAdapter
from exchanges.kraken.asking import ANSWER_NS, ATTEMPTS_MAX
from exchanges.kraken.book import checksum
from exchanges.kraken.messages import HEARTBEAT
from exchanges.port import Notice, Received, Subscription
from ssmd import frames
from ssmd.errors import Permanent

SECOND = 1_000_000_000
BTC, ETH = "BTC/USD", "ETH/USD"
Levels = list[tuple[str, str]]
BIDS: Levels = [("100.0", "1.00"), ("99.5", "2.00")]
ASKS: Levels = [("100.5", "3.00")]


def _frame(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _book(kind: str, symbol: str, bids: Levels, asks: Levels, crc: int) -> bytes:
    sides = [",".join(f'{{"price":{p},"qty":{q}}}' for p, q in side) for side in (bids, asks)]
    entry = f'{{"symbol":"{symbol}","bids":[{sides[0]}],"asks":[{sides[1]}],"checksum":{crc}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{entry}]}}'.encode()


def _snapshot(symbol: str = BTC) -> bytes:
    return _book("snapshot", symbol, BIDS, ASKS, checksum(ASKS, BIDS))


def _update(size: str, symbol: str = BTC, crc: int | None = None) -> bytes:
    """The best bid's size is another one now."""
    right = checksum(ASKS, [("100.0", size), BIDS[1]])
    return _book("update", symbol, [("100.0", size)], [], right if crc is None else crc)


def _trade(*numbers: int, symbol: str = BTC) -> bytes:
    data = [{"symbol": symbol, "side": "buy", "price": 1.5, "qty": 2.0, "trade_id": n} for n in numbers]
    return _frame(channel="trade", type="update", data=data)


def _answer(asked: bytes, symbol: str | None, **more: object) -> bytes:
    command = json.loads(asked)
    result = {"channel": command["params"]["channel"]} | ({} if symbol is None else {"symbol": symbol})
    return _frame(
        **{"method": command["method"], "result": result, "success": True, "req_id": command["req_id"], **more}
    )


def _commands(texts: object) -> list[dict[str, object]]:
    return [json.loads(text) for text in texts]  # type: ignore[attr-defined]


def _live(*symbols: str, channels: tuple[str, ...] = ("book.10", "trade"), room: int = 250) -> KrakenAdapter:
    """An adapter whose subscriptions are acknowledged."""
    adapter = KrakenAdapter(Subscription(channels, symbols, room))
    for text in adapter.opened():
        for symbol in json.loads(text)["params"].get("symbol", [None]):
            assert adapter.received(_answer(text, symbol), 0) == Received(frames.CONTROL, None)
    return adapter


def _kinds(received: Received | None) -> list[str]:
    return [notice.kind for notice in received.notices] if received is not None else []


# ------------------------------------------------------------------------------------------------- subscribing


def test_each_channel_is_subscribed_with_its_parameter_in_lists() -> None:
    channels = ("book.100", "trade", "ticker.bbo", "ohlc.5", "instrument")
    texts = KrakenAdapter(Subscription(channels, (BTC, ETH, "A/B", BTC), 2)).opened()
    assert _commands(texts)[:3] == [
        {
            "method": "subscribe",
            "params": {"channel": "book", "symbol": [BTC, ETH], "depth": 100, "snapshot": True},
            "req_id": 1,
        },
        {
            "method": "subscribe",
            "params": {"channel": "book", "symbol": ["A/B"], "depth": 100, "snapshot": True},
            "req_id": 2,
        },
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": [BTC, ETH], "snapshot": False},
            "req_id": 3,
        },
    ]
    rest = [command["params"] for command in _commands(texts)[4:]]
    assert rest == [
        {"channel": "ticker", "symbol": [BTC, ETH], "event_trigger": "bbo"},
        {"channel": "ticker", "symbol": ["A/B"], "event_trigger": "bbo"},
        {"channel": "ohlc", "symbol": [BTC, ETH], "interval": 5},
        {"channel": "ohlc", "symbol": ["A/B"], "interval": 5},
        {"channel": "instrument"},
    ]


@pytest.mark.parametrize(
    "channels", [("level3",), ("book.7",), ("trade.5",), ("ohlc.2",), ("status",), ("ticker.all",), ("book", "book.25")]
)
def test_a_channel_that_does_not_exist_is_refused_at_once(channels: tuple[str, ...]) -> None:
    with pytest.raises(Permanent, match="Kraken"):
        venue.adapter(Subscription(channels, (BTC,)))


def test_requests_leave_no_faster_than_the_venue_likes() -> None:
    symbols = tuple(f"T{n}/USD" for n in range(50))
    adapter = KrakenAdapter(Subscription(("trade",), symbols, 1))
    assert len(adapter.opened()) == REQUESTS_PER_SECOND
    assert adapter.tick(SECOND) is None
    half = adapter.tick(SECOND + SECOND // 2)
    assert half is not None and len(half.owed) == REQUESTS_PER_SECOND // 2
    rest = adapter.tick(4 * SECOND)
    assert rest is not None and len(rest.owed) == 50 - REQUESTS_PER_SECOND * 3 // 2


def test_every_symbol_needs_its_own_answer() -> None:
    """One request, two answers: the one that does not come is asked for again, by name, and given up in the end."""
    adapter = KrakenAdapter(Subscription(("trade",), (BTC, ETH)))
    (text,) = adapter.opened()
    adapter.received(_answer(text, BTC), 0)
    adapter.tick(0)
    kinds, asked, now = [], [], 0
    for _ in range(ATTEMPTS_MAX):
        now += ANSWER_NS
        overdue = adapter.tick(now)
        assert overdue is not None
        kinds += [(n.kind, n.symbols) for n in overdue.notices]
        asked += [c["params"]["symbol"] for c in _commands(overdue.owed) if c["method"] == "subscribe"]  # type: ignore[index]
        adapter.tick(now)
    assert kinds == [("warning", (ETH,))] * (ATTEMPTS_MAX - 1) + [("refused", (ETH,))]
    assert asked == [[ETH]] * (ATTEMPTS_MAX - 1)
    later = adapter.tick(now + 100 * SECOND)
    assert later is not None and [c["method"] for c in _commands(later.owed)] == ["ping"] and later.notices == ()


def test_some_symbols_of_a_request_may_fail() -> None:
    adapter = KrakenAdapter(Subscription(("trade",), ("XBT/USD", BTC)))
    adapter.opened()
    error = {"method": "subscribe", "success": False, "error": "Currency pair not supported XBT/USD", "req_id": 1}
    told = adapter.received(_frame(**error, symbol="XBT/USD"), 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("refused", ("XBT/USD",))]
    assert "not supported" in told.notices[0].evidence
    assert adapter.subscribe(["XBT/USD", BTC]) != []  # the venue may know it by then


def test_a_failure_without_a_symbol_is_about_all_that_were_asked_for() -> None:
    adapter = KrakenAdapter(Subscription(("book.10",), (BTC, ETH)))
    adapter.opened()
    said = "Subscription depth not supported"
    told = adapter.received(_frame(method="subscribe", success=False, error=said, req_id=1), 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("refused", (BTC, ETH))]


def test_already_subscribed_is_as_good_as_an_acknowledgement() -> None:
    adapter = KrakenAdapter(Subscription(("trade",), (BTC,)))
    adapter.opened()
    error = {"method": "subscribe", "success": False, "error": "Already subscribed", "symbol": BTC, "req_id": 1}
    assert adapter.received(_frame(**error), 0).notices == ()
    adapter.received(_trade(5), 0)
    assert _kinds(adapter.received(_trade(8), 0)) == ["break", "mended"]


def test_asked_too_fast_it_asks_again_more_slowly_but_not_for_ever() -> None:
    adapter = KrakenAdapter(Subscription(("trade",), (BTC,)))
    texts = list(adapter.opened())
    sent, kinds, now = 0, [], 0
    while now < 100 * SECOND:
        for text in texts:
            command = json.loads(text)
            if command["method"] == "subscribe":
                sent += 1
                error = {"method": "subscribe", "success": False, "error": "Exceeded msg rate"}
                kinds += _kinds(adapter.received(_frame(**error, req_id=command["req_id"]), 0))
        ticked = adapter.tick(now)
        texts = list(ticked.owed) if ticked is not None else []
        now += SECOND
    assert sent == ATTEMPTS_MAX
    assert kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]


def test_instruments_come_and_go_on_a_live_connection() -> None:
    adapter = _live(BTC)
    added = _commands(adapter.subscribe([BTC, ETH]))
    assert [(c["params"]["channel"], c["params"]["symbol"]) for c in added] == [("book", [ETH]), ("trade", [ETH])]  # type: ignore[index]
    assert adapter.subscribe([ETH]) == []
    dropped = _commands(adapter.unsubscribe([ETH, "A/B"]))
    assert [c["params"] for c in dropped] == [
        {"channel": "book", "symbol": [ETH], "depth": 10},
        {"channel": "trade", "symbol": [ETH]},
    ]
    assert {c["method"] for c in dropped} == {"unsubscribe"}
    assert adapter.received(_update("9.00", ETH, crc=5), 0) == Received("book", ETH)  # it was on its way


def test_warnings_in_an_answer_are_told() -> None:
    adapter = KrakenAdapter(Subscription(("ohlc.5",), (BTC,)))
    (text,) = adapter.opened()
    told = adapter.received(_answer(text, None, result={"channel": "ohlc", "symbol": BTC, "warnings": ["old"]}), 0)
    assert _kinds(told) == ["warning"] and "old" in told.notices[0].evidence
    assert adapter.tick(0) is None and adapter.tick(20 * SECOND) is None


# ----------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("wire", "channel", "symbol"),
    [
        (_snapshot(), "book", BTC),
        (_trade(5, 6), "trade", BTC),
        (_frame(channel="ticker", type="update", data=[{"symbol": ETH, "bid": 1.5}]), "ticker", ETH),
        (_frame(channel="ohlc", type="update", data=[{"symbol": BTC, "open": 1.5}]), "ohlc", BTC),
        (_frame(channel="instrument", type="snapshot", data={"assets": [], "pairs": []}), "instrument", None),
        (_frame(channel="status", type="update", data=[{"system": "online"}]), "status", None),
        (_frame(channel="trade", type="snapshot", data=[]), "trade", None),
        (HEARTBEAT, frames.CONTROL, None),
        (_frame(method="pong", req_id=5), frames.CONTROL, None),
        (
            _frame(channel="ticker", type="update", data=[{"symbol": "ü/USD"}]).replace(b"\\u00fc", "ü".encode()),
            "ticker",
            "ü/USD",
        ),
    ],
)
def test_a_frame_goes_to_its_channel_and_first_instrument(wire: bytes, channel: str, symbol: str | None) -> None:
    adapter = _live(BTC, channels=("book.10", "trade", "ticker", "ohlc", "instrument"))
    assert adapter.received(wire, 0) == Received(channel, symbol)
    assert adapter.received(wire, 0)[:2] == (channel, symbol)
    assert KrakenAdapter(Subscription((), ())).received(wire, 0) == Received(channel, symbol)


def test_routes_are_made_once_and_shared() -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(), 0)
    first, second = adapter.received(_update("5.00"), 0), adapter.received(_update("6.00"), 0)
    assert first == Received("book", BTC) and second is first


@pytest.mark.parametrize(
    ("wire", "reason", "is_json"),
    [
        (b"", "not JSON", False),
        (b"PING", "not JSON", False),
        (b'{"channel":"trade","data":[', "not JSON", False),
        (b'{"channel":5, and so on', "not JSON", False),
        (b'{"channel":"trade","x":NaN}', "not JSON", False),
        (b'{"channel":"trade","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply", False),
        (b'{"channel":"ticker","data":[{"symbol":"A/B","x":"\xff"}]}', "not UTF-8", False),
        (b"\xff\xfe", "not UTF-8", False),
        (b"[1,2]", "not a Kraken message", True),
        (b"null", "not a Kraken message", True),
        (b"{}", "not a Kraken message", True),
        (b'{"channel":5}', "not a Kraken message", True),
        (b'{"channel":"trade","data":5}', "not a Kraken message", True),
        (b'{"channel":"trade","data":[{"symbol":5}]}', "not a Kraken message", True),
        (b'{"channel":"book","data":[{"symbol":"A/B","bids":[{"price":1}]}]}', "not a Kraken message", True),
        (b'{"channel":"brand_new","data":[{"symbol":"A/B"}]}', "unknown channel 'brand_new'", True),
        (b'{"channel":"trade","data":[{}]}', "trade without symbol", True),
        (b'{"channel":"trade","data":{"symbol":"A/B"}}', "trade whose data is an object", True),
        (b'{"channel":"instrument","data":[]}', "instrument whose data is a list", True),
        (b'{"channel":"ticker","data":[{"symbol":"%b"}]}' % (b"A" * 500), "500 characters", True),
    ],
)
def test_what_is_no_message_is_quarantined_with_a_reason(wire: bytes, reason: str, is_json: bool) -> None:
    told = _live(BTC).received(wire, 0)
    assert told.channel == frames.BAD and told.symbol is None and told.json is is_json
    assert told.bad is not None and reason in told.bad


_SOME = st.one_of(st.none(), st.integers(-5, 1 << 70), st.text(max_size=5), st.booleans(), st.floats())
_KEYS = ("channel", "type", "data", "method", "success", "result", "error", "symbol", "req_id", "bids", "asks", "price")
_JSON = st.recursive(
    _SOME,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(_KEYS), st.text(max_size=4)), inner, max_size=5),
    ),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=60), _JSON.map(lambda value: json.dumps(value).encode())))
@example(b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":"x","qty":{}}]}]}')
@example(b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","trade_id":-1}]}')
@example(b'{"method":"subscribe","success":false}')
@example(b'{"method":"subscribe","success":true,"result":{"channel":"book"}}')
def test_nothing_makes_it_raise_and_it_goes_on(wire: bytes) -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(), 0)
    told = adapter.received(wire, 0)
    assert told.channel in {frames.BAD, frames.CONTROL, "book", "trade", "ticker", "ohlc", "instrument", "status"}
    frames.message(0, b"c", 1, wire, bad=told.bad, json=told.json)
    assert adapter.received(_trade(7), 0)[:2] == ("trade", BTC)


# --------------------------------------------------------------------------------------------------- checksums


def test_a_wrong_checksum_breaks_that_book_alone_and_subscribes_it_anew() -> None:
    adapter = _live(BTC, ETH)
    adapter.received(_snapshot(BTC), 1)
    adapter.received(_snapshot(ETH), 2)
    adapter.received(_update("5.00"), 3)
    told = adapter.received(_update("6.00", crc=77), 9)
    (notice,) = told.notices
    assert (notice.kind, notice.symbols, notice.cause, notice.since_ns) == ("break", (BTC,), "checksum", 3)
    assert [(c["method"], c["params"]["symbol"]) for c in _commands(told.owed)] == [  # type: ignore[index]
        ("unsubscribe", [BTC]),
        ("subscribe", [BTC]),
    ]
    assert adapter.received(_update("7.00"), 10) == Received("book", BTC)  # doubtful, whatever it says
    assert adapter.received(_update("5.00", ETH), 11).notices == ()
    assert [(n.kind, n.symbols) for n in adapter.received(_snapshot(BTC), 12).notices] == [("mended", (BTC,))]
    assert adapter.received(_update("7.00"), 13).notices == ()


def test_a_snapshot_that_is_wrong_itself_is_asked_for_more_and_more_slowly() -> None:
    adapter = _live(BTC)
    wrong = _book("snapshot", BTC, BIDS, ASKS, 1)
    kinds = _kinds(adapter.received(wrong, 0))
    asked, now = 1, 0
    while now < 200 * SECOND:
        now += SECOND // 2
        ticked = adapter.tick(now)
        for command in _commands(ticked.owed) if ticked is not None else []:
            if command["method"] == "subscribe":
                asked += 1
                kinds += _kinds(adapter.received(wrong, now))
    assert kinds == ["break"] + ["warning"] * (asked - 1)
    assert 6 <= asked <= 10  # after 1, 2, 4, 8, 16, 32, 60 seconds
    assert _kinds(adapter.received(_snapshot(BTC), now)) == ["mended"]


def test_a_snapshot_that_does_not_come_is_asked_for_again() -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(BTC), 0)
    adapter.received(_update("5.00", crc=1), 0)
    asked = []
    for half in range(60):
        ticked = adapter.tick(half * SECOND // 2)
        asked += [half for c in _commands(ticked.owed) if c["method"] == "subscribe"] if ticked is not None else []
    assert len(asked) == 2 and 20 <= asked[0] <= 25


def test_a_book_that_keeps_breaking_is_not_asked_for_all_the_time() -> None:
    adapter = _live(BTC)
    owed = 0
    for _ in range(20):
        adapter.received(_snapshot(BTC), 0)
        owed += len(adapter.received(_update("5.00", crc=1), 0).owed)
    assert owed == 2


def test_a_frame_that_cannot_be_applied_breaks_the_book() -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(BTC), 0)
    told = adapter.received(_book("update", BTC, [("1e5", "1.00")], [], 5), 0)
    assert _kinds(told) == ["break"] and "cannot be applied" in told.notices[0].evidence


def test_the_same_update_twice_is_told_once_a_tick() -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(BTC), 0)
    adapter.received(_update("5.00"), 0)
    told = adapter.received(_update("5.00"), 0)
    assert told.channel == "book" and _kinds(told) == ["warning"] and "again or late" in told.notices[0].evidence
    assert _kinds(adapter.received(_update("5.00"), 0)) == []
    adapter.tick(SECOND)
    assert _kinds(adapter.received(_update("5.00"), 0)) == ["warning"]


def test_a_book_that_nobody_wants_any_more_is_mended_by_that() -> None:
    adapter = _live(BTC)
    adapter.received(_snapshot(BTC), 0)
    adapter.received(_update("5.00", crc=1), 0)
    adapter.unsubscribe([BTC])
    ticked = adapter.tick(SECOND)
    assert ticked is not None and [(n.kind, n.symbols) for n in ticked.notices] == [("mended", (BTC,))]


# ------------------------------------------------------------------------------------------------------ trades


def test_a_hole_in_trade_ids_is_a_gap_that_is_over() -> None:
    adapter = _live(BTC, ETH)
    adapter.received(_trade(10, 11), 5)
    adapter.received(_trade(500, symbol=ETH), 6)
    assert adapter.received(_trade(12), 7) == Received("trade", BTC)
    told = adapter.received(_trade(15, 16), 9)
    expected = [("break", (BTC,), "sequence", 7), ("mended", (BTC,), "sequence", 0)]
    assert [(n.kind, n.symbols, n.cause, n.since_ns) for n in told.notices] == expected
    assert "2 missing" in told.notices[0].evidence and told.owed == ()
    assert adapter.received(_trade(17), 10).notices == ()
    assert adapter.received(_trade(501, symbol=ETH), 11).notices == ()


def test_the_next_connection_misses_what_was_lost_before_the_first_trade() -> None:
    adapter = _live(BTC, ETH)
    adapter.received(_trade(10, 11), 5)
    adapter.received(_trade(500, symbol=ETH), 6)
    after = KrakenAdapter(Subscription(("trade",), (BTC,), numbers=adapter.numbers()))
    assert after.numbers() == {BTC: (11, 5)}
    assert after.received(_trade(12), 7).notices == ()
    told = KrakenAdapter(Subscription(("trade",), (BTC,), numbers=after.numbers())).received(_trade(14), 9)
    assert _kinds(told) == ["break", "mended"] and told.notices[0].since_ns == 7
    assert "trade_id 14 after 12, 1 missing" in told.notices[0].evidence


def test_a_hole_inside_a_frame_is_a_hole() -> None:
    adapter = _live(BTC)
    adapter.received(_trade(10), 0)
    assert _kinds(adapter.received(_trade(11, 13), 0)) == ["break", "mended"]


def test_trades_twice_or_late_are_no_gap() -> None:
    adapter = _live(BTC)
    adapter.received(_trade(10, 11), 0)
    assert _kinds(adapter.received(_trade(10, 11), 0)) == ["warning"]
    assert _kinds(adapter.received(_trade(9), 0)) == []
    assert adapter.received(_trade(12), 0).notices == ()


# ------------------------------------------------------------------------------------------------- time, status


def test_it_pings_every_half_minute_and_when_asked_whether_silence_is_genuine() -> None:
    adapter = _live(BTC)
    (probe,) = _commands(adapter.probe())
    assert probe["method"] == "ping"
    pings = [s for s in range(100) if adapter.tick(s * SECOND + 1) is not None]
    assert pings == [30, 60, 90] and PING_NS == 30 * SECOND


def test_a_venue_that_is_not_online_is_told() -> None:
    told = _live(BTC).received(_frame(channel="status", type="update", data=[{"system": "cancel_only"}]), 0)
    assert told[:2] == ("status", None)
    assert _kinds(told) == ["warning"] and "cancel_only" in told.notices[0].evidence


def test_a_request_that_the_venue_could_not_read_is_told() -> None:
    told = _live(BTC).received(_frame(method="error", error="Malformed request"), 0)
    assert told.notices == (Notice("warning", evidence="the venue says: Malformed request"),)
