"""The client's side: routes, keep-alive, and what it makes of missing, repeated and late frames."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.polymarket.adapter import ATTEMPTS_MAX, PolymarketAdapter
from exchanges.polymarket.markets import Market, Token
from exchanges.port import Notice, Received, Request, Subscription
from ssmd.frames import Line, message, parse

from .recorded import BOOKS, session

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
YES, NO = "1" * 77, "2" * 77
MARKET = "0x" + "a" * 64


class Venue:
    """One market whose frames are right."""

    def __init__(self) -> None:
        market = Market(1, MARKET, (YES, NO), "?", NOW, NOW)
        self.tokens = {name: Token(name, MARKET, known=True) for name in market.tokens}
        self.ms = 1_786_410_915_000
        for token in self.tokens.values():
            token.last_price = "0.500"
            token.set("BUY", "0.45", "10")
            token.set("SELL", "0.55", "10")

    def books(self) -> bytes:
        for token in self.tokens.values():
            token.timestamp = str(self.ms)
        return b"[%b]\n" % b",".join(t.book() for t in self.tokens.values())

    def book(self, name: str = YES) -> bytes:
        self.ms += 1
        self.tokens[name].timestamp = str(self.ms)
        return self.tokens[name].book()

    def change(self, side: str, price: str, size: str, *, later_ms: int = 1, name: str = YES) -> bytes:
        self.ms += later_ms
        token = self.tokens[name]
        token.timestamp = str(self.ms)
        token.set(side, price, size)
        bid, ask = token.best()
        told = {
            "asset_id": name,
            "price": price,
            "size": size,
            "side": side,
            "hash": token.hash(),
            "best_bid": bid,
            "best_ask": ask,
        }
        frame = {"market": MARKET, "price_changes": [told], "timestamp": str(self.ms), "event_type": "price_change"}
        return json.dumps(frame).encode()

    def trade(self, price: str) -> bytes:
        """And what it leaves is hashed with the new price from now on."""
        for token in self.tokens.values():
            token.last_price = f"{float(price):.3f}"
        frame = {"market": MARKET, "asset_id": YES, "price": price, "size": "1", "side": "BUY"}
        return json.dumps(frame | {"timestamp": str(self.ms), "event_type": "last_trade_price"}).encode()


class Client:
    """An adapter whose seconds pass when told."""

    def __init__(self, *symbols: str, **more: Any) -> None:
        self.adapter = PolymarketAdapter(Subscription(("book", "best_bid_ask"), symbols or (YES, NO), **more))
        self.opened = [json.loads(w) for w in self.adapter.opened()]
        self.now = NOW
        self.notices: list[Notice] = []
        self.owed: list[bytes] = []

    def hear(self, *wires: bytes) -> Received:
        told = Received("", None)
        for wire in wires:
            told = self.adapter.received(wire, self.now)
            assert told.bad is None, told
            self.notices += told.notices
        return told

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            told = self.adapter.tick(self.now)
            if told is not None:
                self.notices += told.notices
                self.owed += told.owed

    def kinds(self) -> list[str]:
        return [n.kind for n in self.notices]

    def commands(self) -> list[dict[str, Any]]:
        return [json.loads(w) for w in self.owed if w != b"PING"]


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def client(venue: Venue) -> Client:
    made = Client()
    made.hear(venue.books())
    return made


# ----------------------------------------------------------------------------------------------- commands, routes


def test_the_first_command_has_a_type_and_the_others_an_operation() -> None:
    client = Client("1", "2", "3", "3", symbols_per_subscription_max=2)
    assert client.opened == [
        {"assets_ids": ["1", "2"], "type": "market", "custom_feature_enabled": True},
        {"assets_ids": ["3"], "operation": "subscribe", "custom_feature_enabled": True},
    ]
    more = [json.loads(w) for w in client.adapter.subscribe(["3", "4"])]
    assert more == [{"assets_ids": ["4"], "operation": "subscribe", "custom_feature_enabled": True}]
    gone = [json.loads(w) for w in client.adapter.unsubscribe(["1", "9", "3", "4"])]
    assert gone == [
        {"assets_ids": ["1", "3"], "operation": "unsubscribe"},
        {"assets_ids": ["4"], "operation": "unsubscribe"},
    ]


def test_extras_are_asked_for_only_if_a_channel_needs_them() -> None:
    plain = PolymarketAdapter(Subscription(("book", "price_change"), ("1",)))
    assert json.loads(plain.opened()[0]) == {"assets_ids": ["1"], "type": "market"}
    assert list(PolymarketAdapter(Subscription(("book",), ())).opened()) == []


def test_our_first_command_is_the_recorded_one() -> None:
    sent = [json.loads(w) for d, w in session() if d == "out" and w != b"PING"]
    client = Client(*sent[0]["assets_ids"])
    assert client.opened == sent[:1]


def test_frames_go_to_their_type_and_first_token(client: Client, venue: Venue) -> None:
    assert client.hear(venue.books())[:2] == ("book", YES)
    assert client.hear(venue.change("BUY", "0.46", "1", name=NO))[:2] == ("price_change", NO)
    assert client.hear(venue.trade("0.5"))[:2] == ("last_trade_price", YES)
    resolved = {"event_type": "market_resolved", "market": MARKET, "assets_ids": [NO, YES]}
    assert client.hear(json.dumps(resolved).encode())[:2] == ("market_resolved", NO)
    assert client.hear(b"[]")[:2] == ("control", None)


def test_texts_are_answers_and_arrays_keep_their_newline(client: Client, venue: Venue) -> None:
    told = client.hear(b"PONG")
    assert told.channel == "control" and not told.json
    kept: Line = parse(message(NOW, b"c", 1, b"PONG", json=told.json))
    assert kept.wire() == b"PONG"
    wire = venue.books()
    assert parse(message(NOW, b"c", 1, wire, json=client.hear(wire).json)).wire() == wire
    assert client.hear(b"INVALID OPERATION").notices[0].kind == "refused"


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"pong?", "not JSON"),
        (b'{"event_type":"book"', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"event_type":"surprise","asset_id":"1"}', "unknown type 'surprise'"),
        (b'{"event_type":"book","bids":[]}', "book without a token"),
        (b'{"event_type":"book","asset_id":7}', "not a Polymarket message"),
        (b'{"event_type":"book","asset_id":"%b","bids":[]}' % (b"1" * 300), "300 characters"),
        (b'[{"event_type":"book","asset_id":"1","bids":[]},{"event_type":"x"}]', "unknown type 'x'"),
        (b"[" * 100_000, ""),
        (b"7", "not a Polymarket message"),
    ],
)
def test_rubbish_is_kept_with_its_reason(wire: bytes, reason: str) -> None:
    told = Client().adapter.received(wire, NOW)
    assert told.channel == "_bad" and told.bad is not None and reason in told.bad


FIELD = st.sampled_from(
    ["event_type", "asset_id", "market", "timestamp", "price_changes", "bids", "asks", "price", "size", "side", "hash"]
)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text()
    | st.sampled_from([YES, NO, "book", "price_change", "BUY", "0"]),
    lambda x: st.lists(x) | st.dictionaries(FIELD, x),
)


@given(st.lists(st.binary() | VALUE.map(lambda v: json.dumps(v).encode())))
def test_nothing_makes_it_raise(wires: list[bytes]) -> None:
    adapter = Client().adapter
    for wire in wires:
        told = adapter.received(wire, NOW)
        assert told.channel and (told.bad is None or told.channel == "_bad")
    adapter.tick(NOW)


# ------------------------------------------------------------------------------------------------------- heartbeat


def test_a_ping_every_ten_seconds_and_a_warning_when_none_is_answered(client: Client) -> None:
    client.wait(25)
    assert client.owed.count(b"PING") == 3 and client.notices == []
    client.hear(b"PONG")
    client.wait(45)
    assert any("no PONG" in n.evidence for n in client.notices)


# ------------------------------------------------------------------------------------------------------ continuity


def test_whole_books_are_never_doubted(client: Client, venue: Venue) -> None:
    for i in range(200):
        client.hear(venue.change("BUY", f"0.{10 + i % 30}", str(i % 7)))
        client.hear(venue.change("SELL", f"0.{60 + i % 30}", str(i % 5), name=NO))
        if i % 40 == 20:
            client.hear(venue.trade("0.54"), venue.change("BUY", "0.05", str(i)), venue.book(), venue.book(NO))
        if i % 10 == 0:
            client.wait(1)
    client.wait(5)
    assert client.notices == []


def test_recorded_changes_are_never_doubted() -> None:
    frames = session()
    tokens = next(json.loads(w)["assets_ids"] for d, w in frames if d == "out" and w != b"PING")
    client = Client(*tokens)
    for direction, wire in frames:
        if direction == "in":
            client.hear(wire)
            client.wait(1)
    client.wait(10)
    assert client.notices == []


def test_a_missed_change_is_a_break_of_that_token_alone_until_its_new_book(client: Client, venue: Venue) -> None:
    client.hear(venue.change("BUY", "0.44", "1"))
    client.wait(1)
    good = client.now
    client.now += 7
    venue.change("BUY", "0.20", "99")  # deep in the book, and lost
    client.hear(venue.change("BUY", "0.43", "1"), venue.change("BUY", "0.43", "1", name=NO))
    client.wait(3)
    (notice,) = client.notices
    assert notice[:3] == ("break", (YES,), "checksum") and notice.since_ns == good - SECOND
    assert client.commands() == [
        {"assets_ids": [YES], "operation": "unsubscribe"},
        {"assets_ids": [YES], "operation": "subscribe", "custom_feature_enabled": True},
    ]
    client.hear(venue.book())
    assert client.notices[1:] == [Notice("mended", (YES,), "checksum", "a whole book has come")]
    client.hear(venue.change("BUY", "0.42", "1"))
    client.wait(5)
    assert client.kinds() == ["break", "mended"]


def test_a_book_that_comes_first_makes_good_what_was_missed_but_does_not_hide_it(client: Client, venue: Venue) -> None:
    venue.change("BUY", "0.20", "99")
    client.hear(venue.change("BUY", "0.43", "1"), venue.book())
    assert client.kinds() == ["break", "mended"]
    client.wait(5)
    assert client.kinds() == ["break", "mended"]


def test_a_book_of_the_same_moment_explains_a_change(client: Client, venue: Venue) -> None:
    """What a trade took shows in the change that follows it, before the trade's own book comes."""
    venue.tokens[YES].set("SELL", "0.55", "3")
    client.hear(venue.change("BUY", "0.43", "1"), venue.tokens[YES].book())
    client.wait(5)
    assert client.notices == []


