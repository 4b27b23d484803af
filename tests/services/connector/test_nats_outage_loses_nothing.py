"""While NATS is away capture goes on into the journal; it catches up later, in order, in bounded memory."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from services.connector import publisher
from ssmd.up import servers

from .conftest import Rig, rigged, until


class Nats:
    """A nats-server of our own that can be killed and started again."""

    def __init__(self, folder: Path, port: int, monitor_port: int) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        self._command = servers.nats_command(servers.find_binary("nats-server"), folder, port, monitor_port)
        self._monitor_port = monitor_port
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await servers.nats_ready(self._monitor_port)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
async def nats(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Nats]:
    server = Nats(tmp_path / "nats", free_port(), free_port())
    await server.start()
    yield server
    server.kill()


async def steady(connection: ServerConnection, rig: Rig, batches: int) -> None:
    for i in range(batches):
        for k in range(100):
            await connection.send(f'{{"type":"trade","symbol":"S{k % 9}","i":{i * 100 + k}}}')
        await asyncio.sleep(0.01)


async def test_frames_captured_without_nats_are_archived_later(
    tmp_path: Path, nats: Nats, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "QUEUE_BYTES", 20_000)  # some 200 frames: then the journal is the queue
    async with rigged(tmp_path / "data", nats.url, free_port()) as rig:
        rig.script = lambda connection: steady(connection, rig, 200)
        await rig.start("archiver")
        await rig.start("connector")
        await until(lambda: bool(rig.sent) and len(rig.sent[0]) > 2_000)
        nats.kill()
        before = len(rig.sent[0])
        await until(lambda: len(rig.sent[0]) > before + 5_000)
        assert rig.status("connector")["catching_up"]
        await nats.start()
        await until(lambda: len(rig.sent[0]) == 20_000)
        await rig.stop("connector")
        await rig.stop("archiver")
        assert rig.venue_frames() == rig.sent
        numbers = [(line.conn, line.n) for line in rig.lines()]
        assert len(numbers) == len(set(numbers))
        assert rig.rows("cause") == []


async def test_a_connector_that_starts_again_without_nats_keeps_what_it_had(
    tmp_path: Path, nats: Nats, free_port: Callable[[], int]
) -> None:
    async with rigged(tmp_path / "data", nats.url, free_port()) as rig:
        rig.script = lambda connection: steady(connection, rig, 10)
        await rig.start("connector")
        await until(lambda: bool(rig.sent))
        nats.kill()
        await until(lambda: len(rig.sent[0]) == 1_000)
        await asyncio.sleep(0.2)
        await rig.kill("connector")
        await nats.start()
        await rig.start("archiver")
        await rig.start("connector")
        await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 1_000)
        await rig.stop("connector")
        await rig.stop("archiver")
        assert rig.venue_frames() == rig.sent


async def test_capture_begins_without_nats(tmp_path: Path, nats: Nats, free_port: Callable[[], int]) -> None:
    nats.kill()
    async with rigged(tmp_path / "data", nats.url, free_port()) as rig:
        rig.script = lambda connection: steady(connection, rig, 10)
        await rig.start("connector")
        await until(lambda: bool(rig.sent) and len(rig.sent[0]) == 1_000)
        await nats.start()
        await rig.start("archiver")
        await until(lambda: rig.status("connector")["acked"] != 0)
        await rig.stop("connector")
        await rig.stop("archiver")
        assert rig.venue_frames() == rig.sent
