"""The venue's side: strict with what it hears, silent where the venue is, and right in its books."""

import json
from collections import Counter
from decimal import Decimal

import pytest

from exchanges.polymarket.adapter import PolymarketAdapter
from exchanges.polymarket.events import Grammar
from exchanges.polymarket.messages import LIKELY, book_hash
from exchanges.polymarket.simulator import PolymarketConnection, PolymarketSimulator
from exchanges.port import Record, Simulation, Subscription, Unparsable
from ssmd.events import BookDelta, BookSnapshot, Event

from .recorded import BOOKS, RECORDINGS, TRADES, recording, session

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000


@pytest.fixture
def simulator() -> PolymarketSimulator:
    made = PolymarketSimulator(Simulation(seed=4, markets=4, frames_per_second=100))
    made.generate(NOW)
    return made


def say(connection: PolymarketConnection, **told: object) -> list[bytes]:
    return list(connection.received(json.dumps(told).encode(), NOW))


def test_the_first_books_are_one_array_with_a_newline(simulator: PolymarketSimulator) -> None:
    tokens = list(simulator.exchange.tokens)
    (wire,) = say(simulator.connect(), assets_ids=[*tokens, "unknown"], type="market")
    assert wire[:1] == b"[" and wire[-2:] == b"]\n"
    assert [b["asset_id"] for b in json.loads(wire)] == tokens


def test_both_forms_of_subscribing_and_unsubscribing(simulator: PolymarketSimulator) -> None:
    a, b, *_ = simulator.exchange.tokens
    line = simulator.connect()
    assert len(say(line, assets_ids=[a], type="market")) == 1
    assert len(say(line, assets_ids=[b], operation="subscribe")) == 1
    assert say(line, assets_ids=[a, b], operation="subscribe") == [] and line.subscriptions == 2
    assert say(line, assets_ids=[a], operation="subscribe", custom_feature_enabled=True) == [b"NO NEW ASSETS"]
    assert say(line, assets_ids=[a], operation="unsubscribe") == [] and line.subscriptions == 1
    assert len(say(line, assets_ids=[a], operation="subscribe")) == 1
    assert say(line, assets_ids=["unknown"], operation="subscribe") == []
    assert say(line, assets_ids=[], operation="subscribe") == []


def test_no_first_book_if_it_is_not_wanted_or_beyond_five_hundred_tokens(simulator: PolymarketSimulator) -> None:
    a, b, *_ = simulator.exchange.tokens
    assert say(simulator.connect(), assets_ids=[a], type="market", initial_dump=False) == []
    line = simulator.connect()
    assert say(line, assets_ids=[f"x{i}" for i in range(499)], type="market") == []
    assert len(json.loads(say(line, assets_ids=[a, b], operation="subscribe")[0])) == 1
    change = next(r for r in simulator.generate(NOW + SECOND) if r.kind == "price_change")
    assert change.kind == "price_change"


@pytest.mark.parametrize(
    "wire",
    [
        b"ping",
        b"7",
        b"{",
        b"\xff",
        b'{"type":"market"}',
        b'{"type":"market","assets_ids":"1"}',
        b'{"type":"market","assets_ids":[1]}',
        b'{"type":"user","assets_ids":["1"]}',
        b'{"operation":"subscribe","assets_ids":["1"]}',
        b'{"asset_ids":["1"],"type":"market"}',
    ],
)
def test_what_is_no_command_is_called_invalid(simulator: PolymarketSimulator, wire: bytes) -> None:
    line = simulator.connect()
    assert line.received(wire, NOW) == [b"INVALID OPERATION"] and line.subscriptions == 0


def test_ping_is_answered_in_text(simulator: PolymarketSimulator) -> None:
    assert simulator.connect().received(b"PING", NOW) == [b"PONG"]


