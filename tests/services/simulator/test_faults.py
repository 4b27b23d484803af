"""Injected faults: the same seed gives the same ones, and each does to the frames what its name says."""

import argparse
import itertools
from collections.abc import Sequence

import pytest

from exchanges.port import Record
from services.simulator import faults
from services.simulator.faults import FRAMES_MIN, STALE_NS, FaultPlan, Faults, Tongue


def speak(kind: str, frames: int = 4 * FRAMES_MIN) -> tuple[list[bytes], list[str], Tongue]:
    """Numbered frames of one channel through faults of one kind: what was sent, what was noted."""
    tongue = Tongue(Faults(FaultPlan(1, FRAMES_MIN, (kind,))))
    sent: list[bytes] = []
    noted: list[str] = []

    def put(wires: Sequence[bytes]) -> None:
        sent.extend(wires)

    for i in range(frames):
        if not tongue.silent(i):
            wire = b"%03d" % i
            tongue.speak(Record(i, "trade", "trade", "S", wire), [wire], i, put, lambda kind, _: noted.append(kind))
    return sent, noted, tongue


ALL = [b"%03d" % i for i in range(4 * FRAMES_MIN)]


def test_a_skipped_frame_is_not_sent() -> None:
    sent, noted, _ = speak("skip")
    assert noted and set(noted) == {"skip"}
    assert sent == sorted(set(sent)) and len(sent) == len(ALL) - len(noted)


def test_a_duplicate_is_sent_twice_in_a_row() -> None:
    sent, noted, _ = speak("duplicate")
    assert noted and sorted(set(sent)) == ALL
    assert sum(a == b for a, b in itertools.pairwise(sent)) == len(noted)


def test_swapped_frames_are_both_sent_the_later_one_first() -> None:
    sent, noted, _ = speak("swap")
    assert noted and sorted(sent) == ALL
    assert sum(a > b for a, b in itertools.pairwise(sent)) == len(noted)


def test_a_stale_line_is_silent_for_a_while() -> None:
    sent, noted, tongue = speak("stale")
    assert noted == ["stale"] and sent == ALL[: len(sent)] and len(sent) < len(ALL)
    assert tongue.silent(STALE_NS) and not tongue.silent(STALE_NS + len(ALL))


@pytest.mark.parametrize("kind", ["cut", "oversized", "garbage"])
def test_what_the_line_must_do_is_said_to_it(kind: str) -> None:
    tongue = Tongue(Faults(FaultPlan(1, FRAMES_MIN, (kind,))))
    record = Record(0, "trade", "trade", "S", b"x")
    told = [tongue.speak(record, [b"x"], 0, lambda wires: None, lambda kind, ts: None) for _ in range(100)]
    assert set(told) == {None, kind}


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[str | None]:
        made = Faults(FaultPlan(seed, 30))
        return [made.next() for _ in range(2000)]

    assert drawn(7) == drawn(7) != drawn(8)  # the control: another seed


def test_the_first_fault_waits_as_long_as_told() -> None:
    made = Faults(faults.parse("7:25:skip:500"))
    assert [made.next() for _ in range(500)] == [None] * 500
    assert "skip" in [made.next() for _ in range(500)]


@pytest.mark.parametrize("text", ["", "x:100", "1:5", "1:nan", "1:100:quake"])
def test_a_wrong_plan_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        faults.parse(text)


def test_a_swap_began_when_its_frame_was_held_back() -> None:
    tongue = Tongue(Faults(FaultPlan(1, FRAMES_MIN, ("swap",))))
    sent: list[bytes] = []
    noted: list[tuple[str, int]] = []
    for i in range(4 * FRAMES_MIN):
        wire = b"%03d" % i
        record = Record(i, "trade", "trade", "S", wire)
        tongue.speak(record, [wire], i, sent.extend, lambda kind, began: noted.append((kind, began)))
    later_first = [int(b) for a, b in itertools.pairwise(sent) if a > b]
    assert later_first and noted == [("swap", held) for held in later_first]
