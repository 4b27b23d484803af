"""A busy channel that stops is suspected within seconds; a quiet one never; an explained silence is none."""

import itertools
import random

import pytest

from services.connector.rhythm import ANSWER_SECONDS, KNOWN_LOOKS, LOOK_SECONDS, SUSPECT_SECONDS, Rhythm


def run(rhythm: Rhythm, pauses: list[float], start: float = 0.0) -> tuple[float, list[float]]:
    """Frames after these pauses, looked at once a second; when the channel was suspected."""
    now, suspected = start, []
    for pause in pauses:
        until = now + pause
        while now + 1 < until:
            now += 1
            if rhythm.suspects(now):
                suspected.append(now)
                rhythm.answered(["trade"])
        now = until
        rhythm.heard({"trade": int(now)}, now)
    return now, suspected


@pytest.mark.parametrize("usual", [LOOK_SECONDS, 0.5, 0.75])
def test_a_busy_channel_that_stops_is_stale_within_six_seconds(usual: float) -> None:
    rhythm = Rhythm()
    now, _ = run(rhythm, [usual] * (KNOWN_LOOKS + 5))
    looks = [i * LOOK_SECONDS for i in range(1, 80)]
    asked = next(t for t in looks if rhythm.suspects(now + t))
    late = next(t for t in looks if t > asked and rhythm.stale(now + t))
    assert asked > SUSPECT_SECONDS
    assert late <= (4.5 if usual < 0.5 else 6.0), "seconds after the last frame"
    assert rhythm.stale(now + late)[0][2] == int(now), "the gap begins with the last frame"


def test_one_silent_channel_is_seen_among_others() -> None:
    """Frames of another channel, and an answer about another one, explain nothing."""
    rhythm = Rhythm()
    now = 1.0
    for _ in range(KNOWN_LOOKS + 5):
        now += LOOK_SECONDS
        rhythm.heard({"book": 1, "trade": 1}, now)
    suspected, stale = [], False
    silent_from = now
    while not stale:
        now += LOOK_SECONDS
        rhythm.heard({"trade": 2}, now)
        rhythm.answered(["trade", "ticker"])
        suspected += rhythm.suspects(now)
        stale = bool(rhythm.stale(now))
    assert {*suspected} == {"book"} and now - silent_from <= 4.5


def test_a_question_without_an_answer_is_asked_again() -> None:
    rhythm = Rhythm()
    now, _ = run(rhythm, [0.5] * (KNOWN_LOOKS + 5))
    asked = [t for i in range(1, 80) if rhythm.suspects(now + (t := i * LOOK_SECONDS))]
    pauses = [later - t for t, later in itertools.pairwise(asked)]
    assert pauses and {*pauses} == {ANSWER_SECONDS}


def test_who_could_not_look_has_heard_no_silence() -> None:
    """A busy machine: looks that come late make neither suspicion nor a longer usual pause."""
    rhythm = Rhythm()
    clock, chance = 50.0, random.Random(3)
    for _ in range(KNOWN_LOOKS * 3):
        clock += chance.choice([LOOK_SECONDS, LOOK_SECONDS, 3.0])
        felt = rhythm.felt(clock)
        assert not rhythm.suspects(felt)
        rhythm.heard({"trade": 1}, felt)
    felt = rhythm.felt(clock + 10)
    assert not rhythm.suspects(felt)
    looks = (rhythm.felt(clock + 10 + i * LOOK_SECONDS) for i in range(1, 40))
    late = next(i for i, felt in enumerate(looks) if not rhythm.suspects(felt) and rhythm.stale(felt))
    assert late * LOOK_SECONDS < 6


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
