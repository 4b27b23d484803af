"""The heart of the connector: number, journal and publish every frame, and write down what is missing.

No socket here: frames come in with their time, what the venue is owed goes out as a return value.
"""

import zlib
from collections.abc import Callable, Sequence

import msgspec

from exchanges.port import Adapter, Notice, Received, Request
from services.connector.ledger import Ledger
from ssmd import frames, subjects
from ssmd.events import Gap, GapCause, Session
from ssmd.journal import Journal, Position, Record, encode

SUBJECTS_MAX = 500_000  # names remembered: more than any venue lists, so only made-up ones get there

Put = Callable[[Position, Sequence[Record]], None]
Warn = Callable[["Connection", Notice], None]


class Connection:
    """The numbering of one connection and the adapter that reads it."""

    def __init__(
        self, conn: str, adapter: Adapter | None, last_ts_recv: int = 0, carried: Callable[[], tuple[str, ...]] = tuple
    ) -> None:
        """`last_ts_recv` is when the venue was heard last before; `carried` says which instruments to name in rows of
        gaps that concern all of them: none if it is the only connection."""
        self.conn = conn
        self.conn_bytes = conn.encode()
        self.adapter = adapter
        self.n = 0
        self.connected = False
        self.connected_ns = 0
        self.carried = carried
        self.subscribed: dict[str, int] = {}  # the instruments it was asked to carry, and when (ns)
        self.listed: frozenset[str] = frozenset()  # as its latest `connected` row has them
        self.last_ts_recv = last_ts_recv
        self.last_venue_crc32: int | None = None
        self.heard: dict[str, int] = {}  # channels, since the last look, and when (ts_recv)
        self.explained: set[str] = set()  # channels of whose silence the venue has said, since then, that it is genuine
        self.unparsed: tuple[int, int, int, str] | None = None  # first ts, last ts, frames, first reason
        self.asks: list[Request] = []  # what the adapter wants to know by REST; whoever performs it takes it out


