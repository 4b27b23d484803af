"""The client's grammar: every frame gets its place, no hole in the numbers goes unseen, nothing makes it raise."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchanges.deribit import venue
from exchanges.deribit.adapter import (
    ANSWER_NS,
    ATTEMPTS_MAX,
    BEAT_OVERDUE_NS,
    CALLS_AT_ONCE,
    ROUTES_MAX,
    SETTLE_NS,
    DeribitAdapter,
)
from exchanges.port import Notice, Received, Subscription
from ssmd import frames, subjects
from ssmd.errors import Permanent

SECOND = 1_000_000_000
BOOKS = ("book.{instrument_name}.100ms",)
ALL = (*BOOKS, "trades.any.any.100ms", "ticker.{instrument_name}.100ms", "instrument.state.any.any", "platform_state")


def _frame(channel: str, data: object) -> bytes:
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(frame, separators=(",", ":")).encode()


def _snapshot(change_id: int, name: str = "A") -> bytes:
    data = {"type": "snapshot", "timestamp": 1, "instrument_name": name, "change_id": change_id, "bids": [], "asks": []}
    return _frame(f"book.{name}.100ms", data)


def _change(previous: int, change_id: int, name: str = "A") -> bytes:
    data = {"type": "change", "timestamp": 1, "prev_change_id": previous, "instrument_name": name}
    return _frame(f"book.{name}.100ms", data | {"change_id": change_id, "bids": [["new", 1.5, 2.0]], "asks": []})


def _trades(*trades: tuple[str, int]) -> bytes:
    return _frame("trades.any.any.100ms", [{"instrument_name": name, "trade_seq": seq} for name, seq in trades])


def _answer(number: int, result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result, "usIn": 1, "testnet": False}).encode()


def _error(number: int | None, code: int, message: str = "said_so", data: object = None) -> bytes:
    head = {} if number is None else {"id": number}
    return json.dumps({"jsonrpc": "2.0", **head, "error": {"code": code, "message": message, "data": data}}).encode()


def _calls(texts: object) -> list[dict[str, object]]:
    calls = [json.loads(text) for text in texts]
    assert all(call.pop("jsonrpc") == "2.0" for call in calls)
    return calls


def _accept(adapter: DeribitAdapter, texts: object) -> list[Notice]:
    """Answer these calls, and those that the answers bring, as the venue does when all is well."""
    notices: list[Notice] = []
    for call in _calls(texts):
        accepted = call["params"].get("channels", "ok")
        told = adapter.received(_answer(call["id"], accepted), 0)
        assert told.channel == frames.CONTROL
        notices += [*told.notices, *_accept(adapter, told.owed)]
    return notices


def _opened(adapter: DeribitAdapter) -> list[dict[str, object]]:
    """Its calls but for the heartbeat's, which is answered."""
    first, *rest = adapter.opened()
    assert _accept(adapter, [first]) == []
    return _calls(rest)


def _live(*names: str, channels: tuple[str, ...] = ALL, room: int = 500) -> DeribitAdapter:
    """An adapter whose subscriptions are acknowledged, each book with its snapshot (change_id 10)."""
    adapter = DeribitAdapter(Subscription(channels, names, room))
    assert _accept(adapter, adapter.opened()) == []
    for name in names if BOOKS[0] in channels else ():
        assert adapter.received(_snapshot(10, name), 0).notices == ()
    return adapter


def _kinds(told: Received | None) -> list[str]:
    return [notice.kind for notice in told.notices] if told is not None else []


# ------------------------------------------------------------------------------------------------- subscribing


def test_each_kind_of_channel_is_asked_for_by_itself_and_in_lists_of_the_limit() -> None:
    texts = DeribitAdapter(Subscription(ALL, ("A", "B", "C", "A"), 2)).opened()
    assert _calls(texts) == [
        {"id": 1, "method": "public/set_heartbeat", "params": {"interval": 10}},
        {"id": 2, "method": "public/subscribe", "params": {"channels": ["book.A.100ms", "book.B.100ms"]}},
        {"id": 3, "method": "public/subscribe", "params": {"channels": ["book.C.100ms"]}},
        {"id": 4, "method": "public/subscribe", "params": {"channels": ["trades.any.any.100ms"]}},
        {"id": 5, "method": "public/subscribe", "params": {"channels": ["ticker.A.100ms", "ticker.B.100ms"]}},
        {"id": 6, "method": "public/subscribe", "params": {"channels": ["ticker.C.100ms"]}},
        {"id": 7, "method": "public/subscribe", "params": {"channels": ["instrument.state.any.any"]}},
        {"id": 8, "method": "public/subscribe", "params": {"channels": ["platform_state"]}},
    ]


