"""JetStream → synced archive: our archiver beside nats-py `fetch`, the gzip module and fsync.

python -m bench.archive URL COUNT FOLDER is the other way: lines as they come, a gzip file per channel, synced every
second; no numbering, no manifest, no cursor.
"""

import asyncio
import gzip
import itertools
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from bench import corpus, parts
from bench.figures import Curve, Measured, Row
from bench.size import Size
from exchanges.kalshi import venue
from exchanges.port import Subscription
from ssmd import broker, frames, subjects
from ssmd.journal import Record

FETCH = "nats-py fetch, gzip module, fsync"
CONN = "kalshi-0-019fb3c2b7d-7f3a"
FILLED_AT_ONCE = 10_000
MARKETS = 12
STREAM = 5  # times as many frames as elsewhere: the wait for the last commit, up to a second, shall count for little
BODY_FRAMES = 60_000
FETCH_MESSAGES = 500  # as many as our own pull requests ask for
SYNC_SECONDS = 1.0
GZIP_LEVEL = 6  # what the gzip program takes; the module's own default is 9
Rates = dict[str, list[tuple[float, float]]]
Files = dict[str, tuple[BinaryIO, gzip.GzipFile]]


def run(size: Size) -> Measured:
    """Both read the same full stream, in turn."""
    rates: Rates = {"ours": [], "fetch": []}
    with parts.scratch() as folder, parts.Nats(folder) as server:
        uvloop.run(fill(server.url, size.frames * STREAM))
        for number in range(size.rounds):
            for way, found in rates.items():
                place = folder / f"{way}-{number}"
                place.mkdir()
                once = archiver if way == "ours" else fetch
                found.append(once(place, server, size.frames * STREAM))
    what = "JetStream → synced archive"
    wall, core = ({way: [rate[i] for rate in found] for way, found in rates.items()} for i in (0, 1))
    return Measured(
        [
            Row(what, "frames/s", wall["ours"], FETCH, wall["fetch"], ratio_min=2),
            Row(what, "frames per core-second", core["ours"], FETCH, core["fetch"], ours_min=70_000),
        ],
        [
            Curve("throughput", "stream: ssmd archiver (synced, hashed)", [], core["ours"]),
            Curve("throughput", f"stream: {FETCH}", [], core["fetch"]),
        ],
    )


def messages(count: int) -> list[Record]:
    """What a connector would have published."""
    made = corpus.make(min(count, BODY_FRAMES), MARKETS)
    adapter = venue.adapter(Subscription(corpus.CHANNELS, tuple(made.symbols)))
    adapter.opened()
    for wire in made.opening:
        adapter.received(wire, corpus.START_NS)
    now = time.time_ns()
    records = []
    for n, wire in enumerate(itertools.islice(made.wires(), count), 1):
        route = adapter.received(wire, now + n)
        subject = subjects.frame(parts.ENV, parts.FEED, route.channel, route.symbol)
        records.append(Record(subject, frames.message(now + n, CONN.encode(), n, wire)))
    return records


async def fill(url: str, count: int) -> None:
    connection = await nats.connect(url)
    stream = subjects.stream(parts.ENV, parts.FEED)
    await broker.ensure_stream(connection, stream, [f"{subjects.prefix(parts.ENV, parts.FEED)}.json.>"])
    jetstream = connection.jetstream()
    for sent, record in enumerate(messages(count), 1):
        await connection.publish(record.subject, record.message)
        if sent % FILLED_AT_ONCE == 0 or sent == count:  # unasked, a server that is behind would drop some
            await connection.flush(timeout=60)
            async with asyncio.timeout(60):
                while (await jetstream.stream_info(stream)).state.messages < sent:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    await connection.close()


# ----------------------------------------------------------------------------------------------------------- ours


def archiver(folder: Path, server: parts.Nats, count: int) -> tuple[float, float]:
    """From its being ready to its word that the last frame is safe: frames/s, frames per core-second."""
    config = parts.configure(folder, server, None, ["unused"])
    return uvloop.run(_archiver(folder, config, server.url, count))


async def _archiver(folder: Path, config: Path, url: str, count: int) -> tuple[float, float]:
    connection = await nats.connect(url)
    safe: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def on_archived(message: Msg) -> None:
        ranges = msgspec.json.decode(message.data, type=dict[str, list[tuple[int, int]]])
        if ranges.get(CONN) == [(1, count)] and not safe.done():
            safe.set_result(time.monotonic_ns())

    await connection.subscribe(subjects.archived(parts.ENV, parts.FEED), cb=on_archived)
    await connection.flush()
    with parts.Service("archiver", folder, config) as service:
        await asyncio.to_thread(parts.until, lambda: service.ready, "the archiver is ready", 20, 0.002)
        began, cpu = time.monotonic_ns(), service.cpu_seconds
        try:
            seconds = (await asyncio.wait_for(safe, 120) - began) / 1e9
        except TimeoutError:
            raise parts.Failed(f"the archiver did not confirm all {count} frames: {service.status}") from None
        cpu = service.cpu_seconds - cpu
    await connection.close()
    return count / seconds, count / cpu


# ----------------------------------------------------------------------------------------------------- other way


def fetch(folder: Path, server: parts.Nats, count: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "bench.archive", server.url, str(count), str(folder)]
    with parts.Part("fetch", command, folder) as part:
        part.told("ready")
        began, cpu = time.monotonic_ns(), part.cpu_seconds
        seconds = (int(part.told("done", 120)[0]) - began) / 1e9
        return count / seconds, count / (part.cpu_seconds - cpu)


async def client(url: str, count: int, folder: Path) -> None:
    connection = await nats.connect(url)
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    stream = subjects.stream(parts.ENV, parts.FEED)
    pulling = await connection.jetstream().pull_subscribe("", stream=stream, config=config)
    print("ready", flush=True)
    files: Files = {}
    got, synced = 0, time.monotonic()
    while got < count:
        for message in await pulling.fetch(FETCH_MESSAGES):
            channel = subjects.channel_of(message.subject)
            if channel not in files:
                opened = (folder / f"{channel}.jsonl.gz").open("wb")
                files[channel] = opened, gzip.GzipFile(fileobj=opened, mode="wb", compresslevel=GZIP_LEVEL)
            files[channel][1].write(message.data + b"\n")
            got += 1
        if time.monotonic() - synced > SYNC_SECONDS:
            sync(files)
            synced = time.monotonic()
    for _, zipped in files.values():
        zipped.close()
    for file, _ in files.values():
        file.flush()
        os.fsync(file.fileno())
    print("done", time.monotonic_ns(), flush=True)
    await asyncio.sleep(60)


def sync(files: Files) -> None:
    for file, zipped in files.values():
        zipped.flush()
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    uvloop.run(client(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
