"""From a recording, through the simulated venue and the whole platform, to a DuckDB answer; killed and not killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from .conftest import ROOT, Recording, archived_frames, query, sent_frames, start_up

OWN = {"_session", "_gap"}


@pytest.fixture
def recording(made_recording: Recording) -> Recording:
    """A recorded market where there is one, else one that was made up."""
    recorded = ROOT.parent / "shared/data/kalshi/gold15m/KXGOLD15M-26AUG070800-00/2026-08-07.ndjson.gz"
    return Recording.read(recorded) if recorded.is_file() else made_recording


def check_numbers(data: Path) -> None:
    """`n` of every connection has no hole and no double."""
    for conn, lines in archived_frames(data).items():
        assert [n for n, _, _ in lines] == list(range(1, len(lines) + 1)), conn


def check_bytes(data: Path, recording: Recording) -> None:
    """What is archived is what was sent, in order, and covers the recording."""
    archived, sent = archived_frames(data), sent_frames(data)
    seen: set[int] = set()
    for conn, frames in sent.items():
        here = [(frame, line) for _, frame, line in archived.get(conn, []) if line["channel"] not in OWN]
        assert [frame for frame, _ in here] == [frame for _, frame in frames[: len(here)]], conn
        for (place, frame), _ in zip(frames, here, strict=False):
            if place is not None:
                assert place not in seen
                seen.add(place)
                original = recording.frames[place]
                assert frame[frame.index(b'"msg":') :] == original[original.index(b'"msg":') :]
    assert seen == set(range(len(recording.frames)))


def check_answers(data: Path, recording: Recording) -> None:
    """DuckDB's counts are the file's; the last books are those that a few lines compute from the file."""
    counts = {
        "trades": recording.types["trade"],
        "book_deltas": recording.types["orderbook_delta"],
    }
    for table, expected in counts.items():
        assert query(data, f"select count(*) as n from {table}") == [{"n": expected}]
    both = "select ts_recv from book_deltas union all select ts_recv from book_snapshots"
    last = query(data, f"select max(ts_recv) as t from ({both})")[0]["t"]
    for symbol, book in recording.books.items():
        rows = query(data, f"select side, price, size from book_at('{symbol}', {last})")
        found: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "ask": {}}
        for row in rows:
            found[str(row["side"])][Decimal(str(row["price"]))] = Decimal(str(row["size"]))
        assert found == book


def test_every_frame_once_and_the_right_answers(tmp_path: Path, recording: Recording) -> None:
    up = start_up(tmp_path, "--once", "--replay", str(recording.path), "--speed", "max")
    output = up.finish()
    assert up.process.returncode == 0, output
    check_numbers(tmp_path)
    check_bytes(tmp_path, recording)
    check_answers(tmp_path, recording)
    assert query(tmp_path, "select * from gaps") == []


def test_kill_9_of_connector_and_archiver_loses_and_doubles_nothing(tmp_path: Path, recording: Recording) -> None:
    up = start_up(tmp_path, "--once", "--replay", str(recording.path), "--speed", "max")
    for service in ("connector", "archiver", "connector"):
        before = up.journalled()
        up.wait(lambda before=before: up.journalled() > before + 1_500_000)  # it is in the middle of it
        up.kill(service)
    output = up.finish()
    assert up.process.returncode == 0, output
    check_numbers(tmp_path)
    check_bytes(tmp_path, recording)
    check_answers(tmp_path, recording)


def test_under_the_recordings_clock_frames_have_its_times(tmp_path: Path, made_recording: Recording) -> None:
    options = ["--once", "--replay", str(made_recording.path), "--speed", "max", "--clock", "recorded"]
    up = start_up(tmp_path, *options)
    output = up.finish()
    assert up.process.returncode == 0, output
    sent = next(iter(sent_frames(tmp_path).values()))
    lines = next(iter(archived_frames(tmp_path).values()))
    venue = [line for _, _, line in lines if line["channel"] not in OWN]
    for (place, _), line in zip(sent, venue, strict=True):
        if place is not None:
            assert line["ts_recv"] == made_recording.times_ms[place] * 1_000_000
    assert [p.name for p in (tmp_path / "archive" / "kalshi").glob("????-??-??")] == ["2026-08-11"]


def test_a_workflow_started_by_hand(tmp_path: Path, made_recording: Recording, free_port: Callable[[], int]) -> None:
    """While the platform runs: `temporal workflow start` with plain JSON, seen completed by `workflow show`."""
    port = free_port()
    up = start_up(tmp_path, "--replay", str(made_recording.path), "--speed", "max", "--port", f"temporal={port}")
    temporal = [str(Path(sys.executable).with_name("temporal")), "--address", f"127.0.0.1:{port}"]

    def run(*words: str) -> str:
        done = subprocess.run([*temporal, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        date = time.strftime("%Y-%m-%d", time.gmtime())
        deadline = time.monotonic() + 60
        while True:
            sealed = subprocess.run(
                [sys.executable, "-m", "ssmd", "seal", "kalshi", date, "--data", str(tmp_path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            if sealed.returncode == 0:
                break
            assert time.monotonic() < deadline, sealed.stderr
            time.sleep(0.5)
        name = f"rollup/kalshi/{date}"
        given = f'{{"feed":"kalshi","date":"{date}","seal":true}}'
        start = ["--type", "RollupDay", "--task-queue", "ssmd", "--workflow-id", name, "--input", given]
        run("workflow", "start", *start)
        run("workflow", "result", "--workflow-id", name)
        assert "COMPLETED" in run("workflow", "describe", "--workflow-id", name).upper()
        assert "WorkflowExecutionCompleted" in run("workflow", "show", "--workflow-id", name)
        assert name in run("workflow", "list", "--query", 'Feed = "kalshi"')
    finally:
        up.process.terminate()
        output = up.finish(30)
    assert up.process.returncode == 0, output
