"""Why there is no stream is said: where waiting helps while it waits, and else at once."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig

from ssmd import broker
from ssmd.errors import Permanent
from ssmd.telemetry import configure_logging
from ssmd.up import servers

LOG = configure_logging(service="test")


@pytest.fixture
def without_jetstream(free_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [str(servers.find_binary("nats-server")), "-a", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


async def test_a_server_without_jetstream_is_waited_for_and_named(without_jetstream: str) -> None:
    client = await broker.connect(without_jetstream, "test", LOG)
    wait = broker.Wait(without_jetstream, LOG)
    assert wait.sentence == f"waiting for NATS at {without_jetstream}"
    asked = asyncio.create_task(broker.ensure_stream(client, "MADE", ["made.>"], waiting=wait.told))
    try:
        async with asyncio.timeout(20):
            while "JetStream" not in wait.sentence:
                await asyncio.sleep(0.05)
        assert wait.sentence == (
            f"waiting for NATS at {without_jetstream}: JetStream is not enabled there, or has no leader yet"
        )
        assert not asked.done()
    finally:
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        await client.close()


async def test_another_stream_in_the_way_is_named_at_once(nats_server: Any) -> None:
    client = await nats.connect(nats_server.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(StreamConfig(name="IN_THE_WAY", subjects=["crowded.>"]))
    try:
        with pytest.raises(Permanent) as refused:
            await broker.ensure_stream(client, "CROWDED", ["crowded.json.>"])
        assert "NATS refuses stream CROWDED of crowded.json.>: subjects overlap with an existing stream" in str(
            refused.value
        )
        assert "`nats stream ls`" in str(refused.value)
    finally:
        await jetstream.delete_stream("IN_THE_WAY")
        with contextlib.suppress(NatsError):
            await client.close()
