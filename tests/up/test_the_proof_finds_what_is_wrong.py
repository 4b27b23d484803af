"""What a simulator says it sent, held against the archive: each way of being wrong is found; being right is seen."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from isal import igzip

from ssmd import archive, frames
from ssmd.archive import Manifest, Segment
from ssmd.errors import Permanent
from ssmd.up.proof import Proof, prove

DATE = "2026-11-20"
SENT = [f'{{"type":"trade","sid":1,"seq":{i},"msg":{{"price":"0.{i:04d}"}}}}'.encode() for i in range(1, 101)]
Row = tuple[str, str, int, bytes]  # channel, conn, n, wire


def write_truth(path: Path, sent: Iterable[tuple[str, int | None, bytes]]) -> None:
    """(conn, place in the recording, wire) in the order sent."""
    numbers: dict[str, int] = {}
    lines = []
    for conn, tape, wire in sent:
        numbers[conn] = numbers.get(conn, 0) + 1
        message = frames.message(1_786_000_000_000_000_000, conn.encode(), numbers[conn], wire)
        lines.append(b'{"tape":%s,%s\n' % (b"null" if tape is None else b"%d" % tape, message[1:]))
    path.write_bytes(b"".join(lines))


def write_archive(folder: Path, rows: Iterable[Row]) -> None:
    """One segment per channel."""
    day = archive.day_folder(folder, "kalshi", DATE)
    day.mkdir(parents=True)
    channels: dict[str, list[bytes]] = {}
    for seq, (channel, conn, n, wire) in enumerate(rows, start=1):
        message = frames.message(1_786_000_000_000_000_000 + seq, conn.encode(), n, wire)
        channels.setdefault(channel, []).append(frames.line(seq, message) + b"\n")
    segments = []
    for channel, lines in channels.items():
        name = archive.segment_name(channel, 0)
        (day / name).write_bytes(igzip.compress(b"".join(lines)))
        segments.append(Segment(name, channel, len(lines), 0, 0, 1, "", 1, len(lines), 0, 0, {}, [0]))
    archive.save_manifest(archive.manifest_path(folder, "kalshi", DATE), Manifest("kalshi", DATE, segments=segments))


def usual(conn: str = "c1") -> list[Row]:
    """An open session, then every frame sent, in two channels."""
    own: Row = ("_session", conn, 1, b'{"type":"open"}')
    return [own, *(("trade" if i % 2 else "ticker", conn, i + 2, wire) for i, wire in enumerate(SENT))]


def proved(tmp_path: Path, rows: list[Row], sent: list[tuple[str, int | None, bytes]] | None = None) -> Proof:
    write_truth(tmp_path / "truth", sent or [("c1", i, wire) for i, wire in enumerate(SENT)])
    write_archive(tmp_path / "archive", rows)
    return prove(tmp_path / "truth", len(SENT), tmp_path / "archive", "kalshi", [DATE])


def test_all_of_it_once(tmp_path: Path) -> None:
    proof = proved(tmp_path, usual())
    assert proof.holds
    assert (proof.sent, proof.archived, proof.cut_off, proof.missing) == (100, 100, 0, 0)
    assert proof.channels == {"ticker": 50, "trade": 50}


def test_a_frame_missing_at_the_end(tmp_path: Path) -> None:
    proof = proved(tmp_path, usual()[:-1])
    assert not proof.holds
    assert (proof.missing, proof.archived) == (1, 99)


def test_a_frame_missing_in_the_middle(tmp_path: Path) -> None:
    rows = usual()
    del rows[50]
    assert not proved(tmp_path, rows).holds


def test_a_changed_byte(tmp_path: Path) -> None:
    rows = usual()
    channel, conn, n, wire = rows[50]
    rows[50] = (channel, conn, n, wire.replace(b'"sid":1', b'"sid":2'))
    proof = proved(tmp_path, rows)
    assert not proof.holds
    assert proof.changed == 1


def test_a_frame_that_is_there_twice(tmp_path: Path) -> None:
    rows = usual()
    proof = proved(tmp_path, [*rows, rows[50]])
    assert not proof.holds
    assert proof.twice == 1


def test_a_frame_that_nobody_sent(tmp_path: Path) -> None:
    assert not proved(tmp_path, [*usual(), ("trade", "c1", 500, b'{"type":"trade"}')]).holds


def test_two_frames_in_the_wrong_order(tmp_path: Path) -> None:
    rows = usual()
    (channel, conn, n, wire), (_, _, m, other) = rows[50], rows[52]
    rows[50], rows[52] = (channel, conn, n, other), (channel, conn, m, wire)
    assert proved(tmp_path, rows).changed == 2


def test_a_replay_that_went_on_after_a_crash_is_whole(tmp_path: Path) -> None:
    """60 frames were sent before the connector died with 50 of them journalled; the next connection got the rest."""
    snapshot = b'{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{}}'
    sent = (
        [("c1", i, SENT[i]) for i in range(60)]
        + [("c2", None, snapshot)]
        + [("c2", i, SENT[i]) for i in range(50, 100)]
    )
    rows: list[Row] = [("trade", "c1", i + 2, SENT[i]) for i in range(50)]
    rows += [("_gap", "c2", 1, b"{}"), ("book", "c2", 2, snapshot)]
    rows += [("trade", "c2", i - 47, SENT[i]) for i in range(50, 100)]
    proof = proved(tmp_path, rows, sent)
    assert proof.holds
    assert (proof.sent, proof.archived, proof.cut_off) == (111, 101, 10)


def test_a_replay_that_skipped_after_a_crash_is_not(tmp_path: Path) -> None:
    sent = [("c1", i, SENT[i]) for i in range(60)] + [("c2", i, SENT[i]) for i in range(60, 100)]
    rows: list[Row] = [("trade", "c1", i + 2, SENT[i]) for i in range(50)]
    rows += [("trade", "c2", i - 58, SENT[i]) for i in range(60, 100)]
    assert proved(tmp_path, rows, sent).missing == 10


def test_frames_of_earlier_runs_are_left_alone(tmp_path: Path) -> None:
    proof = proved(tmp_path, [*usual(), *usual("earlier")])
    assert proof.holds
    assert proof.archived == 100


def test_a_truth_cut_short_by_a_kill_is_read_up_to_there(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth", [("c1", i, wire) for i, wire in enumerate(SENT)])
    with (tmp_path / "truth").open("ab") as file:
        file.write(b'{"tape":100,"ts_rec')
    write_archive(tmp_path / "archive", usual())
    assert prove(tmp_path / "truth", len(SENT), tmp_path / "archive", "kalshi", [DATE]).holds


def test_a_damaged_truth_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "truth").write_bytes(b"not a line\n")
    write_archive(tmp_path / "archive", usual())
    with pytest.raises(Permanent, match="is damaged"):
        prove(tmp_path / "truth", 0, tmp_path / "archive", "kalshi", [DATE])


def test_answers_to_requests_are_not_what_a_simulator_sent(tmp_path: Path) -> None:
    answer: Row = ("book", "c1", 200, frames.rest("GET /book", 200, b"{}"))
    proof = proved(tmp_path, [*usual(), answer])
    assert proof.holds
    assert proof.archived == len(SENT) and "book" not in proof.channels


def test_lines_of_a_recording_that_are_no_frames_are_not_missing(tmp_path: Path) -> None:
    assert proved(tmp_path, usual(), [("c1", 3 * i + 2, wire) for i, wire in enumerate(SENT)]).holds
