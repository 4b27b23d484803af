"""A whole `ssmd up` as a test sees it: its addresses, its services' answers, its processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .accounts import Account, account

ROOT = Path(__file__).resolve().parents[2]


class Supervised:
    """A running `ssmd up` on `data`."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.log = data.with_name(data.name + ".log")
        command = [sys.executable, "-m", "ssmd", "up", "--data", str(data), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def ask(self, service: str, path: str) -> tuple[int, Any]:
        """A service's HTTP answer; (0, None) if it gives none."""
        try:
            where = json.loads((self.data / "run/addresses.json").read_text())["telemetry"][service]
            with urllib.request.urlopen(f"{where}{path}", timeout=1) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)
        except (OSError, ValueError, KeyError):
            return 0, None

    def healthy(self, service: str) -> bool:
        return self.ask(service, "/ready")[0] == 200

    def archived(self) -> int:
        return int((self.ask("archiver-kalshi", "/status")[1] or {}).get("archived", 0))

    def nats_healthy(self) -> bool:
        """What nats-server says of itself on its monitoring port."""
        try:
            line = next(
                line for line in (self.data / "nats/nats.conf").read_text().splitlines() if line.startswith("http")
            )
            address = line.split('"')[1]
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, StopIteration):
            return False

    def find(self, *words: str) -> list[int]:
        """Ids of processes that this run started whose command line holds all the words."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in task.read_text().split():
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                    if all(word in command for word in words):
                        found.append(int(pid))
        return found

    def kill(self, *words: str) -> None:
        """kill -9."""
        pids = self.find(*words)
        assert pids, words
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
        """Wait; how long it took, in seconds."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"ssmd up ended\n{self.log.read_text()[-3000:]}"
            if time.monotonic() - began > seconds:
                raise AssertionError(f"within {seconds:.0f} s not: {what}\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        return time.monotonic() - began

    def stop(self) -> None:
        """Ctrl-C, and everything in order."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def account(self) -> Account:
        return account(self.data / "logs/simulator-kalshi.truth.ndjson", self.data / "archive")


@contextlib.contextmanager
def supervised(data: Path, *options: str) -> Iterator[Supervised]:
    """An `ssmd up` that is gone afterwards, whatever happens."""
    up = Supervised(data, *options)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.terminate()
            try:
                up.process.wait(20)
            except subprocess.TimeoutExpired:
                up.process.kill()
                up.process.wait()
