"""Clocks that step and days that end: no frame is lost, doubled, or filed under the wrong day."""

import gzip
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .accounts import OWN
from .rig import platform
from .supervised import supervised

HOUR_NS = 3_600_000_000_000
MIDNIGHT_MS = 1_786_492_800_000  # 2026-08-12
DAY_MS = 86_400_000


@pytest.mark.timeout(120)
def test_a_clock_that_steps_an_hour_loses_nothing_and_opens_no_gap(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    chance = random.Random(seed)
    clock = tmp_path / "clock"
    clock.write_text("0")
    options = {"connector": "steady_clock", "archiver": "steady_clock"}
    with platform(tmp_path, seed=seed, rate=2000, without=options, variables={"SSMD_CLOCK": str(clock)}) as run:
        run.start()
        steps = [HOUR_NS, 0, -HOUR_NS, 0] if full else [HOUR_NS, -HOUR_NS]
        for step in steps:
            clock.write_text(str(step))
            time.sleep(chance.uniform(1.0, 2.5))
            run.flowing("a step of the clock")
        clock.write_text("0")
        run.rest()
        found = run.account()
        assert found.whole and found.sent == found.archived, str(found)
        assert [gap.cause for gap in found.gaps] == ["disconnect"], found.gaps  # the venue's good-bye at the end
        times = archived_times(run.keep / "archive")
        assert max(times) - min(times) > 2 * HOUR_NS * 0.9  # the control: the steps were taken, and seen
        reliability(
            "Clock steps of ±1 h lose nothing and open no gap",
            f"{len(steps) + 1} steps: {found}",
            f"the steps were seen: receive times span {(max(times) - min(times)) / HOUR_NS:.1f} h",
        )


def archived_times(archive: Path) -> list[int]:
    found = []
    for path in archive.glob("kalshi/*/*.jsonl.gz"):
        with gzip.open(path, "rb") as file:
            found += [json.loads(line)["ts_recv"] for line in file]
    return found


def recording(path: Path, seed: int, frames: int) -> list[int]:
    """A tape of two made-up markets that crosses UTC midnight; the times of its frames, in ms."""
    chance = random.Random(seed)
    ms, seq, times = MIDNIGHT_MS - frames * 5, 0, []
    with gzip.open(path, "wb") as file:

        def write(kind: str, message: dict[str, object]) -> None:
            nonlocal seq
            seq += 1
            event = {"type": kind, "sid": 1, "seq": seq, "msg": message}
            file.write(json.dumps({"recv_ms": ms, "event": event}, separators=(",", ":")).encode() + b"\n")
            times.append(ms)

        markets = ["KXMADE-26AUG12-T0.5", "KXMADE-26AUG12-T1.5"]
        for market in markets:
            write(
                "orderbook_snapshot", {"market_ticker": market, "market_id": "x", "yes_dollars_fp": [["0.10", "9.00"]]}
            )
        for _ in range(frames):
            ms += chance.randrange(20)
            side, cents = chance.choice(["yes", "no"]), chance.randrange(1, 49)
            delta = {"market_ticker": chance.choice(markets), "market_id": "x", "price_dollars": f"{cents / 100:.4f}"}
            write("orderbook_delta", {**delta, "delta_fp": "5.00", "side": side, "ts_ms": ms})
    return times


@pytest.mark.timeout(120)
def test_a_midnight_falls_between_the_right_two_frames(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    tape = tmp_path / "tape.ndjson.gz"
    times = recording(tape, seed, 20_000 if full else 3_000)
    replay = ["--once", "--replay", str(tape), "--speed", "max", "--clock", "recorded"]
    with supervised(tmp_path / "data", *replay) as up:
        code = up.process.wait(100)
        assert code == 0, up.log.read_text()[-3000:]
    days: dict[str, list[int]] = {}
    for path in sorted((tmp_path / "data/archive/kalshi").glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        assert manifest["sealed"]
        found = days.setdefault(path.parent.name, [])
        for segment in manifest["segments"]:
            with gzip.open(path.parent / segment["name"], "rb") as file:
                lines = [json.loads(line) for line in file]
            assert all(
                time.strftime("%Y-%m-%d", time.gmtime(line["ts_recv"] // 10**9)) == path.parent.name for line in lines
            )
            if segment["channel"] in {"orderbook_delta", "orderbook_snapshot"}:
                found += [line["ts_recv"] // 1_000_000 for line in lines if line["frame"]["type"] == segment["channel"]]
            else:
                assert segment["channel"] in {*OWN, "control"}
    before = [ms for ms in times if ms < MIDNIGHT_MS]
    after = [ms for ms in times if ms >= MIDNIGHT_MS]
    assert before and after
    assert {day: sorted(found) for day, found in days.items()} == {"2026-08-11": before, "2026-08-12": after}
    naive = sum(ms >= MIDNIGHT_MS for ms in times)  # what a clock of ours would file under one day with the rest
    reliability(
        "A midnight falls between the right two frames",
        f"{len(before):,} frames before it and {len(after):,} after it, two sealed days",
        f"under today's clock all {len(times):,} would be of one day, {naive:,} of them wrong",
    )
