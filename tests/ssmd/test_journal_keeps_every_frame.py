"""What was appended is read back in order after any cut; only confirmed segments go."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd import frames, journal, subjects
from ssmd.events import Gap, Session

SUBJECT = subjects.frame("local", "kalshi", "trade", "A").encode()


def line(conn: str, n: int, subject: bytes = SUBJECT, wire: bytes | None = None) -> bytes:
    return journal.encode(subject, frames.message(1000 + n, conn.encode(), n, wire or b'{"n":%d}' % n))


def filled(folder: Path, frames_count: int = 30, segment_bytes: int = 500) -> journal.Journal:
    j = journal.Journal(folder, segment_bytes)
    j.recover()
    for n in range(1, frames_count + 1):
        j.append("c", n, n, [line("c", n)])
    return j


def numbers(j: journal.Journal) -> list[int]:
    found, position = [], j.start()
    while True:
        records, after = j.read_from(position, max_bytes=200)
        found += [frames.parse(r.message).n for r in records]
        if after == j.end():
            return found
        position = after


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    j = filled(tmp_path)
    assert j.segments > 3
    assert numbers(j) == list(range(1, 31))


def test_reading_on_from_the_end_gives_what_comes_after(tmp_path: Path) -> None:
    j = filled(tmp_path)
    end = j.end()
    assert j.read_from(end) == ([], end)
    j.append("c", 31, 32, [line("c", 31), line("c", 32)])
    records, after = j.read_from(end)
    assert [frames.parse(r.message).n for r in records] == [31, 32]
    assert after == j.end()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_a_tail_torn_at_any_byte_loses_only_what_was_torn(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    filled(folder, 10, segment_bytes=10_000).close()
    path = next(folder.glob("*.journal"))
    data = path.read_bytes()
    cut %= len(data) + 1
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    j = journal.Journal(folder)
    found = j.recover()
    assert found.records == whole
    assert found.cut_bytes == cut - (data[:cut].rfind(b"\n") + 1)
    j.append("d", 1, 1, [line("d", 1)])
    assert numbers(j) == [*range(1, whole + 1), 1]


def test_a_zero_tail_is_cut(tmp_path: Path) -> None:
    filled(tmp_path, 5, 10_000).close()
    path = next(tmp_path.glob("*.journal"))
    path.write_bytes(path.read_bytes() + bytes(4096))
    j = journal.Journal(tmp_path)
    assert (j.recover().records, numbers(j)) == (5, [1, 2, 3, 4, 5])


def test_a_flipped_byte_is_never_served(tmp_path: Path) -> None:
    filled(tmp_path, 5, 10_000).close()
    path = next(tmp_path.glob("*.journal"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    j = journal.Journal(tmp_path)
    j.recover()
    assert numbers(j) == [1, 2, 4, 5]


def test_only_confirmed_segments_go_and_the_newest_stays(tmp_path: Path) -> None:
    j = filled(tmp_path)
    before = j.segments
    assert j.confirm(lambda conn, first, last: False) == []
    gone = j.confirm(lambda conn, first, last: last <= 10)
    assert gone == sorted(tmp_path.glob("*.journal"))[: len(gone)] != []
    assert set(range(11, 31)) <= set(numbers(j))
    j.confirm(lambda conn, first, last: True)
    assert j.segments == 1 < before


def test_when_the_venue_was_heard_last_is_known_after_all_of_it_is_archived(tmp_path: Path) -> None:
    """A start must let its gap begin there, not at our own rows, which go on while a connection is dead."""
    j = filled(tmp_path)
    gap = subjects.frame("local", "kalshi", frames.GAP, None).encode()
    own = journal.msgspec.json.encode(Gap("g", "kalshi", "c", [], 1, 2, "parse", "1 frame"))
    for n in range(31, 40):
        j.append("c", n, n, [line("c", n, gap, own)], venue=False)
    j.confirm(lambda conn, first, last: True)
    j.close()
    found = journal.Journal(tmp_path).recover()
    assert (found.places[""].heard, found.ts_recv) == (1030, 1039)


def test_recovery_tells_how_the_last_run_ended(tmp_path: Path) -> None:
    j = journal.Journal(tmp_path)
    j.recover()
    session = subjects.frame("local", "kalshi", frames.SESSION, None).encode()
    closed = Session("close", "kalshi", "c", frames=2, reason="stopped")
    j.append("c", 1, 1, [line("c", 1)])
    j.append("c", 2, 2, [line("c", 2, session, journal.msgspec.json.encode(closed))])
    j.append("d", 1, 1, [line("d", 1, wire=b'{"last":true}\n')])
    j.close()
    found = journal.Journal(tmp_path).recover()
    assert found.last == {"c": 2, "d": 1}
    assert found.closed == {"c"}
    former = found.places[""]
    assert (former.conn, former.venue_crc32) == ("d", journal.zlib.crc32(b'{"last":true}\n'))


def test_frames_are_found_by_connection_and_number(tmp_path: Path) -> None:
    j = filled(tmp_path)
    assert [frames.parse(r.message).n for r in j.find("c", 7, 12)] == [7, 8, 9, 10, 11, 12]
    assert list(j.find("x", 7, 12)) == []


def test_an_answer_to_a_request_is_no_sign_of_the_connection(tmp_path: Path) -> None:
    """After a crash the gap begins at the last frame of the WebSocket, and a replay goes on behind that."""
    j = filled(tmp_path, 3)
    heard = journal.Journal(tmp_path).recover()
    answer = frames.rest("GET /depth", 200, b"{}")
    j.append("c", 4, 4, [line("c", 4, wire=answer)], venue=False)
    j.close()
    found = journal.Journal(tmp_path).recover()
    assert (found.records, found.last) == (4, {"c": 4})
    assert found.places == heard.places
    assert (found.places[""].heard, found.places[""].venue_crc32) == (1003, heard.places[""].venue_crc32)