class Capture:
    """Takes frames and our own rows, in order, into the journal and on to the publisher."""

    def __init__(self, env: str, feed: str, journal: Journal, put: Put, warn: Warn, shard: int = 0) -> None:
        self.feed = feed
        self._env = env
        self._shard = shard
        self._journal = journal
        self._put = put
        self._warn = warn
        self._subjects: dict[tuple[str, str | None], tuple[str, bytes]] = {}
        self.ledger = Ledger(feed)
        self.frames = 0  # from the venue
        self.bad = 0
        self.last_ts_recv = 0  # on any connection
        self.live: dict[str, Connection] = {}  # those whose numbering is in force
        self._segment = journal.newest
        self.dirty = False  # the journal has something not yet forced to disk

    def receive(self, connection: Connection, wires: Sequence[bytes], ts_recv: int) -> list[bytes]:
        """Journal and publish frames that arrived together; returns the text frames owed to the venue."""
        assert connection.adapter is not None
        received = connection.adapter.received
        message, known = frames.message, self._subjects
        conn, n = connection.conn_bytes, connection.n
        owed: list[bytes] = []
        heard = connection.heard
        lines: list[bytes] = []
        records: list[Record] = []
        for wire in wires:
            n += 1
            route = received(wire, ts_recv)
            subject, subject_bytes = known.get((route.channel, route.symbol)) or self._subject(route)
            msg = message(ts_recv, conn, n, wire, bad=route.bad, json=route.json)
            lines.append(encode(subject_bytes, msg))
            records.append(Record(subject, msg))
            heard[route.channel] = ts_recv
            if route.bad is not None:
                self._quarantined(connection, route.bad, ts_recv)
            if route.owed:
                owed.extend(route.owed)
            if route.asks:
                connection.asks.extend(route.asks)
            if route.notices:
                for own_subject, own in self._noticed(connection, route.notices, ts_recv):
                    n += 1
                    self._own(lines, records, own_subject, message(ts_recv, conn, n, own))
        self._write(connection, n, lines, records)
        connection.last_venue_crc32 = zlib.crc32(wires[-1])
        self.frames += len(wires)
        self.last_ts_recv = connection.last_ts_recv = ts_recv
        return owed

    def answer(self, connection: Connection, wire: bytes, now_ns: int) -> list[bytes]:
        """Take the venue's answer to a request for a frame; returns the text frames owed to the venue.

        It says nothing of the WebSocket: neither that it lives, nor until when frames came.
        """
        assert connection.adapter is not None
        route = connection.adapter.received(wire, now_ns)
        subject, subject_bytes = self._subject(route)
        msg = frames.message(now_ns, connection.conn_bytes, connection.n + 1, wire, bad=route.bad, json=route.json)
        lines, records = [encode(subject_bytes, msg)], [Record(subject, msg)]
        self._write(connection, connection.n + 1, lines, records, venue=False)
        if route.bad is not None:
            self._quarantined(connection, route.bad, now_ns)
        return self._heed(connection, route, now_ns)

    def _quarantined(self, connection: Connection, reason: str, ts_recv: int) -> None:
        self.bad += 1
        first, _, count, why = connection.unparsed or (ts_recv, 0, 0, reason)
        connection.unparsed = (first, ts_recv, count + 1, why)

    def parse_gap(self, connection: Connection, now_ns: int) -> None:
        """What could not be parsed since the last call is one row: its meaning is missing, its bytes are not."""
        if connection.unparsed is not None:
            first, last, count, why = connection.unparsed
            connection.unparsed = None
            evidence = f"{count} frames in quarantine, the first: {why[:200]}"
            carried = connection.carried()
            row = self.ledger.closed_one(connection.conn, "parse", first, last, evidence, carried)
            self.gaps(connection, [row], now_ns)

    def tick(self, connection: Connection, wall_ns: int, now_ns: int) -> list[bytes]:
        """About once a second: what the adapter owes and has noticed by the passing of (wall clock) time alone."""
        asked = connection.adapter.tick(wall_ns) if connection.adapter is not None else None
        return [] if asked is None else self._heed(connection, asked, now_ns)

    def _heed(self, connection: Connection, told: Received, now_ns: int) -> list[bytes]:
        """What an adapter owes, asks and has noticed while no frame of the WebSocket came."""
        rows = self._noticed(connection, told.notices, now_ns)
        self._rows(connection, rows, now_ns)
        connection.asks.extend(told.asks)
        return list(told.owed)

    # ------------------------------------------------------------------------------------------- our own frames

    def session(self, connection: Connection, session: Session, now_ns: int) -> None:
        """Write a `_session` frame under the connection's numbering."""
        self._rows(connection, [(frames.SESSION, msgspec.json.encode(session))], now_ns)

    def gaps(self, connection: Connection, rows: Sequence[Gap], now_ns: int) -> None:
        """Write what the ledger says as `_gap` frames."""
        self._rows(connection, [(frames.GAP, msgspec.json.encode(gap)) for gap in rows], now_ns)

    def opened(self, connection: Connection, cause: GapCause, since_ns: int, evidence: str, now_ns: int) -> None:
        """Something of all that a connection carries is missing from `since_ns` on."""
        rows = self.ledger.open(connection.conn, cause, since_ns, evidence, (), connection.carried())
        self.gaps(connection, rows, now_ns)

    def _noticed(self, connection: Connection, notices: Sequence[Notice], now_ns: int) -> list[tuple[str, bytes]]:
        """The rows of what an adapter noticed; what it missed was sent after the last frame, unless the notice knows
        better, and what was refused is missing since it was asked for."""
        rows: list[Gap] = []
        ledger, conn = self.ledger, connection.conn
        for notice in notices:
            symbols = notice.symbols
            if notice.kind == "break":
                since = notice.since_ns or connection.last_ts_recv or now_ns
                carried = () if symbols else connection.carried()
                rows += ledger.open(conn, notice.cause, since, notice.evidence, symbols, carried)
            elif notice.kind == "explained":
                connection.explained.update(notice.channels)
            elif notice.kind == "mended":
                rows += ledger.close(conn, notice.cause, now_ns, symbols)
            else:
                self._warn(connection, notice)
            if notice.kind == "refused":
                asked = connection.subscribed
                since = min((asked[s] for s in symbols if s in asked), default=connection.connected_ns or now_ns)
                carried = () if symbols else connection.carried()
                rows += ledger.open(conn, "refused", since, notice.evidence, symbols, carried)
        return [(frames.GAP, msgspec.json.encode(gap)) for gap in rows]

    def _rows(self, connection: Connection, rows: Sequence[tuple[str, bytes]], now_ns: int) -> None:
        if not rows:
            return
        lines: list[bytes] = []
        records: list[Record] = []
        n = connection.n
        for channel, body in rows:
            n += 1
            self._own(lines, records, channel, frames.message(now_ns, connection.conn_bytes, n, body))
        self._write(connection, n, lines, records, venue=False)

    def _own(self, lines: list[bytes], records: list[Record], channel: str, msg: bytes) -> None:
        subject, subject_bytes = self._subject(Received(channel, None))
        lines.append(encode(subject_bytes, msg))
        records.append(Record(subject, msg))

    def _subject(self, route: Received) -> tuple[str, bytes]:
        key = (route.channel, route.symbol)
        made = self._subjects.get(key)
        if made is None:
            if len(self._subjects) >= SUBJECTS_MAX:
                self._subjects.clear()
            subject = subjects.frame(self._env, self.feed, route.channel, route.symbol, self._shard)
            made = self._subjects[key] = (subject, subject.encode())
        return made

    def _write(
        self, connection: Connection, n: int, lines: Sequence[bytes], records: Sequence[Record], *, venue: bool = True
    ) -> None:
        position = self._journal.end()
        self._journal.append(connection.conn, connection.n + 1, n, lines, venue=venue)
        connection.n = n
        self.dirty = True
        self._put(position, records)
        if self._journal.newest != self._segment:
            self._segment = self._journal.newest
            self._begin_segment(connection)

    def _begin_segment(self, connection: Connection) -> None:
        """A new journal segment begins with the gaps that are open and the connections there are, so that a start
        after a crash learns of them from it alone."""
        now_ns = self.last_ts_recv
        rows = self.ledger.open_gaps
        if rows:
            self.gaps(connection, rows, now_ns or rows[0].start)
        for other in list(self.live.values()):
            if other is not connection:
                alive = Session("alive", self.feed, other.conn, connected=other.connected)
                self.session(other, alive, now_ns or other.connected_ns)
