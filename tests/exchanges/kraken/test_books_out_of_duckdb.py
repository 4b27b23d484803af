"""A book of the lake is as deep as was subscribed to: what falls out below, the venue does not delete."""

import datetime
import random
import re
from collections.abc import Iterator
from decimal import Decimal
from zlib import crc32

import duckdb
import msgspec
import pyarrow as pa

from exchanges.kraken import venue
from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Subscription
from ssmd.events import BookDelta, BookSnapshot
from ssmd.lake import macros

from .talk import Talk, simulated

CONN = "kraken-0-1"
LEVEL = pa.list_(pa.struct([("price", pa.decimal128(28, 12)), ("size", pa.decimal128(28, 12))]))
FRAME = re.compile(rb'"symbol":"([^"]+)".*"checksum":(\d+)')
NUMBERS = re.compile(rb'"price":[0-9]+\.?([0-9]*),"qty":[0-9]+\.?([0-9]*)')


class Day:
    """Generated frames at a depth, and a connection over the tables that the rollup would make of them."""

    def __init__(self, depth: int) -> None:
        s = simulated(venue, frames_per_second=600)
        assert isinstance(s, KrakenSimulator)
        talk = Talk(venue, s, Subscription((f"book.{depth}",), tuple(s.markets)))
        for _ in range(400):
            talk.pass_time(0.1)
            for record in s.generate(talk.now):
                talk.market(record)
        assert talk.notices == []
        self.checksums: list[tuple[int, str, int]] = []  # n, symbol, the venue's checksum
        self.digits: dict[str, tuple[int, int]] = {}  # of prices and sizes, after the point
        snapshots, deltas = [], []
        grammar = venue.events("2026-08-11")
        for n, (channel, _, wire) in enumerate(talk.frames, 1):
            if channel != "book":
                continue
            found = FRAME.search(wire)
            assert found is not None
            symbol = found[1].decode()
            self.checksums.append((n, symbol, int(found[2])))
            if symbol not in self.digits:  # its snapshot
                lengths = [(len(p), len(q)) for p, q in NUMBERS.findall(wire)]
                self.digits[symbol] = max(p for p, _ in lengths), max(q for _, q in lengths)
            for item, event in enumerate(grammar(channel, wire)):
                common = {"ts_recv": n, "feed": "kraken", "symbol": symbol, "conn": CONN, "n": n, "item": item}
                common["date"] = datetime.date(1970, 1, 1)
                if isinstance(event, BookSnapshot):
                    sides = {"bids": event.bids, "asks": event.asks}
                    levels = {k: [{"price": Decimal(p), "size": Decimal(q)} for p, q in v] for k, v in sides.items()}
                    snapshots.append(common | levels)
                else:
                    assert isinstance(event, BookDelta) and event.size is not None
                    numbers = {"price": Decimal(event.price), "size": Decimal(event.size)}
                    deltas.append(common | {"side": event.side, "change": None} | numbers)
        self.connection = duckdb.connect()
        number = pa.decimal128(28, 12)
        common_types = [("ts_recv", pa.int64()), ("feed", pa.string()), ("symbol", pa.string()), ("conn", pa.string())]
        common_types += [("n", pa.int64()), ("item", pa.int32()), ("date", pa.date32())]
        shapes = {
            "book_snapshots": (snapshots, [("bids", LEVEL), ("asks", LEVEL)]),
            "book_deltas": (
                deltas,
                [("side", pa.string()), ("price", number), ("size", number), ("change", number)],
            ),
        }
        for name, (rows, own) in shapes.items():
            self.connection.register(name, pa.Table.from_pylist(rows, pa.schema(common_types + own)))
        self.connection.execute(
            "CREATE TABLE sessions (ts_recv BIGINT, type VARCHAR, feed VARCHAR, conn VARCHAR, session VARCHAR, "
            "detail VARCHAR)"
        )
        self.connection.execute(
            "CREATE TABLE gaps (feed VARCHAR, session VARCHAR, symbols VARCHAR[], ts_start BIGINT, cause VARCHAR)"
        )
        macros.make_books(self.connection)

    def subscribed(self, *channels: str) -> None:
        detail = msgspec.json.encode({"subscription": {"channels": channels, "symbols": list(self.digits)}}).decode()
        self.connection.execute("INSERT INTO sessions VALUES (0, 'connected', 'kraken', ?, ?, ?)", [CONN, CONN, detail])

    def looks(self, count: int) -> Iterator[tuple[bool, int]]:
        """At some frames: does DuckDB's book have the checksum of the frame's? And how many levels has a side?"""
        for n, symbol, checksum in random.Random(5).sample(self.checksums, count):
            rows = self.connection.execute("FROM book_at(?, ?)", [symbol, n]).fetchall()
            best = [r for r in rows if r[0] == "ask"][:10] + [r for r in rows if r[0] == "bid"][:10]
            text = "".join(
                f"{number:.{digits}f}".replace(".", "").lstrip("0")
                for _, *level in best
                for number, digits in zip(level, self.digits[symbol], strict=True)
            )
            sides = [sum(r[0] == side for r in rows) for side in ("bid", "ask")]
            yield crc32(text.encode()) == checksum, max(sides)


def test_a_book_has_the_venues_checksum_and_depth() -> None:
    day = Day(10)
    uncut = list(day.looks(40))
    assert max(levels for _, levels in uncut) > 10
    assert not all(right for right, _ in uncut), "the control: levels that fell out come back"
    day.subscribed("trade", "book.10", "ticker.bbo")
    cut = list(day.looks(100))
    assert all(right for right, _ in cut)
    assert max(levels for _, levels in cut) == 10


def test_levels_are_cut_after_each_frame_and_not_within_it() -> None:
    """A frame that sets the eleventh level before it deletes the first leaves ten, as at the venue."""
    side = list(range(10, 110, 10))
    assert macros.cut([*side, 105, -10], [1] * 10 + [2] * 2, 10) == [*side[1:], 105]
    assert macros.cut([*side, 5, -10], [1] * 10 + [2, 3], 10) == [5, *side[1:-1]]
