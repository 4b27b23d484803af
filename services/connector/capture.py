"""The heart of the connector: number, journal and publish every frame, and write down what is missing.

No socket here: frames come in with their time, what the venue is owed goes out as a return value.
"""

import zlib
from collections.abc import Callable, Sequence

import msgspec

from exchanges.port import Adapter, Notice, Received, Request
from services.connector.ledger import Ledger
from ssmd import frames, subjects
from ssmd.events import Gap, Session
from ssmd.journal import Journal, Position, Record, encode

SUBJECTS_MAX = 500_000  # names remembered: more than any venue lists, so only made-up ones get there

Put = Callable[[Position, Sequence[Record]], None]


class Connection:
    """The numbering of one connection and the adapter that reads it."""

    def __init__(self, conn: str, adapter: Adapter | None) -> None:
        self.conn = conn
        self.conn_bytes = conn.encode()
        self.adapter = adapter
        self.n = 0
        self.connected = False
        self.last_venue_crc32: int | None = None
        self.asks: list[Request] = []  # what the adapter wants to know by REST; whoever performs it takes it out


class Capture:
    """Takes frames and our own rows, in order, into the journal and on to the publisher."""

    def __init__(self, env: str, feed: str, journal: Journal, put: Put, warn: Callable[[Notice], None]) -> None:
        self.feed = feed
        self._env = env
        self._journal = journal
        self._put = put
        self._warn = warn
        self._subjects: dict[tuple[str, str | None], tuple[str, bytes]] = {}
        self.ledger = Ledger(feed)
        self.frames = 0  # from the venue
        self.bad = 0
        self.last_ts_recv = 0
        self.heard: dict[str, None] = {}  # channels, since the last look
        self._unparsed: tuple[int, int, int, str] | None = None  # first ts, last ts, frames, first reason
        self._segment = journal.newest
        self.dirty = False  # the journal has something not yet forced to disk

    def receive(self, connection: Connection, wires: Sequence[bytes], ts_recv: int) -> list[bytes]:
        """Journal and publish frames that arrived together; returns the text frames owed to the venue."""
        assert connection.adapter is not None
        received = connection.adapter.received
        message, known = frames.message, self._subjects
        conn, n = connection.conn_bytes, connection.n
        since = self.last_ts_recv or ts_recv
        owed: list[bytes] = []
        heard = self.heard
        lines: list[bytes] = []
        records: list[Record] = []
        for wire in wires:
            n += 1
            route = received(wire, ts_recv)
            subject, subject_bytes = known.get((route.channel, route.symbol)) or self._subject(route)
            msg = message(ts_recv, conn, n, wire, bad=route.bad, json=route.json)
            lines.append(encode(subject_bytes, msg))
            records.append(Record(subject, msg))
            heard[route.channel] = None
            if route.bad is not None:
                self._quarantined(route.bad, ts_recv)
            if route.owed:
                owed.extend(route.owed)
            if route.asks:
                connection.asks.extend(route.asks)
            if route.notices:
                for own_subject, own in self._noticed(connection.conn, route.notices, since, ts_recv):
                    n += 1
                    self._own(lines, records, own_subject, message(ts_recv, conn, n, own))
        self._write(connection, n, lines, records)
        connection.last_venue_crc32 = zlib.crc32(wires[-1])
        self.frames += len(wires)
        self.last_ts_recv = ts_recv
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
            self._quarantined(route.bad, now_ns)
        return self._heed(connection, route, now_ns)

    def _quarantined(self, reason: str, ts_recv: int) -> None:
        self.bad += 1
        first, _, count, why = self._unparsed or (ts_recv, 0, 0, reason)
        self._unparsed = (first, ts_recv, count + 1, why)

    def parse_gap(self, connection: Connection, now_ns: int) -> None:
        """What could not be parsed since the last call is one row: its meaning is missing, its bytes are not."""
        if self._unparsed is not None:
            first, last, count, why = self._unparsed
            self._unparsed = None
            evidence = f"{count} frames in quarantine, the first: {why[:200]}"
            self.gaps(connection, [self.ledger.closed_one(connection.conn, "parse", first, last, evidence)], now_ns)

    def tick(self, connection: Connection, wall_ns: int, now_ns: int) -> list[bytes]:
        """About once a second: what the adapter owes and has noticed by the passing of (wall clock) time alone."""
        asked = connection.adapter.tick(wall_ns) if connection.adapter is not None else None
        return [] if asked is None else self._heed(connection, asked, now_ns)

    def _heed(self, connection: Connection, told: Received, now_ns: int) -> list[bytes]:
        """What an adapter owes, asks and has noticed while no frame of the WebSocket came."""
        rows = self._noticed(connection.conn, told.notices, self.last_ts_recv or now_ns, now_ns)
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

    def _noticed(self, conn: str, notices: Sequence[Notice], since_ns: int, now_ns: int) -> list[tuple[str, bytes]]:
        """The rows of what an adapter noticed; what it missed was sent after `since_ns`, the last frame,
        unless the notice knows better."""
        rows: list[Gap] = []
        for notice in notices:
            if notice.kind == "break":
                rows += self.ledger.open(
                    conn, notice.cause, notice.since_ns or since_ns, notice.evidence, notice.symbols
                )
            elif notice.kind == "mended":
                rows += self.ledger.close(conn, notice.cause, now_ns, notice.symbols)
            else:
                self._warn(notice)
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
            subject = subjects.frame(self._env, self.feed, route.channel, route.symbol)
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
            self._repeat_open_gaps(connection)

    def _repeat_open_gaps(self, connection: Connection) -> None:
        """A new journal segment begins with the gaps that are open, so that a start after a crash learns of them."""
        rows = self.ledger.open_gaps
        if rows:
            self.gaps(connection, rows, self.last_ts_recv or rows[0].start)
