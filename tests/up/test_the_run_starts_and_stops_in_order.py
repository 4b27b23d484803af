"""Parts start after what they need and stop before it; whatever happens to the supervisor, nothing is left running."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest

from ssmd import config, durable
from ssmd.errors import Permanent
from ssmd.up.supervisor import Up


def index(diary: Path, what: str, name: str) -> int:
    return next(i for i, (w, n, _) in enumerate(fakes.diary_of(diary)) if (w, n) == (what, name))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def ready(up: Up) -> None:
    async with asyncio.timeout(20):
        while up.watch.doing != "ready":
            await asyncio.sleep(0.02)


async def test_each_part_starts_after_what_it_needs_and_stops_before_it(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    up = Up(fakes.run_wanted(tmp_path / "data"), fakes.Seen, fakes.parts(diary))
    running = asyncio.create_task(up.run())
    await ready(up)
    addresses = config.load_addresses(tmp_path / "data")
    assert addresses is not None
    assert addresses.supervisor == os.getpid()
    os.kill(os.getpid(), signal.SIGINT)
    code, summary, wrong = await running
    assert (code, wrong) == (0, "")
    assert "ready after" in summary
    assert config.load_addresses(tmp_path / "data") is None
    for needed in ("simulator-kalshi", "archiver-kalshi"):
        assert index(diary, "starts", needed) < index(diary, "starts", "connector-kalshi")
        assert index(diary, "stops", "connector-kalshi") < index(diary, "stops", needed)
    assert not any(alive(pid) for _, _, pid in fakes.diary_of(diary))


async def test_a_part_killed_meanwhile_comes_back_and_is_shown(tmp_path: Path) -> None:
    diary, seen = tmp_path / "diary", fakes.Seen()
    up = Up(fakes.run_wanted(tmp_path / "data", seconds=3), lambda: seen, fakes.parts(diary))
    running = asyncio.create_task(up.run())
    await ready(up)
    os.kill(up.watch.processes["archiver-kalshi"].pid, signal.SIGKILL)
    code, summary, _ = await running
    assert code == 0
    assert "restarts: archiver-kalshi 1" in summary
    assert [n for w, n, _ in fakes.diary_of(diary) if w == "starts"].count("archiver-kalshi") == 2
    last = seen.snapshots[-1]
    assert next(p for p in last.processes if p.name == "archiver-kalshi").restarts == 1
    assert any("archiver-kalshi was ended by SIGKILL" in e.text for e in last.events)


@pytest.mark.parametrize(("options", "told"), [((), False), (("unready",), True)], ids=["reached", "never reached"])
async def test_a_venue_that_was_never_reached_is_told_at_the_end(
    tmp_path: Path, options: tuple[str, ...], told: bool
) -> None:
    made = fakes.parts(tmp_path / "diary", more={"connector-kalshi": options})
    run = fakes.run_wanted(tmp_path / "data", seconds=1, endpoint="production")
    code, summary, _ = await Up(run, fakes.Seen, made).run()
    assert code == 0
    assert ("connector-kalshi was never connected: logs/connector-kalshi.log tells why" in summary) == told


async def test_a_part_with_wrong_input_ends_the_run_with_its_sentence(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    wrong = (sys.executable, "-c", "import sys; print('error: the key is no key', file=sys.stderr); sys.exit(2)")
    up = Up(fakes.run_wanted(tmp_path / "data"), fakes.Seen, fakes.parts(diary, {"connector-kalshi": wrong}))
    with pytest.raises(Permanent, match=r"^the key is no key$"):
        await up.run()
    assert not any(alive(pid) for _, _, pid in fakes.diary_of(diary))


async def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    places = config.Places(tmp_path / "data")
    places.create()
    with (
        durable.Lock(places.run, "ssmd up"),
        pytest.raises(Permanent, match=r"already in use by ssmd up \(process \d+\)"),
    ):
        await Up(fakes.run_wanted(tmp_path / "data"), fakes.Seen, fakes.parts(tmp_path / "diary")).run()
    assert fakes.diary_of(tmp_path / "diary") == []


def test_nothing_is_left_running_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    command = [sys.executable, str(Path(fakes.__file__)), str(tmp_path / "data"), str(diary)]
    supervisor = subprocess.Popen(command, start_new_session=True)
    try:
        wait(lambda: len(fakes.diary_of(diary)) == len(fakes.NEEDS))
        pids = [pid for _, _, pid in fakes.diary_of(diary)]
        assert all(alive(pid) for pid in pids)
    finally:
        supervisor.kill()
        supervisor.wait()
    wait(lambda: not any(alive(pid) for pid in pids))


def wait(true, seconds: float = 15.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.02)
