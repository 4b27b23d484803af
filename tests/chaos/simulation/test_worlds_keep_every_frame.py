"""Simulated worlds: whatever dies, loses power, fills up or is cut off, every frame is archived once or in the ledger.

SSMD_CHAOS=full runs many more worlds, other ones each time; SSMD_SIM_SEED=N runs world N alone and shows its story.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TREE = Path(__file__).parents[3]
FULL = os.environ.get("SSMD_CHAOS") == "full"
SEED = os.environ.get("SSMD_SIM_SEED")
FIRST = 1
WORLDS = 3_000 if FULL else 200
CONTROL_WORLDS = 1_500  # a control fails much earlier; if it has not by then, its defence is not tested
# The names are those of mutations.py; that module needs the services, this one shall be collected quickly.
CONTROLS = (
    "confirm_before_the_cursor_is_durable",
    "no_cut_to_the_cursor",
    "remove_segments_before_they_are_confirmed",
    "published_is_as_good_as_acknowledged",
    "no_sync_of_the_journal",
    "no_sync_of_folders",
    "no_dropping_of_duplicates",
    "no_cut_of_the_journals_torn_tail",
)
PROMISE = "Simulated worlds with crashes, power cuts, full disks and cut links lose and double nothing"


def simulate(*args: object) -> tuple[int, str]:
    """In a process of its own: the worlds have another clock, another `os` and a fixed order of sets."""
    command = [sys.executable, "-m", "tests.chaos.simulation", *map(str, args)]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=3000)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(900 if FULL else 170)
def test_no_world_loses_or_doubles_a_frame(seed: int, reliability: Callable[[str, str, str], None]) -> None:
    first = seed if FULL else FIRST
    code, told = simulate(SEED) if SEED else simulate("--worlds", WORLDS, "--first", first)
    print(told)
    assert code == 0, told
    reliability(PROMISE, told.splitlines()[-1], f"{len(CONTROLS)} defences switched off, see the next rows")


def test_a_seed_gives_the_same_world_again() -> None:
    first, second = simulate(7), simulate(7)
    assert first[1].splitlines()[:-1] == second[1].splitlines()[:-1]  # the last line tells how long it took
    assert len(first[1].splitlines()) > 3


@pytest.mark.parametrize("control", CONTROLS)
def test_a_defence_switched_off_is_noticed(
    control: str, seed: int, reliability: Callable[[str, str, str], None]
) -> None:
    first = seed if FULL else FIRST
    code, told = simulate("--worlds", CONTROL_WORLDS, "--first", first, "--mutation", control)
    assert code == 1 and "again with" in told, f"{control}: {told[-500:]}"
    reliability(f"{PROMISE}: control", control.replace("_", " "), told.splitlines()[-1])


def test_every_mutation_is_a_control() -> None:
    code = f"from tests.chaos.simulation.mutations import MUTATIONS; assert set(MUTATIONS) == {set(CONTROLS)!r}"
    subprocess.run([sys.executable, "-c", code], cwd=TREE, check=True)
