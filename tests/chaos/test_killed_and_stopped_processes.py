"""kill -9, SIGTERM and SIGSTOP of every part at random lose nothing and double nothing."""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .accounts import Account
from .rig import Part, Platform, platform
from .supervised import supervised

RATE = 6000.0
FEEDS = ("kalshi", "polymarket", "deribit", "kraken", "kraken-futures", "binance")
SHORT = ("binance",)  # of the short share: there are answers by REST among its frames


def torment(run: Platform, victims: tuple[str, ...], seconds: float, chance: Random) -> dict[str, int]:
    """Every 0.3 to 1 s something happens to a part; how often what did."""
    done: dict[str, int] = {}
    sleeping: list[tuple[float, Part]] = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        for due, part in list(sleeping):
            if now >= due:
                part.signal(signal.SIGCONT)
                sleeping.remove((due, part))
        part = run.parts[chance.choice(victims)]
        kind = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        part.signal(kind)
        if kind is signal.SIGSTOP:
            sleeping.append((now + chance.uniform(0.2, 3.0), part))
        else:
            part.signal(signal.SIGCONT)
        done[kind.name] = done.get(kind.name, 0) + 1
        time.sleep(chance.uniform(0.3, 1.0))
    for _, part in sleeping:
        part.signal(signal.SIGCONT)
    return done


PROMISE = "Parts killed (-9, SIGTERM) and stopped lose and double nothing"


def tormented(
    folder: Path, seed: int, seconds: float, *, worker: bool = False, **options: Any
) -> tuple[Platform, Account, str]:
    """A run under torment that came to rest, its account, what was done."""
    with platform(folder, seed=seed, rate=RATE, **options) as run:
        run.start()
        victims = ("connector", "archiver", "nats")
        if worker:
            run.start_worker()
            victims += ("worker",)
        done = torment(run, victims, seconds, Random(seed))
        run.flowing("the torment")
        run.parts["connector"].signal(signal.SIGSTOP)
        time.sleep(0.5)  # what comes now waits in its socket, and is lost for certain
        run.parts["connector"].signal(signal.SIGKILL)
        run.rest()
        told = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
        return run, run.account(), f"{told} in {seconds:.0f} s"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("feed", FEEDS)
def test_nothing_is_lost_or_doubled_while_parts_are_killed_and_stopped(
    tmp_path: Path, feed: str, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    if not (full or feed in SHORT):
        pytest.skip("part of the full run: SSMD_CHAOS=full")
    seconds = (60.0 if feed == "kalshi" else 15.0) if full else 10.0
    run, found, done = tormented(tmp_path, seed, seconds, worker=full, feed=feed)
    assert found.whole, f"{found}\n{run.logs()}"
    assert found.sent > (0.15 if feed == "kalshi" else 0.05) * RATE * seconds
    control = run.account(without_ledger=True)
    assert control.unaccounted == found.in_ledger > 0
    reliability(f"{PROMISE} ({feed})", f"{done}: {found}", f"without the ledger {control.unaccounted} unaccounted")


@pytest.mark.timeout(300)
def test_an_archiver_that_does_not_look_at_numbers_doubles_frames(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """The control: with deduplication off the same torment must leave doubles."""
    if not full:
        pytest.skip("a control of the full run: SSMD_CHAOS=full")
    _, found, done = tormented(tmp_path, seed, 20.0, without={"archiver": "dedup"})
    assert found.duplicated > 0
    reliability(f"{PROMISE}: control", done, f"without deduplication {found.duplicated} doubled")


@pytest.mark.timeout(240)
def test_every_process_is_healthy_again_within_five_seconds_of_kill_9(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """Under `ssmd up`, as a user has it; the control is a supervisor that is stopped and so starts nothing."""
    if not full:
        pytest.skip("part of the full run: SSMD_CHAOS=full")
    services = {"connector-kalshi": "services.connector", "archiver-kalshi": "services.archiver", "worker": "worker"}
    took: dict[str, float] = {}
    with supervised(tmp_path / "data", "--for", "600", "--seed", str(seed)) as up:
        up.until(lambda: all(up.healthy(name) for name in services), "all are ready")
        for _ in range(3):
            for name, word in {**services, "nats": "nats-server"}.items():
                healthy = up.nats_healthy if name == "nats" else functools.partial(up.healthy, name)
                up.kill(word)
                up.until(lambda: not healthy(), f"{name} is dead", 5)  # noqa: B023
                seconds = up.until(healthy, f"{name} is healthy again", 30)
                took[name] = max(took.get(name, 0.0), seconds)
        up.until(lambda: all(up.healthy(name) for name in services), "all are ready again")
        os.kill(up.process.pid, signal.SIGSTOP)
        try:
            up.kill("services.archiver")
            time.sleep(5.0)
            assert not up.healthy("archiver-kalshi")
        finally:
            os.kill(up.process.pid, signal.SIGCONT)
        up.until(lambda: up.healthy("archiver-kalshi"), "the archiver is back")
        up.stop()
        found = up.account()
        assert found.whole, str(found)
    assert max(took.values()) < 5.0, took
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
    reliability("Healthy again within 5 s of kill -9", f"at most {told}", "with the supervisor stopped never")
