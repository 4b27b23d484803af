"""Simulators as real processes on free ports, and recordings made for them."""

import gzip
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Simulation

ROOT = Path(__file__).parents[3]
START_MS = 1_786_410_915_579


class Simulated:
    """A running simulator."""

    def __init__(self, process: subprocess.Popen[bytes], listen: int, port: int, truth: Path) -> None:
        self.process = process
        self.port = port
        self.ws = f"ws://127.0.0.1:{listen}/trade-api/ws/v2"
        self.rest = f"http://127.0.0.1:{listen}/trade-api/v2"
        self._truth = truth

    def status(self) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status") as answer:
            return dict(json.load(answer))

    def markets(self) -> list[str]:
        """The tickers of the open markets."""
        with urllib.request.urlopen(f"{self.rest}/markets?status=open&limit=1000") as answer:
            return [market["ticker"] for market in json.load(answer)["markets"]]

    def truth(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._truth.read_text().splitlines()]


@pytest.fixture
def simulated(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Simulated]]:
    """Starts `python -m services.simulator` with these options and waits until it is healthy."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: object) -> Simulated:
        listen, port = free_port(), free_port()
        truth = tmp_path / f"truth-{len(running)}.jsonl"
        command = [sys.executable, "-m", "services.simulator", "--data", str(tmp_path), "--feed", "kalshi"]
        command += ["--listen", str(listen), "--port", str(port), "--truth", str(truth), *map(str, options)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        running.append(process)
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    return Simulated(process, listen, port, truth)
            except OSError:
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Recording:
    """A recording on disk: what each of its lines holds, and whom it is about."""

    def __init__(self, path: Path, events: list[dict[str, object]], recv_ms: list[int], markets: list[str]) -> None:
        self.path = path
        self.events = events
        self.recv_ms = recv_ms
        self.markets = markets


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """30 s of four made-up markets, as a recorder that had joined late would have kept them."""
    simulator = KalshiSimulator(Simulation(seed=11, markets=4, frames_per_second=400))
    events: list[dict[str, object]] = []
    recv_ms = []
    for step in range(3000):
        for record in simulator.generate(START_MS * 1_000_000 + step * 10_000_000):
            event = json.loads(record.wire)
            event["sid"] = {"orderbook_delta": 3, "trade": 5, "ticker": 8}.get(record.channel, 9)
            if "seq" in event:
                event["seq"] = 1000 + 3 * len(events)
            events.append(event)
            recv_ms.append(START_MS + step * 10 + len(events) % 3)
    recv_ms.sort()
    path = tmp_path_factory.mktemp("recording") / "made-up.ndjson.gz"
    lines = (
        json.dumps({"recv_ms": ms, "event": event}, separators=(",", ":"))
        for ms, event in zip(recv_ms, events, strict=True)
    )
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return Recording(path, events, recv_ms, sorted(simulator.exchange.markets))
