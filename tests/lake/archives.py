"""Archives made by hand: real lines in real multi-member gzip segments, with the manifest an archiver would write."""

import datetime
import hashlib
from collections import Counter
from pathlib import Path

import msgspec
from isal import igzip

from ssmd import archive, frames
from ssmd.events import Gap, Session

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
FEED = "kalshi"
DATE = "2026-08-11"
CONN = "kalshi-0-0198964b3f2-7f3a"
GOLD = "KXGOLD15M-26AUG102130-30"
SILVER = "KXSILVER15M-26AUG102130-15"
MEMBER_LINES = 3


def midnight(date: str = DATE) -> int:
    day = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
    return int(day.timestamp()) * SECOND


class ArchivedDay:
    """A day of one connection's frames, numbered as they come."""

    def __init__(self, date: str = DATE, feed: str = FEED, conn: str = CONN) -> None:
        self.feed, self.date, self.conn = feed, date, conn
        self.start = midnight(date)
        self.now = self.start + HOUR
        self.n = 0
        self.seq = 0
        self.lines: dict[str, list[tuple[int, bytes]]] = {}
        self.wires: list[tuple[str, bytes]] = []

    def at(self, hour: int, minute: int = 0) -> "ArchivedDay":
        self.now = self.start + hour * HOUR + minute * 60 * SECOND
        return self

    def frame(self, channel: str, wire: bytes | str, *, bad: str | None = None, json: bool = True) -> "ArchivedDay":
        wire = wire.encode() if isinstance(wire, str) else wire
        self.n += 1
        self.seq += 1
        self.now += 1_000_003
        message = frames.message(self.now, self.conn.encode(), self.n, wire, bad=bad, json=json)
        self.lines.setdefault(frames.BAD if bad else channel, []).append((self.now, frames.line(self.seq, message)))
        self.wires.append((channel, wire))
        return self

    def session(self, kind: str, **more: object) -> "ArchivedDay":
        session = msgspec.convert({"type": kind, "feed": self.feed, "conn": self.conn, **more}, Session)
        return self.frame(frames.SESSION, msgspec.json.encode(session))

    def gap(self, gap: Gap) -> "ArchivedDay":
        return self.frame(frames.GAP, msgspec.json.encode(gap))

    def snapshot(self, market: str, yes: list[list[str]], no: list[list[str]]) -> "ArchivedDay":
        msg: dict[str, object] = {"market_ticker": market, "market_id": "c170279b-3d1f-4f17-84c8-ef63723c41d9"}
        msg |= ({"yes_dollars_fp": yes} if yes else {}) | ({"no_dollars_fp": no} if no else {})
        return self.frame("orderbook_snapshot", self._venue("orderbook_snapshot", msg))

    def delta(self, market: str, side: str, price: str, change: str) -> "ArchivedDay":
        stamp = datetime.datetime.fromtimestamp(self.now // SECOND, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        msg = {
            "market_ticker": market,
            "market_id": "c170279b-3d1f-4f17-84c8-ef63723c41d9",
            "price_dollars": price,
            "delta_fp": change,
            "side": side,
            "ts": f"{stamp}.123456Z",
            "ts_ms": self.now // SECOND * 1000 + 123,
        }
        return self.frame("orderbook_delta", self._venue("orderbook_delta", msg))

    def trade(self, market: str, price: str, size: str, taker: str = "yes") -> "ArchivedDay":
        msg = {
            "trade_id": f"cb2a3ad5-1e1e-4b62-9f0d-{self.n:012d}",
            "market_ticker": market,
            "yes_price_dollars": price,
            "no_price_dollars": f"{1 - float(price):.4f}",
            "count_fp": size,
            "taker_outcome_side": taker,
            "taker_book_side": "bid" if taker == "yes" else "ask",
            "ts": self.now // SECOND,
            "ts_ms": self.now // 1_000_000,
        }
        return self.frame("trade", self._venue("trade", msg))

    def ticker(self, market: str, last: str, bid: str, ask: str) -> "ArchivedDay":
        msg = {
            "market_ticker": market,
            "market_id": "c170279b-3d1f-4f17-84c8-ef63723c41d9",
            "price_dollars": last,
            "yes_bid_dollars": bid,
            "yes_ask_dollars": ask,
            "yes_bid_size_fp": "10.00",
            "yes_ask_size_fp": "12.50",
            "last_trade_size_fp": "3.00",
            "volume_fp": "1000.00",
            "open_interest_fp": "500.00",
            "dollar_volume": 500,
            "dollar_open_interest": 250,
            "ts": self.now // SECOND,
            "ts_ms": self.now // 1_000_000,
        }
        return self.frame("ticker", msgspec.json.encode({"type": "ticker", "sid": 2, "msg": msg}))

    def lifecycle(self, market: str, event_type: str) -> "ArchivedDay":
        msg = {"market_ticker": market, "event_type": event_type, "is_deactivated": event_type == "deactivated"}
        return self.frame("market_lifecycle_v2", self._venue("market_lifecycle_v2", msg))

    def subscribed(self) -> "ArchivedDay":
        return self.frame(frames.CONTROL, '{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}')

    def _venue(self, kind: str, msg: dict[str, object]) -> bytes:
        return msgspec.json.encode({"type": kind, "sid": 1, "seq": self.n, "msg": msg})

    def write(
        self, root: Path, *, sealed: bool = True, revision: int = 1, per_segment: int = 10_000
    ) -> archive.Manifest:
        """Write segments and manifest under the archive folder `root`."""
        folder = archive.day_folder(root, self.feed, self.date)
        folder.mkdir(parents=True, exist_ok=True)
        segments = []
        for channel, lines in sorted(self.lines.items()):
            for number, first in enumerate(range(0, len(lines), per_segment)):
                segments.append(self._segment(folder, channel, number, lines[first : first + per_segment]))
        manifest = archive.Manifest(
            feed=self.feed,
            date=self.date,
            revision=revision,
            sealed=sealed,
            segments=segments,
            connections=[archive.Connection(self.conn, 1, self.n, self.n, heard=self.now)],
            sessions=self._sessions(),
            gaps=[msgspec.Raw(line.wire()) for _, raw in self.lines.get("_gap", []) for line in [frames.parse(raw)]],
            counts={channel: len(lines) for channel, lines in self.lines.items()},
            quarantined=Counter(frames.parse(line).reason or "unknown" for _, line in self.lines.get(frames.BAD, [])),
        )
        archive.save_manifest(archive.manifest_path(root, self.feed, self.date), manifest)
        return manifest

    def _sessions(self) -> list[msgspec.Raw]:
        rows = [(ts, frames.parse(raw).wire()) for ts, raw in self.lines.get(frames.SESSION, [])]
        return [archive.timed_session(ts, row) for ts, row in rows if b'"alive"' not in row]

    def _segment(self, folder: Path, channel: str, number: int, lines: list[tuple[int, bytes]]) -> archive.Segment:
        raws = [line + b"\n" for _, line in lines]
        members = [b"".join(raws[i : i + MEMBER_LINES]) for i in range(0, len(raws), MEMBER_LINES)]
        data = b"".join(igzip.compress(member, 2, mtime=0) for member in members)
        name = archive.segment_name(channel, number)
        (folder / name).write_bytes(data)
        parsed = [frames.parse(line) for _, line in lines]
        return archive.Segment(
            name=name,
            channel=channel,
            records=len(lines),
            bytes=len(data),
            raw_bytes=sum(map(len, raws)),
            members=len(members),
            sha256=hashlib.sha256(data).hexdigest(),
            seq_first=parsed[0].seq,
            seq_last=parsed[-1].seq,
            ts_recv_first=lines[0][0],
            ts_recv_last=lines[-1][0],
            symbols=dict(Counter[str]()),
            hours=sorted({(ts - self.start) // HOUR for ts, _ in lines}),
        )


def a_day(date: str = DATE, feed: str = FEED) -> ArchivedDay:
    """Three hours of two markets: every channel, our own frames, control frames, and bad ones."""
    day = ArchivedDay(date, feed, f"{feed}-0-{midnight(date) // 1_000_000:011x}-7f3a")
    day.at(1).session("open", endpoint="wss://example/ws", subscription={"trade": [GOLD]}).session(
        "connected"
    ).subscribed()
    day.snapshot(GOLD, [["0.0100", "275.00"], ["0.2800", "69.00"]], [["0.4800", "41.26"], ["0.4900", "22.00"]])
    day.snapshot(SILVER, [["0.5000", "5.00"]], [])
    day.delta(GOLD, "no", "0.4800", "-40.00").delta(GOLD, "yes", "0.2800", "-69.00").delta(
        SILVER, "yes", "0.4900", "1.50"
    )
    day.trade(GOLD, "0.5100", "7.00").ticker(GOLD, "0.5100", "0.2800", "0.5100").session("alive", connected=True)
    day.at(2).frame("trade", '{"type":"trade","sid":', bad="not JSON", json=False)
    day.frame("trade", b"\xff\xfe", bad="not UTF-8", json=False)
    day.gap(Gap("g1", feed, day.conn, [GOLD], day.now - SECOND, None, "sequence", "seq 9 after 7"))
    day.snapshot(GOLD, [["0.3000", "10.00"]], [["0.6000", "4.00"]])
    day.gap(Gap("g1", feed, day.conn, [GOLD], day.now - SECOND, day.now, "sequence", "seq 9 after 7"))
    day.trade(SILVER, "0.4900", "1.50", "no").delta(GOLD, "yes", "0.3000", "2.25")
    day.at(4).lifecycle(GOLD, "determined").delta(GOLD, "yes", "0.3000", "-12.25").delta(GOLD, "yes", "0.3100", "1.00")
    day.session("close", frames=day.n, reason="stopped")
    return day
