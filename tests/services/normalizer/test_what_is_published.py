"""Normalized messages say what the venue's grammar says, once, in order; what is missing is told among them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from exchanges.kalshi import venue
from exchanges.port import EventGrammar, Subscription, Unparsable
from services.normalizer.translation import UNSURE_NS, Translation
from ssmd import capnp, frames, subjects
from ssmd.events import Event, Gap, Session, Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kalshi" / "fixtures" / "ws"
OPENED_MS = 1_786_410_000_000
OPENED = OPENED_MS * 1_000_000
CONN = frames.conn_id("kalshi", 0, OPENED, 7)
SUBJECT = "local.kalshi.json.trade.S"


def message(n: int, wire: bytes = b"{}", ts: int = 0, conn: str = CONN) -> bytes:
    return frames.message(ts or OPENED + n, conn.encode(), n, wire)


class OneTrade:
    """A venue each of whose frames is a trade of the price that it holds; `[]` is no frame of it."""

    def __init__(self) -> None:
        self.dates: list[str] = []

    def events(self, date: str) -> EventGrammar:
        self.dates.append(date)

        def grammar(channel: str, wire: bytes) -> Sequence[Event]:
            if wire == b"[]":
                raise Unparsable("no frame")
            if wire == b"[0]":
                raise ZeroDivisionError("oh")
            return [Trade("S", 2**63 if wire == b"[1]" else None, wire.decode(), "1", None, None)]

        return grammar


@pytest.fixture
def simple() -> Translation:
    return Translation("local", "kalshi", OneTrade())  # type: ignore[arg-type]


def told(translation: Translation, *messages: bytes, subject: str = SUBJECT) -> list[Event | Gap]:
    return [capnp.decode(data).event for m in messages for _, data in translation.take(subject, m)]


BOOK = (  # the fixtures have none
    b'{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"KX-A","yes_dollars_fp":[["0.3000","5.00"]],'
    b'"no_dollars_fp":[["0.6000","7.00"],["0.6100","1.00"]]}}',
    b'{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"KX-A","price_dollars":"0.6100","delta_fp":'
    b'"-1.00","side":"no","ts_ms":1786410915579}}',
)


def recorded() -> list[tuple[str, str, bytes]]:
    """Every frame of the fixtures, and a book's: subject, channel, bytes."""
    adapter = venue.adapter(Subscription((), ()))
    found = []
    for wire in [w for path in sorted(FIXTURES.glob("*.jsonl")) for w in path.read_bytes().splitlines()] + list(BOOK):
        route = adapter.received(wire, 0)
        found.append((subjects.frame("local", "kalshi", route.channel, route.symbol), route.channel, wire))
    return found


@pytest.mark.parametrize("ts", [1_764_000_000_000_000_000, 1_786_410_000_000_000_000])
def test_recorded_frames_say_what_the_grammar_of_their_day_says(ts: int) -> None:
    translation = Translation("local", "kalshi", venue)
    grammar = venue.events("2025-11-24" if ts < OPENED else "2026-08-11")
    kinds = set()
    for n, (subject, channel, wire) in enumerate(recorded(), 1):
        published = translation.take(subject, message(n, wire, ts))
        try:
            expected = grammar(channel, wire)
        except Unparsable:
            (gap,) = (capnp.decode(data).event for _, data in published)
            assert isinstance(gap, Gap) and gap.cause == "parse"
            continue
        assert [capnp.decode(data) for _, data in published] == [
            capnp.Message(ts, "kalshi", CONN, n, item, event) for item, event in enumerate(expected)
        ]
        for (to, _), event in zip(published, expected, strict=True):
            env, feed, kind, token = to.split(".")
            assert (env, feed, subjects.symbol(token)) == ("local", "kalshi", event.symbol)
            kinds.add((kind, type(event).__name__))
    assert {("trade", "Trade"), ("ticker", "Ticker"), ("book", "BookDelta"), ("book", "BookSnapshot")} <= kinds


