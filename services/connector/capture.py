"""The heart of the connector: number, journal and publish every frame, and write down what is missing.

No socket here: frames come in with their time, what the venue is owed goes out as a return value.
"""

import zlib
from collections.abc import Callable, Sequence

import msgspec

from exchanges.port import Adapter, Notice, Received
from ssmd import frames, subjects
from ssmd.events import Gap, GapCause, Session
from ssmd.journal import Journal, Position, Record, encode

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


class Capture:
    """Takes frames and our own rows, in order, into the journal and on to the publisher."""

    def __init__(self, env: str, feed: str, journal: Journal, put: Put, warn: Callable[[Notice], None]) -> None:
        self.feed = feed
        self._env = env
        self._journal = journal
        self._put = put
        self._warn = warn
        self._subjects: dict[tuple[str, str | None], tuple[str, bytes]] = {}
        self._gaps: dict[tuple[str, ...], Gap] = {}  # open ones, by their symbols
        self._gap_count = 0
        self.frames = 0  # from the venue
        self.bad = 0
        self.gaps_closed = 0
        self.last_ts_recv = 0
        self.dirty = False  # the journal has something not yet forced to disk

    @property
    def gaps_open(self) -> int:
        return len(self._gaps)

    def receive(self, connection: Connection, wires: Sequence[bytes], ts_recv: int) -> list[bytes]:
        """Journal and publish frames that arrived together; returns the text frames owed to the venue."""
        assert connection.adapter is not None
        received = connection.adapter.received
        message, known = frames.message, self._subjects
        conn, n = connection.conn_bytes, connection.n
        owed: list[bytes] = []
        lines: list[bytes] = []
        records: list[Record] = []
        for wire in wires:
            n += 1
            route = received(wire, ts_recv)
            subject, subject_bytes = known.get((route.channel, route.symbol)) or self._subject(route)
            msg = message(ts_recv, conn, n, wire, bad=route.bad, json=route.json)
            lines.append(encode(subject_bytes, msg))
            records.append(Record(subject, msg))
            if route.bad is not None:
                self.bad += 1
            if route.owed:
                owed.extend(route.owed)
            if route.notices:
                for own_subject, own in self._noticed(connection, route.notices, ts_recv):
                    n += 1
                    self._own(lines, records, own_subject, message(ts_recv, conn, n, own))
        self._write(connection, n, lines, records)
        connection.last_venue_crc32 = zlib.crc32(wires[-1])
        self.frames += len(wires)
        self.last_ts_recv = ts_recv
        return owed

    def tick(self, connection: Connection, now_ns: int) -> list[bytes]:
        """About once a second: what the adapter owes and has noticed by the passing of time alone."""
        asked = connection.adapter.tick(now_ns) if connection.adapter is not None else None
        if asked is None:
            return []
        self._rows(connection, self._noticed(connection, asked.notices, now_ns), now_ns)
        return list(asked.owed)

    # ------------------------------------------------------------------------------------------- our own frames

    def session(self, connection: Connection, session: Session, now_ns: int) -> None:
        """Write a `_session` frame under the connection's numbering."""
        self._rows(connection, [(frames.SESSION, msgspec.json.encode(session))], now_ns)

    def gap_opens(
        self,
        connection: Connection,
        cause: GapCause,
        start: int,
        now_ns: int,
        evidence: str,
        symbols: Sequence[str] = (),
    ) -> None:
        """Write that frames are missing from `start` on. A gap of the same symbols that is open stays the one."""
        row = self._open(connection, cause, start, evidence, tuple(symbols))
        if row is not None:
            self._rows(connection, [row], now_ns)

    def gaps_close(self, connection: Connection, end: int, now_ns: int, symbols: Sequence[str] = ()) -> None:
        """Write that the gap of these symbols has ended; no symbols: every open gap has."""
        which = [tuple(symbols)] if symbols else list(self._gaps)
        rows = [row for key in which if (row := self._close(connection, key, end)) is not None]
        self._rows(connection, rows, now_ns)

    def _noticed(self, connection: Connection, notices: Sequence[Notice], now_ns: int) -> list[tuple[str, bytes]]:
        rows: list[tuple[str, bytes] | None] = []
        for notice in notices:
            if notice.kind == "break":
                rows.append(self._open(connection, notice.cause, now_ns, notice.evidence, notice.symbols))
            elif notice.kind == "mended":
                rows.append(self._close(connection, notice.symbols, now_ns))
            else:
                self._warn(notice)
        return [row for row in rows if row is not None]

    def _open(
        self, connection: Connection, cause: GapCause, start: int, evidence: str, symbols: tuple[str, ...]
    ) -> tuple[str, bytes] | None:
        if symbols in self._gaps:
            return None
        self._gap_count += 1
        gap = Gap(
            f"{connection.conn}-g{self._gap_count}",
            self.feed,
            connection.conn,
            list(symbols),
            start,
            None,
            cause,
            evidence,
        )
        self._gaps[symbols] = gap
        return frames.GAP, msgspec.json.encode(gap)

    def _close(self, connection: Connection, symbols: tuple[str, ...], end: int) -> tuple[str, bytes] | None:
        gap = self._gaps.pop(symbols, None)
        if gap is None:
            return None
        self.gaps_closed += 1
        return frames.GAP, msgspec.json.encode(msgspec.structs.replace(gap, end=max(end, gap.start)))

    def _rows(self, connection: Connection, rows: Sequence[tuple[str, bytes]], now_ns: int) -> None:
        if not rows:
            return
        lines: list[bytes] = []
        records: list[Record] = []
        n = connection.n
        for channel, body in rows:
            n += 1
            self._own(lines, records, channel, frames.message(now_ns, connection.conn_bytes, n, body))
        self._write(connection, n, lines, records)

    def _own(self, lines: list[bytes], records: list[Record], channel: str, msg: bytes) -> None:
        subject, subject_bytes = self._subject(Received(channel, None))
        lines.append(encode(subject_bytes, msg))
        records.append(Record(subject, msg))

    def _subject(self, route: Received) -> tuple[str, bytes]:
        key = (route.channel, route.symbol)
        made = self._subjects.get(key)
        if made is None:
            subject = subjects.frame(self._env, self.feed, route.channel, route.symbol)
            made = self._subjects[key] = (subject, subject.encode())
        return made

    def _write(self, connection: Connection, n: int, lines: Sequence[bytes], records: Sequence[Record]) -> None:
        position = self._journal.end()
        self._journal.append(connection.conn, connection.n + 1, n, lines)
        connection.n = n
        self.dirty = True
        self._put(position, records)