def test_calls_keep_to_the_venues_credits() -> None:
    """30,000 credits, 3,000 a call, 10,000 back each second: whoever spends more is thrown out."""
    adapter = DeribitAdapter(Subscription(("quote.{instrument_name}",), tuple(str(k) for k in range(100)), 2))
    owed = _opened(adapter)
    assert len(owed) == CALLS_AT_ONCE == 8
    left, channels = 30_000.0, 0
    for half in range(1, 60):
        left -= 3_000 * len(owed)
        assert left >= 0
        for call in owed:
            channels += len(call["params"]["channels"])
            adapter.received(_answer(call["id"], call["params"]["channels"]), 0)
        left = min(30_000.0, left + 5_000)
        told = adapter.tick(half * SECOND // 2)
        owed = _calls(told.owed) if told else []
    assert channels == 100


def test_instruments_are_added_and_dropped_on_the_live_connection() -> None:
    adapter = _live("A")
    added = adapter.subscribe(["A", "B"])
    books, tickers = _calls(added)
    assert books["params"] == {"channels": ["book.B.100ms"]} and tickers["params"] == {"channels": ["ticker.B.100ms"]}
    assert adapter.subscribe(["B"]) == []
    assert _accept(adapter, added) == []
    adapter.tick(SECOND)
    adapter.tick(3 * SECOND)
    gone = _calls(adapter.unsubscribe(["A", "nobody"]))
    assert [call["method"] for call in gone] == ["public/unsubscribe"] * 2
    assert [call["params"] for call in gone] == [{"channels": ["book.A.100ms"]}, {"channels": ["ticker.A.100ms"]}]
    assert adapter.received(_change(99, 100), 0) == Received("book", "A")  # on its way when we left: no break
    for call in gone:
        adapter.received(_answer(call["id"], call["params"]["channels"]), 0)
    assert adapter.unsubscribe(["A"]) == []


def test_without_firehose_trades_are_asked_for_by_instrument() -> None:
    adapter = DeribitAdapter(Subscription(("trades.any.any.100ms", "platform_state"), ("A", "B"), firehose=False))
    channels = [call["params"] for call in _calls(adapter.opened())[1:]]
    assert channels == [{"channels": ["trades.A.100ms", "trades.B.100ms"]}, {"channels": ["platform_state"]}]


@pytest.mark.parametrize(
    "channels",
    [
        ("book.{instrument_name}.100ms", "book.{instrument_name}.agg2"),
        ("book.{instrument_name}.100ms", "book.{instrument_name}.none.20.100ms"),
        ("book.BTC-PERPETUAL.raw", "book.{instrument_name}.100ms"),
        ("trades.any.any.100ms", "trades.{instrument_name}.100ms"),
        ("trades.option.any.100ms", "trades.any.BTC.100ms"),
        ("trades.BTC-PERPETUAL.100ms", "trades.future.BTC.100ms"),
        ("orderbook.{instrument_name}",),
        ("user.trades.any.any.raw",),
    ],
)
def test_channels_that_do_not_exist_or_overlap_are_refused_at_once(channels: tuple[str, ...]) -> None:
    with pytest.raises(Permanent, match=r"no public channel|same data twice"):
        venue.adapter(Subscription(channels, ("A",)))


def test_channels_that_do_not_overlap_go_together() -> None:
    channels = ("trades.option.BTC.100ms", "trades.future.any.100ms", "trades.option.ETH.100ms", "book.A.100ms")
    venue.adapter(Subscription((*channels, "book.B.100ms", "deribit_price_index.btc_usd"), ()))


def test_a_channel_that_is_left_out_of_the_answer_is_told() -> None:
    adapter = DeribitAdapter(Subscription(BOOKS, ("A", "B", "GONE")))
    (call,) = _opened(adapter)
    told = adapter.received(_answer(call["id"], ["book.B.100ms", "book.A.100ms"]), 0)
    (refused,) = told.notices
    assert (refused.kind, refused.symbols) == ("refused", ("GONE",)) and "book.GONE.100ms" in refused.evidence


def test_a_refused_call_names_its_channels_and_why() -> None:
    adapter = DeribitAdapter(Subscription(("book.{instrument_name}.raw",), ("A", "B")))
    (call,) = _opened(adapter)
    told = adapter.received(_error(call["id"], 13778, "raw_subscriptions_not_available_for_unauthorized"), 0)
    (refused,) = told.notices
    assert (refused.kind, refused.symbols) == ("refused", ("A", "B"))
    assert "13778 raw_subscriptions_not_available_for_unauthorized" in refused.evidence


def test_an_error_says_its_reason_and_one_without_id_is_a_warning() -> None:
    told = _live("A").received(_error(None, 11050, "bad_request", {"reason": "no JSON", "param": "all"}), 0)
    assert told == Received(
        frames.CONTROL, None, notices=(Notice("warning", evidence="error 11050 bad_request (no JSON, all)"),)
    )


@pytest.mark.parametrize("code", [10028, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888])
def test_what_fails_for_a_passing_reason_is_asked_again_with_pauses(code: int) -> None:
    adapter = DeribitAdapter(Subscription(("platform_state",), ()))
    (call,) = _opened(adapter)
    kinds = []
    now = SECOND
    adapter.tick(now)
    for _ in range(ATTEMPTS_MAX):
        told = adapter.received(_error(call["id"], code), 0)
        kinds += _kinds(told)
        if kinds[-1] == "refused":
            break
        asked: list[dict[str, object]] = []
        while not asked:
            now += SECOND
            ticked = adapter.tick(now)
            asked = _calls(ticked.owed) if ticked else []
        (call,) = asked
        assert call["params"] == {"channels": ["platform_state"]}
    assert kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]
    assert now // SECOND == 1 + 1 + 2 + 4 + 8