def test_a_frame_that_comes_again_is_published_once(simple: Translation) -> None:
    assert len(told(simple, message(1), message(2), message(1), message(2), message(3))) == 3
    assert simple.missed == 0


def test_connections_are_numbered_for_themselves(simple: Translation) -> None:
    other = frames.conn_id("kalshi", 1, OPENED, 8)
    assert len(told(simple, message(1), message(1, conn=other), message(2), message(2, conn=other))) == 4


def test_missing_frames_are_told_before_the_next_event(simple: Translation) -> None:
    _, gap, trade = told(simple, message(1), message(5))
    assert isinstance(gap, Gap) and isinstance(trade, Trade)
    assert (gap.cause, gap.conn, gap.symbols, gap.start, gap.end) == ("lost", CONN, [], OPENED + 1, OPENED + 5)
    assert "after frame 1 of the connection came 5" in gap.evidence
    assert simple.missed == 3


def test_a_start_amid_a_connection_is_a_gap_from_its_beginning(simple: Translation) -> None:
    gap, _ = told(simple, message(812))
    assert isinstance(gap, Gap)
    assert (gap.start, gap.end) == (OPENED, OPENED + 812)


def test_after_a_broken_link_the_last_seconds_are_in_doubt(simple: Translation) -> None:
    told(simple, message(1, ts=OPENED + 10 * UNSURE_NS))
    simple.link_broke()
    gap, _ = told(simple, message(2, ts=OPENED + 11 * UNSURE_NS))
    assert isinstance(gap, Gap)
    assert (gap.start, gap.end) == (OPENED + 9 * UNSURE_NS, OPENED + 11 * UNSURE_NS)
    assert len(told(simple, message(3))) == 1, "once"


@pytest.mark.parametrize(("wire", "why"), [(b"[]", "no frame"), (b"[0]", "ZeroDivisionError: oh"), (b"[1]", "error")])
def test_a_frame_that_cannot_be_understood_is_told_and_keeps_nothing_back(
    wire: bytes, why: str, simple: Translation
) -> None:
    first, gap, last = told(simple, message(1), message(2, wire), message(3))
    assert isinstance(first, Trade) and isinstance(last, Trade) and isinstance(gap, Gap)
    assert (gap.cause, gap.symbols, gap.start, gap.end) == ("parse", ["S"], OPENED + 2, OPENED + 2)
    assert why in gap.evidence
    assert simple.unparsable == 1


def test_the_connectors_gaps_are_passed_on_and_its_sessions_not(simple: Translation) -> None:
    session = msgspec.json.encode(Session("alive", "kalshi", CONN))
    assert told(simple, message(1, session), subject="local.kalshi.json._session.all") == []
    assert told(simple, message(2, b"[]"), subject="local.kalshi.json._bad.all") == []
    gap = Gap("g", "kalshi", CONN, ["A", "B"], OPENED, None, "sequence", "seq 9 after 7")
    ((subject, data),) = simple.take("local.kalshi.json._gap.all", message(3, msgspec.json.encode(gap)))
    assert subject == "local.kalshi.status.all"
    assert capnp.decode(data).event == gap


def test_the_grammar_changes_at_midnight() -> None:
    days = OneTrade()
    translation = Translation("local", "kalshi", days)  # type: ignore[arg-type]
    midnight = 1_786_406_400_000_000_000
    told(translation, *(message(n, ts=midnight + n - 3) for n in range(1, 6)))
    assert days.dates == ["2026-08-10", "2026-08-11"]


def test_a_venues_symbol_is_no_wildcard_and_not_ours() -> None:
    assert subjects.normalized("local", "kalshi", "trade", "all") == "local.kalshi.trade.%61ll"
    assert subjects.normalized("local", "kalshi", "trade", "a.b>*") == "local.kalshi.trade.a%2Eb%3E%2A"
    assert subjects.normalized("local", "kalshi", "status", None) == "local.kalshi.status.all"
