"""A gap begins at the last frame that shows nothing missing: the connection's, or that of the instrument alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from exchanges.port import Notice, Received
from services.connector.capture import Capture, Connection
from ssmd import frames
from ssmd.events import Gap
from ssmd.journal import Journal, Position, Record


class _Numbered:
    """Frames `A 1`, `B 1` …: an instrument and its number; a hole is a break of that instrument alone."""

    def __init__(self, knows_since: bool) -> None:
        self._knows_since = knows_since
        self._last: dict[str, tuple[int, int]] = {}

    def received(self, wire: bytes, ts_recv: int) -> Received:
        symbol, number = wire.decode().split()
        last, since = self._last.get(symbol, (int(number) - 1, ts_recv))
        self._last[symbol] = int(number), ts_recv
        broken = int(number) != last + 1
        notice = Notice("break", (symbol,), evidence="a hole", since_ns=since if self._knows_since else 0)
        return Received("trade", symbol, json=False, notices=(notice,) if broken else ())

    def opened(self) -> Sequence[bytes]:
        return ()

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return ()

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return ()

    def probe(self) -> Sequence[bytes]:
        return ()

    def tick(self, now_ns: int) -> Received | None:
        return None


def _gap(folder: Path, knows_since: bool) -> Gap:
    """A's frames come at 10 and 40, B's at 30; A's second one shows that one is missing."""
    journal = Journal(folder)
    journal.recover()
    put: list[Record] = []

    def take(position: Position, records: Sequence[Record]) -> None:
        put.extend(records)

    capture = Capture("t", "fake", journal, take, warn=lambda connection, notice: None)
    connection = Connection("fake-0-0-0", _Numbered(knows_since))
    for wire, ts_recv in ((b"A 1", 10), (b"B 7", 30), (b"A 3", 40)):
        capture.receive(connection, [wire], ts_recv)
    journal.close()
    (row,) = [frames.parse(record.message) for record in put if "_gap" in record.subject]
    return msgspec.json.decode(row.frame, type=Gap)


def test_an_instruments_gap_begins_with_its_own_last_frame(tmp_path: Path) -> None:
    gap = _gap(tmp_path, knows_since=True)
    assert (gap.symbols, gap.start) == (["A"], 10)


def test_a_gap_of_unknown_beginning_begins_with_the_connections_last_frame(tmp_path: Path) -> None:
    assert _gap(tmp_path, knows_since=False).start == 30
