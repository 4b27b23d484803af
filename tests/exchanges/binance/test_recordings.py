"""Real captures: every frame routed, no false gap, and the events make a book that the venue's best prices confirm."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from exchanges import binance_usdm
from exchanges.binance import venue
from exchanges.port import Request, Venue
from ssmd.events import Trade

from .talk import FIXTURES, NOW, USDM_FIXTURE, Book, recorded, subscription


class _Data(msgspec.Struct):
    e: str = ""
    u: int = 0
    b: object = None
    B: str = ""
    a: object = None
    A: str = ""


class _Frame(msgspec.Struct):
    stream: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


def replay(paths: list[Path], of: Venue, depth: str) -> Counter[str]:
    """Feed the frames to an adapter, its events to a book; raises where they disagree. What was seen, counted."""
    adapter, grammar = of.adapter(subscription(channels=(depth, "trade", "bookTicker"))), of.events("2024-08-08")
    assert len(adapter.opened()) == 1
    asks: list[Request] = list(adapter.received(b'{"result":null,"id":1}', NOW).asks)
    decode = msgspec.json.Decoder(_Frame).decode
    book, seen, ids = Book(), Counter[str](), list[int]()
    top = _Data()
    for path in paths:
        for ts_recv, wire in recorded(path):
            frame = decode(wire)
            if not frame.stream:  # the recorder's own snapshot, which was as late as it is here
                wire = asks.pop(0).answered(200, wire)  # noqa: PLW2901
            told = adapter.received(wire, ts_recv)
            assert (told.bad, told.notices, told.owed) == (None, (), ()), (wire[:200], told)
            asks += told.asks
            events = grammar(told.channel, wire)
            seen[told.channel] += 1
            book.take(events)
            if frame.data.e == "depthUpdate" and book.known:
                assert not book.crossed
                if frame.data.u == top.u:  # best prices as of the same update
                    seen["confirmed"] += 1
                    assert (*book.best("bid"), *book.best("ask")) == (top.b, top.B, top.a, top.A)
            elif told.channel == "bookTicker":
                top = frame.data
            for trade in events:
                if isinstance(trade, Trade):
                    ids.append(int(trade.trade_id or 0))
                    if top.u:  # it happened at a best price of a moment before or after: they move by little
                        assert abs(Decimal(trade.price) / Decimal(str(top.b)) - 1) < Decimal("0.002")
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert asks == []
    return seen


def test_spot_excerpt() -> None:
    seen = replay([FIXTURES / "spot-2024-08-08.gz"], venue, "depth@100ms")
    assert seen["depth_snapshot"] == 1 and seen["depth"] > 10 and seen["trade"] > 50
    assert seen["depth_past"] == 0


def test_usdm_excerpt() -> None:
    seen = replay([USDM_FIXTURE], binance_usdm.venue, "depth@0ms")
    assert seen["depth_snapshot"] == 1 and seen["depth"] > 50 and seen["confirmed"] > 0


def test_spot_across_midnight(shared_data: Path) -> None:
    folder = shared_data / "binance"
    seen = replay([folder / "btcusdt_20240808.gz", folder / "btcusdt_20240809.gz"], venue, "depth@100ms")
    assert sum(seen.values()) - seen["confirmed"] == 99_574
    assert seen["confirmed"] > 1000


def test_usdm_whole(shared_data: Path) -> None:
    seen = replay([shared_data / "binance" / "btcusdt_20240718.gz"], binance_usdm.venue, "depth@0ms")
    assert sum(seen.values()) - seen["confirmed"] == 11_414
    assert seen["confirmed"] > 100


@pytest.mark.parametrize("lost", [1, 7])
def test_frames_taken_out_of_a_recording_are_missed(lost: int) -> None:
    """The control: the same checks are not blind."""
    adapter = venue.adapter(subscription())
    adapter.opened()
    asks = adapter.received(b'{"result":null,"id":1}', NOW).asks
    notices = []
    frames = [wire for _, wire in recorded(FIXTURES / "spot-2024-08-08.gz")]
    for stream in (b"@depth", b"@trade"):
        first = next(i for i, wire in enumerate(frames) if stream in wire[:30] and i > 100)
        some = [i for i, wire in enumerate(frames) if stream in wire[:30] and i >= first][:lost]
        frames = [wire for i, wire in enumerate(frames) if i not in some]
    for wire in frames:
        if not wire.startswith(b'{"stream"'):
            wire = asks[0].answered(200, wire)  # noqa: PLW2901
        told = adapter.received(wire, NOW)
        notices += [(n.kind, n.symbols) for n in told.notices]
    assert ("break", ("BTCUSDT",)) in notices
