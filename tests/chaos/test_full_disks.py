"""A full disk, whichever it is: nothing is lost, it is red within 5 s, and whole again when there is space."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .disks import fill, tmpfs
from .rig import platform
from .supervised import supervised

RED_SECONDS = 5.0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("disk", ["journal", "archive"])
def test_a_full_disk_is_red_and_loses_nothing(
    disk: str, tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    with platform(tmp_path, seed=seed, rate=2000) as run:
        folder = {"journal": run.capture, "archive": run.keep}[disk]
        with tmpfs(folder, 96):
            try:
                run.start()
                time.sleep(1.0)
                ballast = fill(folder)
                red = run.until(
                    lambda: not (run.parts["connector"].healthy and run.parts["archiver"].healthy),
                    "somebody is red",
                    30,
                )
                why = [run.parts[name].ask("/health")[1] for name in ("connector", "archiver")]
                print(f"red after {red:.1f} s: {why}\n{run.logs()}")
                time.sleep(6.0 if full else 2.0)
                ballast.unlink()
                back = run.flowing(f"the disk of the {disk} was full")
                run.rest()
                found = run.account()
                assert found.whole, f"{found}\n{run.logs()}"
                assert red < RED_SECONDS, f"red only after {red:.1f} s"
                control = run.account(without_ledger=True)
                said = f"without the ledger {control.unaccounted} unaccounted" if found.in_ledger else "nothing to lose"
                reliability(
                    f"Full disk of the {disk}: nothing lost, red within 5 s, whole again",
                    f"red after {red:.1f} s, flowing {back:.1f} s after space came back; {found}",
                    said,
                )
            finally:
                run.close()


@pytest.mark.timeout(240)
def test_a_full_disk_of_nats_is_red_and_mended_by_its_supervisor(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """nats-server takes nothing more after a failed write until it is started anew: `ssmd up` does so."""
    if not full:
        pytest.skip("part of the full run: SSMD_CHAOS=full")
    data = tmp_path / "data"
    with tmpfs(data / "nats", 96), supervised(data, "--for", "600", "--seed", str(seed)) as up:
        up.until(lambda: up.archived() > 200, "frames are archived")
        ballast = fill(data / "nats")
        red = up.until(lambda: not up.nats_healthy(), "NATS is red", 30)
        time.sleep(4.0)
        before = up.archived()
        ballast.unlink()
        back = up.until(lambda: up.nats_healthy() and up.archived() > before + 500, "frames are archived again", 60)
        time.sleep(1.0)
        up.stop()
        found = up.account()
        assert found.whole, str(found)
        assert red < RED_SECONDS
        reliability(
            "Full disk of NATS: nothing lost, red within 5 s, whole again",
            f"red after {red:.1f} s, whole {back:.1f} s after space came back; {found}",
            "nothing to lose: the journal has it",
        )