def test_a_resync_that_fails_is_tried_again_and_the_operator_told(client: Client, venue: Venue) -> None:
    venue.change("BUY", "0.20", "99")
    client.hear(venue.change("BUY", "0.43", "1"))
    client.wait(50)
    assert len([c for c in client.commands() if c["assets_ids"] == [YES] and c["operation"] == "subscribe"]) >= 3
    assert "refused" in client.kinds() and "mended" not in client.kinds()
    client.hear(venue.book())
    assert client.kinds()[-1] == "mended"


def test_a_token_dropped_while_broken_closes_its_gap(client: Client, venue: Venue) -> None:
    venue.change("BUY", "0.20", "99")
    client.hear(venue.change("BUY", "0.43", "1"))
    client.wait(3)
    client.adapter.unsubscribe([YES])
    client.wait(1)
    assert client.kinds() == ["break", "mended"]


def test_a_venue_that_hashes_otherwise_is_watched_by_its_best_prices(venue: Venue) -> None:
    client = Client()
    client.hear(venue.books().replace(b'"hash":"', b'"hash":"0'))
    client.hear(venue.change("BUY", "0.44", "1").replace(b'"hash": "', b'"hash": "0'))
    client.wait(5)
    assert client.notices == []
    venue.change("BUY", "0.50", "99")
    client.hear(venue.change("BUY", "0.43", "1").replace(b'"hash": "', b'"hash": "0'))
    client.wait(5)
    assert client.kinds() == ["break"] and "best bid" in client.notices[0].evidence


