"""Every `ssmd` command of the README runs as written, in its order, beside a running platform."""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from .conftest import ROOT, Recording

COMMAND = re.compile(r"^\.venv/bin/ssmd (.+)$", re.MULTILINE)


def test_every_command_of_the_readme_runs(tmp_path: Path, made_recording: Recording) -> None:
    commands = [shlex.split(line) for line in COMMAND.findall((ROOT / "README.md").read_text())]
    assert len(commands) >= 8
    (tmp_path / "recording.ndjson.gz").symlink_to(made_recording.path)
    python = [sys.executable, "-m", "ssmd"]
    log = (tmp_path / "log").open("wb")
    up = subprocess.Popen([*python, "up"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("data/archive/kalshi/*/trade_*.part")):
            assert time.monotonic() < deadline and up.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for command in commands:
            if command[0] == "up" and "--env" in command:
                continue  # the real venue
            given = [word.replace("/tmp/", f"{tmp_path}/") for word in command]
            done = subprocess.run([*python, *given], cwd=tmp_path, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.strip(), command
    finally:
        up.terminate()
        assert up.wait(30) == 0
    pid = up.pid
    left = [p for p in Path("/proc").glob("[0-9]*/stat") if f" {pid} " in p.read_text(errors="replace")]
    assert not left
