"""Real servers on free ports, once per session; recorded data where it lies beside the project."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
from hypothesis import HealthCheck, settings

from ssmd.up import servers

# Time limits measure the machine, which others use too; what is generated stays random, and a failure prints its seed.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("shared")

ROOT = Path(__file__).resolve().parent.parent


PLATFORM = {"up", "end_to_end"}  # folders whose tests start all of it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`-n 2 --dist loadgroup`) a file's tests stay together, and those that start the platform on its
    usual ports with one another; they take longest, so they come first."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            folder = item.path.relative_to(ROOT / "tests").parts[0]
            item.add_marker(pytest.mark.xdist_group("platform" if folder in PLATFORM else str(item.path)))
    items.sort(key=lambda item: _group(item) != "platform")


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None
    return str(marker.args[0])


@dataclass(frozen=True)
class NatsServer:
    url: str
    monitor_port: int


@dataclass(frozen=True)
class TemporalServer:
    address: str
    ui: str


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    key_id: str
    secret: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """The variables by which the AWS tools, and we, find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], log: Path, patience: float = 10) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(autouse=True)
def _configuration_of_the_process() -> Iterator[None]:
    """A command that is called within the tests' process says by its environment where the configuration is."""
    before = os.environ.get("SSMD_CONFIG")
    yield
    if before is None:
        os.environ.pop("SSMD_CONFIG", None)
    else:
        os.environ["SSMD_CONFIG"] = before


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
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3: SeaweedFS."""
    folder = tmp_path_factory.mktemp("s3")
    ports = {name: _free_port() for name in servers.S3_PORTS}
    command = servers.s3_command(servers.find_binary("weed"), folder / "objects", ports, "tester", "c4n4ry-s3cr3t")
    # Whoever does not sign may use one bucket, so that a test's proxy may change what was signed.
    identities = folder / "objects" / "identities.json"
    known = json.loads(identities.read_bytes())
    actions = [f"{action}:ssmd-open" for action in ("Read", "Write", "List")]
    known["identities"].append({"name": "anonymous", "actions": actions})
    identities.write_text(json.dumps(known))
    with _running(command, folder / "log", patience=0):
        asyncio.run(servers.s3_ready(ports["s3"], ports["s3-filer"]))
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        client = s3fs.S3FileSystem(
            key="tester", secret="c4n4ry-s3cr3t", endpoint_url=endpoint, client_kwargs={"region_name": "us-east-1"}
        )
        client.mkdir("ssmd-test")
        client.mkdir("ssmd-open")
        yield S3Server(endpoint, "tester", "c4n4ry-s3cr3t", folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded exchange data that may not be copied into the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("recorded exchange data (../shared/data) is not on this machine")
    return folder
