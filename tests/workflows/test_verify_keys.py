"""VerifyKeys on a real Temporal server: every way a key can be bad has its name, and no key is ever told."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from temporalio.client import Client
from temporalio.worker import Replayer

from exchanges.deribit import venue as deribit
from exchanges.kalshi import venue as kalshi
from exchanges.kraken import venue as kraken
from exchanges.polymarket import venue as polymarket
from exchanges.port import Answer, Simulation, Simulator
from tests.workflows.workers import ROOT, RunningWorker, is_ready, running_worker
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"
CANARY = "CanaryThatMustNeverSing"
ID = "k" * 32
Hosted = Callable[[str, str, Mapping[str, str], bytes], Answer]


def canary(name: str) -> str:
    return f"{CANARY}{name}"


@contextmanager
def hosting(answer: Hosted) -> Iterator[str]:
    """A venue's REST on a port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = answer(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(told.status)  # with a Date
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def simulated(simulator: Simulator, ahead_seconds: float = 0) -> Hosted:
    """The simulator's, whose clock is ahead of ours."""
    return lambda method, target, headers, body: simulator.answer(
        method, target, headers, time.time_ns() + int(ahead_seconds * 1e9), body
    )


def down(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
    return Answer(503, b"<html>" + repr(headers).encode())  # a venue that tells what it was told


class Bench:
    """An environment of feeds that differ in their keys alone."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.data = folder / "data"
        self.config = folder / "config"
        self.variables = {"SSMD_CONFIG": str(self.config)}
        self._stack = stack
        self._feeds: list[dict[str, Any]] = []
        for name in ("feeds", "environments"):
            (self.config / name).mkdir(parents=True)
        (self.data / "keys").mkdir(parents=True)

    def feed(self, name: str, of: str, answer: Hosted, secret: bytes | None, path: str = "", **more: object) -> None:
        """One like the feed `of`, with a secret of its own."""
        feed = yaml.safe_load((ROOT / "exchanges/feeds" / f"{of}.yaml").read_text()) | {"name": name}
        url = self._stack.enter_context(hosting(answer)) + path
        feed["versions"] = [
            {**v, "endpoints": {"here": {"ws": "ws://127.0.0.1:1", "rest": url}}} for v in feed["versions"]
        ]
        feed["versions"][-1]["limits"]["rest_per_second"] = 1000
        (self.config / "feeds" / f"{name}.yaml").write_text(yaml.safe_dump(feed))
        if secret is not None:
            (self.data / "keys" / name).write_bytes(secret)
        variable = f"SSMD_TEST_{name.upper().replace('-', '_')}"
        self.variables.setdefault(variable, ID)
        key = {"id": f"env:{variable}", "secret": f"file:{{data}}/keys/{name}", **more}
        self._feeds.append({"feed": name, "endpoint": "here", "key": key})

    def write(self, temporal: str) -> None:
        environment = {"name": "bench", "feeds": self._feeds}
        (self.config / "environments/bench.yaml").write_text(yaml.safe_dump(environment))
        (self.data / "run").mkdir()
        addresses = {"environment": "bench", "nats": "nats://127.0.0.1:1", "temporal": temporal, "temporal_ui": ""}
        more = {"feeds": {}, "telemetry": {}, "supervisor": os.getpid()}
        (self.data / "run/addresses.json").write_text(json.dumps(addresses | more))


def pem() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


EXPECTED = {
    "deribit-good": "accepted",
    "deribit-wrong": "wrong",
    "deribit-poor": "under-privileged",
    "deribit-late": "clock",
    "deribit-down": "down",
    "deribit-missing": "missing",
    "deribit-swapped": "malformed",
    "kalshi-good": "accepted",
    "kalshi-malformed": "malformed",
    "kalshi-wrong": "wrong",
    "kraken-good": "accepted",
    "kraken-expired": "expired",
    "polymarket-wrong": "wrong",
}


@pytest.fixture
def bench(tmp_path: Path, temporal_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A key of every kind; whatever is secret in one has the canary in it, or its bytes."""
    with ExitStack() as stack:
        made = Bench(tmp_path, stack)
        secret = canary("Deribit").encode()
        asked = {"path": "/api/v2", "of": "deribit"}
        for name, given, ahead, scope in (
            ("good", secret, 0, "account:read trade:read"),
            ("wrong", canary("Other").encode(), 0, "account:read"),
            ("poor", secret, 0, "trade:read"),
            ("late", secret, 90, "account:read"),
        ):
            simulator = deribit.simulator(Simulation(ID, secret))
            simulator.scope = scope  # type: ignore[attr-defined]
            made.feed(f"deribit-{name}", answer=simulated(simulator, ahead), secret=given, **asked)  # type: ignore[arg-type]
        made.feed("deribit-down", answer=down, secret=secret, **asked)  # type: ignore[arg-type]
        made.feed("deribit-missing", answer=down, secret=None, **asked)  # type: ignore[arg-type]
        made.variables["SSMD_TEST_DERIBIT_SWAPPED"] = f"-----BEGIN {canary('Swapped')} KEY-----\nx"
        made.feed("deribit-swapped", answer=down, secret=b"id", **asked)  # type: ignore[arg-type]
        private, public = pem()
        (tmp_path / "needle").write_bytes(private.splitlines()[3])
        asked = {"path": "/trade-api/v2", "of": "kalshi"}
        for name, given in (("good", private), ("malformed", canary("Pem").encode()), ("wrong", pem()[0])):
            simulator = kalshi.simulator(Simulation(ID, public))
            made.feed(f"kalshi-{name}", answer=simulated(simulator), secret=given, **asked)  # type: ignore[arg-type]
        encoded = base64.b64encode(canary("KrakenSecret").encode())
        made.feed("kraken-good", "kraken", simulated(kraken.simulator(Simulation(ID, encoded))), encoded)
        made.feed(
            "kraken-expired", "kraken", simulated(kraken.simulator(Simulation("other", encoded))), encoded,
            created="2026-01-02", expires="2026-02-03",
        )  # fmt: skip
        parts = {"address": "0xabc", "secret": encoded.decode(), "passphrase": canary("Pass")}
        other = json.dumps({**parts, "passphrase": "p"}).encode()
        made.feed(
            "polymarket-wrong", "polymarket", simulated(polymarket.simulator(Simulation(ID, other))),
            json.dumps(parts).encode(),
        )  # fmt: skip
        made.write(temporal_server.address)  # type: ignore[attr-defined]
        for name, value in made.variables.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def worker(bench: Bench) -> Iterator[RunningWorker]:
    with running_worker(bench.data) as running:
        running.until("/ready", is_ready)
        yield running


_DATA = r'"data": *"([A-Za-z0-9+/=]+)"'


def _without_path(payload: str, folder: Path) -> str:
    return base64.b64encode(base64.b64decode(payload).replace(str(folder).encode(), b"data")).decode()


def told(history: str) -> str:
    """A history's text, its payloads decoded."""
    found = [history]
    for data in re.findall(_DATA, history):
        found.append(base64.b64decode(data).decode(errors="replace"))
    return "\n".join(found)


def run_key_verify(bench: Bench, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ssmd", "key", "verify", "--data", str(bench.data), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.timeout(170)
async def test_every_key_has_its_verdict_and_none_is_told(
    bench: Bench, worker: RunningWorker, temporal_server: object, tmp_path: Path
) -> None:
    done = run_key_verify(bench, "--json")
    assert done.returncode == 1, done.stderr
    verified = json.loads(done.stdout)
    assert {key["feed"]: key["state"] for key in verified["keys"]} == EXPECTED, verified
    by_feed = {key["feed"]: key for key in verified["keys"]}
    assert "clock is off by -90" in by_feed["deribit-late"]["said"]
    assert by_feed["deribit-good"]["rights"] == ["account:read", "trade:read"]
    assert by_feed["kalshi-good"]["age_days"] == 0 and by_feed["kalshi-good"]["expires_in_days"] is None
    assert by_feed["kraken-expired"]["age_days"] > 300 and by_feed["kraken-expired"]["expires_in_days"] < -280
    assert by_feed["deribit-missing"]["said"].startswith("key reference file:{data}/keys/deribit-missing: cannot read")

    shown = run_key_verify(bench)
    here = run_key_verify(bench, "--local", "--json")
    assert {k["feed"]: k["state"] for k in json.loads(here.stdout)["keys"]} == EXPECTED
    client = await Client.connect(temporal_server.address)  # type: ignore[attr-defined]
    history = await client.get_workflow_handle("verify-keys/bench").fetch_history()
    outputs = [p.stdout + p.stderr for p in (done, shown, here)]
    everything = "\n".join([told(history.to_json()), worker.log.read_text(), *outputs])
    assert "under-privileged" in told(history.to_json()) and "deribit-poor" in shown.stdout
    encoded = base64.b64encode(canary("KrakenSecret").encode()).decode()
    for needle in (CANARY, encoded, (tmp_path / "needle").read_text(), "access_token"):
        assert needle not in everything, f"{needle} was told"
        assert base64.b64encode(needle.encode()).decode().rstrip("=")[:-1] not in everything
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):  # to keep the history of a changed workflow: see tests/replay
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        kept = re.sub(_DATA, lambda m: f'"data": "{_without_path(m[1], bench.data)}"', kept)
        (HISTORIES / "verify_keys.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")


def test_the_grep_would_find_it() -> None:
    """The control."""
    payload = base64.b64encode(json.dumps({"secret": CANARY}).encode()).decode()
    assert CANARY in told(json.dumps({"payloads": [{"data": payload}]}))
