"""The client's grammar: every frame gets its place, no hole in the numbering goes unseen, nothing makes it raise."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchanges.kalshi import venue
from exchanges.kalshi.adapter import ANSWER_NS, ATTEMPTS_MAX, KalshiAdapter
from exchanges.kalshi.messages import CONTROL_TYPES
from exchanges.port import Notice, Received, Subscription
from ssmd import frames

SECOND = 1_000_000_000


def _frame(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _delta(seq: int, market: str = "A", sid: int = 1) -> bytes:
    return _frame(type="orderbook_delta", sid=sid, seq=seq, msg={"market_ticker": market, "price_dollars": "0.5000"})


def _snapshot(seq: int, market: str, sid: int = 1, **more: object) -> bytes:
    return _frame(type="orderbook_snapshot", sid=sid, seq=seq, msg={"market_ticker": market}, **more)


def _trade(seq: int, sid: int = 2) -> bytes:
    return _frame(type="trade", sid=sid, seq=seq, msg={"trade_id": "t", "market_ticker": "A"})


def _commands(texts: object) -> list[dict[str, object]]:
    return [json.loads(text) for text in texts]  # type: ignore[attr-defined]


def _error(code: int, **fields: object) -> bytes:
    return _frame(type="error", msg={"code": code, "msg": "said so"}, **fields)


def _live(*markets: str, channels: tuple[str, ...] = ("orderbook_delta", "trade"), room: int = 256) -> KalshiAdapter:
    """An adapter whose subscriptions are acknowledged: books on sid 1, trades of all markets on sid 2."""
    adapter = KalshiAdapter(Subscription(channels, markets, room))
    for number, text in enumerate(adapter.opened(), 1):
        (channel,) = json.loads(text)["params"]["channels"]
        answer = adapter.received(_frame(id=number, type="subscribed", msg={"channel": channel, "sid": number}), 0)
        assert answer.notices == ()
    return adapter


def _kinds(received: Received | None) -> list[str]:
    return [notice.kind for notice in received.notices] if received is not None else []


# ------------------------------------------------------------------------------------------------- subscribing


def test_books_are_subscribed_by_lists_and_the_rest_for_all_markets() -> None:
    channels = ("orderbook_delta", "trade", "ticker", "market_lifecycle_v2")
    texts = KalshiAdapter(Subscription(channels, ("A", "B", "C", "A"), 2)).opened()
    assert _commands(texts) == [
        {
            "id": 1,
            "cmd": "subscribe",
            "params": {"channels": ["orderbook_delta"], "market_tickers": ["A", "B"], "use_yes_price": False},
        },
        {
            "id": 2,
            "cmd": "subscribe",
            "params": {"channels": ["orderbook_delta"], "market_tickers": ["C"], "use_yes_price": False},
        },
        {"id": 3, "cmd": "subscribe", "params": {"channels": ["trade"]}},
        {"id": 4, "cmd": "subscribe", "params": {"channels": ["ticker"]}},
        {"id": 5, "cmd": "subscribe", "params": {"channels": ["market_lifecycle_v2"]}},
    ]


def test_without_firehose_only_lifecycle_is_for_all() -> None:
    subscription = Subscription(("trade", "market_lifecycle_v2"), ("A",), firehose=False)
    assert _commands(KalshiAdapter(subscription).opened()) == [
        {"id": 1, "cmd": "subscribe", "params": {"channels": ["trade"], "market_tickers": ["A"]}},
        {"id": 2, "cmd": "subscribe", "params": {"channels": ["market_lifecycle_v2"]}},
    ]


def test_without_a_list_there_are_no_books_to_ask_for() -> None:
    texts = KalshiAdapter(Subscription(("orderbook_delta", "trade"), ())).opened()
    assert _commands(texts) == [{"id": 1, "cmd": "subscribe", "params": {"channels": ["trade"]}}]


def test_new_markets_fill_the_live_subscription_before_another_is_made() -> None:
    adapter = _live("A", "B", room=3)
    add, new = _commands(adapter.subscribe(["B", "C", "D", "E"]))
    assert add["cmd"] == "update_subscription"
    assert add["params"] == {"action": "add_markets", "sids": [1], "market_tickers": ["C"]}
    assert new["params"] == {
        "channels": ["orderbook_delta"],
        "market_tickers": ["D", "E"],
        "use_yes_price": False,
    }
    assert adapter.subscribe(["C", "D"]) == []  # on their way already
    adapter.received(_frame(id=add["id"], sid=1, seq=1, type="ok", msg={"market_tickers": ["A", "B", "C"]}), 0)
    (drop,) = _commands(adapter.unsubscribe(["C"]))
    assert drop["params"] == {"action": "delete_markets", "sids": [1], "market_tickers": ["C"]}
    (end,) = _commands(adapter.unsubscribe(["A", "B", "C"]))
    assert end == {"id": end["id"], "cmd": "unsubscribe", "params": {"sids": [1]}}


@pytest.mark.parametrize(
    "answer",
    [
        {"msg": {"market_tickers": ["A", "B"]}},
        {"market_tickers": ["A", "B"]},  # older builds
        {},
        {"msg": None},
    ],
)
def test_every_shape_of_ok_is_understood(answer: dict[str, object]) -> None:
    adapter = _live("A")
    (add,) = _commands(adapter.subscribe(["B"]))
    told = adapter.received(_frame(id=add["id"], type="ok", sid=1, seq=1, **answer), 0)
    assert told == Received(frames.CONTROL, None)
    gap = adapter.received(_delta(3), 0)
    assert gap.notices[0].symbols == ("A", "B")


# ----------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("wire", "channel", "symbol"),
    [
        (_snapshot(1, "A"), "orderbook_snapshot", "A"),
        (_delta(1), "orderbook_delta", "A"),
        (_trade(1), "trade", "A"),
        (b'{"type":"ticker","sid":3,"msg":{"market_ticker":"FED-23DEC-T3.00"}}\n', "ticker", "FED-23DEC-T3.00"),
        (_frame(type="market_lifecycle_v2", sid=4, seq=1, msg={"market_ticker": "A"}), "market_lifecycle_v2", "A"),
        (_frame(type="event_lifecycle", sid=4, seq=1, msg={"event_ticker": "E"}), "event_lifecycle", "E"),
        (_frame(type="event_fee_update", sid=4, seq=1, msg={"event_ticker": "E"}), "event_fee_update", "E"),
        (_frame(type="multivariate_market_lifecycle", sid=5, seq=1, msg={"market_ticker": "A"}), None, "A"),
    ],
)
def test_a_frame_goes_to_its_type_and_instrument(wire: bytes, channel: str | None, symbol: str) -> None:
    adapter = KalshiAdapter(
        Subscription(
            ("orderbook_delta", "trade", "ticker", "market_lifecycle_v2", "multivariate_market_lifecycle"), ("A",)
        )
    )
    for number in range(1, 1 + len(adapter.opened())):
        adapter.received(_frame(id=number, type="subscribed", msg={"channel": "x", "sid": number}), 0)
    expected = channel or json.loads(wire)["type"]
    assert adapter.received(wire, 0) == Received(expected, symbol)


def test_routes_are_made_once_and_shared() -> None:
    adapter = _live("A")
    first, second = adapter.received(_delta(1), 0), adapter.received(_delta(2), 0)
    assert first == Received("orderbook_delta", "A") and second is adapter.received(_delta(3), 0)


@pytest.mark.parametrize(
    ("wire", "reason", "is_json"),
    [
        (b"", "not JSON", False),
        (b"PING", "not JSON", False),
        (b'{"type":"trade","sid":2,"seq":1', "not JSON", False),
        (b'{"type":5, and so on', "not JSON", False),
        (b'{"type":"trade","x":NaN}', "not JSON", False),
        (b'{"type":"trade","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply", False),
        (b'{"type":"trade","msg":{"market_ticker":"A","x":"\xff"}}', "not UTF-8", False),
        (b"\xff\xfe", "not UTF-8", False),
        (b"[1,2]", "not a Kalshi message", True),
        (b"null", "not a Kalshi message", True),
        (b'"text"', "not a Kalshi message", True),
        (b"{}", "not a Kalshi message", True),
        (b'{"type":5}', "not a Kalshi message", True),
        (b'{"type":"trade","sid":"two","msg":{"market_ticker":"A"}}', "not a Kalshi message", True),
        (b'{"type":"trade","msg":null}', "not a Kalshi message", True),
        (b'{"type":"error","msg":[5]}', "not a Kalshi message", True),
        (b'{"type":"brand_new","sid":1,"msg":{}}', "unknown type 'brand_new'", True),
        (b'{"type":"trade","sid":2,"msg":{}}', "trade without market_ticker", True),
        (b'{"type":"ticker","msg":{"market_ticker":""}}', "ticker without market_ticker", True),
        (b'{"type":"event_lifecycle","msg":{"market_ticker":"A"}}', "without event_ticker", True),
        (b'{"type":"ticker","msg":{"market_ticker":"%b"}}' % (b"A" * 500), "500 characters", True),
    ],
)
def test_what_is_no_message_is_quarantined_with_a_reason(wire: bytes, reason: str, is_json: bool) -> None:
    told = _live("A").received(wire, 0)
    assert told.channel == frames.BAD and told.symbol is None and told.json is is_json
    assert told.bad is not None and reason in told.bad and len(told.bad) < 300


_TICKERS = st.sampled_from(["A", "B", "", "KX\u00e9", "x" * 300])


def test_text_that_is_not_utf_8_is_found_on_a_known_route_too() -> None:
    adapter = _live("A")
    adapter.received(_trade(1), 0)
    told = adapter.received(b'{"type":"trade","sid":2,"seq":2,"msg":{"market_ticker":"A","x":"\xff"}}', 0)
    assert told.bad is not None and told.bad.startswith("not UTF-8") and not told.json
    accented = '{"type":"trade","sid":2,"seq":3,"msg":{"market_ticker":"A","x":"é"}}'.encode()
    assert adapter.received(accented, 0) == Received("trade", "A")


_KINDS = ("orderbook_delta", "orderbook_snapshot", "trade", "ticker", "event_lifecycle", *sorted(CONTROL_TYPES), "new")
_ENVELOPE = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(
            st.sampled_from(_KINDS),
            st.integers(),
            st.none(),
        ),
        "id": st.integers(-2, 9) | st.none(),
        "sid": st.integers(-2, 5) | st.text(max_size=3) | st.integers(),
        "seq": st.integers(-2, 9) | st.integers() | st.none(),
        "msg": st.one_of(
            st.none(),
            st.lists(st.fixed_dictionaries({}, optional={"channel": st.text(max_size=5), "sid": st.integers(0, 5)})),
            st.fixed_dictionaries(
                {},
                optional={
                    "market_ticker": _TICKERS | st.integers(),
                    "event_ticker": _TICKERS,
                    "market_tickers": st.lists(_TICKERS, max_size=3),
                    "code": st.sampled_from([1, 2, 7, 10, 14, 18, 25, 26, 27, 99]),
                    "msg": st.text(max_size=5),
                    "channel": st.sampled_from(["orderbook_delta", "trade", "x"]),
                    "sid": st.integers(-1, 5),
                },
            ),
        ),
        "market_tickers": st.lists(_TICKERS, max_size=2),
    },
).map(lambda fields: json.dumps(fields).encode())


@given(st.lists(st.binary(max_size=200) | _ENVELOPE, max_size=30))
@example([b'{"type":"error","msg":{"code":10}}', b'{"type":"ok","id":3,"msg":[]}'])
def test_no_bytes_make_it_raise(wires: list[bytes]) -> None:
    """Whatever comes, in whatever order, is routed, and the archive can write it down and give it back."""
    adapter = _live("A", "B")
    for k, wire in enumerate(wires):
        told = adapter.received(wire, k)
        line = frames.parse(frames.message(k, b"c-0", k, wire, bad=told.bad, json=told.json))
        assert line.wire() == wire
        assert (told.channel == frames.BAD) == (told.bad is not None)
        for text in told.owed:
            assert json.loads(text)["cmd"]
        ticked = adapter.tick(k * 4 * SECOND)
        assert ticked is None or ticked.bad is None
        if told.json and told.bad is not None:
            msgspec.json.decode(wire, type=msgspec.Raw)


# ---------------------------------------------------------------------------------------------- the numbering


def test_clean_numbering_tells_nothing() -> None:
    adapter = _live("A", "B")
    for seq in range(1, 200):
        assert adapter.received(_delta(seq, "AB"[seq % 2]), 0).notices == ()
        assert adapter.received(_trade(seq), 0).notices == ()


def test_a_hole_opens_a_gap_asks_for_snapshots_and_ends_with_the_last_of_them() -> None:
    adapter = _live("B", "A")
    adapter.received(_delta(1), 0)
    told = adapter.received(_delta(5), 0)
    assert told.channel == "orderbook_delta" and told.symbol == "A"
    assert told.notices == (
        Notice("break", ("A", "B"), "sequence", "sid 1 (orderbook_delta): seq 5 after 1, 3 missing"),
    )
    (asked,) = _commands(told.owed)
    assert asked["cmd"] == "update_subscription"
    assert asked["params"] == {"action": "get_snapshot", "sids": [1], "market_tickers": ["A", "B"]}
    assert adapter.received(_delta(6, "B"), 0).notices == ()
    assert adapter.received(_snapshot(7, "A", id=asked["id"]), 0).notices == ()
    mended = adapter.received(_snapshot(8, "B", id=asked["id"]), 0)
    assert [(n.kind, n.symbols) for n in mended.notices] == [("mended", ("A", "B"))]
    assert adapter.received(_snapshot(9, "A"), 0).notices == ()
    assert adapter.tick(100 * SECOND) is None


def test_a_missing_first_frame_is_a_hole_too() -> None:
    assert _kinds(_live("A").received(_delta(2), 0)) == ["break"]


def test_a_second_hole_while_mending_waits_for_later_snapshots() -> None:
    adapter = _live("A", "B")
    adapter.received(_delta(2), 0)
    adapter.received(_snapshot(3, "A"), 0)
    again = adapter.received(_delta(9), 0)
    assert _kinds(again) == ["warning"]  # the gap is open already
    assert _commands(again.owed)[0]["params"]["market_tickers"] == ["A", "B"]  # type: ignore[index]
    assert _kinds(adapter.received(_snapshot(10, "B"), 0)) == []
    assert _kinds(adapter.received(_snapshot(11, "A"), 0)) == ["mended"]


def test_a_snapshot_that_repeats_the_current_seq_mends() -> None:
    adapter = _live("A")
    adapter.received(_delta(5), 0)
    assert _kinds(adapter.received(_snapshot(5, "A"), 0)) == ["mended"]


def test_snapshots_are_asked_for_in_lists_the_venue_takes() -> None:
    adapter = _live("A", "B", "C", channels=("orderbook_delta",), room=3)
    adapter._room = 2  # the limit turned out lower
    asked = _commands(adapter.received(_delta(5), 0).owed)
    assert [c["params"]["market_tickers"] for c in asked] == [["A", "B"], ["C"]]  # type: ignore[index]


def test_a_hole_in_trades_is_a_gap_that_is_over() -> None:
    adapter = _live("A")
    adapter.received(_trade(1), 0)
    told = adapter.received(_trade(4), 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("break", ()), ("mended", ())]
    assert told.owed == ()
    assert adapter.received(_trade(5), 0).notices == ()


def test_a_frame_sent_twice_or_late_is_no_gap() -> None:
    adapter = _live("A")
    for seq in (1, 2, 3):
        adapter.received(_delta(seq), 0)
    assert _kinds(adapter.received(_delta(3), 0)) == ["warning"]
    assert _kinds(adapter.received(_delta(2), 0)) == []  # said once until the next tick
    adapter.tick(SECOND)
    assert _kinds(adapter.received(_delta(1), 0)) == ["warning"]
    assert adapter.received(_delta(4), 0).notices == ()


def test_answers_on_a_sid_use_its_counter() -> None:
    """Without that every add_markets would look like a gap."""
    adapter = _live("A")
    adapter.received(_delta(1), 0)
    (add,) = _commands(adapter.subscribe(["B"]))
    ok = _frame(id=add["id"], sid=1, seq=2, type="ok", msg={"market_tickers": ["A", "B"]})
    assert adapter.received(ok, 0) == Received(frames.CONTROL, None)
    assert adapter.received(_snapshot(3, "B"), 0).notices == ()
    assert _kinds(adapter.received(_error(14, sid=1, seq=4), 0)) == ["warning"]
    assert adapter.received(_delta(5, "B"), 0).notices == ()


def test_a_hole_seen_in_an_answer_is_a_hole() -> None:
    adapter = _live("A")
    (add,) = _commands(adapter.subscribe(["B"]))
    told = adapter.received(_frame(id=add["id"], sid=1, seq=3, type="ok", msg={"market_tickers": ["A", "B"]}), 0)
    assert _kinds(told) == ["break"] and len(told.owed) == 1


def test_frames_of_a_sid_nobody_asked_for_are_kept_and_told_once() -> None:
    adapter = _live("A")
    told = adapter.received(_delta(7, sid=9), 0)
    assert told.channel == "orderbook_delta" and told.symbol == "A" and _kinds(told) == ["warning"]
    assert _kinds(adapter.received(_delta(9, sid=9), 0)) == []


# ------------------------------------------------------------------------------------------------ error codes


@pytest.mark.parametrize("code", [2, 3, 5, 8, 9, 11, 14, 19, 20, 21, 22, 23, 24, 28, 6, 16, 17, 99])
def test_a_refused_subscription_is_told_and_is_not_fatal(code: int) -> None:
    adapter = KalshiAdapter(Subscription(("orderbook_delta",), ("A", "B")))
    adapter.opened()
    told = adapter.received(_error(code, id=1), 0)
    assert told.channel == frames.CONTROL and told.owed == ()
    (notice,) = told.notices
    assert notice.kind == "refused" and notice.symbols == ("A", "B") and f"error {code}: said so" in notice.evidence
    assert adapter.tick(1) is None


@pytest.mark.parametrize("code", [4, 7, 12, 13, 15, 1, 18, 27, 99])
def test_an_error_without_a_command_is_only_told(code: int) -> None:
    told = _live("A").received(_error(code), 0)
    assert told.channel == frames.CONTROL and _kinds(told) == ["warning"] and told.owed == ()


@pytest.mark.parametrize(("code", "cause"), [(10, "disconnect"), (25, "overflow")])
def test_a_terminal_error_breaks_the_sid_and_subscribes_anew(code: int, cause: str) -> None:
    adapter = _live("A", "B")
    adapter.received(_delta(1), 0)
    told = adapter.received(_error(code, sid=1, seq=2), 0)
    assert [(n.kind, n.symbols, n.cause) for n in told.notices] == [("break", ("A", "B"), cause)]
    (anew,) = _commands(told.owed)
    assert anew["cmd"] == "subscribe" and anew["params"]["market_tickers"] == ["A", "B"]  # type: ignore[index]
    subscribed = {"channel": "orderbook_delta", "sid": 3}
    assert adapter.received(_frame(id=anew["id"], type="subscribed", msg=subscribed), 0).notices == ()
    assert _kinds(adapter.received(_snapshot(1, "B", sid=3), 0)) == []
    assert _kinds(adapter.received(_snapshot(2, "A", sid=3), 0)) == ["mended"]


def test_a_terminal_error_of_trades_is_mended_by_the_new_acknowledgement() -> None:
    adapter = _live("A")
    told = adapter.received(_error(10, sid=2, seq=1), 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("break", ())]
    (anew,) = _commands(told.owed)
    assert anew["params"] == {"channels": ["trade"]}
    assert _kinds(
        adapter.received(_frame(id=anew["id"], type="subscribed", msg={"channel": "trade", "sid": 5}), 0)
    ) == ["mended"]


def test_a_terminal_error_without_a_sid_asks_which_subscriptions_live() -> None:
    adapter = _live("A")
    told = adapter.received(_error(25), 0)
    (asked,) = _commands(told.owed)
    assert asked["cmd"] == "list_subscriptions"
    listed = [{"channel": "trade", "sid": 2}]
    told = adapter.received(_frame(id=asked["id"], type="ok", msg=listed), 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("break", ("A",))]
    assert _commands(told.owed)[0]["params"]["channels"] == ["orderbook_delta"]  # type: ignore[index]


def test_too_many_markets_are_halved_until_they_fit() -> None:
    adapter = KalshiAdapter(Subscription(("orderbook_delta",), ("A", "B", "C")))
    adapter.opened()
    told = adapter.received(_error(26, id=1), 0)
    assert told.notices == ()
    first, second = _commands(told.owed)
    assert first["params"]["market_tickers"] == ["A"]  # type: ignore[index]
    assert second["params"]["market_tickers"] == ["B", "C"]  # type: ignore[index]
    refused = adapter.received(_error(26, id=first["id"]), 0)
    assert _kinds(refused) == ["refused"] and refused.notices[0].symbols == ("A",)


def test_markets_that_do_not_fit_into_a_live_subscription_get_their_own() -> None:
    adapter = _live("A")
    (add,) = _commands(adapter.subscribe(["B", "C"]))
    (own,) = _commands(adapter.received(_error(26, id=add["id"], sid=1, seq=1), 0).owed)
    assert own["cmd"] == "subscribe" and own["params"]["market_tickers"] == ["B", "C"]  # type: ignore[index]


@pytest.mark.parametrize("code", [1, 18, 27])
def test_a_passing_error_is_tried_again_later_but_not_for_ever(code: int) -> None:
    adapter = KalshiAdapter(Subscription(("trade",), ()))
    texts = list(adapter.opened())
    sent, now = 0, 0
    kinds: list[str] = []
    while now < 100 * SECOND:
        for text in texts:
            sent += 1
            kinds += _kinds(adapter.received(_error(code, id=json.loads(text)["id"]), 0))
        ticked = adapter.tick(now)
        texts = list(ticked.owed) if ticked is not None else []
        now += SECOND
    assert sent == ATTEMPTS_MAX
    assert kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]


def test_an_unknown_sid_in_an_update_means_it_has_ended() -> None:
    adapter = _live("A")
    (add,) = _commands(adapter.subscribe(["B"]))
    told = adapter.received(_error(7, id=add["id"]), 0)
    assert _kinds(told) == ["break"]
    assert _commands(told.owed)[0]["cmd"] == "subscribe"


# --------------------------------------------------------------------------------------------------- deadlines


def test_a_subscription_that_is_not_acknowledged_is_asked_for_again() -> None:
    adapter = KalshiAdapter(Subscription(("trade",), ()))
    adapter.opened()
    assert adapter.tick(0) is None
    assert adapter.tick(ANSWER_NS - 1) is None
    overdue = adapter.tick(ANSWER_NS)
    assert overdue is not None and _kinds(overdue) == ["warning"]
    (again,) = _commands(overdue.owed)
    assert again["id"] == 2 and again["params"] == {"channels": ["trade"]}
    assert adapter.received(_frame(id=2, type="subscribed", msg={"channel": "trade", "sid": 1}), 0).notices == ()
    late = adapter.received(_frame(id=1, type="subscribed", msg={"channel": "trade", "sid": 2}), 0)
    (end,) = _commands(late.owed)  # else every trade would come twice
    assert end["cmd"] == "unsubscribe" and end["params"] == {"sids": [2]}


def test_snapshots_that_do_not_come_are_asked_for_again_then_subscribed_anew() -> None:
    adapter = _live("A", channels=("orderbook_delta",))
    adapter.received(_delta(5), 0)
    commands: list[dict[str, object]] = []
    for now in range(ATTEMPTS_MAX * 11 + 3):
        ticked = adapter.tick(now * SECOND)
        commands += _commands(ticked.owed) if ticked is not None else []
    actions = [c["params"].get("action", c["cmd"]) for c in commands]  # type: ignore[attr-defined]
    assert actions == ["get_snapshot"] * (ATTEMPTS_MAX - 1) + ["unsubscribe", "subscribe"]
    anew = {"channel": "orderbook_delta", "sid": 8}
    adapter.received(_frame(id=commands[-1]["id"], type="subscribed", msg=anew), 0)
    assert _kinds(adapter.received(_snapshot(1, "A", sid=8), 0)) == ["mended"]


def test_the_venue_makes_the_adapter() -> None:
    assert isinstance(venue.adapter(Subscription(("trade",), ())), KalshiAdapter)


def test_a_shard_without_instruments_subscribes_to_none() -> None:
    adapter = KalshiAdapter(Subscription(("trade", "ticker", "orderbook_delta"), (), firehose=False))
    assert list(adapter.opened()) == []
