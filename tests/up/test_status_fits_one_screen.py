"""The status fits 80 by 24 and says what matters; lines say the same where there is no terminal."""

import io
import re

import pytest
from rich.console import Console

from ssmd.up import status
from ssmd.up.status import Event, FeedState, ProcessState, Snapshot

PLACES = (
    ("NATS", "nats://127.0.0.1:4222"),
    ("Temporal", "127.0.0.1:7233, web UI http://127.0.0.1:8233"),
    ("kalshi (simulated)", "ws://127.0.0.1:8765/trade-api/ws/v2"),
    ("data", "/home/somebody/with/a/rather/long/path/to/the/folder/where/the/data/is/kept"),
)
FEED = FeedState("kalshi", True, 197_896_123, 23_456.7, 197_890_001, 123.0, 1, 12, 1_234_567_890, 4321)
NAMES = ("nats", "temporal", "simulator-kalshi", "archiver-kalshi", "connector-kalshi", "worker")
EVENTS = tuple(Event(1_786_000_000.0 + i, f"event {i} " + "and what it said last " * 10) for i in range(40))
FULL = Snapshot(
    seconds=86_399,
    doing="ready",
    environment="local",
    places=PLACES,
    feeds=(FEED,),
    processes=tuple(ProcessState(n, "ready", 4_000_000, 1 << 30, 3 << 30, 12) for n in NAMES),
    workflows=(1, 123, 0),
    events=EVENTS,
)
EMPTY = Snapshot(
    0, "starting", "local", PLACES, (FeedState("kalshi"),), tuple(ProcessState(n, "waiting") for n in NAMES)
)


def drawn(snapshot: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(status.screen(snapshot, height))
    return console.file.getvalue().rstrip("\n").split("\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("snapshot", [FULL, EMPTY])
def test_it_fits_80_by_24(snapshot: Snapshot) -> None:
    lines = drawn(snapshot)
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80


def test_it_says_where_everything_is_and_how_it_is() -> None:
    text = "\n".join(drawn(FULL, 100, 30))
    for expected in ("nats://127.0.0.1:4222", "http://127.0.0.1:8233", "ws://127.0.0.1:8765", "local", "ready"):
        assert expected in text
    for figure in ("197,896,123", "23,457", "197,890,001", "123 ms", "1/12", "1.2 GB", "4,321"):
        assert figure in text
    assert all(name in text for name in NAMES)
    assert "1 running, 123 completed" in text


def test_every_figure_of_a_feed_survives_80_columns() -> None:
    row = next(line for line in drawn(FULL) if line.startswith("kalshi ") and "197" in line)
    assert "…" not in row


def test_the_newest_events_fill_the_rest_of_the_screen() -> None:
    lines = drawn(FULL, 80, 30)
    assert len(lines) == 30
    shown = [int(m[1]) for line in lines if (m := re.search(r"event (\d+)", line))]
    assert shown == list(range(40 - len(shown), 40))
    assert len(shown) >= 8


def test_a_problem_is_shown_in_full() -> None:
    sick = ProcessState("connector-kalshi", "running", 5, problem="not connected to ws://127.0.0.1:8765: refused")
    text = "\n".join(drawn(Snapshot(1, "ready", "local", PLACES, (), (sick,)), 100))
    assert sick.problem in status.line(Snapshot(1, "ready", "local", PLACES, (), (sick,)))
    assert "connector-kalshi: not connected to ws://127.0.0.1:8765: refused" in text


def test_a_replay_shows_how_far_it_is() -> None:
    replayed = FeedState("kalshi", True, 500, tape_sent=499, tape_frames=1000)
    assert any("tape 49 %" in line for line in drawn(Snapshot(1, "replaying", "local", PLACES, (replayed,))))
    assert "replayed 499 of 1,000" in status.line(Snapshot(1, "replaying", "local", PLACES, (replayed,)))


def test_markup_in_what_a_process_said_is_only_text() -> None:
    event = Event(0.0, "it said [/red] and [bold]")
    assert any("it said [/red] and [bold]" in line for line in drawn(Snapshot(1, "x", "local", events=(event,))))


def test_one_line_says_it_all() -> None:
    line = status.line(FULL)
    assert "\n" not in line
    for figure in ("197,896,123 frames in (23,457/s)", "197,890,001 archived", "lag 123 ms", "gaps 1 open of 12"):
        assert figure in line
    assert "workflows 1 running, 123 completed" in line


def test_lines_come_every_five_seconds_or_when_something_happens() -> None:
    out = io.StringIO()
    lines = status.Lines(out)
    for second in range(21):
        events = EVENTS[:1] if second >= 7 else ()
        lines.show(Snapshot(second, "ready" if second < 13 else "stopping", "local", PLACES, (FEED,), events=events))
    told = out.getvalue().splitlines()
    assert told[: len(PLACES)] == status.opening(FULL).splitlines()
    assert [re.match(r" *(\d+) s", line)[1] for line in told[len(PLACES) :]] == ["0", "5", "7", "10", "13", "18"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (61, "1 min 01"), (3661, "1 h 01"), (90_000, "25 h 00")]
)
def test_time_passed_is_short(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (812_000, "812 kB"), (14_500_000, "14.5 MB")]
)
def test_bytes_are_short(count: int, text: str) -> None:
    assert status.size(count) == text