def test_extras_go_only_to_those_who_asked(simulator: PolymarketSimulator) -> None:
    tokens = list(simulator.exchange.tokens)
    plain, custom = simulator.connect(), simulator.connect()
    say(plain, assets_ids=tokens, type="market")
    say(custom, assets_ids=tokens, type="market", custom_feature_enabled=True)
    heard: dict[str, Counter[str]] = {"plain": Counter(), "custom": Counter()}
    for step in range(1, 70):
        for record in simulator.generate(NOW + step * SECOND):
            heard["plain"][record.kind] += len(plain.market(record))
            heard["custom"][record.kind] += len(custom.market(record))
    extras = {"best_bid_ask", "new_market", "market_resolved"}
    assert all(heard["custom"][kind] for kind in extras | {"book", "price_change", "last_trade_price"})
    assert not any(heard["plain"][kind] for kind in extras) and heard["plain"]["book"]


def test_made_up_books_mirror_each_other_never_cross_and_are_what_their_hashes_say(
    simulator: PolymarketSimulator,
) -> None:
    grammar = Grammar()
    checked = 0
    for step in range(1, 150):
        for record in simulator.generate(NOW + step * SECOND // 10):
            if record.kind == "price_change":
                assert {e.symbol for e in grammar(record.kind, record.wire)} <= set(simulator.exchange.tokens)
        for market in simulator.exchange.markets.values():
            if market.closed:
                continue
            yes, no = (simulator.exchange.tokens[t] for t in market.tokens)
            bid, ask = yes.best()
            assert Decimal(bid) < Decimal(ask)
            mirrored = {(1 - Decimal(p), s) for p, s in yes.bids.items()}
            assert mirrored == {(Decimal(p), s) for p, s in no.asks.items()}
            told = json.loads(yes.book())
            levels = [{x["price"]: x["size"] for x in told[side]} for side in ("bids", "asks")]
            named = book_hash(
                told["market"],
                told["asset_id"],
                told["timestamp"],
                *levels,
                told["tick_size"],
                told["last_trade_price"],
                LIKELY[0],
            )
            assert named == told["hash"]
            checked += 1
    assert checked > 500


def test_the_same_seed_gives_the_same_markets() -> None:
    def frames() -> list[bytes]:
        made = PolymarketSimulator(Simulation(seed=9, markets=3, frames_per_second=300))
        made.generate(NOW)
        return [r.wire for step in range(1, 20) for r in made.generate(NOW + step * SECOND // 2)]

    assert frames() == frames()


def test_a_tick_size_changes_near_the_ends_and_a_book_follows() -> None:
    kinds: list[tuple[str, str | None]] = []
    for seed in range(2):
        made = PolymarketSimulator(Simulation(seed=seed, markets=8, frames_per_second=200))
        made.generate(NOW)
        for step in range(1, 20):
            kinds += [(r.kind, r.symbol) for r in made.generate(NOW + step * SECOND)]
    changed = [i for i, (kind, _) in enumerate(kinds) if kind == "tick_size_change"]
    assert changed and all(kinds[i + 1] == ("book", kinds[i][1]) for i in changed)


# ---------------------------------------------------------------------------------------------------------- replay


def replayed(records: list[Record]) -> tuple[PolymarketSimulator, list[bytes], list[Event]]:
    """What a client that subscribed to all of it hears."""
    made = PolymarketSimulator(Simulation())
    contents = {(r.channel, r.symbol) for r in records}
    made.load(contents, records[0].ts_ns, records[-1].ts_ns)
    line = made.connect()
    symbols = sorted({str(s) for _, s in contents})
    adapter = PolymarketAdapter(Subscription(("book", "best_bid_ask"), tuple(symbols)))
    heard: list[bytes] = []
    for text in adapter.opened():
        heard += line.received(text, NOW)
    assert heard == []  # nothing is known before it is played
    assert line.covers(contents)
    for record in records:
        made.apply(record)
        heard += line.market(record)
    grammar = Grammar()
    return made, heard, [e for w in heard for e in grammar(adapter.received(w, NOW).channel, w)]


def test_a_recorded_session_is_replayed_byte_for_byte() -> None:
    lines = recording("ws/clob_session_head.jsonl").read_bytes().splitlines()
    made = PolymarketSimulator(Simulation())
    records = [r for r in map(made.record, lines) if r is not None]
    made, heard, events = replayed(records)
    assert heard == [w for d, w in session() if d == "in"]
    assert {BookSnapshot, BookDelta} == {type(e) for e in events}
    for token in made.exchange.tokens.values():
        assert token.known and Decimal(token.best()[0]) < Decimal(token.best()[1])


def test_bare_frames_have_the_venues_time_and_serve_whoever_comes_late() -> None:
    made = PolymarketSimulator(Simulation())
    records = [r for r in map(made.record, [*BOOKS, *TRADES]) if r is not None]
    assert len(records) == 20 and records[0].ts_ns == 1_770_921_570_954_000_000
    made, heard, _ = replayed(records)
    assert heard == [*BOOKS, *TRADES]
    symbol = str(records[0].symbol)
    (late,) = say(made.connect(), assets_ids=[symbol], type="market")
    first = json.loads(BOOKS[0])
    (book,) = json.loads(late)
    assert (book["bids"], book["hash"]) == (first["bids"], first["hash"])
    assert made.answer("GET", f"/book?token_id={symbol}", {}, NOW).status == 200


@pytest.mark.parametrize(
    "line", [b"", b"x", b"{}", b'{"event_type":"book"}', b'{"event_type":"book","asset_id":"1","bids":[]}', b"[" * 9999]
)
def test_a_line_that_cannot_be_replayed_says_so(line: bytes) -> None:
    with pytest.raises(Unparsable):
        PolymarketSimulator(Simulation()).record(line)


def test_what_the_recorder_sent_and_keep_alive_are_no_market_data() -> None:
    made = PolymarketSimulator(Simulation())
    for told in ({"dir": "out", "text": "PING"}, {"dir": "in", "text": "PONG"}, {"dir": "in", "text": "[]"}):
        assert made.record(json.dumps({**told, "ts_local_ms": 1}).encode()) is None


# ------------------------------------------------------------------------------------------------------------ REST


def test_rest_tells_the_same_books(simulator: PolymarketSimulator) -> None:
    token = next(iter(simulator.exchange.tokens))
    (wire,) = say(simulator.connect(), assets_ids=[token], type="market")
    told = json.loads(simulator.answer("GET", f"/book?token_id={token}", {}, NOW).body)
    (book,) = json.loads(wire)
    assert {k: v for k, v in book.items() if k != "event_type"} == {k: told[k] for k in book if k != "event_type"}
    condition = told["market"]
    assert json.loads(simulator.answer("GET", f"/markets/{condition}", {}, NOW).body)["tokens"][0]["token_id"] == token
    assert simulator.answer("GET", "/book?token_id=1", {}, NOW).status == 404
    assert simulator.answer("GET", "/nothing", {}, NOW).status == 404
    assert simulator.answer("POST", "/book", {}, NOW).status == 405
    assert simulator.answer("GET", "/trades?limit=x", {}, NOW).status == 400
    assert json.loads(simulator.answer("GET", "/time", {}, NOW).body) == NOW // SECOND
    page = json.loads(simulator.answer("GET", "/markets", {}, NOW).body)
    assert page["next_cursor"] == "LTE=" and page["count"] == 4


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="recordings that may not be copied are not here")
def test_rest_answers_have_the_recorded_keys(simulator: PolymarketSimulator) -> None:
    token = next(iter(simulator.exchange.tokens))
    recorded = json.loads(recording("rest/nautilus/book.json").read_bytes())
    ours = json.loads(simulator.answer("GET", f"/book?token_id={token}", {}, NOW).body)
    assert set(recorded) <= set(ours) and type(recorded["bids"]) is type(ours["bids"])
    simulator.generate(NOW + 20 * SECOND)
    for step in range(1, 20):
        simulator.generate(NOW + step * SECOND)
    trade = json.loads(simulator.answer("GET", "/trades", {}, NOW).body)[0]
    assert set(trade) == set(json.loads(recording("rest/nautilus/trades.json").read_bytes())[0])
    market = json.loads(simulator.answer("GET", "/markets/keyset", {}, NOW).body)["markets"][0]
    gamma = json.loads(recording("rest/nautilus/gamma_market.json").read_bytes())
    strange = {k for k in market if k in gamma and type(market[k]) is not type(gamma[k])}
    assert not {k for k in strange if not {type(market[k]), type(gamma[k])} <= {int, float}}, strange
