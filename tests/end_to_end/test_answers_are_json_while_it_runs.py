"""What only a running platform can answer, it answers as JSON when asked to."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def test_seal_rollup_backfill_and_fees_answer_as_json(tmp_path: Path) -> None:
    python = [sys.executable, "-m", "ssmd"]

    def asked(*words: str) -> Any:
        command = [*python, *words, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen([*python, "up"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("data/archive/kalshi/*/trade_*.part")):
            assert time.monotonic() < deadline and up.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        sealed = asked("seal", "kalshi", "today")
        assert sealed["feed"] == "kalshi" and sealed["frames"] > 0 and sealed["revision"] >= 1
        assert asked("rollup", "kalshi", sealed["date"], "--seal")["frames"] >= sealed["frames"]
        assert asked("backfill", "kalshi")["failed"] == []
        assert asked("fees", "sync", "kalshi")["whole"]
        [first, *_] = asked("fees", "list", "kalshi")
        assert asked("fees", "show", "kalshi", first["symbol"])[0]["symbol"] == first["symbol"]
    finally:
        up.terminate()
        assert up.wait(30) == 0
