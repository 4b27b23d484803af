"""The plain way to what the macros answer: archived frames, one after the other, and books as dicts."""

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ssmd import archive, config, frames
from ssmd.events import BookDelta, BookSnapshot, Gap, Session, Trade

Top = tuple[Decimal | None, Decimal | None, Decimal | None, Decimal | None]  # bid, its size, ask, its size
UNKNOWN: Top = (None, None, None, None)


@dataclass(frozen=True)
class Frame:
    """What an archived frame says, in the venue's own grammar."""

    ts: int
    conn: str
    n: int
    events: list[Any]


@dataclass
class Book:
    """One instrument's, since its snapshot."""

    conn: str
    since: int
    depth: int | None
    sides: dict[str, dict[Decimal, Decimal]] = field(default_factory=lambda: {"bid": {}, "ask": {}})

    def start(self, event: BookSnapshot) -> None:
        for side, levels in (("bid", event.bids), ("ask", event.asks)):
            self.sides[side] = {Decimal(price): Decimal(size) for price, size in levels}

    def change(self, event: BookDelta) -> None:
        side, price = self.sides[event.side], Decimal(event.price)
        if event.size is not None:
            side[price] = Decimal(event.size)
        else:
            assert event.change is not None
            side[price] = side.get(price, Decimal(0)) + Decimal(event.change)
        if not side[price]:
            del side[price]

    def cut(self) -> None:
        if self.depth is not None:
            for name, levels in self.sides.items():
                best = sorted(levels, reverse=name == "bid")[: self.depth]
                self.sides[name] = {price: levels[price] for price in best}

    @property
    def top(self) -> Top:
        bids, asks = self.sides["bid"], self.sides["ask"]
        bid, ask = max(bids, default=None), min(asks, default=None)
        return bid, None if bid is None else bids[bid], ask, None if ask is None else asks[ask]


@functools.lru_cache(maxsize=8)
def archived(data: Path, feed: str) -> list[Frame]:
    """All frames of a feed that say something, in the order (ts_recv, conn, n)."""
    venue = importlib.import_module(f"exchanges.{config.load_feed(feed).venue}").venue
    found = []
    for manifest in archive.manifests(data / "archive", feed):
        grammar = venue.events(manifest.date)
        for segment in manifest.segments:
            for line in archive.read_segment(archive.day_folder(data / "archive", feed, manifest.date) / segment.name):
                if segment.channel == frames.GAP:
                    said = [msgspec.json.decode(line.wire(), type=Gap)]
                elif segment.channel == frames.SESSION:
                    said = [msgspec.json.decode(line.wire(), type=Session)]
                else:
                    said = [] if segment.channel == frames.BAD else list(grammar(segment.channel, line.wire()))
                found.append(Frame(line.ts_recv, line.conn, line.n, said))
    return sorted(found, key=lambda f: (f.ts, f.conn, f.n))


def tops(data: Path, feed: str, symbol: str) -> Iterator[tuple[int, str, int, Top]]:
    """The best bid and ask after each frame that changes the book, and where it ceases to be known (n 0)."""
    came = archived(data, feed)
    gaps = {g.gap: g for f in came for g in f.events if isinstance(g, Gap)}
    breaks = sorted((g.start, frames.place(g.conn)) for g in gaps.values() if not g.symbols or symbol in g.symbols)
    closed = {s.conn: f.ts for f in came for s in f.events if isinstance(s, Session) and s.type == "close"}
    depths: dict[str, int] = {}
    book: Book | None = None
    for f in [*came, Frame(2**63 - 1, "", 0, [])]:
        if book is not None:
            ends = [ts for ts, place in breaks if ts >= book.since and place == frames.place(book.conn)]
            ends += [closed[book.conn] + 1] if book.conn in closed else []
            if ends and min(ends) <= f.ts:
                yield min(ends), book.conn, 0, UNKNOWN
                book = None
        changed = False
        for event in f.events:
            if isinstance(event, Session) and event.type == "connected":
                for channel in event.subscription.get("channels", []):
                    if channel.startswith("book.") and channel[5:].isdigit():
                        depths[event.conn] = int(channel[5:])
            elif isinstance(event, BookSnapshot) and event.symbol == symbol:
                book, changed = Book(f.conn, f.ts, depths.get(f.conn)), True
                book.start(event)
            elif isinstance(event, BookDelta) and event.symbol == symbol and book is not None and book.conn == f.conn:
                book.change(event)
                changed = True
        if changed and book is not None:
            book.cut()
            yield f.ts, f.conn, f.n, book.top


def quotes(data: Path, feed: str, symbol: str) -> list[tuple[int, str, int, Top]]:
    """The changes among them."""
    found: list[tuple[int, str, int, Top]] = []
    for ts, conn, n, top in tops(data, feed, symbol):
        if not found or (top, n == 0) != (found[-1][3], found[-1][2] == 0):
            found.append((ts, conn, n, top))
    return found


def trades(data: Path, feed: str, symbol: str) -> list[tuple[Frame, Trade]]:
    return [(f, e) for f in archived(data, feed) for e in f.events if isinstance(e, Trade) and e.symbol == symbol]


def snapshot_after(data: Path, feed: str, symbol: str, ts: int) -> int:
    """When the first snapshot after a time came."""
    return min(
        f.ts
        for f in archived(data, feed)
        for e in f.events
        if isinstance(e, BookSnapshot) and e.symbol == symbol and f.ts > ts
    )
