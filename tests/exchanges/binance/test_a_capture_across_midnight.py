"""One real capture across UTC midnight, in two files: under the recording's clock it makes two sealed days, and every
frame is in the right one."""

import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ssmd import archive, frames

from .talk import recorded

ROOT = Path(__file__).resolve().parents[3]
DAYS = {"2024-08-08": "btcusdt_20240808.gz", "2024-08-09": "btcusdt_20240809.gz"}
OWN = {frames.SESSION, frames.GAP}


@pytest.mark.timeout(300)
def test_two_days_of_one_capture(tmp_path: Path, shared_data: Path) -> None:
    data = tmp_path / "data"
    recordings = [word for name in DAYS.values() for word in ("--replay", str(shared_data / "binance" / name))]
    options = ["--feed", "binance", *recordings, "--speed", "max", "--clock", "recorded", "--once", "--data", str(data)]
    run = subprocess.run(
        [sys.executable, "-m", "ssmd", "up", *options], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]

    folder = data / "archive" / "binance"
    assert sorted(p.name for p in folder.glob("????-??-??")) == list(DAYS)
    rest = 0
    for date, name in DAYS.items():
        manifest = archive.load_manifest(archive.manifest_path(data / "archive", "binance", date))
        assert manifest.sealed and manifest.gaps == [] and manifest.quarantined == {}
        sent = Counter(
            (ts, wire) for ts, wire in recorded(shared_data / "binance" / name) if wire.startswith(b'{"stream"')
        )
        found: Counter[tuple[int, bytes]] = Counter()
        for segment in manifest.segments:
            for line in archive.read_segment(folder / date / segment.name):
                assert time.strftime("%Y-%m-%d", time.gmtime(line.ts_recv // 10**9)) == date
                if frames.is_rest(line.wire()):
                    rest += 1
                elif segment.channel not in {*OWN, frames.CONTROL}:
                    found[line.ts_recv, line.wire()] += 1
        assert found == sent
        with gzip.open(shared_data / "binance" / name) as file:
            assert file.readline().startswith(str(min(ts for ts, _ in sent)).encode())
        rolled = json.loads((data / f"lake/days/feed=binance/date={date}/manifest.json").read_text())
        assert rolled["frames"] == manifest.frames and rolled["quarantined"] == {}
        assert rolled["events"]["trades"] == sum(b"@trade" in wire[:30] for _, wire in sent.elements())
    assert rest >= 1  # the book; at this speed the tape may run away from an answer, then it is asked for again
