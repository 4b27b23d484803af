"""A real worker process on a data folder, at a real Temporal server."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ssmd import config
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RunningWorker:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)

    def until(
        self, path: str, good: Callable[[int, dict[str, object]], bool], seconds: float = 20
    ) -> dict[str, object]:
        """Ask again and again until the answer is good."""
        end = time.monotonic() + seconds
        told: object = None
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the worker ended: {self.log.read_text()[-2000:]}"
            with contextlib.suppress(OSError):
                status, body = self.get(path)
                told = status, body
                if good(status, body):
                    return body
            time.sleep(0.1)
        raise AssertionError(f"{path} still says {told}: {self.log.read_text()[-2000:]}")


def write_addresses(data: Path, temporal: str, nats: str = "nats://127.0.0.1:1") -> None:
    """What `ssmd up` would have written."""
    addresses = config.Addresses("local", nats, temporal, "", {}, {})
    path = config.addresses_path(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(addresses))


@contextlib.contextmanager
def running_worker(data: Path, *options: str, variables: dict[str, str] | None = None) -> Iterator[RunningWorker]:
    """`python -m services.worker`, killed at the end if it still runs."""
    port = free_port()
    log = data / f"worker-{port}.log"
    command = [sys.executable, "-m", "services.worker", "--data", str(data), "--port", str(port), *options]
    with log.open("wb") as out:
        environment = os.environ | (variables or {})
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        yield RunningWorker(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.kill()
        process.wait()


def is_ready(status: int, body: dict[str, object]) -> bool:
    return status == 200
