"""Real servers on free ports, once per session; recorded data where it lies beside the project."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ssmd.up import servers

# Time limits measure the machine, which others use too; what is generated stays random, and a failure prints its seed.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("shared")

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class NatsServer:
    url: str
    monitor_port: int


@dataclass(frozen=True)
class TemporalServer:
    address: str
    ui: str


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port that nothing listens on."""
    return _free_port


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server with JetStream."""
    folder = tmp_path_factory.mktemp("nats")
    port, monitor = _free_port(), _free_port()
    command = servers.nats_command(servers.find_binary("nats-server"), folder, port, monitor)
    with _running(command, folder / "log"):
        asyncio.run(servers.nats_ready(monitor))
        yield NatsServer(f"nats://127.0.0.1:{port}", monitor)


@pytest.fixture(scope="session")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A real Temporal server with its search attributes."""
    folder = tmp_path_factory.mktemp("temporal")
    port, ui = _free_port(), _free_port()
    command = servers.temporal_command(servers.find_binary("temporal"), folder, port, ui)
    with _running(command, folder / "log"):
        asyncio.run(servers.temporal_ready(f"127.0.0.1:{port}"))
        yield TemporalServer(f"127.0.0.1:{port}", f"http://127.0.0.1:{ui}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded exchange data that may not be copied into the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("recorded exchange data (../shared/data) is not on this machine")
    return folder
