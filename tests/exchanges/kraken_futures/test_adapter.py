"""The futures client's grammar: every frame gets its place, no hole in the numbers goes unseen, nothing raises."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchanges.kraken.asking import ANSWER_NS, ATTEMPTS_MAX
from exchanges.kraken_futures import venue
from exchanges.kraken_futures.adapter import REQUESTS_PER_SECOND, KrakenFuturesAdapter
from exchanges.port import Received, Subscription
from ssmd import frames
from ssmd.errors import Permanent

SECOND = 1_000_000_000
XBT, ETH = "PF_XBTUSD", "PI_ETHUSD"


def _frame(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _snapshot(seq: int, product: str = XBT) -> bytes:
    return _frame(feed="book_snapshot", product_id=product, timestamp=1, seq=seq, tickSize=None, bids=[], asks=[])


def _delta(seq: int, product: str = XBT) -> bytes:
    return _frame(feed="book", product_id=product, side="buy", seq=seq, price=1.5, qty=2.0, timestamp=1)


def _trade(seq: int, product: str = XBT) -> bytes:
    fields = {"uid": "u", "side": "buy", "type": "fill", "time": 1, "qty": 1.0, "price": 2.0}
    return _frame(feed="trade", product_id=product, seq=seq, **fields)


def _trades(*seqs: int, product: str = XBT) -> bytes:
    return _frame(feed="trade_snapshot", product_id=product, trades=[json.loads(_trade(s, product)) for s in seqs])


def _commands(texts: object) -> list[dict[str, object]]:
    return [json.loads(text) for text in texts]  # type: ignore[attr-defined]


def _live(*products: str, channels: tuple[str, ...] = ("book", "trade"), room: int = 50) -> KrakenFuturesAdapter:
    """An adapter whose subscriptions are acknowledged, product by product."""
    adapter = KrakenFuturesAdapter(Subscription(channels, products, room))
    for text in adapter.opened():
        command = json.loads(text)
        for product in command.get("product_ids", [None]):
            named = {} if product is None else {"product_ids": [product]}
            ack = _frame(event="subscribed", feed=command["feed"], **named)
            assert adapter.received(ack, 0) == Received(frames.CONTROL, None)
    assert adapter.tick(0) is None and adapter.tick(20 * SECOND) is None
    return adapter


def _kinds(received: Received | None) -> list[str]:
    return [notice.kind for notice in received.notices] if received is not None else []


# ------------------------------------------------------------------------------------------------- subscribing


def test_heartbeats_and_each_feed_are_subscribed_in_lists() -> None:
    channels = ("book", "trade.unnumbered", "ticker", "ticker_lite")
    texts = KrakenFuturesAdapter(Subscription(channels, (XBT, ETH, "PF_AAPLxUSD", XBT), 2)).opened()
    assert _commands(texts)[:4] == [
        {"event": "subscribe", "feed": "heartbeat"},
        {"event": "subscribe", "feed": "book", "product_ids": [XBT, ETH]},
        {"event": "subscribe", "feed": "book", "product_ids": ["PF_AAPLxUSD"]},
        {"event": "subscribe", "feed": "trade", "product_ids": [XBT, ETH]},
    ]
    assert len(texts) == 9


@pytest.mark.parametrize(
    "channels", [("fills",), ("book.5",), ("ticker.unnumbered",), ("heartbeat",), ("book", "book")]
)
def test_a_channel_that_does_not_exist_is_refused_at_once(channels: tuple[str, ...]) -> None:
    with pytest.raises(Permanent, match="Kraken Futures"):
        venue.adapter(Subscription(channels, (XBT,)))


def test_one_acknowledgement_may_name_many_products() -> None:
    adapter = KrakenFuturesAdapter(Subscription(("book",), (XBT, ETH)))
    adapter.opened()
    adapter.received(_frame(event="subscribed", feed="heartbeat"), 0)
    adapter.received(_frame(event="subscribed", feed="book", product_ids=[ETH, XBT]), 0)
    assert adapter.tick(0) is None and adapter.tick(100 * SECOND) is None


def test_a_product_that_is_not_acknowledged_is_asked_for_alone_and_given_up_in_the_end() -> None:
    """An error names nothing: whoever is wrong is found by asking one by one."""
    adapter = KrakenFuturesAdapter(Subscription(("book",), (XBT, "NONE", ETH)))
    adapter.opened()
    adapter.received(_frame(event="subscribed", feed="heartbeat"), 0)
    told = adapter.received(_frame(event="error", message="Invalid product id"), 0)
    assert _kinds(told) == ["warning"] and "Invalid product id" in told.notices[0].evidence
    adapter.tick(0)
    overdue = adapter.tick(ANSWER_NS)
    assert overdue is not None and _kinds(overdue) == ["warning"]
    assert [c["product_ids"] for c in _commands(overdue.owed)] == [[XBT], ["NONE"], [ETH]]
    for product in (XBT, ETH):
        adapter.received(_frame(event="subscribed", feed="book", product_ids=[product]), 0)
    refused = adapter.received(_frame(event="error", message="Invalid product id"), 0)  # only one is left to be meant
    assert [(n.kind, n.symbols) for n in refused.notices] == [("refused", ("NONE",))]
    assert adapter.tick(2 * ANSWER_NS) is None and adapter.tick(5 * ANSWER_NS) is None


def test_silence_is_not_taken_for_an_acknowledgement() -> None:
    adapter = KrakenFuturesAdapter(Subscription(("ticker",), (XBT,)))
    adapter.opened()
    adapter.received(_frame(event="subscribed", feed="heartbeat"), 0)
    kinds, now = [], 0
    for _ in range(ATTEMPTS_MAX * 2 + 2):
        kinds += _kinds(adapter.tick(now))
        now += ANSWER_NS
    assert kinds == ["warning"] * (ATTEMPTS_MAX - 1) + ["refused"]


def test_a_failure_that_names_its_products_refuses_them() -> None:
    adapter = KrakenFuturesAdapter(Subscription(("book",), (XBT, ETH)))
    adapter.opened()
    failed = _frame(event="subscribed_failed", feed="book", product_ids=[ETH], message="no")
    told = adapter.received(failed, 0)
    assert [(n.kind, n.symbols) for n in told.notices] == [("refused", (ETH,))] and "no" in told.notices[0].evidence
    stray = adapter.received(_frame(event="unsubscribed_failed", feed="book", product_ids=[ETH]), 0)
    assert _kinds(stray) == ["warning"]


def test_requests_leave_no_faster_than_the_venue_likes() -> None:
    products = tuple(f"FI_{n}_261225" for n in range(200))
    assert len(KrakenFuturesAdapter(Subscription(("book",), products, 1)).opened()) == REQUESTS_PER_SECOND


def test_instruments_come_and_go_on_a_live_connection() -> None:
    adapter = _live(XBT)
    added = _commands(adapter.subscribe([XBT, ETH]))
    assert added == [{"event": "subscribe", "feed": f, "product_ids": [ETH]} for f in ("book", "trade")]
    adapter.received(_snapshot(5, ETH), 0)
    dropped = _commands(adapter.unsubscribe([ETH, "NONE"]))
    assert dropped == [{"event": "unsubscribe", "feed": f, "product_ids": [ETH]} for f in ("book", "trade")]
    assert adapter.received(_delta(99, ETH), 0) == Received("book", ETH)  # it was on its way


# ----------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize(
    ("wire", "channel", "symbol"),
    [
        (_snapshot(5), "book_snapshot", XBT),
        (_delta(5), "book", XBT),
        (_trades(5, 4), "trade_snapshot", XBT),
        (_trade(5), "trade", XBT),
        (_frame(feed="ticker", product_id="PF_AAPLxUSD", bid=1.5), "ticker", "PF_AAPLxUSD"),
        (_frame(feed="ticker_lite", product_id=XBT), "ticker_lite", XBT),
        (_frame(feed="heartbeat", time=1), frames.CONTROL, None),
        (_frame(event="heartbeat"), frames.CONTROL, None),
        (_frame(event="info", version=1), frames.CONTROL, None),
        (_frame(event="challenge", message="5"), frames.CONTROL, None),
        (_frame(feed="ticker", product_id="PF_ÜUSD"), "ticker", "PF_ÜUSD"),
    ],
)
def test_a_frame_goes_to_its_message_and_product(wire: bytes, channel: str, symbol: str | None) -> None:
    assert _live(XBT).received(wire, 0) == Received(channel, symbol)
    assert KrakenFuturesAdapter(Subscription((), ())).received(wire, 0) == Received(channel, symbol)


@pytest.mark.parametrize(
    ("wire", "reason", "is_json"),
    [
        (b"", "not JSON", False),
        (b'{"feed":"trade","seq":', "not JSON", False),
        (b'{"feed":5, and so on', "not JSON", False),
        (b'{"feed":"trade","x":NaN}', "not JSON", False),
        (b'{"feed":"trade","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply", False),
        (b'{"feed":"ticker","product_id":"A","x":"\xff"}', "not UTF-8", False),
        (b"[1,2]", "not a Kraken Futures message", True),
        (b"null", "not a Kraken Futures message", True),
        (b"{}", "neither feed nor event", True),
        (b'{"feed":"trade","seq":"5"}', "not a Kraken Futures message", True),
        (b'{"feed":"brand_new","product_id":"A"}', "unknown feed 'brand_new'", True),
        (b'{"event":"brand_new"}', "unknown event 'brand_new'", True),
        (b'{"event":"subscribed","product_ids":5}', "not as documented", True),
        (b'{"feed":"trade","seq":5}', "trade without product_id", True),
        (b'{"feed":"trade","product_id":"%b"}' % (b"A" * 500), "500 characters", True),
    ],
)
def test_what_is_no_message_is_quarantined_with_a_reason(wire: bytes, reason: str, is_json: bool) -> None:
    told = _live(XBT).received(wire, 0)
    assert told.channel == frames.BAD and told.symbol is None and told.json is is_json
    assert told.bad is not None and reason in told.bad


_SOME = st.one_of(st.none(), st.integers(-5, 1 << 70), st.text(max_size=5), st.booleans(), st.floats())
_KEYS = ("feed", "product_id", "seq", "event", "trades", "product_ids", "message", "bids")
_VALUES = st.sampled_from(["book", "trade", "book_snapshot", "trade_snapshot", "ticker", XBT, "error", "subscribed"])
_JSON = st.recursive(
    st.one_of(_SOME, _VALUES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(_KEYS), st.text(max_size=4)), inner, max_size=5),
    ),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=60), _JSON.map(lambda value: json.dumps(value).encode())))
@example(b'{"feed":"book_snapshot","product_id":"PF_XBTUSD","seq":-5}')
@example(b'{"feed":"trade_snapshot","product_id":"PF_XBTUSD","trades":[{}]}')
@example(b'{"event":"subscribed_failed"}')
def test_nothing_makes_it_raise_and_it_goes_on(wire: bytes) -> None:
    adapter = _live(XBT)
    adapter.received(_snapshot(4), 0)
    told = adapter.received(wire, 0)
    assert told.channel[0] != "_" or told.bad is not None
    frames.message(0, b"c", 1, wire, bad=told.bad, json=told.json)
    assert adapter.received(_trade(7), 0)[:2] == ("trade", XBT)


# ------------------------------------------------------------------------------------------------ the numbering


def test_a_hole_in_a_book_breaks_it_alone_and_subscribes_it_anew() -> None:
    adapter = _live(XBT, ETH)
    adapter.received(_snapshot(10), 1)
    adapter.received(_snapshot(70, ETH), 2)
    assert adapter.received(_delta(11), 3) == Received("book", XBT)
    told = adapter.received(_delta(14), 9)
    (notice,) = told.notices
    assert (notice.kind, notice.symbols, notice.cause, notice.since_ns) == ("break", (XBT,), "sequence", 3)
    assert "seq 14 after 11, 2 missing" in notice.evidence
    assert _commands(told.owed) == [
        {"event": "unsubscribe", "feed": "book", "product_ids": [XBT]},
        {"event": "subscribe", "feed": "book", "product_ids": [XBT]},
    ]
    assert adapter.received(_delta(20), 10).notices == ()  # doubtful anyhow
    assert adapter.received(_delta(71, ETH), 11).notices == ()
    mended = adapter.received(_snapshot(21), 12)
    assert [(n.kind, n.symbols) for n in mended.notices] == [("mended", (XBT,))]
    assert adapter.received(_delta(21), 13).notices == ()  # the snapshot has it already
    assert adapter.received(_delta(22), 14).notices == ()
    assert _kinds(adapter.received(_delta(24), 15)) == ["break"]


def test_trades_go_on_from_their_snapshot_whatever_its_order() -> None:
    adapter = _live(XBT)
    adapter.received(_trades(12, 11, 10), 0)
    assert adapter.received(_trade(13), 5).notices == ()
    told = adapter.received(_trade(16), 9)
    expected = [("break", (XBT,), "sequence", 5), ("mended", (XBT,), "sequence", 0)]
    assert [(n.kind, n.symbols, n.cause, n.since_ns) for n in told.notices] == expected
    assert told.owed == () and adapter.received(_trade(17), 10).notices == ()


def test_trades_without_a_snapshot_are_numbered_from_the_first() -> None:
    adapter = _live(XBT)
    adapter.received(_trades(), 0)
    assert adapter.received(_trade(500), 0).notices == ()
    assert _kinds(adapter.received(_trade(502), 0)) == ["break", "mended"]


def test_a_hole_in_trades_does_not_close_the_gap_of_the_book() -> None:
    """Both are of the same product and cause: the ledger has one row, which lasts until the book is right."""
    adapter = _live(XBT)
    adapter.received(_snapshot(10), 0)
    adapter.received(_trades(5), 0)
    assert _kinds(adapter.received(_delta(12), 0)) == ["break"]
    assert _kinds(adapter.received(_trade(7), 0)) == ["warning"]
    assert _kinds(adapter.received(_snapshot(12), 0)) == ["mended"]
    assert _kinds(adapter.received(_trade(9), 0)) == ["break", "mended"]


def test_a_frame_sent_twice_or_late_is_no_gap() -> None:
    adapter = _live(XBT)
    adapter.received(_snapshot(10), 0)
    for seq in (11, 12, 13):
        adapter.received(_delta(seq), 0)
    assert _kinds(adapter.received(_delta(13), 0)) == ["warning"]
    assert _kinds(adapter.received(_delta(12), 0)) == []  # said once until the next tick
    adapter.tick(30 * SECOND)
    assert _kinds(adapter.received(_delta(11), 0)) == ["warning"]
    assert adapter.received(_delta(10), 0).notices == ()  # the snapshot has it
    assert adapter.received(_delta(14), 0).notices == ()


def test_unnumbered_feeds_are_not_watched() -> None:
    adapter = _live(XBT, channels=("book.unnumbered", "trade.unnumbered"))
    for wire in (_snapshot(10), _delta(15), _delta(3), _trades(5), _trade(9)):
        assert adapter.received(wire, 0).notices == ()


def test_a_snapshot_that_does_not_come_is_asked_for_again() -> None:
    adapter = _live(XBT)
    adapter.received(_snapshot(10), 0)
    adapter.received(_delta(15), 0)
    asked = []
    for half in range(60):
        ticked = adapter.tick(20 * SECOND + half * SECOND // 2)
        commands = _commands(ticked.owed) if ticked is not None else []
        asked += [half for command in commands if command["event"] == "subscribe"]
        assert ticked is None or ticked.notices == ()
    assert len(asked) == 2 and 20 <= asked[0] <= 25


def test_a_book_that_nobody_wants_any_more_is_mended_by_that() -> None:
    adapter = _live(XBT)
    adapter.received(_snapshot(10), 0)
    adapter.received(_delta(15), 0)
    adapter.unsubscribe([XBT])
    assert _kinds(adapter.tick(30 * SECOND)) == ["mended"]


def test_warnings_of_the_venue_are_told() -> None:
    told = _live(XBT).received(_frame(event="alert", message="slow down"), 0)
    assert _kinds(told) == ["warning"] and "slow down" in told.notices[0].evidence


def test_it_asks_for_heartbeats_once_more_when_it_wonders_whether_silence_is_genuine() -> None:
    adapter = _live(XBT)
    assert _commands(adapter.probe()) == [{"event": "subscribe", "feed": "heartbeat"}]
    assert _kinds(adapter.received(_frame(event="subscribed", feed="heartbeat"), 0)) == ["explained"]
    assert adapter.received(_frame(event="subscribed", feed="heartbeat"), 0) == Received(frames.CONTROL, None)
    assert adapter.tick(100 * SECOND) is None
