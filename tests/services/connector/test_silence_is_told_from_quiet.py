"""A busy channel that stops is suspected within seconds; a quiet one never; an explained silence is none."""

import random

from services.connector.rhythm import KNOWN_LOOKS, SUSPECT_SECONDS, Rhythm


def run(rhythm: Rhythm, pauses: list[float], start: float = 0.0) -> tuple[float, list[float]]:
    """Frames after these pauses, looked at once a second; when the channel was suspected."""
    now, suspected = start, []
    for pause in pauses:
        until = now + pause
        while now + 1 < until:
            now += 1
            if rhythm.suspects(now):
                suspected.append(now)
                rhythm.answered()
        now = until
        rhythm.heard(["trade"], now)
    return now, suspected


def test_a_busy_channel_that_stops_is_stale_within_six_seconds() -> None:
    rhythm = Rhythm()
    now, _ = run(rhythm, [0.5] * (KNOWN_LOOKS + 5))
    looks = [i / 2 for i in range(1, 40)]
    asked = next(t for t in looks if rhythm.suspects(now + t))
    late = next(t for t in looks if t > asked and rhythm.stale(now + t))
    assert asked > SUSPECT_SECONDS
    assert late < 6.5, "seconds after the last frame, of which one was a usual pause"


def test_an_answer_makes_the_silence_genuine_and_the_next_question_rarer() -> None:
    rhythm = Rhythm()
    now, _ = run(rhythm, [1.0] * (KNOWN_LOOKS + 5))
    _, asked = run(rhythm, [3600.0], now)
    assert 3 <= len(asked) <= 12
    assert rhythm.stale(now + 3600) == []


def test_a_quiet_market_is_not_suspected() -> None:
    rng = random.Random(7)
    rhythm = Rhythm()
    _, suspected = run(rhythm, [rng.expovariate(1 / 20) for _ in range(2_000)])
    assert len(suspected) <= 5, "a pause of four times the longest one in ten hours"


def test_a_channel_hardly_known_is_not_suspected() -> None:
    rhythm = Rhythm()
    now, _ = run(rhythm, [1.0] * (KNOWN_LOOKS // 2))
    assert run(rhythm, [600.0], now)[1] == []