def test_calls_that_are_not_answered_are_made_again_and_at_last_told() -> None:
    adapter = DeribitAdapter(Subscription(("platform_state",), ()))
    adapter.opened()
    kinds: list[str] = []
    methods: list[object] = []
    for second in range(1, 80):
        told = adapter.tick(second * SECOND)
        kinds += [n.kind for n in told.notices if "platform_state" in n.evidence] if told else []
        methods += [call["method"] for call in _calls(told.owed)] if told else []
    assert kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]
    assert methods.count("public/subscribe") == ATTEMPTS_MAX - 1
    assert methods.count("public/set_heartbeat") >= ATTEMPTS_MAX - 1


# ---------------------------------------------------------------------------------------------------- heartbeats


def test_a_test_request_is_answered_at_once() -> None:
    adapter = _live("A")
    told = adapter.received(b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}', 0)
    assert told.channel == frames.CONTROL and told.notices == ()
    (call,) = _calls(told.owed)
    assert call["method"] == "public/test" and call["params"] == {}
    answer = adapter.received(_answer(call["id"], {"version": "1.2.26"}), 0)
    assert answer == Received(frames.CONTROL, None)
    plain = adapter.received(b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', 0)
    assert plain == Received(frames.CONTROL, None)


def test_heartbeats_that_stay_away_are_asked_for_again() -> None:
    adapter = _live("A")
    assert adapter.tick(SECOND) is None
    for second in range(2, BEAT_OVERDUE_NS // SECOND):
        assert adapter.tick(second * SECOND) is None
    told = adapter.tick(2 * SECOND + BEAT_OVERDUE_NS)
    assert told is not None and _kinds(told) == ["warning"]
    assert [call["method"] for call in _calls(told.owed)] == ["public/set_heartbeat"]


# ----------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("wire", "channel", "symbol"),
    [
        (_snapshot(1), "book", "A"),
        (_frame("book.A.none.20.100ms", {"change_id": 5, "bids": [], "asks": []}), "book_grouped", "A"),
        (_frame("book.XRP_USDC-5JAN26.0.0001.10.agg2", {"change_id": 5}), "book_grouped", "XRP_USDC-5JAN26"),
        (_trades(("A", 1), ("B", 1)), "trades", "A"),
        (_frame("trades.A.100ms", [{"instrument_name": "A", "trade_seq": 1}]), "trades", "A"),
        (_frame("trades.any.any.100ms", []), "trades", None),
        (_frame("ticker.BTC_USDC.agg2", {"instrument_name": "BTC_USDC"}), "ticker", "BTC_USDC"),
        (_frame("incremental_ticker.A", {"type": "change"}), "incremental_ticker", "A"),
        (_frame("quote.A", {"instrument_name": "A"}), "quote", "A"),
        (_frame("perpetual.A.100ms", {"interest": 0.1}), "perpetual", "A"),
        (_frame("chart.trades.A.1D", {"tick": 1}), "chart_trades", "A"),
        (_frame("deribit_price_index.btc_usd", {"price": 1}), "deribit_price_index", "btc_usd"),
        (_frame("deribit_price_ranking.btc_usd", [{"price": None}]), "deribit_price_ranking", "btc_usd"),
        (_frame("markprice.options.btc_usd", [{"instrument_name": "A"}]), "markprice_options", "btc_usd"),
        (_frame("instrument.state.any.any", {"instrument_name": "A", "state": "open"}), "instrument_state", "A"),
        (_frame("instrument.creation.any.any", {"instrument_name": "A"}), "instrument_creation", "A"),
        (_frame("platform_state", {"price_index": "btc_usd", "locked": True}), "platform_state", None),
        (
            _frame("platform_state.public_methods_state", {"allow_unauthenticated_public_requests": True}),
            "platform_state_public_methods_state",
            None,
        ),
        (_frame("block_rfq.trades.any", {"id": 1}), "block_rfq_trades", None),
        (_frame("announcements", {"id": 1, "body": "é"}), "announcements", None),
    ],
)
def test_a_frame_goes_to_its_channel_and_instrument(wire: bytes, channel: str, symbol: str | None) -> None:
    adapter = DeribitAdapter(Subscription((), ()))
    assert adapter.received(wire, 0) == Received(channel, symbol)
    assert adapter.received(wire, 0)[:4] == (channel, symbol, None, True)  # and again, the fast way
    assert subjects.channel_of(subjects.frame("local", "deribit", channel, symbol)) == channel


def test_routes_are_made_once_and_shared() -> None:
    adapter = _live("A")
    first, second = adapter.received(_change(10, 12), 0), adapter.received(_change(12, 13), 0)
    assert first == Received("book", "A") and first is second
    tape = adapter.received(_trades(("A", 7)), 0)
    assert tape is adapter.received(_trades(("A", 8)), 0)


@pytest.mark.parametrize(
    ("wire", "reason", "is_json"),
    [
        (b"", "not JSON", False),
        (b"PING", "not JSON", False),
        (b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.A","data":{"x":1', "not JSON", False),
        (b'{"params":{"channel":"quote.A","data":{"x":NaN}}}', "not JSON", False),
        (b'{"params":5, and so on', "not JSON", False),
        (b'{"params":{"channel":"quote.A","data":' + b"[" * 200_000 + b"]" * 200_000 + b"}}", "nested", False),
        (b'{"params":{"channel":"quote.A","data":{"x":"\xff"}}}', "not UTF-8", False),
        (b"\xff\xfe", "not UTF-8", False),
        (b"[1,2]", "not a Deribit message", True),
        (b"null", "not a Deribit message", True),
        (b"{}", "not a Deribit message", True),
        (b'{"jsonrpc":"2.0","method":"subscription","params":{}}', "missing required field `channel`", True),
        (_frame("quote.A", "text"), "not a Deribit message: Expected", True),
        (_frame("user.portfolio.btc", {}), "unknown channel 'user.portfolio.btc'", True),
        (_frame("book.A", {}), "unknown channel", True),
        (_frame("book.A.100ms", {"type": "change"}), "book without change_id", True),
        (_frame("book.A.100ms", []), "book without change_id", True),
        (_frame("book.A.100ms", {"change_id": 1.5}), "Expected `int`", True),
        (_frame("trades.any.any.100ms", {"trade_seq": 1}), "no array", True),
        (_frame("trades.any.any.100ms", [{"trade_seq": 1}]), "trades without instrument_name", True),
        (_frame("trades.A.100ms", [{"instrument_name": "x" * 300, "trade_seq": 1}]), "300 characters", True),
        (_frame("instrument.state.any.any", {"state": "open"}), "instrument_state without instrument_name", True),
        (_frame("instrument.state.any.any", {"instrument_name": 5}), "not a Deribit message", True),
        (_frame(f"quote.{'x' * 300}", {}), "300 characters", True),
        (b'{"id":1,"error":"text"}', "not a Deribit message", True),
    ],
)
def test_what_is_no_message_is_quarantined_with_a_reason(wire: bytes, reason: str, is_json: bool) -> None:
    adapter = _live("A")
    for _ in range(2):
        told = adapter.received(wire, 0)
        assert told.channel == frames.BAD and told.symbol is None and told.json is is_json
        assert told.bad is not None and reason in told.bad and len(told.bad) < 300


def test_text_that_is_not_utf_8_is_found_on_a_known_route_too() -> None:
    adapter = _live("A")
    wire = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.A.100ms","data":{"x":"%b"}}}'
    assert adapter.received(wire % b"plain", 0) == Received("ticker", "A")
    told = adapter.received(wire % b"\xff", 0)
    assert told.bad is not None and told.bad.startswith("not UTF-8") and not told.json
    assert adapter.received(wire % "é".encode(), 0) == Received("ticker", "A")


_NAMES = st.sampled_from(["A", "B", "", "x" * 300, "é"])
_DATA = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["snapshot", "change", 5]),
        "change_id": st.integers(-2, 30) | st.none() | st.floats(),
        "prev_change_id": st.integers(-2, 30) | st.none(),
        "instrument_name": _NAMES | st.integers(),
        "trade_seq": st.integers(-2, 9) | st.integers(),
    },
)
_CHANNELS = st.sampled_from(
    [
        "book.A.100ms",
        "book.B.100ms",
        "book.A.none.1.100ms",
        "trades.any.any.100ms",
        "trades.A.raw",
        "ticker.A.100ms",
        "instrument.state.any.any",
        "platform_state",
        "markprice.options.x",
        "new",
        "",
    ]
)
_MESSAGES = st.one_of(
    st.builds(_frame, _CHANNELS, _DATA | st.lists(_DATA, max_size=4) | st.none() | st.text(max_size=3)),
    st.builds(_answer, st.integers(0, 12), st.lists(_CHANNELS, max_size=3) | _DATA | st.none() | st.just("ok")),
    st.builds(
        _error, st.integers(0, 12) | st.none(), st.sampled_from([10028, 10040, 13778, -32602]), st.text(max_size=3)
    ),
    st.sampled_from([b'{"method":"heartbeat","params":{"type":"test_request"}}', b'{"method":"heartbeat"}']),
)


