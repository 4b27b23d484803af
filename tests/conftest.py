"""Real servers on free ports, once per session; recorded data where it lies beside the project."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs
from hypothesis import HealthCheck, settings
from temporalio.client import Client
from temporalio.service import RPCError
from xdist.scheduler import LoadScopeScheduling

from ssmd.errors import Permanent
from ssmd.up import servers
from tests import ports

# Time limits measure the machine, which others use too; what is generated stays random, and a failure prints its seed.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("shared")

ROOT = Path(__file__).resolve().parent.parent

# A shell that starts us in its background has us ignore Ctrl-C, and so would every process that the tests start.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Whose tests start the platform on its usual ports: they are run one at a time.
PLATFORM = (
    "tests/up/",
    "tests/end_to_end/",
    "tests/docs/test_the_quickstart_runs.py",
    "tests/exchanges/binance/test_a_capture_across_midnight.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start the platform take longest, so they come first."""
    items.sort(key=lambda item: not item.nodeid.startswith(PLATFORM))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return SideBySide(config, log)


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]
    """With `-n`: a file's tests stay together, those that start the platform with one another, and all faults.

    (`--dist loadgroup` does not see its marks since pytest 9.2: xdist 3.8 writes `_nodeid`, which nobody reads.)
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(PLATFORM):
            return "platform"
        return "chaos" if nodeid.startswith("tests/chaos/") else nodeid.partition("::")[0]


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


@contextlib.contextmanager
def _running(
    command: list[str], log: Path, ready: Callable[[], Awaitable[None]], patience: float = 10
) -> Iterator[None]:
    """A server from when it is ready on. What it said last is told if it never is."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        try:
            asyncio.run(ready())
        except Permanent as e:
            ended = process.poll()
            said = log.read_text(errors="replace")[-2000:]
            pytest.fail(f"{e}; {'it runs' if ended is None else f'it ended with {ended}'}; it said: {said}")
        yield
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


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port that nothing listens on."""
    return ports.free_port


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server with JetStream."""
    folder = tmp_path_factory.mktemp("nats")
    port, monitor = ports.free_port(), ports.free_port()
    command = servers.nats_command(servers.find_binary("nats-server"), folder, port, monitor)
    with _running(command, folder / "log", functools.partial(servers.nats_ready, monitor)):
        yield NatsServer(f"nats://127.0.0.1:{port}", monitor)


@pytest.fixture(scope="session")
def _temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    folder = tmp_path_factory.mktemp("temporal")
    port, ui = ports.free_port(), ports.free_port()
    command = servers.temporal_command(servers.find_binary("temporal"), folder, port, ui)
    with _running(command, folder / "log", functools.partial(servers.temporal_ready, f"127.0.0.1:{port}")):
        yield TemporalServer(f"127.0.0.1:{port}", f"http://127.0.0.1:{ui}")


@pytest.fixture(scope="module")
def temporal_server(_temporal: TemporalServer) -> Iterator[TemporalServer]:
    """A real Temporal server with its search attributes, on which no other file's workflow runs."""
    yield _temporal
    asyncio.run(_end_what_runs(_temporal.address))


async def _end_what_runs(address: str) -> None:
    client = await Client.connect(address)
    gone = contextlib.suppress(RPCError)  # what is listed may have ended since
    async for schedule in await client.list_schedules():
        with gone:
            await client.get_schedule_handle(schedule.id).delete()
    async for run in client.list_workflows("ExecutionStatus = 'Running'"):
        with gone:
            await client.get_workflow_handle(run.id, run_id=run.run_id).terminate()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3: SeaweedFS."""
    folder = tmp_path_factory.mktemp("s3")
    listen = {name: ports.free_port() for name in servers.S3_PORTS}
    command = servers.s3_command(servers.find_binary("weed"), folder / "objects", listen, "tester", "c4n4ry-s3cr3t")
    # Whoever does not sign may use one bucket, so that a test's proxy may change what was signed.
    identities = folder / "objects" / "identities.json"
    known = json.loads(identities.read_bytes())
    actions = [f"{action}:ssmd-open" for action in ("Read", "Write", "List")]
    known["identities"].append({"name": "anonymous", "actions": actions})
    identities.write_text(json.dumps(known))
    ready = functools.partial(servers.s3_ready, listen["s3"], listen["s3-filer"])
    with _running(command, folder / "log", ready, patience=0):
        endpoint = f"http://127.0.0.1:{listen['s3']}"
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
