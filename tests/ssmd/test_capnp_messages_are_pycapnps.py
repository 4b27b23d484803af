"""Whatever the event: the bytes are those that pycapnp writes, and they say the same again when they are read."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import capnp as reference
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd import capnp
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, Status, Ticker, Trade

FEED = "kalshi"
SEGMENT_WORDS = 1 << 14  # one segment, as ours: pycapnp would begin another after 1,024 words

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
decimals = st.from_regex(r"\A-?[0-9]{1,60}(\.[0-9]{1,60})?\Z")
maybe = decimals | st.none()
int64 = st.integers(-(2**63), 2**63 - 1)
times = int64 | st.none()
levels = st.lists(st.tuples(decimals, decimals), max_size=30)

trades = st.builds(Trade, texts, times, decimals, decimals, st.sampled_from(["buy", "sell", None]), texts | st.none())
tickers = st.builds(Ticker, texts, times, *[maybe] * 8)
snapshots = st.builds(BookSnapshot, texts, times, levels, levels)
deltas = st.builds(BookDelta, texts, times, st.sampled_from(["bid", "ask"]), decimals, maybe, maybe)
status = st.builds(Status, texts, times, texts, texts)
causes = st.sampled_from(["disconnect", "sequence", "lost"])
gaps = st.builds(Gap, texts, st.just(FEED), texts, st.lists(texts, max_size=9), int64, times, causes, texts, texts)
events = st.one_of(trades, tickers, snapshots, deltas, status, gaps)
frames = st.tuples(int64, texts, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))

SCHEMA = reference.load(str(capnp.schema_path()))
encoder = capnp.Encoder(FEED)


def by_pycapnp(event: Event | Gap, ts_recv: int, conn: str, n: int, item: int) -> bytes:
    """The obvious way: each field by its name, in the schema's order; nothing is written for what is not there."""
    root = SCHEMA.Event.new_message(num_first_segment_words=SEGMENT_WORDS)
    root.tsRecv = ts_recv
    if not isinstance(event, Gap) and event.ts_event is not None:
        root.tsEvent.ns = event.ts_event
    root.n, root.item = n, item
    root.feed = FEED
    if not isinstance(event, Gap):
        root.symbol = event.symbol
    root.conn = conn
    fill(root, event)
    data: bytes = root.to_bytes()
    return data


def fill(root: Any, event: Event | Gap) -> None:
    match event:
        case Trade():
            own = root.init("trade")
            own.side = event.side or "unknown"
            put(own, price=event.price, size=event.size, tradeId=event.trade_id)
        case Ticker():
            own = root.init("ticker")
            put(own, last=event.last, lastSize=event.last_size)
            put(own, bid=event.bid, bidSize=event.bid_size, ask=event.ask, askSize=event.ask_size)
            put(own, volume=event.volume, openInterest=event.open_interest)
        case BookSnapshot():
            own = root.init("bookSnapshot")
            for name, side in (("bids", event.bids), ("asks", event.asks)):
                made = own.init(name, len(side)) if side else ()
                for level, (price, size) in zip(made, side, strict=True):
                    put(level, price=price, size=size)
        case BookDelta():
            own = root.init("bookDelta")
            own.side = event.side
            put(own, price=event.price, size=event.size, change=event.change)
        case Status():
            put(root.init("status"), status=event.status, detail=event.detail)
        case Gap():
            own = root.init("gap")
            put(own, gap=event.gap, conn=event.conn)
            if event.symbols:
                named = own.init("symbols", len(event.symbols))
                for i, symbol in enumerate(event.symbols):
                    named[i] = symbol
            own.start = event.start
            if event.end is not None:
                own.end.ns = event.end
            put(own, cause=event.cause, evidence=event.evidence, repair=event.repair)