@given(st.lists(st.binary(max_size=200) | _MESSAGES, max_size=30))
@example([_answer(3, {"not": "a list"}), _answer(3, ["book.A.100ms"])])
@example([_change(5, 6), _error(2, 10040), _answer(2, []), _snapshot(3)])
def test_no_bytes_make_it_raise(wires: list[bytes]) -> None:
    """Whatever comes, in whatever order, is routed, and the archive can write it down and give it back."""
    adapter = DeribitAdapter(Subscription(ALL, ("A", "B", "C.D")))
    adapter.opened()
    for k, wire in enumerate(wires):
        told = adapter.received(wire, k)
        line = frames.parse(frames.message(k, b"c-0", k, wire, bad=told.bad, json=told.json))
        assert line.wire() == wire
        assert (told.channel == frames.BAD) == (told.bad is not None)
        assert subjects.frame("local", "deribit", told.channel, told.symbol)
        for text in told.owed:
            assert json.loads(text)["method"]
        for text in adapter.probe() if k % 5 == 0 else ():
            assert json.loads(text)["method"]
        ticked = adapter.tick(k * 4 * SECOND)
        assert ticked is None or ticked.bad is None
        if told.json and told.bad is not None:
            msgspec.json.decode(wire, type=msgspec.Raw)


# --------------------------------------------------------------------------------------------------------- books


