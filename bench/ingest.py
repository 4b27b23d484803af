"""Socket → acknowledged by JetStream: our connector, journal and its syncs included, beside clients that only send.

python -m bench.ingest WAY URL NATS COUNT is such a client: no journal, no decoding, one subject, uvloop.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import nats
import uvloop
from websockets.asyncio.client import connect

from bench import corpus, parts
from bench.figures import Curve, Measured, Row
from bench.size import Size
from services.connector.link import Link, Target
from ssmd import broker, subjects
from ssmd.clock import SystemClock

WAYS = {
    "publish_async": "nats-py publish_async",
    "awaited": "nats-py, each publish awaited",
    "core": "core publish, nothing acknowledged (limit)",
    "receive": "receive only (limit)",
}
SHELLS = {  # the connector with another reader of its WebSocket
    "picows": "ssmd's connector on picows",
    "websockets": "ssmd's connector on websockets' parser alone",
}
SLOW = {"awaited": 8}  # so many times fewer frames: its rate does not depend on how long it goes on
MARKETS = 12
SUBJECT = f"{subjects.prefix(parts.ENV, parts.FEED)}.json.frames.all"
BODY_FRAMES = 60_000  # distinct ones; the blaster goes round
Rates = dict[str, list[tuple[float, float]]]  # way -> per round: frames/s, frames per core-second


def run(size: Size) -> Measured:
    """All ways in turn, several rounds."""
    rates: Rates = {}
    with parts.scratch() as folder:
        frames = corpus.make(min(size.frames, BODY_FRAMES), MARKETS)
        with parts.Blaster(folder, frames) as blaster:
            for number in range(size.rounds):
                for way in ("ours", *SHELLS, *WAYS):
                    place = folder / f"{way}-{number}"
                    place.mkdir()
                    count = size.frames // SLOW.get(way, 1)
                    rates.setdefault(way, []).append(once(way, place, blaster, frames, count))
    return Measured(rows(rates), curves(rates))


def once(way: str, folder: Path, blaster: parts.Blaster, frames: corpus.Corpus, count: int) -> tuple[float, float]:
    """`count` frames, from the first byte sent to the last acknowledgement: frames/s, frames per core-second."""
    with parts.Nats(folder) as nats_server:
        if way == "ours" or way in SHELLS:
            config = parts.configure(folder, nats_server, blaster, frames.symbols)
            through = ["bench.shells", way] if way in SHELLS else []
            client: parts.Part = parts.Connector(folder, config, blaster, through)
        else:
            command = [sys.executable, "-m", "bench.ingest", way, blaster.url, nats_server.url]
            client = parts.Part(way, [*command, str(count), str(blaster.opening)], folder)
            client.told("ready")
            blaster.told("connected")
        with client:
            cpu = client.cpu_seconds
            blaster.send(count)
            if isinstance(client, parts.Connector):
                parts.until(lambda: client.caught_up(blaster.opening + count), "all is acknowledged", 120)
                done = time.monotonic_ns()
            else:
                done = int(client.told("done", 120)[0])
            cpu = client.cpu_seconds - cpu
            first = blaster.sent()
            if way not in {"core", "receive"}:
                stored = nats_server.messages()
                if stored < count:
                    raise parts.Failed(f"{way}: {count} frames were acknowledged, but the stream holds {stored}")
    return count / ((done - first) / 1e9), count / cpu


def rows(rates: Rates) -> list[Row]:
    wall = {way: [a for a, _ in found] for way, found in rates.items()}
    core = {way: [b for _, b in found] for way, found in rates.items()}
    what = "socket → acked in JetStream"
    return [
        Row(what, "frames/s", wall["ours"], WAYS["publish_async"], wall["publish_async"], ratio_min=2),
        Row(
            what,
            "frames per core-second",
            core["ours"],
            WAYS["publish_async"],
            core["publish_async"],
            ours_min=70_000,
        ),
        Row(what, "frames/s", wall["ours"], WAYS["awaited"], wall["awaited"]),
        Row(what, "frames/s", wall["ours"], WAYS["core"], wall["core"]),
        Row(what, "frames per core-second", core["ours"], WAYS["core"], core["core"]),
        *(Row(what, "frames per core-second", core["ours"], named, core[way]) for way, named in SHELLS.items()),
        Row(what, "frames/s", wall["ours"], WAYS["receive"], wall["receive"]),
        Row(what, "frames per core-second", core["ours"], WAYS["receive"], core["receive"]),
    ]


def curves(rates: Rates) -> list[Curve]:
    named = {"ours": "ssmd connector (journal, sync, acked)"} | SHELLS | WAYS
    return [Curve("throughput", f"socket: {named[way]}", [], [b for _, b in found]) for way, found in rates.items()]


# ------------------------------------------------------------------------------------------------ other ways


async def client(way: str, url: str, nats_url: str, count: int, opening: int) -> None:
    if way == "receive":
        await receive_only(url, opening, count)
        return
    connection = await nats.connect(nats_url)
    await broker.ensure_stream(connection, subjects.stream(parts.ENV, parts.FEED), [SUBJECT])
    jetstream = connection.jetstream()
    publishes: dict[str, Callable[[str, bytes], Coroutine[Any, Any, Any]]] = {
        "publish_async": jetstream.publish_async,
        "awaited": jetstream.publish,
        "core": connection.publish,
    }
    publish = publishes[way]
    async with connect(url, compression=None) as socket:
        print("ready", flush=True)
        for _ in range(opening):
            await socket.recv(decode=False)
        for _ in range(count):
            await publish(SUBJECT, await socket.recv(decode=False))
        if way == "publish_async":
            await jetstream.publish_async_completed()
        await connection.flush(timeout=60)
        print("done", time.monotonic_ns(), flush=True)
        await asyncio.sleep(60)


async def receive_only(url: str, opening: int, count: int) -> None:
    """The connector's own reader, and nothing behind it."""
    received = 0
    done = asyncio.Event()

    def on_frames(wires: Sequence[bytes], ts_recv: int) -> Sequence[bytes]:
        nonlocal received
        received += len(wires)
        if received >= opening + count:
            done.set()
        return []

    await Link.connect(Target(url, {}, False, 1 << 20), SystemClock(), lambda link: [], on_frames, 10)
    print("ready", flush=True)
    await done.wait()
    print("done", time.monotonic_ns(), flush=True)
    await asyncio.sleep(60)


if __name__ == "__main__":
    _, way, url, nats_url, count, opening = sys.argv
    uvloop.run(client(way, url, nats_url, int(count), int(opening)))
