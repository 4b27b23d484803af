"""What a failed commit took is nowhere, what went to a dead connection neither: both are read from the stream again."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import nats
import pytest
from nats.aio.client import Client

from services.archiver.archiver import Archiver
from services.archiver.delivery import Delivery
from ssmd import broker, config, durable, frames, subjects
from ssmd.telemetry import Telemetry, configure_logging

from .test_store_archives_exactly_once import DATE, NOON


@pytest.fixture
async def client(nats_server) -> AsyncIterator[Client]:  # type: ignore[no-untyped-def]
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@dataclass
class Feed:
    """A stream of its own, and archivers of it."""

    url: str
    folder: Path
    env: str
    client: Client

    def archiver(self) -> Archiver:
        environment = config.Environment(
            name=self.env,
            nats=self.url,
            archiving=config.Archiving(commit_seconds=3600),  # it commits only when it is asked to
            feeds=[config.EnvironmentFeed(feed="kalshi", endpoint="simulator")],
        )
        return Archiver(environment, "kalshi", self.url, self.folder, configure_logging(service="archiver"))

    async def publish(self, first: int, last: int) -> None:
        subject = subjects.frame(self.env, "kalshi", "trade", "A")
        for n in range(first, last + 1):
            await self.client.jetstream().publish(subject, frames.message(NOON + n, b"c", n, b"{}"))


@pytest.fixture
async def feed(tmp_path: Path, nats_server, client: Client, free_port: Callable[[], int]) -> Feed:  # type: ignore[no-untyped-def]
    feed = Feed(nats_server.url, tmp_path, f"t{free_port()}", client)
    await broker.ensure_stream(client, subjects.stream(feed.env, "kalshi"), [f"{feed.env}.kalshi.json.>"])
    return feed


async def taken(archiver: Archiver, count: int) -> None:
    async with asyncio.timeout(15):
        while archiver._status()["archived"] != count:
            await asyncio.sleep(0.02)


def asks_what_is_archived(env: str) -> tuple[str, bytes]:
    return f"{subjects.archived(env, 'kalshi')}.get", b""


def asks_for_the_seal(env: str) -> tuple[str, bytes]:
    return subjects.seal(env, "kalshi"), msgspec.json.encode({"date": DATE})


@pytest.mark.parametrize("asks", [asks_what_is_archived, asks_for_the_seal])
async def test_a_failed_commit_ends_the_process_whoever_asked_for_it(
    feed: Feed, asks: Callable[[str], tuple[str, bytes]]
) -> None:
    await feed.publish(1, 3)
    first = feed.archiver()
    running = asyncio.create_task(first.run(asyncio.Event(), Telemetry("archiver")))
    await taken(first, 3)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable.os, "fdatasync", fails)
        await feed.client.publish(*asks(feed.env), reply=feed.client.new_inbox())
        with pytest.raises(durable.DiskFailed, match="Input/output error"):
            await asyncio.wait_for(running, 10)

    second, stop = feed.archiver(), asyncio.Event()
    running = asyncio.create_task(second.run(stop, Telemetry("archiver")))
    await taken(second, 3)
    answer = await feed.client.request(*asks_what_is_archived(feed.env), timeout=10)
    assert msgspec.json.decode(answer.data) == {"c": [[1, 3]]}
    stop.set()
    await asyncio.wait_for(running, 15)


async def test_what_the_server_sent_to_a_dead_connection_is_read_by_another_consumer(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would notice here: there is no connector that could send it again."""
    dropped: list[Delivery] = []
    take = Archiver._take

    def drops_the_second(self: Archiver, delivery: Delivery) -> None:
        if delivery.first > 1 and not dropped:
            dropped.append(delivery)
        else:
            take(self, delivery)

    monkeypatch.setattr(Archiver, "_take", drops_the_second)
    archiver, stop = feed.archiver(), asyncio.Event()
    running = asyncio.create_task(archiver.run(stop, Telemetry("archiver")))
    await feed.publish(1, 1)
    await taken(archiver, 1)
    await feed.publish(2, 9)
    await taken(archiver, 9)
    assert dropped and archiver._status()["holes"] == 0
    stop.set()
    await asyncio.wait_for(running, 15)