def test_a_clean_chain_tells_nothing_however_the_ids_jump() -> None:
    adapter = _live("A", "B")
    last = {"A": 10, "B": 10}
    for k in range(200):
        name = "AB"[k % 2]
        assert adapter.received(_change(last[name], 100 + 7 * k, name), 0).notices == ()
        last[name] = 100 + 7 * k
    assert adapter.tick(SECOND) is None


def test_a_break_is_of_that_book_alone_and_ends_with_its_next_snapshot() -> None:
    adapter = _live("A", "B")
    adapter.received(_change(10, 15), 0)
    told = adapter.received(_change(20, 25), 0)
    assert (told.channel, told.symbol) == ("book", "A")
    assert told.notices == (Notice("break", ("A",), "sequence", "book.A.100ms: prev_change_id 20 after change_id 15"),)
    (leave,) = _calls(told.owed)
    assert leave["method"] == "public/unsubscribe" and leave["params"] == {"channels": ["book.A.100ms"]}
    assert adapter.received(_change(10, 31, "B"), 0) == Received("book", "B")
    assert adapter.received(_change(25, 30), 0) == Received("book", "A")  # still on its way
    told = adapter.received(_answer(leave["id"], ["book.A.100ms"]), 0)
    (join,) = _calls(told.owed)
    assert join["method"] == "public/subscribe" and join["params"] == {"channels": ["book.A.100ms"]}
    assert adapter.received(_answer(join["id"], ["book.A.100ms"]), 0).notices == ()
    mended = adapter.received(_snapshot(40), 0)
    assert [(n.kind, n.symbols, n.cause) for n in mended.notices] == [("mended", ("A",), "sequence")]
    assert adapter.received(_change(40, 41), 0).notices == ()
    assert adapter.tick(SECOND) is None and adapter.tick(100 * SECOND) is not None  # nothing but the heartbeat


