"""A power cut at any moment: whatever the journal had forced to disk is archived in the end.

kill -9 cannot show this, as the kernel keeps what a killed process wrote. Here the disk is an image, copied at the
moment of the cut, mounted again and taken up by new processes.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from .accounts import Account, archived_numbers
from .disks import PowerlessDisk
from .rig import Platform, platform

PROMISE = "Power loss: nothing the journal had forced to disk is lost"
PARTS = ("connector", "archiver", "nats")


def forced(notes: list[str]) -> set[tuple[str, int]]:
    """The (conn, n) in the journal's files, as far as the completed syncs reach.

    A file that is gone was archived whole; what was sent with it is compared with the archive all the same.
    """
    ends: dict[Path, int] = {}
    for note in notes:
        _, path, size = note.split()
        ends[Path(path)] = max(ends.get(Path(path), 0), int(size))
    found = set()
    for path, end in ends.items():
        if not path.exists():
            continue
        for line in path.read_bytes()[:end].split(b"\n")[:-1]:
            message = json.loads(line.split(b" ", 2)[2])
            found.add((message["conn"], message["n"]))
    return found


def cut_off(folder: Path, seed: int, cuts: int, without: dict[str, str]) -> tuple[Platform, Account, int, int]:
    """A run with power cuts that came to rest: its account, how many frames were forced to disk, how many are lost."""
    chance = Random(seed)
    notes = folder / "syncs"
    safe: set[tuple[str, int]] = set()
    options = {"without": without, "variables": {"SSMD_SYNCS": str(notes)}}
    with PowerlessDisk(folder) as disk, platform(folder, seed=seed, rate=3000, disk=disk.mounted, **options) as run:
        run.start()
        for _ in range(cuts):
            time.sleep(chance.uniform(1.0, 4.0))
            with disk.cut():
                told = notes.read_text().splitlines()
                run.kill(*PARTS)
            run.dead(*PARTS)
            safe |= forced(told)
            notes.unlink()
            disk.power_on()
            run.revive(*PARTS)
            run.flowing("a power cut")
        run.rest()
        found = run.account()
        lost = safe - archived_numbers(run.keep / "archive")
        return run, found, len(safe), len(lost)


@pytest.mark.timeout(300)
def test_what_was_forced_to_disk_survives_a_power_cut(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    cuts = 8 if full else 1
    run, found, safe, lost = cut_off(tmp_path, seed, cuts, {"connector": "syncs_noted"})
    assert safe > 1000
    assert lost == 0, f"{lost} of {safe} frames that were on disk are not archived\n{run.logs()}"
    assert found.whole, f"{found}\n{run.logs()}"
    reliability(PROMISE, f"{lost} of {safe:,} forced frames lost in {cuts} cuts; {found}", "see the next row")


@pytest.mark.timeout(120)
def test_without_fsync_a_power_cut_loses_frames(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """The control: the same with fsync switched off."""
    if not full:
        pytest.skip("a control of the full run: SSMD_CHAOS=full")
    without = {"connector": "fsync_and_syncs_noted", "archiver": "fsync"}
    _, _, safe, lost = cut_off(tmp_path, seed, 1, without)
    assert lost > 0
    reliability(f"{PROMISE}: control", "1 cut", f"without fsync {lost:,} of {safe:,} lost")
