"""What a failed commit took is nowhere: whoever asked for it, the process ends, and the next start reads it again."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import nats
import pytest
from nats.aio.client import Client

from services.archiver.archiver import Archiver
from ssmd import broker, config, durable, frames, subjects
from ssmd.telemetry import Telemetry, configure_logging

from .test_store_archives_exactly_once import DATE, NOON


@pytest.fixture
async def client(nats_server) -> AsyncIterator[Client]:  # type: ignore[no-untyped-def]
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


def archiver(url: str, folder: Path, env: str) -> Archiver:
    environment = config.Environment(
        name=env,
        nats=url,
        archiving=config.Archiving(commit_seconds=3600),  # it commits only when it is asked to
        feeds=[config.EnvironmentFeed(feed="kalshi", endpoint="simulator")],
    )
    return Archiver(environment, "kalshi", url, folder, configure_logging(service="archiver"))


async def taken(archiver: Archiver, count: int) -> None:
    async with asyncio.timeout(15):
        while archiver._status()["archived"] != count:
            await asyncio.sleep(0.02)


def asks_what_is_archived(env: str) -> tuple[str, bytes]:
    return f"{subjects.archived(env, 'kalshi')}.get", b""


def asks_for_the_seal(env: str) -> tuple[str, bytes]:
    return subjects.seal(env, "kalshi"), msgspec.json.encode({"date": DATE})


@pytest.mark.parametrize("asks", [asks_what_is_archived, asks_for_the_seal])
async def test_whoever_asked_for_it(  # type: ignore[no-untyped-def]
    tmp_path: Path, nats_server, client: Client, free_port: Callable[[], int], asks: Callable[[str], tuple[str, bytes]]
) -> None:
    env = f"t{free_port()}"
    await broker.ensure_stream(client, subjects.stream(env, "kalshi"), [f"{env}.kalshi.json.>"])
    for n in range(1, 4):
        subject = subjects.frame(env, "kalshi", "trade", "A")
        await client.jetstream().publish(subject, frames.message(NOON + n, b"c", n, b"{}"))
    first = archiver(nats_server.url, tmp_path, env)
    running = asyncio.create_task(first.run(asyncio.Event(), Telemetry("archiver")))
    await taken(first, 3)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable.os, "fdatasync", fails)
        await client.publish(*asks(env), reply=client.new_inbox())
        with pytest.raises(durable.DiskFailed, match="Input/output error"):
            await asyncio.wait_for(running, 10)

    second = archiver(nats_server.url, tmp_path, env)
    stop = asyncio.Event()
    running = asyncio.create_task(second.run(stop, Telemetry("archiver")))
    await taken(second, 3)
    answer = await client.request(*asks_what_is_archived(env), timeout=10)
    assert msgspec.json.decode(answer.data) == {"c": [[1, 3]]}
    stop.set()
    await asyncio.wait_for(running, 15)
