"""How long one waits: for `ssmd --help`, and until `ssmd up` is ready."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import parts
from bench.figures import Measured, Row
from bench.size import Size
from ssmd.up import servers

SSMD = str(Path(sys.executable).parent / "ssmd")
HELPS = 7  # a round
HELP_MS_MAX = 150
UP_SECONDS_MAX = 10


def run(size: Size) -> Measured:
    helps: dict[str, list[float]] = {"ours": [], "python": []}
    ups: dict[str, list[float]] = {"ours": [], "servers": []}
    timed([SSMD, "--help"])  # what an installation would have compiled is compiled
    for _ in range(size.rounds):
        for _ in range(HELPS):
            helps["python"].append(timed([sys.executable, "-c", "pass"]))
            helps["ours"].append(timed([SSMD, "--help"]))
        ups["servers"].append(in_scratch(servers_alone))
        ups["ours"].append(in_scratch(up))
    return Measured(
        [
            Row(
                "ssmd --help",
                "ms",
                helps["ours"],
                "python -c pass (limit)",
                helps["python"],
                more_is_better=False,
                ours_max=HELP_MS_MAX,
            ),
            Row(
                "ssmd up, until every part is ready",
                "s",
                ups["ours"],
                "its servers alone: NATS, Temporal (limit)",
                ups["servers"],
                more_is_better=False,
                ours_max=UP_SECONDS_MAX,
            ),
        ]
    )


def timed(command: list[str]) -> float:
    """ms. Without a time limit: with one, `subprocess` looks only every 50 ms whether the process has ended."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=parts.environment())
    return (time.monotonic() - began) * 1000


def in_scratch(measure: Callable[[Path], float]) -> float:
    with parts.scratch() as folder:
        return measure(folder)


def up(folder: Path) -> float:
    """Seconds until each service says that it is ready."""
    data = folder / "data"
    began = time.monotonic()
    with parts.Part("up", [SSMD, "up", "--data", str(data)], folder) as part:
        try:
            parts.until(lambda: all_ready(data), "every service is ready", 60)
            return time.monotonic() - began
        finally:
            part.process.terminate()
            part.process.wait(30)


def all_ready(data: Path) -> bool:
    path = data / "run/addresses.json"
    if not path.exists():
        return False
    where = json.loads(path.read_text())["telemetry"]
    return len(where) > 0 and all(ready(f"{url}/ready") for url in where.values())


def ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


def servers_alone(folder: Path) -> float:
    """Seconds until NATS is healthy and Temporal's namespace answers, started side by side."""
    port = parts.free_port()
    command = servers.temporal_command(servers.find_binary("temporal"), folder / "temporal", port, parts.free_port())
    began = time.monotonic()
    with parts.Part("temporal", command, folder), parts.Nats(folder):
        asyncio.run(servers.temporal_ready(f"{parts.HOST}:{port}"))
        return time.monotonic() - began