def test_each_break_makes_it_more_patient(client: Client, venue: Venue) -> None:
    """A venue that came to hash otherwise in the middle is not flooded with subscriptions."""
    for _ in range(600):
        client.hear(venue.change("BUY", "0.43", "1").replace(b'"hash": "', b'"hash": "0'))
        client.wait(1)
        if client.adapter._waiting.get(YES):
            client.hear(venue.book())
    assert 5 <= client.kinds().count("break") <= 20


def test_the_same_change_twice_and_one_that_is_late_are_told(client: Client, venue: Venue) -> None:
    first, second = venue.change("BUY", "0.43", "1"), venue.change("BUY", "0.42", "5")
    client.hear(first, first)
    assert client.kinds() == ["warning"] and "twice" in client.notices[0].evidence
    client.wait(1)
    third = venue.change("BUY", "0.41", "5")
    client.hear(third, second)  # swapped, of other levels: the book is right in the end
    assert "after one of" in client.notices[-1].evidence
    client.wait(5)
    assert client.kinds() == ["warning", "warning"]


def test_swapped_changes_of_one_level_leave_a_wrong_book(client: Client, venue: Venue) -> None:
    first, second = venue.change("BUY", "0.43", "1"), venue.change("BUY", "0.43", "2")
    client.hear(second, first)
    client.wait(5)
    assert client.kinds() == ["warning", "break"]


