"""Frames come by the numbers of their connection, whatever clocks said and wherever they were archived."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ssmd import config, frames, past_day
from tests.archived_days import DATE, keep
from tests.lake.archives import midnight

SECOND = 1_000_000_000
START = midnight(DATE) + 9 * 3600 * SECOND
A, B = (frames.conn_id("kalshi", place, START, 7) for place in (0, 1))


def message(conn: str, n: int, at: float) -> tuple[str, str, bytes]:
    """Frames of one connection take turns in three channels."""
    wire = b'{"type":"trade","msg":{"n":%d}}' % n
    channel = ("trade", "ticker", "orderbook_delta")[n % 3]
    return channel, "X", frames.message(START + int(at * SECOND), conn.encode(), n, wire)


def order(data: Path, messages: Iterator[tuple[str, str, bytes]]) -> list[tuple[str, int]]:
    keep(data, "kalshi", messages)
    with past_day.opened(config.Places(data), "kalshi", DATE, lambda doing, done, total: None) as day:
        return [(frame.line.conn, frame.line.n) for frame in day.frames()]


def test_a_clock_that_stepped_back_changes_nothing(tmp_path: Path) -> None:
    times = [i / 10 if i < 50 else i / 10 - 3 for i in range(100)]
    messages = (message(A, n, at) for n, at in enumerate(times, 1))
    assert order(tmp_path, messages) == [(A, n) for n in range(1, 101)]


def test_what_was_archived_late_comes_in_its_place_and_a_hole_is_passed(tmp_path: Path) -> None:
    came = [n for n in range(1, 701) if n not in {7, 8, 300, 301}]
    came = [*came[:500], 7, *came[500:], 300]
    got = order(tmp_path, (message(A, n, n / 100) for n in came))
    assert got == [(A, n) for n in range(1, 701) if n not in {8, 301}]


def test_connections_come_by_time_among_one_another(tmp_path: Path) -> None:
    both = sorted([(n / 10, A, n) for n in range(1, 60)] + [(n / 7, B, n) for n in range(1, 60)])
    assert order(tmp_path, (message(conn, n, at) for at, conn, n in both)) == [(conn, n) for _, conn, n in both]


def test_what_waits_for_a_lost_frame_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late by more than that, a frame comes late; nothing is lost."""
    monkeypatch.setattr(past_day, "HELD_MAX", 20)
    came = [n for n in range(1, 401) if n != 5] + [5]
    got = order(tmp_path, (message(A, n, (n if n != 5 else 400) / 100) for n in came))
    assert sorted(got) == [(A, n) for n in range(1, 401)]
    assert [n for _, n in got if n != 5] == [n for n in range(1, 401) if n != 5]