def test_a_change_sent_twice_is_told_once_a_tick_and_breaks_nothing() -> None:
    adapter = _live("A")
    adapter.received(_change(10, 15), 0)
    told = adapter.received(_change(10, 15), 0)
    assert told.owed == () and told.notices == (
        Notice("warning", evidence="book.A.100ms: change_id 15 again or late, 15 was seen already"),
    )
    assert adapter.received(_change(10, 15), 0).notices == ()
    assert adapter.received(_change(15, 16), 0).notices == ()
    adapter.tick(SECOND)
    assert _kinds(adapter.received(_change(15, 16), 0)) == ["warning"]


def test_a_late_change_puts_old_amounts_into_a_book_so_it_is_a_gap() -> None:
    adapter = _live("A")
    adapter.received(_change(10, 15), 0)
    assert _kinds(adapter.received(_change(10, 12), 0)) == ["break"]


def test_many_books_that_break_together_are_left_and_joined_in_few_calls() -> None:
    names = tuple(f"N{k}" for k in range(300))
    adapter = _live(*names, channels=BOOKS)
    adapter.tick(SECOND)
    owed: list[bytes] = []
    for name in names:
        owed += adapter.received(_change(50, 60, name), 0).owed
    calls = 0
    joined: list[str] = []
    for half in range(3, 20):
        while owed:
            (call,) = _calls([owed.pop(0)])
            channels = call["params"]["channels"]
            owed += adapter.received(_answer(call["id"], channels), 0).owed
            joined += channels if call["method"] == "public/subscribe" else []
            calls += 1
        ticked = adapter.tick(half * SECOND // 2)
        owed += ticked.owed if ticked else ()
    assert sorted(joined) == sorted(f"book.{name}.100ms" for name in names) and calls < 20


def test_a_snapshot_that_does_not_come_is_a_gap_and_asked_for_again() -> None:
    adapter = DeribitAdapter(Subscription(BOOKS, ("A", "B")))
    (call,) = _opened(adapter)
    adapter.received(_answer(call["id"], ["book.A.100ms", "book.B.100ms"]), 0)
    adapter.received(_snapshot(10, "B"), 0)
    adapter.tick(SECOND)
    told = adapter.tick(SECOND + ANSWER_NS)
    assert told is not None and [(n.kind, n.symbols) for n in told.notices] == [("break", ("A",))]
    (leave,) = [c for c in _calls(told.owed) if c["method"] == "public/unsubscribe"]
    assert leave["params"] == {"channels": ["book.A.100ms"]}
    assert _kinds(adapter.received(_snapshot(11), 0)) == ["mended"]


def test_a_book_that_never_comes_is_given_up_and_told() -> None:
    adapter = DeribitAdapter(Subscription(BOOKS, ("A",)))
    owed = list(adapter.opened())
    kinds: list[str] = []
    for second in range(1, 100):
        told = _accept(adapter, owed)
        ticked = adapter.tick(second * SECOND)
        owed = list(ticked.owed) if ticked else []
        kinds += [n.kind for n in (*told, *(ticked.notices if ticked else ())) if "book.A" in n.evidence]
    assert kinds == ["break", "refused"]


def test_a_broken_book_that_the_venue_leaves_out_is_asked_for_again() -> None:
    adapter = _live("A")
    (leave,) = _calls(adapter.received(_change(50, 60), 0).owed)
    (join,) = _calls(adapter.received(_answer(leave["id"], ["book.A.100ms"]), 0).owed)
    assert adapter.received(_answer(join["id"], []), 0).notices == ()
    adapter.tick(SECOND)
    told = adapter.tick(SECOND + ANSWER_NS)
    assert told is not None and _accept(adapter, told.owed) == []
    assert _kinds(adapter.received(_snapshot(70), 0)) == ["mended"]


def test_a_name_that_makes_no_channel_is_told_and_not_asked_for() -> None:
    adapter = DeribitAdapter(Subscription(BOOKS, ("A", "B.C", "", "x" * 300)))
    (call,) = _opened(adapter)
    assert call["params"] == {"channels": ["book.A.100ms"]}
    told = adapter.tick(SECOND)
    assert (
        told is not None and _kinds(told) == ["refused"] and "book.B.C.100ms, book..100ms" in told.notices[0].evidence
    )


def test_made_up_channels_take_bounded_memory_and_do_not_push_out_the_books() -> None:
    adapter = _live("A")
    for k in range(ROUTES_MAX + 500):
        adapter.received(b'{"params":{"channel":"quote.X%d","data":{}}}' % k, 0)
        adapter.received(
            b'{"params":{"channel":"trades.any.any.100ms","data":[{"instrument_name":"X%d","trade_seq":1}]}}' % k, 0
        )
    for table in (adapter._streams, adapter._tapes, adapter._tape_routes, adapter._routes):
        assert len(table) <= ROUTES_MAX
    assert adapter.received(_change(10, 11), 0).notices == ()
    assert _kinds(adapter.received(_change(12, 13), 0)) == ["break"]


def test_dropping_an_instrument_ends_its_gap() -> None:
    adapter = _live("A")
    assert _kinds(adapter.received(_change(50, 60), 0)) == ["break"]
    adapter.unsubscribe(["A"])
    assert [(n.kind, n.symbols) for n in (adapter.tick(SECOND) or Received("", None)).notices] == [("mended", ("A",))]


def test_older_captures_have_snapshots_without_a_type() -> None:
    adapter = DeribitAdapter(Subscription((), ()))
    assert adapter.received(_frame("book.A.raw", {"change_id": 5, "bids": [], "asks": []}), 0).notices == ()
    assert adapter.received(_frame("book.A.raw", {"prev_change_id": 5, "change_id": 6}), 0) == Received("book", "A")


# -------------------------------------------------------------------------------------------------------- trades


def test_trades_are_counted_by_instrument_over_all_channels_and_arrays() -> None:
    adapter = _live()
    assert adapter.received(_trades(("A", 700), ("B", 3), ("A", 701)), 0).notices == ()
    assert adapter.received(_trades(("B", 4), ("B", 5), ("A", 702)), 0) == Received("trades", "B")


def test_missing_trades_are_a_gap_as_long_as_the_hole() -> None:
    adapter = _live()
    adapter.received(_trades(("A", 7), ("B", 1)), 4)
    adapter.received(_snapshot(10), 5)
    told = adapter.received(_trades(("B", 2), ("A", 11), ("A", 12)), 6)
    evidence = "trades of A: trade_seq 12 after 7, 3 missing"
    assert told == Received(
        "trades",
        "B",
        notices=(Notice("break", ("A",), "sequence", evidence, 4), Notice("mended", ("A",), "sequence", evidence)),
    )
    assert adapter.received(_trades(("A", 13)), 7).notices == ()


@pytest.mark.parametrize("channel", ["trades.any.any.100ms", "trades.{instrument_name}.100ms"])
def test_the_next_connection_misses_what_was_lost_before_the_first_trade(channel: str) -> None:
    adapter = _live("A", "B", channels=(channel,))
    adapter.received(_trades(("A", 7), ("B", 1)), 4)
    unheard = DeribitAdapter(Subscription((channel,), ("A",), numbers=adapter.numbers()))
    after = DeribitAdapter(Subscription((channel,), ("A", "B"), numbers=unheard.numbers()))
    told = after.received(_trades(("A", 9)), 20)
    assert _kinds(told) == ["break", "mended"] and told.notices[0].since_ns == 4
    assert told.notices[0].evidence == "trades of A: trade_seq 9 after 7, 1 missing"
    assert after.received(_trades(("A", 10)), 21).notices == ()
    # B was not carried in between, unless all are: nobody missed it.
    assert _kinds(after.received(_trades(("B", 3)), 22)) == (["break", "mended"] if "any" in channel else [])


def test_trades_out_of_order_in_an_array_are_no_gap_and_repeated_ones_only_told() -> None:
    adapter = _live()
    adapter.received(_trades(("A", 7)), 0)
    assert adapter.received(_trades(("A", 9), ("A", 8), ("A", 10)), 0).notices == ()
    told = adapter.received(_trades(("A", 10), ("A", 11)), 0)
    assert [n.evidence for n in told.notices] == ["trades of A: trade_seq 10 again or late, 11 was seen already"]
    assert _kinds(told) == ["warning"]
    assert adapter.received(_trades(("A", 12)), 0).notices == ()


def test_a_hole_in_trades_does_not_end_the_gap_of_the_book() -> None:
    adapter = _live("A")
    adapter.received(_trades(("A", 7)), 0)
    assert _kinds(adapter.received(_change(50, 60), 0)) == ["break"]
    assert _kinds(adapter.received(_trades(("A", 9)), 0)) == ["warning"]
    assert _kinds(adapter.received(_snapshot(70), 0)) == ["mended"]
    assert _kinds(adapter.received(_trades(("A", 11)), 0)) == ["break", "mended"]


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 6)), min_size=1, max_size=40), st.data())
def test_every_trade_that_is_missing_is_counted(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    """Frames of one trade each, some left out: what is said to be missing is what was, unless nothing came after."""
    adapter = _live()
    sent = {"A": 0, "B": 0}
    heard: dict[str, int] = {}
    missing = 0
    for name, left_out in steps:
        sent[name] += left_out
        if name in heard:
            missing += sent[name] - heard[name] - 1
        heard[name] = sent[name]
        told = adapter.received(_trades((name, sent[name])), 0)
        said = [n.evidence for n in told.notices if n.kind == "break"]
        for evidence in said:
            missing -= int(evidence.rsplit(", ", 1)[1].split()[0])
    assert missing == 0


# --------------------------------------------------------------------------------------------------------- probe


def test_a_probe_asks_for_a_sign_of_life_and_for_the_latest_book() -> None:
    adapter = _live("A", "B")
    adapter.received(_change(10, 90, "B"), 0)
    test, book = _calls(adapter.probe())
    assert test["method"] == "public/test"
    assert book["method"] == "public/get_order_book" and book["params"] == {"instrument_name": "B", "depth": 1}
    (told,) = adapter.received(_answer(book["id"], {"change_id": 90, "bids": []}), 0).notices
    assert (told.kind, told.channels) == ("explained", ("book",))
    (told,) = adapter.received(_answer(test["id"], {"version": "1.2.26"}), 0).notices
    assert told.kind == "explained" and "book" not in told.channels
    for second in range(1, 9):
        assert adapter.tick(second * SECOND) is None


@pytest.mark.parametrize("catches_up", [True, False])
def test_a_book_that_went_on_without_its_channel_is_a_break(catches_up: bool) -> None:
    adapter = _live("A")
    _, book = _calls(adapter.probe())
    adapter.received(_answer(book["id"], {"change_id": 15}), 0)
    assert adapter.tick(SECOND) is None
    if catches_up:
        adapter.received(_change(10, 15), 0)
    told = adapter.tick(SECOND + SETTLE_NS)
    assert _kinds(told) == ([] if catches_up else ["break"])


def test_without_books_a_probe_is_a_sign_of_life_alone() -> None:
    assert [call["method"] for call in _calls(_live(channels=("platform_state",)).probe())] == ["public/test"]