def test_changes_that_the_first_book_holds_already_are_no_news(venue: Venue) -> None:
    client = Client()
    late = venue.change("BUY", "0.40", "7")
    venue.change("BUY", "0.41", "7")
    client.hear(venue.book(), venue.book(NO), late)
    client.wait(5)
    assert client.notices == []


# ------------------------------------------------------------------------------------ silence instead of an answer


def test_a_token_without_a_first_book_was_dropped_in_silence(venue: Venue) -> None:
    client = Client(YES, NO, "3")
    client.hear(venue.books())
    for _ in range(ATTEMPTS_MAX + 1):
        client.wait(30)
        client.hear(venue.books())
    refused = [n for n in client.notices if n.kind == "refused"]
    assert [n.symbols for n in refused] == [("3",)]
    again = [c for c in client.commands() if c["assets_ids"] == ["3"] and c["operation"] == "subscribe"]
    assert len(again) >= ATTEMPTS_MAX


def test_a_connection_that_only_answers_pings_is_dead(client: Client, venue: Venue) -> None:
    for _ in range(150):
        client.hear(b"PONG")
        client.wait(1)
    kinds = [n for n in client.notices if n.kind in {"break", "ending"}]
    assert [(n.kind, set(n.symbols)) for n in kinds] == [("break", {YES, NO}), ("ending", set())]
    assert kinds[0].cause == "stale"
    client.hear(venue.books())
    client.wait(1)
    assert "mended" in client.kinds()


def test_a_quiet_connection_that_answers_is_alive(client: Client, venue: Venue) -> None:
    for _ in range(600):
        client.hear(b"PONG")
        client.owed.clear()
        client.wait(1)
        for asked in client.commands():
            if asked["operation"] == "subscribe":
                for name in asked["assets_ids"]:
                    client.hear(venue.book(name))
    assert {*client.kinds()} == {"explained"}


def test_more_tokens_than_one_connection_bears_are_told_once() -> None:
    client = Client(*map(str, range(501)))
    client.wait(3)
    assert [n.kind for n in client.notices] == ["warning"] and "501 tokens" in client.notices[0].evidence


def test_recorded_books_are_worked_out() -> None:
    names = [json.loads(w)["asset_id"] for w in BOOKS]
    client = Client(*names)
    client.hear(*BOOKS)
    assert all(client.adapter._books[n].certain for n in names)


# --------------------------------------------------------------------------------------------------- quiet tokens


def looked_up(client: Client, venue: Venue, seconds: int, **changed: Any) -> list[Request]:
    """Time goes by, in which NO moves and YES does not; lookups are answered with the venue's book."""
    asked = []
    for i in range(seconds):
        client.now += SECOND
        client.hear(b"PONG", venue.change("BUY", "0.10", str(1 + i % 5), later_ms=1000, name=NO))
        told = client.adapter.tick(client.now)
        if told is not None:
            client.notices += told.notices
            client.owed += told.owed
            for request in told.asks:
                asked.append(request)
                body = {**venue.tokens[request.query["token_id"]].rest(), **changed}
                client.hear(request.answered(200, json.dumps(body).encode()))
    return asked


def test_a_quiet_token_is_looked_up_and_nothing_is_wrong(client: Client, venue: Venue) -> None:
    asked = looked_up(client, venue, 300)
    assert [r.target for r in asked] == [f"/book?token_id={YES}"] * 2
    assert client.notices == []


def test_a_token_that_the_venue_forgot_is_subscribed_to_anew(client: Client, venue: Venue) -> None:
    looked_up(client, venue, 60)
    venue.change("SELL", "0.52", "9")  # never sent
    looked_up(client, venue, 80)
    assert client.kinds()[0] == "break" and "REST has another book" in client.notices[0].evidence
    assert [c["assets_ids"] for c in client.commands()][:2] == [[YES], [YES]]
    client.hear(venue.book())
    assert client.kinds() == ["break", "mended"]


def test_what_rest_has_first_may_come_late(client: Client, venue: Venue) -> None:
    looked_up(client, venue, 119)
    late = venue.change("SELL", "0.52", "9")
    looked_up(client, venue, 3)
    client.hear(late)
    looked_up(client, venue, 20)
    assert client.notices == []  # the late change has made it whole


def test_an_older_answer_and_errors_say_nothing(client: Client, venue: Venue) -> None:
    assert looked_up(client, venue, 200, timestamp="1", bids=[])
    for status, body in ((404, b'{"error":"no"}'), (0, b"ConnectError"), (429, b""), (200, venue.book(NO))):
        client.hear(Request("GET", "/book", {"token_id": YES}).answered(status, body))
    looked_up(client, venue, 20)
    assert client.notices == []
