"""A child that dies is started again, ever more slowly; one that cannot work is not; none is left behind."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from ssmd.errors import Permanent
from ssmd.up import processes
from ssmd.up.processes import Process


def python(code: str, log: Path, told: list[str]) -> Process:
    return Process("child", [sys.executable, "-c", code], log, tell=told.append, chance=random.Random(7))


async def until(true, seconds: float = 5.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_killed_process_is_started_again_and_said_so(tmp_path: Path) -> None:
    told: list[str] = []
    child = python("import time; time.sleep(60)", tmp_path / "log", told)
    child.start()
    await until(lambda: child.running)
    first = child.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.running and child.pid not in {0, first})
    assert child.restarts == 1
    assert child.last_exit == -signal.SIGKILL
    assert len(told) == 1
    assert "child was ended by SIGKILL" in told[0]
    assert await child.stop(5) == -signal.SIGTERM
    assert not child.running


async def test_it_is_told_what_a_process_said_last(tmp_path: Path) -> None:
    told: list[str] = []
    child = python("import sys; print('the disk is on fire', file=sys.stderr); sys.exit(3)", tmp_path / "log", told)
    child.was_ready = True  # so that it is tried more than a few times
    child.start()
    await until(lambda: child.restarts >= 2)
    await child.stop(1)
    assert "child ended with code 3" in told[0]
    assert "the disk is on fire" in told[0]


async def test_wrong_input_is_not_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    child = python("import sys; print('error: there is no feed', file=sys.stderr); sys.exit(2)", tmp_path / "log", told)
    with pytest.raises(Permanent, match=r"^there is no feed$"):
        await child.start()
    assert child.restarts == 0


async def test_a_process_that_never_was_ready_is_given_up(tmp_path: Path) -> None:
    told: list[str] = []
    child = python("import nothing_of_that_name", tmp_path / "log", told)
    with pytest.raises(Permanent, match=r"child does not start, 3 times in a row: ModuleNotFoundError.*see .*log"):
        await child.start()


async def test_a_program_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    child = Process("child", [str(tmp_path / "nothing")], tmp_path / "log", tell=str)
    with pytest.raises(Permanent, match=r"cannot start child .*No such file"):
        await child.start()


def test_pauses_grow_to_half_a_minute_and_are_spread(tmp_path: Path) -> None:
    child = python("", tmp_path / "log", [])
    for attempt, cap in [(1, 0.2), (2, 0.4), (5, 3.2), (9, 30.0), (1000, 30.0)]:
        pauses = [child.pause(attempt, 1) for _ in range(300)]
        assert 0.1 <= min(pauses) < 0.1 + (cap - 0.1) * 0.1
        assert cap * 0.9 < max(pauses) <= cap
    assert min(child.pause(1, processes.EXIT_DISK) for _ in range(10)) >= 5


async def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    told: list[str] = []
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = python(deaf, tmp_path / "log", told)
    child.start()
    await until(lambda: (tmp_path / "log").exists() and b"deaf" in (tmp_path / "log").read_bytes())
    assert await child.stop(0.2) == -signal.SIGKILL
    assert "did not stop within 0.2 s and was killed" in told[0]


async def test_what_a_process_started_does_not_outlive_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    child = python(code, log, [])
    child.start()
    await until(lambda: log.exists() and log.read_text().strip() != "")
    grandchild = int(log.read_text())
    assert grandchild in processes.family(child.pid)
    await child.stop(5)
    await until(lambda: not alive(grandchild))


async def test_memory_is_sampled_and_its_peak_kept(tmp_path: Path) -> None:
    code = "b = bytearray(50 << 20); del b; print('done', flush=True); import time; time.sleep(60)"
    log = tmp_path / "log"
    child = python(code, log, [])
    child.start()
    await until(lambda: log.exists() and "done" in log.read_text())
    now = child.sample()
    assert child.peak_bytes > 50 << 20 > now > 1 << 20
    await child.stop(5)


async def test_a_large_log_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with log.open("wb") as file:
        file.truncate(processes.LOG_BYTES_MAX + 1)
    child = python("print('new', flush=True); import time; time.sleep(60)", log, [])
    child.start()
    await until(lambda: log.exists() and log.read_bytes() == b"new\n")
    await child.stop(5)
    assert (tmp_path / "child.log.1").stat().st_size == processes.LOG_BYTES_MAX + 1


def alive(pid: int) -> bool:
    """It runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