def put(struct_: Any, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None:
            setattr(struct_, name, text)


@given(events, frames)
@example(Trade("S", None, "0", "0", None, None), (0, "", 0, 0))
@example(Trade("S", 0, "0.10", "-0", "buy", ""), (-1, "c", 1, 1))
@example(Ticker("S", -1, last="0", bid="0." + "0" * 400 + "1"), (1, "c", 1, 0))
@example(BookSnapshot("S", 1, [], [("1", "2")]), (1, "c", 1, 0))
@example(Gap("g", FEED, "c", [], 0, 0, "lost"), (1, "c", 1, 0))
def test_bytes_and_values_are_pycapnps(event: Event | Gap, frame: tuple[int, str, int, int]) -> None:
    ts_recv, conn, n, item = frame
    message = encoder.encode(event, ts_recv, conn, n, item)
    assert message == by_pycapnp(event, ts_recv, conn, n, item)
    assert capnp.decode(message) == capnp.Message(ts_recv, FEED, conn, n, item, event)


def test_full_caches_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capnp, "CACHED_TEXTS_MAX", 10)
    monkeypatch.setattr(capnp, "CACHED_HEADS_MAX", 10)
    small = capnp.Encoder(FEED)
    for i in range(100):
        event = Trade(f"S{i}", i, f"0.{i}", str(i), "buy", None)
        assert capnp.decode(small.encode(event, i, "c", i, 0)).event == event


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(struct.error):
        encoder.encode(Trade("S", 2**63, "1", "1", None, None), 1, "c", 1, 0)


@given(events, frames, st.data())
def test_damaged_bytes_are_unreadable_or_say_something_else(
    event: Event | Gap, frame: tuple[int, str, int, int], data: st.DataObject
) -> None:
    damaged = bytearray(encoder.encode(event, *frame))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for message in (bytes(damaged), cut):
        with contextlib.suppress(capnp.Unreadable):
            assert isinstance(capnp.decode(message), capnp.Message)


def test_a_side_that_the_schema_does_not_name_is_unreadable() -> None:
    message = encoder.encode(BookDelta("S", None, "ask", "0", None, None), 1, "c", 1, 0)
    other = encoder.encode(BookDelta("S", None, "bid", "0", None, None), 1, "c", 1, 0)
    (at,) = (i for i in range(len(message)) if message[i] != other[i])
    with pytest.raises(capnp.Unreadable):
        capnp.decode(message[:at] + b"\x83" + message[at + 1 :])


_ALIVE: list[Any] = []  # pycapnp's structs refer to their parser, and do not keep it


def newer(tmp_path: Path) -> Any:
    """A later version of the schema: one more field in the event and in its trade, one more kind."""
    text = capnp.schema_path().read_text()
    text = text.replace("  tradeId @3 :Text;", "  tradeId @3 :Text;\n  venueNote @4 :Text;\n  fee @5 :Int64;")
    text = text.replace("  conn @7 :Text;", "  conn @7 :Text;\n  region @15 :Text;")
    text = text.replace("    gap @13 :Gap;", "    auction @14 :Trade;\n    gap @13 :Gap;")
    path = tmp_path / "newer.capnp"
    path.write_text(text)
    parser = reference.SchemaParser()
    _ALIVE.append(parser)
    return parser.load(str(path)).Event


def test_messages_of_a_newer_version_are_read(tmp_path: Path) -> None:
    root = newer(tmp_path).new_message(tsRecv=5, n=7, conn="c", feed=FEED, symbol="S", region="eu")
    own = root.init("trade")
    own.price, own.size, own.venueNote, own.fee = "0.5", "1", "hidden", 3
    event = Trade("S", None, "0.5", "1", None, None)
    assert capnp.decode(root.to_bytes()) == capnp.Message(5, FEED, "c", 7, 0, event)


def test_a_newer_version_reads_ours(tmp_path: Path) -> None:
    message = encoder.encode(Trade("S", 9, "0.5", "1", "sell", "id"), 5, "c", 7, 0)
    with newer(tmp_path).from_bytes(message) as root:
        assert (root.trade.price, str(root.trade.side), root.trade.fee) == ("0.5", "sell", 0)
        assert not root._has("region")


def test_a_kind_that_only_a_newer_version_knows_is_unreadable(tmp_path: Path) -> None:
    root = newer(tmp_path).new_message(tsRecv=5, n=7, conn="c", feed=FEED, symbol="S")
    root.init("auction").price = "1"
    with pytest.raises(capnp.Unreadable):
        capnp.decode(root.to_bytes())
